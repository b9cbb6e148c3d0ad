"""Training in process, without DVC: tiny data, a project folder, what it leaves, and kills at a step."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genfoundry.config.conditions import Text
from genfoundry.config.dag import Node
from genfoundry.config.sections.execution import Execution
from genfoundry.config.sections.training import Training
from genfoundry.config.specs import DataSpec, GridSpec, Section, TokenSpec, condition_file
from genfoundry.core import parts
from genfoundry.core.errors import ConfigError
from genfoundry.core.io import canonical_json, file_digest, publish_folder
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.tracking.runs import NoRun, Run
from genfoundry.training import loop
from genfoundry.training.control import Control
from genfoundry.training.job import Job
from genfoundry.training.module import Trainee

SPECS: dict[str, DataSpec] = {
    "grid": GridSpec(channels=1, shape=(8, 8), labels=("a", "b")),
    "token": TokenSpec(vocab_size=20),
    "labelled": TokenSpec(vocab_size=20, labels=("a", "b")),
    "captioned": GridSpec(channels=1, shape=(8, 8), conditions={"caption": Text(length=8, examples=("a", "bc"))}),
}

TINY = {"width": 8, "latent": 3, "layers": 1, "depth": 1, "blocks": 1, "heads": 2, "context": 8, "dropout": 0.1}
"""Options that make a family small, of which each takes those that it has."""


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it runs but Python's own unwinding."""


def tiny(family: str) -> tuple[str, Section]:
    """The kind of data that a family learns from, and options that make it small."""
    module = parts.load("models", family)
    options = module.Config(**{name: value for name, value in TINY.items() if name in module.Config.model_fields})
    for kind, spec in SPECS.items():
        try:
            module.build(options, spec)
        except ConfigError:
            continue
        return kind, options
    raise AssertionError(f"{family} builds from none of the specs")


def make_arrays(arrays: Path, kind: str) -> None:
    generator = np.random.Generator(np.random.PCG64(1))
    with publish_folder(arrays) as folder:
        if isinstance(SPECS[kind], GridSpec):
            for split, count in (("train", 60), ("val", 20), ("test", 20)):
                np.save(folder / f"{split}.npy", generator.integers(0, 256, (count, 1, 8, 8), dtype=np.uint8))
                for name, condition in SPECS[kind].asked.items():
                    np.save(folder / condition_file(name, split), condition.encode(name, condition.in_turn(count)))
        else:
            for split, count in (("train", 900), ("val", 120), ("test", 120)):
                tokens = generator.integers(0, 20, count, dtype=np.uint16)
                if kind == "labelled":
                    # Documents of 1 to 20 tokens; those of label a have low ones, the others high ones.
                    starts = np.unique(np.append(np.cumsum(generator.integers(1, 21, count)), 0))
                    starts = starts[starts < count]
                    labels = np.arange(len(starts)) % 2
                    tokens = 1 + tokens % 9 + np.repeat(labels * 9, np.diff([*starts, count])).astype(np.uint16)
                    tokens[starts] = 0
                    np.save(folder / f"{split}_offsets.npy", np.append(starts, count))
                    np.save(folder / f"{split}_labels.npy", labels)
                np.save(folder / f"{split}_tokens.npy", tokens)
            tokenizer(folder)
        for place, split in enumerate(("train", "val", "test")):
            np.save(folder / f"{split}_records.npy", np.arange(3, dtype=np.uint64) * 10 + place)
        (folder / "spec.json").write_bytes(canonical_json(SPECS[kind].model_dump(mode="json")))


def tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models

    Tokenizer(models.WordLevel({f"w{number}": number for number in range(20)}, unk_token="w1")).save(
        str(folder / "tokenizer.json")
    )


def train(
    root: Path,
    family: str,
    kind: str,
    options: Section,
    training: Mapping[str, Any],
    execution: Mapping[str, Any] | None = None,
    run: Run | None = None,
    components: Mapping[str, ModelPaths] | None = None,
) -> None:
    """Train a family in a project folder, by default 12 steps with everything happening in between."""
    dataset, model, scratch = DatasetPaths(root, "d"), ModelPaths(root, "m"), ModelPaths(root, "scratch")
    if not dataset.arrays.exists():
        make_arrays(dataset.arrays, kind)
        with publish_folder(scratch.model) as folder:
            (folder / "base.json").write_bytes(b"{}")
        (root / "params.yaml").write_text("models: {}\n")
    values = {"steps": 12, "val_every": 4, "log_every": 5, "sample_every": 6, "schedule": {"warmup": 2}, **training}
    where = {"accelerator": "cpu", "threads": 1, "checkpoint_every": 1e9, **(execution or {})}
    node, settings = Node("train", "m", "", (), ("models",), ()), Training.model_validate({"batch": 6, **values})
    job = Job(
        node, model, dataset, scratch, family, options, settings, Execution.model_validate(where), components or {}
    )
    loop.train(job, run or NoRun())


def outputs(root: Path) -> dict[str, str]:
    """sha256 of every file that a training left, by name."""
    folders = (root / "artifacts/models/m", root / "reports/models/m")
    return {
        path.relative_to(root).as_posix(): file_digest(path)
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@contextmanager
def killed_after(step: int) -> Iterator[None]:
    """A training dies after this step, in the middle of a burst or at its end, behind what is done there."""
    between, burst_end = Control.between, Control.on_train_batch_end

    def dying_between(self: Control, trainer: object, module: Trainee) -> None:
        between(self, trainer, module)
        if module.done == step:
            raise Killed

    def dying_at_the_end(self: Control, trainer: object, module: Trainee, *rest: object) -> None:
        burst_end(self, trainer, module, *rest)
        if module.done == step:
            raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Control, "between", dying_between)
        patch.setattr(Control, "on_train_batch_end", dying_at_the_end)
        yield
