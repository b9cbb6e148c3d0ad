"""Self-contained HTML pages: inline style, inline pictures, no script, no address of another host.

A page is a function of its contents, so that DVC can cache it: no time, no path, no version.
"""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

STYLE = """
:root{--ink:#1d2430;--soft:#5b6675;--line:#dfe4ea;--tint:#f5f7fa;--accent:#2458b3;--good:#1f7a4d;--bad:#b3261e}
*{box-sizing:border-box}body{margin:0;background:#fff;color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 20px 60px}h1{font-size:26px;margin:0 0 4px}
h2{font-size:19px;margin:34px 0 8px}h3{font-size:16px;margin:22px 0 6px}p.lead{color:var(--soft);margin:0 0 18px}
table{border-collapse:collapse;width:100%;margin:8px 0 14px;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:6px 10px;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--soft);font-weight:600;background:var(--tint)}td.n,th.n{text-align:right}
code,pre{font:13px/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
pre{background:var(--tint);padding:10px 12px;border-radius:6px;overflow-x:auto;white-space:pre-wrap;margin:6px 0}
img{image-rendering:pixelated;max-width:100%}.good{color:var(--good)}.bad{color:var(--bad)}
.soft{color:var(--soft)}ins{background:#d9f2e3;text-decoration:none}del{background:#fbdedb}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:12px;border-top:1px solid var(--line);padding:10px 0}
.bar{display:inline-block;height:10px;background:var(--accent);border-radius:2px;vertical-align:middle}
.tiles{display:flex;flex-wrap:wrap;gap:14px}.tile{border:1px solid var(--line);border-radius:8px;padding:10px 14px}
.tile b{display:block;font-size:20px}
"""


class Html(str):
    """Text that is HTML already: a cell of a table that is shown as it is."""


def escape(value: Any) -> str:
    """Text that is safe inside HTML."""
    return html.escape(str(value), quote=True)


def number(value: Any) -> str:
    """A number as a person reads it: thousands separated, four significant digits; anything else as it is."""
    if isinstance(value, Html):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return escape(value)
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    return f"{value:.4g}"


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; numbers stand right, and a cell that is ``Html`` as it is."""
    rows = [list(row) for row in rows]
    if not rows:
        return "<p class='soft'>none</p>"
    right = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(columns))]
    head = "".join(f"<th{' class=n' * right[i]}>{escape(name)}</th>" for i, name in enumerate(columns))
    body = "".join(
        "<tr>" + "".join(f"<td{' class=n' * right[i]}>{number(cell)}</td>" for i, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def tiles(values: Mapping[str, Any]) -> str:
    """Headline numbers side by side."""
    cells = (f"<div class=tile><b>{number(value)}</b>{escape(name)}</div>" for name, value in values.items())
    return f"<div class=tiles>{''.join(cells)}</div>"


def bars(counts: Mapping[str, int | float]) -> str:
    """A horizontal bar for each count."""
    top = max([*counts.values(), 1e-12])
    rows = (
        [name, count, Html(f"<span class=bar style='width:{260 * count / top:.0f}px'></span>")]
        for name, count in counts.items()
    )
    return table(["", "n", " "], rows)


def picture(png: bytes, width: int | None = None, title: str = "") -> str:
    """A PNG inside the page."""
    data = base64.b64encode(png).decode()
    size = f" width={width}" if width else ""
    return f"<img{size} alt='{escape(title)}' title='{escape(title)}' src='data:image/png;base64,{data}'>"


def page(title: str, lead: str, *parts: str) -> str:
    """A whole page."""
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>"
        f"<h1>{escape(title)}</h1><p class=lead>{escape(lead)}</p>{''.join(parts)}</main></body></html>\n"
    )


def write_page(path: Path, title: str, lead: str, *parts: str) -> None:
    """Publish a page."""
    from genfoundry.core.io import write_text

    write_text(path, page(title, lead, *parts))
