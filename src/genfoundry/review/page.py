"""The self-contained page that raters see: style, script, pictures and texts in one file, no address of another host.

It holds opaque ids, contents in the order in which they are shown, and the plan's digest: no model's name.
Opened as a file it keeps answers in the browser and offers them for download; served by `genfoundry review --serve` it
also posts each one. Its content security policy admits this script alone and no other host.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from genfoundry.core.pages import escape
from genfoundry.modalities.common.exhibits import Exhibit
from genfoundry.review.plan import Samples, plan_digest

POLICY = (
    "default-src 'none'; img-src data:; media-src data:; style-src 'sha256-{style}'; script-src 'sha256-{script}'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'"
)
KEYS = "<kbd>←</kbd> or <kbd>1</kbd> A, <kbd>→</kbd> or <kbd>2</kbd> B, {tie} tie, <kbd>Backspace</kbd> back"
# Down scrolls a long text, so it can't mean a tie there.
TIES = {"text": "<kbd>0</kbd> or <kbd>3</kbd>"}
TIE = "<kbd>↓</kbd> or <kbd>0</kbd>"


def _shown(exhibit: Exhibit, characters: int) -> str:
    """A text cut to so many characters; the address of anything else."""
    if exhibit.kind != "text":
        return exhibit.address
    return exhibit.text if len(exhibit.text) <= characters else exhibit.text[:characters] + " …"


def _contents(plan: Mapping[str, Any], samples: Sequence[Samples]) -> tuple[list[str], list[list[Any]]]:
    """Contents by order of appearance, and the items: id, number of the left and of the right one, label."""
    owners = {one.key: one for one in samples}
    places: dict[tuple[str, int], int] = {}
    contents: list[str] = []
    items = []
    for item in plan["items"]:
        row: list[Any] = [item["id"]]
        for side in (item["left"], item["right"]):
            where = (side["model"], side["row"])
            if where not in places:
                places[where] = len(contents)
                owner = owners[where[0]]
                contents.append(_shown(owner.media.exhibit(owner.contents[where[1]]), plan["shown_characters"]))
            row.append(places[where])
        items.append([*row, item["label"]])
    return contents, items


def _json_in_html(value: Any) -> str:
    """JSON that can't end the element it stands in."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def review_page(plan: Mapping[str, Any], samples: Sequence[Samples]) -> str:
    """The whole page, as text; a function of plan and samples."""
    here = files("genfoundry.review")
    style, script = ((here / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    contents, items = _contents(plan, samples)
    data = {"plan": plan_digest(plan), "kind": plan["kind"], "contents": contents, "items": items}
    parts = {
        "policy": escape(POLICY.format(style=_sha256(style), script=_sha256(script))),
        "style": style,
        "script": script,
        "data": _json_in_html(data),
        "question": escape(plan["question"]),
        "keys": KEYS.format(tie=TIES.get(plan["kind"], TIE)),
        "kind": plan["kind"],
        "count": str(len(items)),
    }
    page = (here / "page.html").read_text(encoding="utf-8")
    # One pass over the template, never over what was put in: a sample that holds a placeholder stays as it is.
    pieces = page.split("{{")
    return pieces[0] + "".join(parts[name] + rest for name, rest in (piece.split("}}", 1) for piece in pieces[1:]))
