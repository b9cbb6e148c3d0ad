"""Edits that make a copy of a picture: each takes uint8 (H, W, C) and a generator, and keeps the shape.

Strengths follow published studies of copies on the web and our own contact sheets: a person still calls the result the
same shot. Lengths scale with the side, so that small pictures are not turned into one another.
"""

import io
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
