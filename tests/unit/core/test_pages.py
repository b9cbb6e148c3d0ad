"""Parts of pages: what is text stays text, what is HTML is said to be."""

from genfoundry.core.pages import Html, table


def test_a_cell_is_escaped_unless_it_is_html() -> None:
    shown = table(["<name>", "n"], [["<b>&'\"", 1234], [Html("<b>x</b>"), 0.5]])

    assert "<td>&lt;b&gt;&amp;&#x27;&quot;</td><td class=n>1,234</td>" in shown
    assert "<td><b>x</b></td><td class=n>0.5</td>" in shown
    assert "<th>&lt;name&gt;</th><th class=n>n</th>" in shown
