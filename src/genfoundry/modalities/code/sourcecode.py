"""Static facts of source code: language, licence, whether it is vendored or generated, whether it parses."""

import ast
import re
import warnings
from pathlib import PurePosixPath

LANGUAGES = {
    "assembly": ".asm .s",
    "c": ".c .h",
    "c#": ".cs",
    "c++": ".cc .cpp .cxx .hh .hpp .hxx",
    "clojure": ".clj .cljs",
    "css": ".css .scss .less",
    "cuda": ".cu .cuh",
    "dart": ".dart",
    "elixir": ".ex .exs",
    "erlang": ".erl .hrl",
    "fortran": ".f .f90 .f95 .f03 .for",
    "go": ".go",
    "haskell": ".hs",
    "html": ".htm .html",
    "java": ".java",
    "javascript": ".cjs .js .jsx .mjs",
    "julia": ".jl",
    "kotlin": ".kt .kts",
    "lisp": ".el .lisp .scm",
    "lua": ".lua",
    "ocaml": ".ml .mli",
    "perl": ".pl .pm",
    "php": ".php",
    "python": ".py .pyi .pyx .pxd",
    "r": ".r",
    "ruby": ".rb",
    "rust": ".rs",
    "scala": ".scala",
    "shell": ".bash .sh .zsh",
    "sql": ".sql",
    "swift": ".swift",
    "typescript": ".ts .tsx",
    "verilog": ".sv .v",
}
"""Endings of file names by language; a ``.h`` counts as C, a ``.v`` as Verilog."""

ENDINGS = {ending: language for language, endings in LANGUAGES.items() for ending in endings.split()}

PARSED = 2**20
"""Longest text that is parsed, in characters: a syntax tree takes some hundred times its memory."""


def parses(text: str, ending: str) -> bool | None:
    """Whether a file parses, by this interpreter's grammar; None where no parser of its language is at hand.

    Only Python's files are parsed (``.py``, ``.pyi``). Whether brackets balance would say little of other languages.
    """
    if ending not in (".py", ".pyi") or len(text) > PARSED:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # ValueError: null bytes or lone surrogates. The last two: nested deeper than the parser goes.
        return False
    return True


# ------------------------------------------------------------------------------------------------ where it comes from
_FOLDERS = (
    "node_modules bower_components vendor _vendor vendored third_party thirdparty Pods site-packages dist-packages"
)
_VENDORED = frozenset(_FOLDERS.split())
_MADE = re.compile(
    r"(?:\.min\.(?:js|css)|_pb2(?:_grpc)?\.pyi?|\.pb\.(?:go|cc|h)|\.g\.dart|\.designer\.cs)\Z", re.IGNORECASE
)
_MARK = re.compile(
    r"@generated\b|\bdo not (?:edit|modify)\b(?:\W*\Z|.{0,20}(?:by hand|manually|directly|this file))"
    r"|\bcode generated\b|\b(?:auto-?|automatically |machine )generated\b|\b(?:was|is) generated (?:by|from)\b"
    r"|^\W*generated (?:by|from)\b",
    re.IGNORECASE,
)
HEAD = 30
"""Lines from the beginning in which a mark of generated code counts."""

_COMMENT = re.compile(r"\s*(?:#|//|/\*|\*|--|;|%|<!--|\"\"\"|'''|\(\*|\{-|dnl\b|rem\b)", re.IGNORECASE)


def vendored(name: str) -> str | None:
    """The folder of the path that holds copies of other projects, if there is one."""
    return next((part for part in PurePosixPath(name).parts[:-1] if part in _VENDORED), None)


def generated(name: str, text: str) -> str | None:
    """The mark of a generated file: its name, or a comment near its beginning."""
    if found := _MADE.search(name):
        return f"a name ending in {found[0]}"
    for line in text.split("\n", HEAD)[:HEAD]:
        if _COMMENT.match(line) and (found := _MARK.search(line)):
            return found[0].strip()[:80]
    return None


SHAPE = ("mean_line", "longest_line", "alphanumeric")
"""What ``shape`` gives, by name."""


def shape(text: str) -> tuple[float, int, float]:
    """(mean length of a line, longest line, share of letters and digits in the whole), rounded to four decimals."""
    lines = text.splitlines() or [""]
    solid = sum(map(len, _ALPHANUMERIC.findall(text)))
    return round(len(text) / len(lines), 4), max(map(len, lines)), round(solid / max(len(text), 1), 4)


_ALPHANUMERIC = re.compile(r"[^\W_]+")


