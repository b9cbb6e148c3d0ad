"""The contract: what holds, what stops the line, and what the report and the page say of it."""

import json
from pathlib import Path

import pytest
from dataline import Line, write_jsonl, write_shards

from genfoundry.config import params as settings
from genfoundry.config.sections.validation import Expectation, Validation
from genfoundry.core import parts
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.data.validate import expectations, validation


class Run:
    """Keeps the names of the files that a stage hands to the tracking."""

    def __init__(self) -> None:
        self.files: dict[str, list[str]] = {}

    def artifact(self, path: Path, folder: str) -> None:
        self.files[folder] = sorted(file.name for file in path.iterdir())


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    folder = tmp_path_factory.mktemp("line")
    rows = [{"text": "a document of some length " * n} for n in (3, 4)] + [{"text": "tiny"}, {"text": "<i>tiny</i>"}]
    return Line(folder, "text", write_jsonl(folder / "raw.jsonl", rows)).ingest()


def run(line: Line, *own: dict[str, object]) -> Run:
    handle = Run()
    config = settings.parse(Validation, {"expectations": list(own)}, "validation")
    validation.validate(line.modality, config, line.paths, handle)
    return handle


def test_defaults_and_own_expectations_are_reported(line: Line) -> None:
    own = {
        "type": "expect_column_values_to_be_between",
        "kwargs": {"column": "characters", "min_value": 10},
        "severity": "warning",
    }
    handle = run(line, own)

    report = line.report("validate")
    assert report["records"] == 4 and report["failed"] == {"critical": 0, "warning": 1, "info": 0}
    found = report["expectations"]["expect_column_values_to_be_between characters 2"]
    assert found == {
        "success": False,
        "severity": "warning",
        "unexpected": 1,
        "observed": "",
        "examples": "raw.jsonl#3 (4)",
    }
    page = (line.paths.reports / "validate.html").read_text()
    assert "✗" in page and "raw.jsonl#3" in page and "<script" not in page
    assert "index.html" in handle.files["data_docs"]


def test_the_same_records_give_the_same_bytes(line: Line) -> None:
    contents = []
    for _ in range(2):
        run(line)
        contents.append([(line.paths.reports / name).read_bytes() for name in ("validate.json", "validate.html")])

    assert contents[0] == contents[1]
    assert "uuid" not in json.dumps(line.report("validate"))


def test_a_critical_failure_stops_after_the_page_was_written(line: Line) -> None:
    (line.paths.reports / "validate.json").unlink(missing_ok=True)
    page = line.paths.reports / "validate.html"
    page.unlink(missing_ok=True)

    with pytest.raises(DataError) as caught:
        run(
            line,
            {"type": "expect_column_values_to_be_between", "kwargs": {"column": "characters", "min_value": 10}},
            {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "lines", "min_value": 5}},
        )

    assert "2 critical expectations failed" in str(caught.value)
    assert "(column characters, min_value 10): 1 records break it, such as raw.jsonl#3 (4)" in str(caught.value)
    assert "(column lines, min_value 5): observed 1" in str(caught.value)
    assert page.is_file() and not (line.paths.reports / "validate.json").exists()


def test_every_wrong_expectation_is_named_at_once(line: Line) -> None:
    with pytest.raises(ConfigError) as caught:
        run(
            line,
            {"type": "expect_column_values_to_be_betwen", "kwargs": {"column": "characters", "min_value": 10}},
            {"type": "expect_column_values_to_be_between", "kwargs": {"column": "charcters", "min_value": 10}},
            {"type": "expect_column_values_to_be_between", "kwargs": {"column": "lines"}},
        )

    lines = str(caught.value).splitlines()
    assert len(lines) == 3 and all("datasets.data.validation.expectations" in one for one in lines)
    assert "did you mean 'expect_column_values_to_be_between'?" in lines[0]
    assert "no column 'charcters'; did you mean 'characters'?" in lines[1]
    assert "min_value and max_value cannot both be None" in lines[2]


def test_an_own_expectation_replaces_the_equal_default() -> None:
    default = {"type": "expect_x", "kwargs": {"column": "id"}, "severity": "critical"}
    own = Expectation(type="expect_x", kwargs={"column": "id"}, severity="info")

    assert expectations.merged([default], [own]) == [own]


@pytest.mark.parametrize("name", parts.names("modalities"))
def test_the_default_suite_of_every_modality_is_valid(name: str) -> None:
    import pandas as pd

    modality = parts.load("modalities", name)
    columns = {
        "id": ["a"],
        "label": ["b"],
        "split": ["train"],
        "sha256": ["0" * 64],
        **{fact: [1] for fact in modality.FACTS},
    }

    built = expectations._build(pd.DataFrame(columns), expectations.merged(modality.expectations(), ()), "data")

    assert len(built) == len(modality.expectations())


def test_duplicate_ids_break_the_default_contract(tmp_path: Path) -> None:
    import pandas as pd

    from genfoundry.core.io import publish_folder

    line = Line(tmp_path, "text", write_jsonl(tmp_path / "raw.jsonl", [{"text": "some words"}])).ingest()
    table = line.records()
    with publish_folder(line.paths.records) as folder:
        write_shards(folder, [pd.concat([table, table])], 16)

    with pytest.raises(
        DataError, match=r"expect_column_values_to_be_unique \(column id\): 2 records break it, such as raw"
    ):
        run(line)
