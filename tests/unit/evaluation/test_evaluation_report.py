"""The page that compares models can be read by a stranger, holds what was measured, and nothing from elsewhere."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from genfoundry.config.params import DatasetBlock, ModelBlock
from genfoundry.config.specs import Score
from genfoundry.core.io import canonical_json, write_json
from genfoundry.core.paths import DatasetPaths
from genfoundry.data import funnel
from genfoundry.evaluation import charts
from genfoundry.evaluation.report import write_report
from genfoundry.evaluation.verdicts import against
from genfoundry.metrics._record import Record, write_protocols_file, write_scores_file
from genfoundry.training.reports import read_curves

SECTIONS = ("ingest", "validation", "preprocess", "dedup", "split", "encode", "reference")
EMPTY: dict[str, Any] = {name: {} for name in SECTIONS}
PNG = b"\x89PNG, as far as the page cares"


def block(dataset: str, family: str = "vae") -> ModelBlock:
    return ModelBlock(dataset=dataset, family=family, options={}, training={"steps": 7}, sampling={}, evaluation={})


def score(metric: str, value: float, se: float, **rivals: float) -> Record:
    """A record of 598 samples against 597 records; models of one metric were measured alike."""
    held_against = {name: Score(found, 598) for name, found in rivals.items()}
    return Record(metric, Score(value, 598, se, {"n_reference": 597}), {"higher_is_better": False}, held_against)


def write_model(root: Path, key: str, record: Record) -> Path:
    folder = root / "reports/models" / key
    write_scores_file(folder, [record])
    (folder / "evaluation").mkdir(exist_ok=True)
    write_protocols_file(folder / "evaluation", [record])
    return folder


@pytest.fixture()
def root(tmp_path: Path) -> Path:
    """Two models of one image data set, one of a text data set."""
    data = DatasetPaths(tmp_path, "digits")
    funnel.write_report(data, "ingest", {"records": 1790, "rejected": {"total": 7, "zero_byte": 3, "not_an_image": 4}})
    funnel.write_report(data, "preprocess", {"records": 1788, "dropped": {"total": 2, "blank": 2}})
    removed = {"exact": {"train": 8, "val": 0, "test": 0}, "near": {"train": 0, "val": 0, "test": 0}}
    funnel.write_report(data, "deduplicate", {"records": {"in": 1788, "kept": 1780}, "removed": removed})
    funnel.write_report(
        data, "split", {"records": {"test": 597, "train": 1041, "val": 141}, "withheld": {"test": 1, "val": 0}}
    )
    splits = {"train": {"records": 1041}, "val": {"records": 141}, "test": {"records": 597}}
    funnel.write_report(data, "encode", {"records": 1779, **splits})
    numbers = {"kind": "conv", "dimension": 32, "accuracy": 0.99, "linear_accuracy": 0.96, "digest": "ab" * 32}
    funnel.write_report(data, "reference", numbers)
    sharp = write_model(tmp_path, "sharp-vae", score("fid_domain", 9.0, 1.5, floor=7.5))
    write_model(tmp_path, "blurred-vae", score("fid_domain", 60.0, 2.0, floor=7.5))
    (sharp / "samples").mkdir()
    (sharp / "samples/grid.png").write_bytes(PNG)
    (sharp / "history.csv").write_text("step,loss,lr\n10,5.0,0.1\n20,nan,0.1\n30,2.5,0.1\n")
    (sharp / "validation.csv").write_text("step,val_loss\n30,2.75\n")
    write_json(sharp / "train.json", {"steps": 30, "parameters": 12345})
    text = write_model(tmp_path, "notes-rnn", score("bits_per_byte", 1.4, 0.02, unigram=2.9, bigram=1.85))
    (text / "samples").mkdir()
    (text / "samples/samples.json").write_bytes(canonical_json({"texts": ["<script>alert('x')</script>", "y" * 5000]}))
    write_model(tmp_path, "removed-model", score("fid_domain", 1.0, 0.1))
    return tmp_path


DATASETS = {
    "digits": DatasetBlock(modality="image", source="data/digits", **EMPTY),
    "notes": DatasetBlock(modality="text", source="data/notes", **EMPTY),
    "unused": DatasetBlock(modality="text", source="data/unused", **EMPTY),
}
MODELS = {"sharp-vae": block("digits"), "blurred-vae": block("digits"), "notes-rnn": block("notes", "rnn")}


def page(root: Path) -> str:
    write_report(DATASETS, MODELS, root)
    return (root / "reports/index.html").read_text(encoding="utf-8")


def test_it_says_how_good_how_sure_and_against_what(root: Path) -> None:
    text = page(root)

    assert "9 ± 2.9" in text
    assert "its interval reaches real data&#x27;s" in text
    assert "8 times real data&#x27;s 7.5" in text
    assert "52% below the unigram model&#x27;s 2.9; 24% below the bigram model&#x27;s 1.85" in text
    assert "99.0% of the held-out records classified rightly (linear classifier 96.0%)" in text
    assert "12,345" in text


def test_models_measured_alike_share_one_chart_and_others_do_not(root: Path) -> None:
    assert page(root).count("<svg") == 3  # fid of both, bits per byte, one loss curve

    other = score("fid_domain", 60.0, 2.0, floor=7.5)
    other = replace(other, protocol={**other.protocol, "window": 7})
    write_model(root, "blurred-vae", other)
    text = page(root)

    assert text.count("<svg") == 4
    assert other.key.split("@")[1] in text


def test_only_what_params_yaml_has_is_shown(root: Path) -> None:
    assert "removed-model" not in page(root)


def test_the_funnel_of_a_data_set(root: Path) -> None:
    found = funnel.read_funnel(root / "reports/datasets/digits")

    assert [(step.what, step.left) for step in found.steps] == [
        ("found in the source", 1797),
        ("readable", 1790),
        ("clean", 1788),
        ("different", 1780),
        ("in use", 1779),
    ]
    assert found.steps[1].why == "rejected: 4 not_an_image, 3 zero_byte"
    assert found.steps[3].why == "duplicates: 8 exact train"
    assert found.splits == {"train": 1041, "val": 141, "test": 597}
    assert found.missing == []
    assert "1,797" in page(root)


def test_missing_files_are_named_with_their_stage(root: Path) -> None:
    text = page(root)

    assert "blurred-vae/train.json (stage train)" in text
    assert "blurred-vae/samples (stage sample)" in text
    assert "notes/ingest.json (stage ingest)" in text
    (root / "reports/models/notes-rnn/scores.json").unlink()
    assert "no scores yet" in page(root)


def test_nothing_at_all_is_still_a_page(tmp_path: Path) -> None:
    assert "no scores yet" in page(tmp_path)


def test_samples_can_not_smuggle_markup(root: Path) -> None:
    text = page(root)

    assert "<script" not in text
    assert "&lt;script&gt;alert" in text
    assert "y" * 901 not in text


class Addresses(HTMLParser):
    """Collects what the page would load or open, and checks that tags close."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_it_stands_alone_and_is_well_formed(root: Path) -> None:
    text = page(root)
    reader = Addresses()
    reader.feed(text)

    assert reader.open == []
    assert reader.found
    assert all(address.startswith("data:image/png;base64,") for address in reader.found)
    assert not re.search(r"https?://", text)


