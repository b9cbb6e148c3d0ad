"""The model card: architecture, data, scores, intended use, limits, and how to reproduce the model.

Everything in it is read from the reports of the line and from the model's run; nothing is written by hand. What was not
recorded is said to be so.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genfoundry.config import params as settings
from genfoundry.config.dag import Lineage, read_lineage
from genfoundry.config.sections.table import section as section_of
from genfoundry.config.specs import SPLITS, read_spec
from genfoundry.core import parts
from genfoundry.core.io import MANIFEST, digest_of, file_digest, folder_digest, read_table, record_columns
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.data.funnel import Funnel, read_funnel
from genfoundry.evaluation.metrics import load_metric
from genfoundry.evaluation.results import ModelResult, read_model
from genfoundry.evaluation.verdicts import COPYING, PRIMARY, against, copies, name_of, plus_minus
from genfoundry.modalities.common.lookup import media_of
from genfoundry.promotion.document import Block, Code, Heading, Items, Shown, Table, Text, html, markdown
from genfoundry.tracking import tags

SHOWN_SAMPLES, SHOWN_CHARACTERS = 3, 600
SHOWN_GROUPS = 20

LICENSE = "license"


@dataclass(frozen=True)
class Subject:
    """Whose card it is, and where its records lie."""

    root: Path
    tree: settings.Settings
    key: str
    version: str
    run_tags: Mapping[str, str]
    """Tags of its run: commit, devices, versions."""

    @property
    def block(self) -> settings.ModelBlock:
        return self.tree.models[self.key]

    @property
    def model(self) -> ModelPaths:
        return ModelPaths(self.root, self.key)

    @property
    def dataset(self) -> DatasetPaths:
        return DatasetPaths(self.root, self.block.dataset)

    def lineage(self, stage: str) -> Lineage:
        """Lineage of a stage of the model or of its data set; empty if it is not there."""
        found = (read_lineage(self.root, f"{stage}@{key}") for key in (self.key, self.block.dataset))
        return next(filter(None, found), {})

    @property
    def digest(self) -> str:
        """Cache key of the card: a digest of everything that it shows."""
        stages = ("ingest", "preprocess", "deduplicate", "split", "encode", "reference", "train", "sample", "evaluate")
        here = Path(__file__).parent
        return digest_of(
            {
                "code": [file_digest(here / name) for name in ("card.py", "document.py")],
                "stages": [self.lineage(stage).get("fingerprint", "") for stage in stages],
                "outputs": self.lineage("evaluate").get("outputs", {}),
                "run": {name: self.run_tags.get(name, "") for name in _SHOWN_TAGS},
                "version": self.version,
            }
        )


_SHOWN_TAGS = (tags.COMMIT, tags.DIRTY, tags.LOCK, tags.DEVICES, tags.VERSIONS)


@dataclass(frozen=True)
class Card:
    """A card in its three forms."""

    markdown: str
    html: str
    summary: str
    """Its head, for the description of the registered version."""


def make_card(subject: Subject) -> Card:
    """The card of a model whose line has run."""
    block = subject.block
    result = read_model(subject.model.reports, subject.key, block.dataset, block.family, {})
    funnel = read_funnel(subject.dataset.reports)
    title = f"{subject.key}, version {subject.version}"
    lead = _lead(subject, result)
    blocks = [
        *_what(subject, result),
        *_data(subject, funnel),
        *_training(subject, result),
        *_scores(result),
        *_copying(result),
        *_slices(result),
        *_limits(subject, result),
        *_reproduce(subject),
    ]
    return Card(markdown(title, lead, blocks), html(title, lead, blocks), _summary(subject, result, lead))


def _first_sentence(folder: str, name: str) -> str:
    text = (parts.load(folder, name).__doc__ or name).strip().split("\n\n")[0]
    return " ".join(text.split()).split(". ")[0].rstrip(".:")


def _lead(subject: Subject, result: ModelResult) -> str:
    size = f"{result.train['parameters']:,} parameters, " if "parameters" in result.train else ""
    block = subject.tree.datasets[subject.block.dataset]
    return f"Family {subject.block.family}, {size}learnt from {block.modality} data set {subject.block.dataset}."


def _headlines(result: ModelResult) -> Iterator[str]:
    for key, score in result.scores.items():
        if name_of(key) in PRIMARY:
            words = against(score, result.higher_is_better(key))
            yield f"**{name_of(key)} {plus_minus(score)}**" + (f": {words}" if words else "")


def _summary(subject: Subject, result: ModelResult, lead: str) -> str:
    said, bad = copies(result)
    lines = [lead, "", *(f"- {line}" for line in _headlines(result))]
    if said:
        lines.append(f"- copies training data? {'**yes**' if bad else 'no more than held-out records'}: {said}")
    lines.append(f"- model sha256 `{folder_digest(subject.model.model)}`")
    return "\n".join([*lines, "", "The whole card: `card.md` and `card.html` beside the model's files."])


# ------------------------------------------------------------------------------------------------ what it is
def _what(subject: Subject, result: ModelResult) -> Iterator[Block]:
    yield Heading("What it is")
    yield Text(f"{_first_sentence('models', subject.block.family)}.")
    yield Items(list(_headlines(result)))
    yield Text(f"{media_of(read_spec(subject.model.model)).words()}.")
    if subject.block.init_from != "scratch":
        yield Text(f"It starts from `{subject.block.init_from}`: what holds for that model's data holds for it too.")
    for one in result.samples[:SHOWN_SAMPLES]:
        if one.kind == "text":
            yield Code(one.text[:SHOWN_CHARACTERS] + (" [...]" if len(one.text) > SHOWN_CHARACTERS else ""))
        else:
            yield Shown(one, "The first samples, not chosen")


# ------------------------------------------------------------------------------------------------ data
def _data(subject: Subject, funnel: Funnel) -> Iterator[Block]:
    block = subject.tree.datasets[subject.block.dataset]
    yield Heading("Data")
    yield Text(f"Data set `{subject.block.dataset}`, {block.modality}, from `{block.source}`.")
    yield Table(
        ["what", "sha256"],
        [
            [f"raw data `{block.source}`", f"`{_input(subject, 'ingest', block.source)}`"],
            ["arrays it learnt from", f"`{_input(subject, 'train', _relative(subject, subject.dataset.arrays))}`"],
        ],
    )
    rows = [[step.what, step.left, step.why] for step in funnel.steps]
    yield Table(["step", "records left", "what went, and why"], rows)
    facts = ", ".join(f"{count:,} {split}" for split, count in funnel.splits.items())
    if facts:
        yield Text(f"In use: {facts}. It learnt from train, was chosen on val, and is judged on test.")
    yield from _licences(subject)
    yield from _personal(subject)


def _relative(subject: Subject, path: Path) -> str:
    return path.relative_to(subject.root).as_posix()


def _input(subject: Subject, stage: str, name: str) -> str:
    return str(subject.lineage(stage).get("inputs", {}).get(name, "not recorded"))


def _licences(subject: Subject) -> Iterator[Block]:
    index = subject.dataset.index
    counts: Counter[str] = Counter()
    for split in SPLITS:
        file = index / f"{split}.parquet"
        table = read_table(file) if file.is_file() else None
        if table is not None and LICENSE in table:
            counts.update(table[LICENSE].fillna("not stated").astype(str))
    if not counts:
        yield Text(
            "**Licences: not recorded.** The records have no column `license`; look at their source before samples are "
            "published."
        )
        return
    yield Text("Licences of the records in use, as their source states them:")
    yield Table(["licence", "records"], [[name, count] for name, count in counts.most_common()])


def _personal(subject: Subject) -> Iterator[Block]:
    """Kinds of personal data that were masked, by the facts of preprocessing."""
    if not (subject.dataset.clean / MANIFEST).is_file():
        return
    masked = [name for name in record_columns(subject.dataset.clean) if name.startswith("masked_")]
    if masked:
        kinds = ", ".join(name.removeprefix("masked_") for name in masked)
        yield Text(
            f"Personal data were looked for by pattern and replaced: {kinds}. What no pattern finds is still there."
        )


# ------------------------------------------------------------------------------------------------ training
def _training(subject: Subject, result: ModelResult) -> Iterator[Block]:
    yield Heading("Training")
    train = result.train
    facts = {
        "parameters": train.get("parameters"),
        "optimizer steps": train.get("steps"),
        "examples seen": train.get("examples_seen"),
        "final loss": train.get("final_loss"),
        "best validation loss": train.get("best_val_loss"),
        "at step": train.get("best_step"),
        "devices": subject.run_tags.get(tags.DEVICES),
        "software": subject.run_tags.get(tags.VERSIONS),
    }
    yield Table(["what", "value"], [[name, value] for name, value in facts.items() if value is not None])
    for name in ("options", "training", "sampling"):
        section = section_of(subject.tree, subject.key, name).model_dump(mode="json")
        rows = [[key, _plain(value)] for key, value in section.items()]
        if rows:
            yield Text(f"`{name}`, defaults filled in:")
            yield Table(["setting", "value"], rows)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_plain(inner)}" for name, inner in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(inner) for inner in value) or "none"
    return str(value).lower() if isinstance(value, bool) else ("none" if value in ("", None) else str(value))


# ------------------------------------------------------------------------------------------------ scores
def _scores(result: ModelResult) -> Iterator[Block]:
    yield Heading("Scores")
    yield Text(
        "± is half of the 95 % interval over samples and held-out records; it does not cover what another training "
        "seed would give. The digits behind `@` name the protocol: scores of different protocols are not comparable."
    )
    rows = []
    for key in sorted(result.scores, key=lambda key: (name_of(key) not in PRIMARY, name_of(key) not in COPYING, key)):
        score, better = result.scores[key], result.higher_is_better(key)
        direction = {True: "higher", False: "lower", None: ""}[better]
        rows.append([f"`{key}`", plus_minus(score), direction, score.get("n", ""), against(score, better)])
    yield Table(["score", "value", "better", "n", "held against"], rows)
    yield Text("Protocols:")
    yield Table(
        ["score", "measured on, and how"], [[f"`{key}`", _protocol(facts)] for key, facts in result.protocols.items()]
    )
    for name, why in result.not_measured.items():
        yield Text(f"Not measured: {name}: {why.removeprefix(name + ': ')}.")


def _protocol(facts: Mapping[str, Any]) -> str:
    """The facts of a protocol in one line; digests are cut to twelve digits."""
    said = []
    for name, value in facts.items():
        if name in ("metric", "higher_is_better") or value in ({}, None, ""):
            continue
        if name in ("reference", "documents", "training") and isinstance(value, Mapping):
            said.append(
                f"{name}: {value.get('n', '?')} {value.get('split', '')} records `{str(value.get('digest'))[:12]}`"
            )
        elif name == "network" and isinstance(value, Mapping):
            said.append(
                f"network {value.get('kind')} `{str(value.get('digest'))[:12]}`, {value.get('dimension')} features"
            )
        elif isinstance(value, Mapping):
            said.append(
                f"{name}: {_plain({key: inner for key, inner in value.items() if inner not in ('', None, [])})}"
            )
        else:
            said.append(f"{name} {_plain(value)}")
    return "; ".join(said)


def _copying(result: ModelResult) -> Iterator[Block]:
    yield Heading("Copying")
    said, bad = copies(result)
    if not said:
        yield Text("Not measured: nothing tells whether it repeats its training data.")
        return
    verdict = "**Yes, more than held-out records do.**" if bad else "No more than held-out records do."
    yield Text(f"Does it repeat its training data? {verdict} {said[0].upper()}{said[1:]}.")


# ------------------------------------------------------------------------------------------------ slices
def _slices(result: ModelResult) -> Iterator[Block]:
    yield Heading("For whom is it worse?")
    yield Text(
        "Scores by group of records. Groups are columns of the records alone: nothing is guessed about people. With "
        "many groups about one 95 % interval in twenty misses by chance."
    )
    found = False
    for column, facts in result.slices.items():
        for metric, spread in facts.get("spread", {}).items():
            found = True
            groups = {name: scores[metric] for name, scores in facts["scores"].items() if metric in scores}
            yield Text(
                f"`{metric}` by `{column}`: lowest {spread['lowest']}, highest {spread['highest']}, "
                f"{spread['gap']:.3g} apart."
            )
            shown = sorted(groups.items(), key=lambda item: item[1]["value"])
            yield Table(
                [column, metric, "records"], [[name, plus_minus(score), score["n"]] for name, score in _ends(shown)]
            )
        counts = facts.get("counts", {})
        if counts.get("too_small") or counts.get("not_scored"):
            small, left = counts.get("too_small", 0), counts.get("not_scored", 0)
            yield Text(
                f"`{column}`: of {counts['groups']:,} groups {small:,} are too small to be scored, {left:,} were left "
                "out as beyond the largest fifty."
            )
    if not found:
        yield Text("**No group is large enough to be scored, so nothing is known about differences between groups.**")


def _ends(rows: Sequence[Any]) -> list[Any]:
    """The lowest and the highest, where there are many."""
    half = SHOWN_GROUPS // 2
    return list(rows) if len(rows) <= SHOWN_GROUPS else [*rows[:half], *rows[-half:]]


# ------------------------------------------------------------------------------------------------ limits
def _limits(subject: Subject, result: ModelResult) -> Iterator[Block]:
    yield Heading("Limits")
    lines = []
    worse = [
        f"`{name_of(key)}`: {against(score, result.higher_is_better(key))}"
        for key, score in result.scores.items()
        if name_of(key) in PRIMARY and "worse" in against(score, result.higher_is_better(key))
    ]
    lines += [f"**Worse than a trivial model**: {text}." for text in worse]
    lines.append(
        "It was judged on held-out records of its own data set alone: nothing is known about other data, nor about "
        "uses that the scores don't measure."
    )
    lines.append("Safety, truth and harm of what it draws were not measured.")
    lines += [f"`{name}`: {load_metric(name).caveat}" for name in dict.fromkeys(map(name_of, result.scores))]
    yield Items(lines)


# ------------------------------------------------------------------------------------------------ again
def _reproduce(subject: Subject) -> Iterator[Block]:
    digest, key = folder_digest(subject.model.model), subject.key
    commit, dirty = subject.run_tags.get(tags.COMMIT, ""), subject.run_tags.get(tags.DIRTY) == "true"
    yield Heading("How to make it again")
    first = f"git checkout {commit}" if commit else "# the commit was not recorded: there was no git repository"
    yield Code(
        "\n".join(
            [
                first,
                "make install",
                "genfoundry bootstrap        # brings data/ to what data.dvc says",
                f"dvc repro evaluate@{key}",
                f"sha256sum artifacts/models/{key}/model/{MANIFEST}",
                f"# {digest}",
            ]
        )
    )
    if dirty:
        yield Text(
            "**The checkout had uncommitted changes when it was trained: the commit alone does not make it again.**"
        )
    yield Text(
        "Equal bytes need the same kind of processor and `determinism: bitwise`; else scores agree within their bars."
    )
    train = subject.lineage("train")
    rows = [
        ["model", f"`{digest}`"],
        ["inputs and settings of training", f"`{train.get('fingerprint', 'not recorded')}`"],
        ["requirements.lock", f"`{train.get('lock', 'not recorded')}`"],
    ]
    yield Table(["what", "sha256"], rows)
    yield Text("To draw from it, in Python; every byte is checked, and nothing in the store is run:")
    yield Code(
        "from pathlib import Path\n"
        "from genfoundry.generation.modelfile import load_model\n"
        f'loaded = load_model(Path("artifacts/models/{key}/model"))'
    )
