"""Drift: what counts as another distribution, what is chance, and what stops the line."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dataline import Line, write_jsonl
from scipy import stats

from genfoundry.config import params as settings
from genfoundry.config.sections.validation import Drift, Validation
from genfoundry.core.errors import DataError
from genfoundry.data.validate import drift
from genfoundry.data.validate.validation import validate


class Run:
    """Takes the files that a stage hands to the tracking, and forgets them."""

    def artifact(self, path: Path, folder: str) -> None:
        pass


def normal(shift: float, count: int = 20_000, seed: int = 0) -> pd.DataFrame:
    return pd.DataFrame({"width": np.random.default_rng(seed).normal(shift, 1, count)})


def compared(old: pd.DataFrame, new: pd.DataFrame, **config: object) -> dict[str, dict[str, object]]:
    accepted = json.loads(json.dumps(drift.profile_of(old)))
    return drift.compare(accepted, new, settings.parse(Drift, config, "drift"))["columns"]


@pytest.mark.parametrize("shift", [0.0, 0.3, 0.5, 1.0])
def test_ks_and_psi_are_those_of_the_full_samples(shift: float) -> None:
    old, new = normal(0), normal(shift, seed=1)

    found = compared(old, new)["width"]

    exact = stats.ks_2samp(old["width"], new["width"]).statistic
    assert found["ks"] == pytest.approx(exact, abs=0.01)
    edges = np.quantile(old["width"], np.arange(1, 10) / 10)
    share = np.bincount(np.searchsorted(edges, new["width"]), minlength=10) / len(new)
    assert found["psi"] == pytest.approx(((share - 0.1) * np.log(share / 0.1)).sum(), rel=0.02, abs=1e-3)
    assert found["drifted"] == (shift >= 1.0 or (shift == 0.5 and found["ks"] > 0.2))


def test_the_same_records_have_no_distance() -> None:
    table = pd.DataFrame({"lines": [1, 1, 2, 2, 2, 3, 40, 40, 5, 6], "label": list("aabbccddee")})

    assert all(one["psi"] == 0 and one["ks"] == 0 and not one["drifted"] for one in compared(table, table).values())


def test_few_records_differ_by_chance_and_that_is_no_drift() -> None:
    few = [compared(normal(0, 60, seed), normal(0, 60, seed + 100))["width"] for seed in range(40)]

    assert max(one["psi"] for one in few) > 0.25 and not any(one["drifted"] for one in few)
    assert compared(normal(0, 60), normal(3, 60, 1))["width"]["drifted"]


def test_labels_that_come_and_go_are_named() -> None:
    old = pd.DataFrame({"label": ["cat"] * 500 + ["dog"] * 500})
    new = pd.DataFrame({"label": ["cat"] * 500 + ["eel"] * 500})

    found = compared(old, new)["label"]

    assert (found["new"], found["gone"], found["drifted"]) == ("eel", "dog", True)
    # Half of the records left one value for another: 2 * 0.5 * ln(0.5 / 0.0005), half a record standing for none.
    assert found["psi"] == pytest.approx(2 * (0.5 - 0.0005) * np.log(0.5 / 0.0005), rel=1e-3)


def test_values_that_are_missing_now_are_drift() -> None:
    old = pd.DataFrame({"license": ["mit"] * 1000})
    new = pd.DataFrame({"license": pd.Series(["mit"] * 600 + [None] * 400, dtype="str")})

    assert compared(old, new)["license"]["drifted"]
    assert not compared(old, old)["license"]["drifted"]


def test_a_column_of_another_kind_is_drift_and_an_empty_one_has_no_kind() -> None:
    words, numbers = pd.DataFrame({"x": ["a", "b"] * 50}), pd.DataFrame({"x": [1, 2] * 50})
    empty = pd.DataFrame({"x": pd.Series([None] * 100, dtype="str")})

    assert compared(words, numbers)["x"]["why"] == "now a number"
    assert not compared(empty, empty)["x"]["drifted"] and compared(empty, numbers)["x"]["drifted"]


def test_a_profile_holds_no_record() -> None:
    table = pd.DataFrame({"id": ["secret-id"], "content": ["secret"], "sha256": ["0"], "group": ["secret"], "n": [1]})

    assert "secret" not in json.dumps(drift.profile_of(table)) and drift.profile_of(table)["columns"].keys() == {"n"}


def line_of(folder: Path, scale: int, count: int = 400, **more: str) -> Line:
    generator = np.random.default_rng(scale)
    rows = [{"text": "word " * int(generator.integers(1, 20) * scale), **more} for _ in range(count)]
    return Line(folder, "text", write_jsonl(folder / "raw.jsonl", rows)).ingest()


def check(line: Line, **config: object) -> dict[str, object]:
    validate(line.modality, settings.parse(Validation, {"drift": config}, "validation"), line.paths, Run())
    return line.report("drift")


def test_the_stage_compares_with_what_was_accepted(tmp_path: Path) -> None:
    line = line_of(tmp_path, 1)
    assert check(line) == {"compared": False, "records": {"now": 400}, "drifted": 0}
    assert "genfoundry accept data" in (line.paths.reports / "validate.html").read_text()

    path = drift.accept(drift_table(line), line.paths)
    assert path == tmp_path / "presets/profiles/data.json"
    assert check(line)["drifted"] == 0 and check(line)["compared"]

    line_of(tmp_path, 5)
    report = check(line)
    assert report["drifted"] == 2 and report["columns"]["characters"]["why"].startswith("psi")
    assert report["records"] == {"accepted": 400, "now": 400}
    page = (line.paths.reports / "validate.html").read_text()
    assert "Against the accepted data" in page and "is above 0.25" in page

    (line.paths.reports / "drift.json").unlink()
    with pytest.raises(DataError, match=r"differ from the accepted.*genfoundry accept data(.|\n)*column bytes: psi"):
        check(line, action="error")
    assert not (line.paths.reports / "drift.json").exists()
    drift.accept(drift_table(line), line.paths)
    assert check(line, action="error")["drifted"] == 0


def test_columns_that_come_and_go_are_an_error_if_asked(tmp_path: Path) -> None:
    line = line_of(tmp_path, 1)
    drift.accept(drift_table(line).drop(columns="lines").assign(old=1), line.paths)

    report = check(line)
    assert (report["columns_new"], report["columns_gone"], report["drifted"]) == ("lines", "old", 0)
    with pytest.raises(DataError, match=r"column lines is new\n  column old is gone"):
        check(line, action="error")


def drift_table(line: Line) -> pd.DataFrame:
    from genfoundry.data.validate.validation import facts

    return facts(line.paths.records)
