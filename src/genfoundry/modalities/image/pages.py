"""Pictures on the pages of the data stages: one, or two that are alike."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from genfoundry.core.pages import escape, picture
from genfoundry.data.similarity import descriptor as _descriptor
from genfoundry.modalities.image.pixels import UNREADABLE, failure, opened, png

SHOWN = 96
"""Width of a difference on a page, in pixels."""


def show(record: Mapping[str, Any], width: int = 128) -> str:
    """A picture as HTML, raw or clean."""
    if "format" in record:
        try:
            image = opened(record["content"]).convert("RGB")
            image.thumbnail((2 * width, 2 * width))
            levels = np.asarray(image)
        except UNREADABLE as error:
            return f'<span class="soft">can\'t be shown: {escape(failure(error))}</span>'
    else:
        shape = (int(record["height"]), int(record["width"]), -1)
        levels = np.frombuffer(record["content"], np.uint8).reshape(shape)
    return picture(png(levels), width=width)


def compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """Two pictures side by side as HTML, then what differs once the first is laid over the second."""
    sides = f"{show(first)} &nbsp; {show(second)}"
    if first["content"] == second["content"] or any("format" in record for record in (first, second)):
        return sides
    return f"{sides} &nbsp; {_difference(_levels(first), _levels(second))}"


def _levels(record: Mapping[str, Any]) -> np.ndarray:
    return np.frombuffer(record["content"], np.uint8).reshape(int(record["height"]), int(record["width"]), -1)


def _difference(first: np.ndarray, second: np.ndarray) -> str:
    """The aligned difference around mid grey, at equal light and contrast; white where only one shows something."""
    from genfoundry.data.similarity import alignment

    one, two = _descriptor.describe(np.stack([first, second])).details
    tried = [alignment.overlaid(one, two, mirrored) for mirrored in (False, True)]
    mirrored = tried[1][1] > tried[0][1]
    laid = tried[mirrored][0]
    seen = ~np.isnan(laid).any(axis=-1)
    if not seen.any():
        return ""
    a, b = laid[seen], two[seen].astype(np.float64)
    gain = b.std() / max(a.std(), 1e-3)
    shown = np.full(two.shape, 255, np.uint8)
    shown[seen] = np.clip(np.round((b - b.mean() - gain * (a - a.mean())) / 2 + 128), 0, 255)
    side = ", mirrored" if mirrored else ""
    return f'{picture(png(shown), width=SHOWN)} <span class="soft">aligned difference{side}</span>'