def test_equal_results_give_equal_bytes(root: Path) -> None:
    assert page(root) == page(root)
    assert str(root) not in page(root)


def test_curves_leave_out_what_is_not_finite(root: Path) -> None:
    assert read_curves(root / "reports/models/sharp-vae") == {"loss": [(10, 5.0), (30, 2.5)], "val_loss": [(30, 2.75)]}


@pytest.mark.parametrize(
    ("entry", "higher", "words"),
    [
        ({"value": 9.9, "floor": 9.7, "se": 0.01, "low": 9.88, "high": 9.92}, True, "more than real data's 9.7"),
        (
            {"value": 9.0, "floor": 9.7, "se": 0.01, "low": 8.98, "high": 9.02, "relative": 0.93},
            True,
            "0.93 times real",
        ),
        ({"value": 2.0, "bigram": 1.0}, False, "100% above the bigram model's 1: worse"),
        ({"value": 2.0}, False, ""),
    ],
)
def test_verdicts(entry: dict[str, float], higher: bool, words: str) -> None:
    assert against(entry, higher).startswith(words)
    assert bool(words) == bool(against(entry, higher))


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-0.02, 0.03), (7.0, 7.0), (1e-9, 3e9), (-5.0, -4.9)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    found = charts.ticks(low, high)

    assert 1 <= len(found) <= 7
    assert all(low - 1e-12 <= tick <= high + 1e-6 * abs(high) for tick in found)


def test_a_single_point_makes_a_chart() -> None:
    row = charts.Row("a", 0.0, 0.0, 0.0, "0", True)

    assert "nan" not in charts.intervals("x", [row])
    assert "nan" not in charts.curves("x", {"loss": [(0.0, 0.0)]})
