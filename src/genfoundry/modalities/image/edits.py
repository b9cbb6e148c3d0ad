"""Edits that make a copy of a picture: each takes uint8 (H, W, C) and a generator, and keeps the shape.

Strengths follow published studies of copies on the web and our own contact sheets: a person still calls the result the
same shot. Lengths scale with the side, so that small pictures are not turned into one another.
"""

import io
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Edit = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def picture(levels: np.ndarray) -> "Picture":
    from PIL import Image

    return Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels)


def _levels(values: "Picture | np.ndarray", like: np.ndarray) -> np.ndarray:
    return np.clip(np.round(np.asarray(values, np.float64)), 0, 255).astype(np.uint8).reshape(like.shape)


def enlarged(levels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Twice the size and back."""
    from PIL import Image

    image = picture(levels)
    large = image.resize((2 * image.width, 2 * image.height), Image.Resampling.BICUBIC)
    return _levels(large.resize(image.size, Image.Resampling.LANCZOS), levels)


def shrunk(levels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """0.6 of the size, at least 8 pixels, and back."""
    from PIL import Image

    image = picture(levels)
    small = image.resize(
        (max(8, round(0.6 * image.width)), max(8, round(0.6 * image.height))), Image.Resampling.LANCZOS
    )
    return _levels(small.resize(image.size, Image.Resampling.LANCZOS), levels)


def jpeg(levels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Through JPEG of quality 20 to 50."""
    return _through_jpeg(levels, int(generator.integers(20, 51)))


def _through_jpeg(levels: np.ndarray, quality: int) -> np.ndarray:
    """At four times the size if a side is below 32: JPEG's blocks are 8 pixels wide."""
    from PIL import Image

    image, buffer = picture(levels), io.BytesIO()
    times = 1 if min(image.size) >= 32 else 4
    large = image.resize((times * image.width, times * image.height), Image.Resampling.BICUBIC)
    large.save(buffer, "JPEG", quality=quality)
    return _levels(Image.open(buffer).resize(image.size, Image.Resampling.BOX), levels)


def brighter(levels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """0.8 to 1.2 of the light."""
    return _levels(levels * generator.uniform(0.8, 1.2), levels)


def less_contrast(levels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """0.75 to 0.9 of the contrast."""
    mean = levels.mean()
    return _levels((levels - mean) * generator.uniform(0.75, 0.9) + mean, levels)


def blurred(levels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Gaussian of 0.7 pixels of 32, at most 2 pixels."""
    from PIL import ImageFilter

    sigma = min(2.0, 0.7 * min(levels.shape[:2]) / 32)
    return _levels(picture(levels).filter(ImageFilter.GaussianBlur(sigma)), levels)


def noisy(levels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Normal noise of 8 levels."""
    return _levels(levels + generator.normal(0, 8, levels.shape), levels)


def _saved(levels: np.ndarray) -> np.ndarray:
    """Saved as JPEG once more, as is common on the web."""
    return _through_jpeg(levels, 75)


def _boxed(levels: np.ndarray, left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """The part inside a box, given in shares of the sides, at the size of the whole."""
    from PIL import Image

    image = picture(levels)
    box = (left * image.width, top * image.height, right * image.width, bottom * image.height)
    return _levels(image.resize(image.size, Image.Resampling.BICUBIC, box=box), levels)


def shifted(levels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Up to 2 pixels of 32 along each axis; what comes in repeats the border."""
    from PIL import Image

    height, width = levels.shape[:2]
    edge = (max(1, height // 16), max(1, width // 16))
    wide = np.pad(levels, ((edge[0],) * 2, (edge[1],) * 2, (0, 0)), mode="edge")
    image = picture(wide)
    left, top = generator.uniform(0, 2 * min(edge[1], width / 16)), generator.uniform(0, 2 * min(edge[0], height / 16))
    box = (left, top, left + width, top + height)
    return _saved(_levels(image.resize((width, height), Image.Resampling.BICUBIC, box=box), levels))


def cropped(levels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A window of 0.89 to 1 of each side (four fifths of the area and more) as the whole: crop, scale and aspect."""
    wide, high = generator.uniform(0.89, 1, 2)
    left, top = generator.uniform(0, 1 - wide), generator.uniform(0, 1 - high)
    return _saved(_boxed(levels, left, top, left + wide, top + high))


def mirrored(levels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Seen in a mirror, with another crop."""
    return cropped(np.ascontiguousarray(levels[:, ::-1]), generator)


def recoloured(levels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Each channel 0.8 to 1.2 of its light, after a gamma of 0.8 to 1.25."""
    gains = generator.uniform(0.8, 1.2, levels.shape[-1])
    gamma = np.exp(generator.uniform(np.log(0.8), np.log(1.25)))
    return _saved(_levels((levels / 255.0) ** gamma * 255 * gains, levels))


EDITS: dict[str, Edit] = {
    "enlarged": enlarged,
    "shrunk": shrunk,
    "jpeg": jpeg,
    "brighter": brighter,
    "less contrast": less_contrast,
    "blurred": blurred,
    "noisy": noisy,
    "shifted": shifted,
    "cropped": cropped,
    "mirrored": mirrored,
    "recoloured": recoloured,
}
"""The edits in turn: the first ``BENIGN`` leave each pixel in its place and the colours as they are."""

BENIGN = 7


def reworked(levels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """At another scale, 0.9 to 1.08 of the window (what comes in mirrors the border), resampled through 0.6 to 1 of the
    size, blurred, each channel 0.85 to 1.15 of its light.
    """
    from PIL import Image

    height, width = levels.shape[:2]
    edge = (math.ceil(0.1 * height), math.ceil(0.1 * width))
    wide = np.pad(levels, ((edge[0],) * 2, (edge[1],) * 2, (0, 0)), mode="symmetric")
    inner = (height / wide.shape[0], width / wide.shape[1])
    scale, left, top = generator.uniform(0.9, 1.08), *generator.uniform(0.4, 0.6, 2)
    high, across = scale * inner[0], scale * inner[1]
    left, top = left * (1 - across), top * (1 - high)
    seen = _boxed(wide, left, top, left + across, top + high)
    times = generator.uniform(0.6, 1)
    image = picture(seen).resize(
        (max(8, round(times * width)), max(8, round(times * height))), Image.Resampling.BILINEAR
    )
    small = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), np.float64).reshape(levels.shape)
    return _saved(_levels(small * generator.uniform(0.85, 1.15, levels.shape[-1]), levels))


def corner(levels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """0.9 of each side, from a corner, as the whole."""
    left, top = 0.1 * generator.integers(0, 2, 2)
    return _saved(_boxed(levels, left, top, left + 0.9, top + 0.9))


def turned(levels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Turned by 5 degrees to one side, without the corners that come in (0.86 of each side)."""
    from PIL import Image

    image = picture(levels)
    angle = 5.0 if generator.integers(2) else -5.0
    whole = image.rotate(angle, Image.Resampling.BICUBIC)
    return _saved(_boxed(_levels(whole, levels), 0.07, 0.07, 0.93, 0.93))


def captioned(levels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A bar of one colour over an eighth of the height, at the top or the foot."""
    high = max(1, round(levels.shape[0] / 8))
    copy = levels.copy()
    copy[slice(high) if generator.integers(2) else slice(-high, None)] = generator.integers(0, 256, levels.shape[-1])
    return _saved(copy)


def framed(levels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A frame of one colour over a sixteenth of each side."""
    high, wide = (max(1, round(side / 16)) for side in levels.shape[:2])
    copy = np.empty_like(levels)
    copy[:] = generator.integers(0, 256, levels.shape[-1])
    copy[high:-high, wide:-wide] = levels[high:-high, wide:-wide]
    return _saved(copy)


WEAK: dict[str, Edit] = {
    "reworked": reworked,
    "corner": corner,
    "turned": turned,
    "captioned": captioned,
    "framed": framed,
}
"""Edits that the rule is measured on, but not made for: copies of these kinds are real, but a threshold low enough for
all of them takes other pictures for copies."""
