"""Splits and labels that folders give: by their names, in any case, at the top, below common folders, or below labels.

Archives, and tables of records, count as folders of their names: ``train.zip``, ``test-00000-of-00002.parquet``. What
looks like a split but can't be told from its name is an error: its records would train in silence.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from genfoundry.config.sections.ingest import Ingest
from genfoundry.config.specs import SPLITS
from genfoundry.core.errors import DataError
from genfoundry.modalities.common.tables import Part, bare, ending, files, is_archive

NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""Names of each split, of columns and of folders; each may end with ``set``."""

_KNOWN = {name: split for split, names in NAMES.items() for name in names}

_ALIKE = {
    **dict.fromkeys(("train", "training", "trn", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "development", "test", "tests", "testing", "tst"), "other"),
    **dict.fromkeys(("eval", "evaluation", "holdout", "heldout"), "other"),
}
"""Words in a name that make it look like the training split, or like another."""

_WORDS = (re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+"), re.compile(r"[A-Z]{2,}|[A-Z]?[a-z]+|\d+"))
"""Words in a name; the second is for capitals before small letters: ``VOCtest``."""

_GLUED = re.compile(
    r"(?:mini)?(train|trainval|val|valid|validation|dev|test|eval)(?:ing)?"
    r"(?:|data|images?|imgs?|photos?|pictures?|pics?|samples?|files?|texts?|splits?|sets?)"
)

_FILLER = "sets?|data|dataset|images?|imgs?|photos|samples|files|texts"

_UNSEEN = re.compile(
    f"({_FILLER})*(predict(ions?)?|preds?|infer(ence)?|query|queries|gallery|probe|unseen|private|blind|submissions?)"
    f"({_FILLER})*"
)
"""Words for data that a model is used or judged on; beside a training split no label is called so."""

_PIECE = re.compile(r"-\d+-of-\d+(-[0-9a-f]+)?$")

SHOWN = 3
"""Folders that a message names."""

FEW = 10
"""Names beside splits that look like none; where more are, and most, the names are of labels or documents."""


def split_named(name: str, names: Mapping[str, str]) -> str | None:
    """``train``, ``val``, ``test`` or ``none`` for the name of a split; None if it is no such name.

    Args:
        name: Of a folder, or a value of a column.
        names: Further names: ``ingest.split_names``.
    """
    small = name.strip().lower()
    for own, split in names.items():
        if own.strip().lower() == small:
            return split
    return _KNOWN.get(small) or _KNOWN.get(re.sub(r"[ _-]?set$", "", small))


def _alike(name: str) -> tuple[str, str] | None:
    """(``train`` or ``other``, the rest of the name) for a name that looks like that of a split."""
    for pattern in _WORDS:
        words = [word.lower() for word in pattern.findall(name)]
        for number, word in enumerate(words):
            glued = _GLUED.fullmatch(word)
            if kind := _ALIKE.get(glued[1] if glued else word):
                return kind, " ".join(words[:number] + words[number + 1 :])
    return ("other", "") if re.search("h[eo]ldout", re.sub("[^a-z]", "", name.lower())) else None


def _unseen(name: str) -> bool:
    return _UNSEEN.fullmatch(re.sub("[^a-z]", "", name.lower())) is not None


class Layout(NamedTuple):
    """Where the splits of a source, or of an archive, stand in the names of its files."""

    given: Mapping[str, str]
    """Split by folder, archive or table: ``{"set/train": "train"}``; ``none`` for one that is named so."""
    position: int = -1
    """Of the folder that names the split; -1 without one."""
    common: int = 0
    """Leading folders that all files share."""

    def split(self, name: str) -> str | None:
        """The split that a file is given."""
        split = self._named(name.split("/"))
        return None if split == "none" else split

    def label(self, name: str) -> str | None:
        """The last folder of a file, those left out that name its split, or what is common to all splits."""
        parts = name.split("/")
        folders = parts[:-1]
        if self._named(parts):
            folders = parts[self.position + 1 : -1] or parts[self.common : self.position]
        return folders[-1] if folders else None

    def _named(self, parts: list[str]) -> str | None:
        return self.given.get("/".join(parts[: self.position + 1])) if self.position >= 0 else None


def layout_of(source: Path | Part, config: Ingest, found: Sequence[tuple[str, Path]] | None = None) -> Layout:
    """The layout of a source; that of a single file gives nothing.

    Args:
        source: File, folder, or some files of one.
        config: Further names, and what folders are.
        found: The files of the source, if they are listed already.

    Raises:
        DataError: Splits can't be told from the names of its folders.
    """
    if isinstance(source, Part) and source.layout is not None:
        return source.layout
    found = found or files(source)
    if isinstance(source, Path) and source.is_file():
        return Layout({})
    return layout((name for name, _ in found), config, str(source) if isinstance(source, Path) else "source")


def layout(names: Iterable[str], config: Ingest, where: str) -> Layout:
    """The layout of files with these names.

    Raises:
        DataError: Splits can't be told from the names of folders.
    """
    tree = _Tree(names, config)
    position = tree.position()
    found = Layout(dict(tree.given(position)), position, min(tree.common, max(position, 0)))
    if fault := next(tree.faults(found), ""):
        raise DataError(f"{where}: {fault}")
    return found


Node = tuple[str, ...]


class _Tree:
    """Folders of a source, by their paths; archives and tables that may name a split are folders of that name."""

    def __init__(self, names: Iterable[str], config: Ingest) -> None:
        self.config, self.files = config, dict[Node, list[str]]()
        self.below: dict[Node, set[str]] = {}
        """Names of the folders in a folder."""
        self.holds: set[Node] = set()
        """Folders with files."""
        self.kinds: dict[str, str] = {}
        self.unlike: dict[Node, int] = {}
        """Tables and archives in a folder, beside those of splits, that look like no split."""
        stems: dict[Node, dict[str, list[str]]] = {}
        plain: set[Node] = set()
        for name in names:
            *folders, file = name.split("/")
            node = tuple(folders)
            self._add(node)
            if stem := self._stem(file):
                stems.setdefault(node, {}).setdefault(stem, []).append(name)
            else:
                plain.add(node)
        levels: dict[int, set[str]] = {}
        for node in {*stems, *self.below}:
            levels.setdefault(len(node), set()).update(stems.get(node, ()), self.below.get(node, ()))
        divided = {level for level, beside in levels.items() if self._divided(beside) and self._few(beside)}
        for node, found in stems.items():
            beside = {*found, *self.below.get(node, ())}
            looks: set[object] = {self.split(one) or _alike(one) for one in beside} - {None, "none"}
            if looks and self._few(beside):
                looks |= {_unseen(one) for one in beside} - {False}
            if len(looks) > 1 or len(node) in divided:
                taken = {stem: named for stem, named in found.items() if self._kind(stem) or _unseen(stem)}
                for stem, named in taken.items():
                    self._add((*node, stem))
                    self.files[(*node, stem)] = named
                self.unlike[node] = len(found) - len(taken)
                if not self.unlike[node] and node not in plain:
                    self.holds.discard(node)
        top: Node = ()
        while len(self.below.get(top, ())) == 1:
            top = (*top, *self.below[top])
        self.top, self.common = top, len(top)

    def _add(self, node: Node) -> None:
        if node in self.holds:
            return
        self.holds.add(node)
        for number in range(len(node)):
            self.below.setdefault(node[:number], set()).add(node[number])

    def _stem(self, file: str) -> str:
        """The name of an archive or a table without its ending; empty for other files."""
        if self.config.FOLDERS != "program" and is_archive(file):
            return file[: -len(ending(file))]
        stem, dot, last = bare(file).rpartition(".")
        return _PIECE.sub("", stem) if f"{dot}{last.lower()}" in self.config.TABLES else ""

    def split(self, name: str) -> str | None:
        return split_named(name, self.config.split_names)

    def _kind(self, name: str) -> str:
        """``train`` or ``other`` for a name that is, or looks like, that of a split; empty for others."""
        if name not in self.kinds:
            split, like = self.split(name), _alike(name)
            kind = {"train": "train", "none": ""}.get(split, "other") if split else like[0] if like else ""
            self.kinds[name] = kind
        return self.kinds[name]

    def _divided(self, names: Iterable[str]) -> bool:
        """Whether some names look like the training split, and some like another."""
        return {"train", "other"} <= set(map(self._kind, names))

    def _few(self, names: Collection[str], more: int = 0) -> bool:
        """Whether few of the names, and of ``more`` besides, look like no split."""
        unlike = sum(not self._kind(name) for name in names)
        return unlike + more <= max(FEW, len(names) - unlike)

    def known(self, names: Iterable[str]) -> set[str]:
        """Splits that some of the names are of."""
        return {split for name in names if (split := self.split(name)) and split != "none"}

    def position(self) -> int:
        """Number of the folder in each path that names the split; -1 if there is none."""
        beside = self.below.get(self.top, set())
        if self.config.FOLDERS == "program":
            return self.common if "train" in self.known(beside) else -1
        levels = range(self.common, max(map(len, self.holds), default=0))
        divided = {level: self.known(names) for level in levels if (names := self._alone(level))}
        for level, known in divided.items():
            if len(known) > 1:
                return level
        if known := self.known(beside):
            flat = self.config.FOLDERS == "labels" and not any((*self.top, name) in self.below for name in beside)
            # Folders of pictures, one called test: labels, unless a second split stands beside it.
            if len(known) > 1 or not flat or all(map(self.split, beside)):
                return self.common
        for level, known in divided.items():
            if known:
                return level
        return next((level for level, name in enumerate(self.top) if self.known([name])), -1)

    def _alone(self, level: int) -> set[str]:
        """The names at a level if all of them are of splits, and all files below what is common lie below them."""
        deep = [node for node in self.holds if len(node) > self.common]
        names = {node[level] for node in deep if len(node) > level}
        whole = all(map(self.split, names)) and all(len(node) > level for node in deep)
        return names if whole else set()

    def given(self, position: int) -> Iterator[tuple[str, str]]:
        for node in list(self.below) if position >= 0 else ():
            for name in self.below[node] if len(node) == position else ():
                if split := self.split(name):
                    folder = (*node, name)
                    yield "/".join(folder), split
                    yield from ((file, split) for file in self.files.get(folder, ()))

    def faults(self, found: Layout) -> Iterator[str]:
        """Why splits can't be told, a line each."""
        for node, names in sorted(self.below.items()):
            if len(names) < 2 or found._named([*node]):
                continue
            yield from self._unknown(node, names, found.position)
            yield from self._lonely(names) if len(node) == found.position == self.common else ()
            if self.config.FOLDERS != "program" and len(node) != found.position:
                known = [name for name in sorted(names) if self.known([name])]
                if "train" in (splits := self.known(known)) and len(splits) > 1:
                    yield (
                        f"{_shown(known)} in {_place(node)} are named as splits, but other files of the source lie in "
                        "none; take that folder as source, bring all files into splits, or say that these are none: "
                        f"ingest.split_names: {{{known[0]}: none, {known[1]}: none}}"
                    )
        yield from self._apart(found) if self.config.FOLDERS != "program" else ()

    def _apart(self, found: Layout) -> Iterator[str]:
        """Names of splits, or all of a level that look like some, in different folders, that give none."""
        free = [
            (node, name) for node in sorted(self.below) for name in sorted(self.below[node])
            if not found._named([*node, name])
        ]  # fmt: skip
        known = {split: (*node, name) for node, name in reversed(free) if (split := self.split(name))}
        other = known.get("val") or known.get("test")
        if "train" in known and other:
            yield (
                f"{'/'.join(known['train'])!r} and {'/'.join(other)!r} are named as splits, but other files of the "
                "source lie in none; bring all files into splits, at the same depth, or say that these are none: "
                f"ingest.split_names: {{{known['train'][-1]}: none, {other[-1]}: none}}"
            )
        for level in sorted({len(node) for node, _ in free}):
            kinds = {(*node, name): self._kind(name) for node, name in free if len(node) == level}
            kinds |= dict.fromkeys((node for node, count in self.unlike.items() if count and len(node) == level), "")
            if all(kinds.values()) and len({*kinds.values()}) > 1:
                first = {kind: node for node, kind in reversed(kinds.items())}
                beside, name = first["train"], first["other"]
                if self.split(name[-1]):
                    beside, name = name, beside
                yield self._question("/".join(beside), "/".join(name), "in different folders", name[-1])

    def _lonely(self, names: set[str]) -> Iterator[str]:
        """A folder called ``dev`` or ``testing`` beside others, which may be of a split or about that."""
        known = [name for name in sorted(names) if self.known([name])]
        own = {name.strip().lower() for name in self.config.split_names}
        if len(known) != 1 or len(names) == 1 or self.known(known) == {"train"}:
            return
        if known[0] not in SPLITS and known[0].lower() not in own:
            yield (
                f"{known[0]!r} is the name of a split, but no training split stands beside it; say what it is with "
                f"ingest.split_names: {{{known[0]}: {self.split(known[0])}}} (or none if it is no split)"
            )

    def _unknown(self, node: Node, names: set[str], position: int) -> Iterator[str]:
        """Folders beside those of splits that look like one."""
        names = {name for name in names if self.split(name) != "none"}
        known = {name: split for name in names if (split := self.split(name))}
        alike = {name: like for name in names - known.keys() if (like := _alike(name))}
        if self.config.FOLDERS == "program" and (node != self.top or names - known.keys() - alike.keys()):
            return
        training = sorted(name for name, split in known.items() if split == "train")
        few = self._few(names, self.unlike.get(node, 0))
        suspects = []
        # Among many other names only those of one pattern are splits.
        first = {(kind, "" if few else rest): name for name, (kind, rest) in sorted(alike.items(), reverse=True)}
        for name, (kind, rest) in sorted(alike.items()):
            beside = training[:1] or (sorted(known)[:1] if kind == "train" else [])
            other = first.get(({"train": "other"}.get(kind, "train"), "" if few else rest))
            suspects += [(one, name) for one in (*beside, other) if one]
        if len(node) == position and training:
            inside = {name: self.below.get((*node, name), set()) for name in names}
            for name in sorted(names - known.keys()):
                alike_inside = inside[name] and 2 * len(inside[name] & inside[training[0]]) >= len(inside[name])
                suspects += [(training[0], name)] if alike_inside else []
        # Flat folders at the top may all be labels, a locomotive's too.
        settled = len(node) > self.common or len(node) == position
        training += sorted(name for name, (kind, _) in alike.items() if kind == "train")
        for one in (
            [one for one in training if settled or (*node, one) in {**self.below, **self.files}][:1] if few else ()
        ):
            suspects += [(one, name) for name in sorted(names - known.keys() - alike.keys()) if _unseen(name)]
        for beside, name in suspects[:1]:
            yield self._question(beside, name, f"side by side in {_place(node)}", name)

    def _question(self, beside: str, shown: str, where: str, name: str) -> str:
        split = "train" if self._kind(name) == "train" else "test"
        return (
            f"{beside!r} and {shown!r} stand {where} and look like splits, but {name!r} is none of "
            f"{', '.join(_KNOWN)}; rename it, or say what it is with ingest.split_names: {{{name}: {split}}} "
            "(train, val, test, or none if it is no split)"
        )


def _place(node: Node) -> str:
    return repr("/".join(node)) if node else "the source"


def _shown(names: list[str]) -> str:
    return ", ".join(map(repr, names[:SHOWN])) + " ..." * (len(names) > SHOWN)
