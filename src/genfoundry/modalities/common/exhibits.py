"""Exhibits: contents for people (picture, text, sound, film) with their MIME type."""

import base64
import html
import json
from pathlib import Path
from typing import Any, NamedTuple

from genfoundry.core.io import read_json

ENDINGS = {
    "image/png": ".png",
    "text/plain": ".txt",
    "audio/wav": ".wav",
    "image/gif": ".gif",
    "video/mp4": ".mp4",
    "video/webm": ".webm",
}
"""What a person may be shown, by its MIME type, and the ending of its file."""

KINDS = {"image": "picture", "text": "text", "audio": "sound", "video": "film"}
"""What it is called, by the first half of its type."""

SHEET, SHOWN_TEXTS = "grid", "samples.json"
"""What the sample stage's report holds: many at a glance (``grid.png``), or texts."""

LATENT = "latent.json"
"""Beside them: use of the latent space, and which records its pictures show."""


class Exhibit(NamedTuple):
    """A content for people with its MIME type."""

    type: str
    """A MIME type of ``ENDINGS``."""
    content: bytes

    @property
    def kind(self) -> str:
        """picture, text, sound or film."""
        return KINDS[self.type.partition("/")[0]]

    @property
    def text(self) -> str:
        """The words of a text."""
        return self.content.decode()

    @property
    def address(self) -> str:
        """As a ``data:`` address."""
        return f"data:{self.type};base64,{base64.b64encode(self.content).decode()}"

    def save(self, place: Path) -> Path:
        """Write the file ``place`` with the ending of its type."""
        file = place.with_name(place.name + ENDINGS[self.type])
        file.write_bytes(self.content)
        return file

    def html(self, title: str = "", longest: int | None = None) -> str:
        """As an element of a page that needs nothing else; a text is cut at so many characters."""
        if self.kind == "text":
            cut = longest is not None and len(self.text) > longest
            return f"<pre>{html.escape(self.text[:longest] if cut else self.text)}{' …' * cut}</pre>"
        name = html.escape(title)
        named = f"title='{name}' src='{self.address}'"
        if self.kind == "picture":
            return f"<img alt='{name}' {named}>"
        return f"<{self.type.partition('/')[0]} controls {named}></{self.type.partition('/')[0]}>"


def exhibits(folder: Path) -> list[Exhibit]:
    """The exhibits in a folder by name, such as the sample stage's report."""
    types = {ending: kind for kind, ending in ENDINGS.items()}
    if (folder / SHOWN_TEXTS).is_file():
        texts = json.loads((folder / SHOWN_TEXTS).read_bytes())["texts"]
        return [Exhibit("text/plain", text.encode()) for text in texts]
    files = [file for name in (SHEET, "sample-*") for file in sorted(folder.glob(f"{name}.*"))]
    return [Exhibit(types[file.suffix], file.read_bytes()) for file in files if file.suffix in types]


def read_latent(folder: Path) -> dict[str, Any]:
    """Use of the latent space in the sample stage's report; empty for a family without one."""
    return dict(read_json(folder / LATENT)) if (folder / LATENT).is_file() else {}
