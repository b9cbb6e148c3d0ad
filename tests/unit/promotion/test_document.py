"""A document says the same as Markdown and as HTML, and nothing in its contents can break out of it."""

from genfoundry.modalities.common.exhibits import Exhibit
from genfoundry.promotion.document import Code, Heading, Items, Shown, Table, Text, html, markdown

BLOCKS = [
    Heading("Data <b>"),
    Text("**bold** and `x < y` & more"),
    Items(["one", "`two`"]),
    Table(["name", "n"], [["a | b", 1234567], ["line\nbreak", 0.123456]]),
    Table(["name"], []),
    Code("```\n<script>alert(1)</script>\n````"),
    Shown(Exhibit("image/png", b"png"), "samples"),
]


def test_markdown_cells_and_fences_hold_their_contents() -> None:
    said = markdown("title", "lead", BLOCKS)

    assert "| a \\| b | 1,234,567 |" in said and "| line break | 0.1235 |" in said
    assert "`````\n```\n<script>" in said, "the fence is longer than any in the text"
    assert "*none*" in said and "*samples: see the HTML card.*" in said


def test_html_escapes_what_it_is_given() -> None:
    said = html("title <i>", "lead", BLOCKS)

    assert "<b>bold</b> and <code>x &lt; y</code> &amp; more" in said
    assert "<script" not in said and "&lt;script&gt;" in said and "<i>" not in said
    assert "<td>a | b</td>" in said and "1,234,567" in said
    assert "data:image/png;base64,cG5n" in said