# ------------------------------------------------------------------------------------------------ licence
_SPDX = re.compile(r"SPDX-License-Identifier:[ \t]*([A-Za-z0-9.+() -]{1,120})")
_LICENCES = tuple(
    (name, re.compile(pattern, re.IGNORECASE))
    for name, pattern in (
        ("Apache-2.0", r"apache license,? (?:version )?2\.0|apache\.org/licenses/license-2\.0"),
        ("MPL-2.0", r"mozilla public license,? (?:v\.?|version) ?2\.0"),
        ("BSL-1.0", r"boost software license"),
        ("Unlicense", r"free and unencumbered software released into the public domain|unlicense\.org"),
        ("CC0-1.0", r"\bcc0\b"),
        ("EPL-2.0", r"eclipse public license,? (?:v\.? ?|version )2\.0"),
        (
            "ISC",
            r"permission to use, copy, modify, and(?:/or)? distribute this software for any purpose|\bisc license\b",
        ),
        (
            "MIT",
            r"permission is hereby granted, free of charge|\bmit[ -]licen[sc]e|licen[sc]ed? (?:under|:) (?:the )?mit\b",
        ),
        ("BSD-3-Clause", r"\bbsd[ -](?:3|three)[ -]clause|3-clause bsd|new bsd licen|neither the names? of"),
        (
            "BSD-2-Clause",
            r"\bbsd[ -](?:2|two)[ -]clause|2-clause bsd|simplified bsd|redistribution and use in source and",
        ),
        ("BSD", r"\bbsd(?: style)? licen[sc]e"),
    )
)
_GNU = re.compile(
    r"gnu (affero |lesser |library )?general public licen[sc]e|\b(a|l)?gpl[ -]?(?:v|version )?([23])", re.IGNORECASE
)
_BLOCKS = (("/*", "*/"), ("<!--", "-->"), ("(*", "*)"), ("{-", "-}"))
_LINES = ("#", "//", "--", ";", "%")
_KEPT = re.compile(
    r"#!|#.{0,20}coding[:=]|<\?php|<!doctype|#(?:pragma|include|define|if|ifndef|ifdef|region)\b", re.IGNORECASE
)
_RUNS = tuple(re.compile(rf"(?:[ \t]*{re.escape(mark)}[^\n]*(?:\n|\Z))+") for mark in _LINES)


_LOOKED_AT = 8192
"""Characters in which a licence is looked for: the longest usual header, BSD's, has some 1,600."""


def header(text: str) -> tuple[int, int]:
    """Where the first comment begins and ends, after a ``#!`` line and the like; an empty span if code comes first."""
    at = 0
    while at < len(text):
        end = text.find("\n", at) + 1 or len(text)
        line = text[at:end].strip()
        if line and not _KEPT.match(line):
            break
        at = end
    start = at
    while text.startswith((" ", "\t"), start):
        start += 1
    for opening, closing in _BLOCKS:
        if text.startswith(opening, start):
            end = text.find(closing, start + len(opening))
            return (at, end + len(closing)) if end >= 0 else (at, at)
    run = next((run for pattern in _RUNS if (run := pattern.match(text, at))), None)
    return at, run.end() if run else at


def licence(text: str) -> str | None:
    """SPDX name of the licence: of a tag in a comment near the beginning (its own words), else what the first comment
    says; None for none.
    """
    for tag in _SPDX.finditer(text, 0, _LOOKED_AT):
        if _COMMENT.match(text, text.rfind("\n", 0, tag.start()) + 1) or tag.start() < header(text)[1]:
            return " ".join(tag[1].removesuffix("--").split())
    start, end = header(text)
    words = re.sub(r"[\s#*/;%-]+", " ", text[start : min(end, start + _LOOKED_AT)])
    if found := _GNU.search(words):
        return _gnu(found, words)
    return next((name for name, pattern in _LICENCES if pattern.search(words)), None)


def _gnu(found: re.Match[str], words: str) -> str:
    """GPL, LGPL or AGPL with its version, as SPDX writes it."""
    kind = {"a": "AGPL", "l": "LGPL"}.get((found[1] or found[2] or "")[:1].lower(), "GPL")
    version = found[3] or next(iter(re.findall(r"version ([23](?:\.1)?)|\bv([23])\b", words)), ("", ""))
    number = version if isinstance(version, str) else version[0] or version[1]
    if not number:
        return kind
    later = re.search(r"any later version|or later", words, re.IGNORECASE)
    return f"{kind}-{number if '.' in number else number + '.0'}-{'or-later' if later else 'only'}"


def without_licence(text: str) -> str:
    """The text without its first comment, if that is about licence or copyright."""
    start, end = header(text)
    comment = text[start:end]
    if end > start and (licence(comment) or re.search(r"copyright|\(c\)|©|licen[sc]e", comment, re.IGNORECASE)):
        return text[:start] + text[end:].lstrip("\r\n")
    return text
