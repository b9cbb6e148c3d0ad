"""Repair text that was decoded with the wrong encoding, by ftfy (Speer 2019, doi:10.5281/zenodo.2591652)."""

import re
from functools import cache
from typing import Any

_LINE = re.compile(r"[^\n]*[^\x00-\x7f\n][^\n]*\n?")
"""A line with something in it that is not ASCII; ftfy looks at each line for itself, so the others need not be seen."""


@cache
def _config() -> Any:
    from ftfy import TextFixerConfig

    # Only wrong encodings: curly quotes, ligatures, full-width letters and HTML entities are what the author wrote.
    return TextFixerConfig(
        unescape_html=False,
        remove_terminal_escapes=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        fix_surrogates=False,
        remove_control_chars=False,
        normalization=None,
        explain=False,
    )


def mojibake(text: str) -> str:
    """The text with its wrongly decoded lines put right; a text in which there are none comes back as it is."""
    from ftfy import fix_text

    return _LINE.sub(lambda line: fix_text(line[0], _config()), text)
