"""Prompts that a model continues, and the stop sequences that end its texts."""

import json
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from genfoundry.core.errors import ConfigError
from genfoundry.core.parts import nearest
from genfoundry.nn.decoding import TextSampling

FOLDER = "presets/prompts"
"""Where prompt files lie in a project: an input of stage sample."""


def read_prompts(sampling: TextSampling, folder: Path) -> list[str]:
    """Prompts in full: ``prompts``, then the lines of ``prompt_file``, each put into ``template``.

    Raises:
        ConfigError: A file that is missing, empty or not JSON; a template that names a field which a prompt has not.
    """
    rows: list[Mapping[str, str]] = [{"": prompt} for prompt in sampling.prompts]
    if sampling.prompt_file:
        rows += _rows(prompt_file(sampling, folder))
    pieces = _pieces(sampling.template)
    return [_filled(pieces, row, number) for number, row in enumerate(rows, start=1)]


def prompt_file(sampling: TextSampling, folder: Path) -> Path:
    """The prompt file, which lies below the folder."""
    path = folder / sampling.prompt_file
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f"params.yaml: sampling.prompt_file is {sampling.prompt_file!r}: must lie below {FOLDER}/")
    if not path.is_file():
        there = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
        raise ConfigError(
            f"params.yaml: sampling.prompt_file is {sampling.prompt_file!r}: no such file below {FOLDER}/"
            f"{nearest(sampling.prompt_file, there)}"
        )
    return path


def _rows(path: Path) -> list[Mapping[str, str]]:
    """Fields of each line that is not blank; the field without a name is the line, or a JSON string."""
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        raise ConfigError(f"{path}: holds no prompt; write one a line")
    if path.suffix != ".jsonl":
        return [{"": line.rstrip("\r")} for _, line in lines]
    return [_fields(f"{path} line {number}", line) for number, line in lines]


def _fields(where: str, line: str) -> Mapping[str, str]:
    try:
        found = json.loads(line)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where}: not JSON: {error.msg}") from None
    if isinstance(found, str):
        return {"": found}
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: is {line[:40]!r}; needs a JSON object or a JSON string")
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in found.items()}


def _pieces(template: str) -> list[tuple[str, str | None]]:
    """(text, name of the field behind it) in turn."""
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(
            f"params.yaml: sampling.template is {template!r}: {error}; a brace of the text is written twice"
        ) from None
    if bad := [name for _, name, form, conversion in parsed if form or conversion]:
        raise ConfigError(f"params.yaml: sampling.template: field {bad[0]!r} has a format; name the field alone")
    return [(text, name) for text, name, _, _ in parsed]


def _filled(pieces: list[tuple[str, str | None]], row: Mapping[str, str], number: int) -> str:
    missing = [name for _, name in pieces if name is not None and name not in row]
    if missing:
        known = ", ".join("{" + name + "}" for name in row)
        raise ConfigError(
            f"params.yaml: sampling.template asks for {{{missing[0]}}}, but prompt {number} has {known}; change either"
        )
    return "".join(text + (row[name] if name is not None else "") for text, name in pieces)


@dataclass(frozen=True)
class Ending:
    """Ends texts before the first stop sequence."""

    stop: tuple[str, ...]
    decode: Callable[[list[int]], str]

    def reached(self, tokens: Sequence[int]) -> bool:
        """Whether the newest token completed a stop sequence."""
        # A token is a byte or more, or a fifth of one that the training text has not (encode.tokenizer characters).
        tail = 5 * max(len(stop.encode()) for stop in self.stop)
        text = self.decode(list(tokens[-tail:]))
        return any(stop in text for stop in self.stop)

    def cut(self, tokens: list[int]) -> tuple[list[int], str]:
        """The text before the first stop sequence, and the tokens that lie wholly in it."""
        text = self.decode(tokens)
        places = [place for stop in self.stop if (place := text.find(stop)) >= 0]
        if not places:
            return tokens, text
        end = min(places)
        kept = next(count for count in range(len(tokens), -1, -1) if len(self.decode(tokens[:count])) <= end)
        return tokens[:kept], text[:end]
