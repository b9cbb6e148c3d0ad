"""The stage runner: what it injects, how it ends, what it refuses to call a success."""

import re
import shutil
from pathlib import Path

import pytest

from genfoundry.config import params as settings
from genfoundry.config.code import write_code
from genfoundry.config.dag import find
from genfoundry.config.sections.base import Base
from genfoundry.config.sections.training import Training
from genfoundry.core.errors import DataError, Exit
from genfoundry.core.io import publish_folder, read_json
from genfoundry.core.paths import ModelPaths
from genfoundry.pipeline import stage
from pipelines import component

ROOT = Path(__file__).resolve().parents[3]


def laid_out(folder: Path) -> Path:
    for name in ("dvc.yaml", "params.yaml", "requirements.lock"):
        shutil.copyfile(ROOT / name, folder / name)
    for name in ("src", "pipelines", "presets"):
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose stage ``code`` has run."""
    folder = laid_out(tmp_path_factory.mktemp("coded"))
    write_code(folder)
    return folder


@pytest.fixture()
def root(coded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in which the stage base@scratch can run."""
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    shutil.copytree(coded / "artifacts", tmp_path / "artifacts")
    return laid_out(tmp_path)


def run(root: Path, body: object) -> int:
    def main(base: Base, paths: ModelPaths) -> None:
        body(paths)

    return stage.execute(main, "base", "scratch", root)


def publish(paths: ModelPaths) -> None:
    with publish_folder(paths.model) as folder:
        (folder / "base.json").write_bytes(b"{}")


def raising(error: BaseException) -> object:
    def body(paths: ModelPaths) -> None:
        raise error

    return body


def test_a_stage_that_published_ends_well_and_leaves_its_lineage(root: Path) -> None:
    assert run(root, publish) == Exit.OK
    assert (root / "artifacts/lineage/base@scratch.json").is_file()


def test_a_stage_that_wrote_nothing_has_failed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, lambda paths: None) == Exit.BAD_DATA
    assert "ended without writing artifacts/models/scratch/model" in capsys.readouterr().err
    assert not (root / "artifacts/lineage/base@scratch.json").exists()


def test_a_result_changed_after_it_was_published_has_failed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def body(paths: ModelPaths) -> None:
        publish(paths)
        (paths.model / "base.json").write_bytes(b"{...")

    assert run(root, body) == Exit.BAD_DATA
    assert "base.json was changed" in capsys.readouterr().err


def test_a_stage_does_not_start_on_a_code_file_of_other_sources(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As `dvc repro --single-item` would after an edit: what it makes would pass for a result of the old code."""
    file = root / "artifacts/code/base@scratch.json"
    file.write_text(file.read_text().replace('"pipelines.base": "', '"pipelines.base": "0'))

    assert run(root, publish) == Exit.USAGE
    assert "base@scratch.json is stale: pipelines.base changed; run `dvc repro code` first" in capsys.readouterr().err
    assert not (root / "artifacts/models").exists()


def test_a_component_leaves_its_file_alone_and_neither_run_nor_lineage(root: Path) -> None:
    publish(ModelPaths(root, "scratch"))

    assert stage.execute(component.main, "component", "none", root) == Exit.OK

    assert read_json(root / "artifacts/components/none/none.json") == {"model": "scratch", "digest": ""}
    assert not (root / "mlruns").exists() and not (root / "artifacts/lineage").exists()


def test_a_component_does_not_start_on_a_code_file_of_other_sources(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = root / "artifacts/code/component@none.json"
    file.write_text(file.read_text().replace('"pipelines.component": "', '"pipelines.component": "0'))

    assert stage.execute(component.main, "component", "none", root) == Exit.USAGE
    assert "component@none.json is stale: pipelines.component changed" in capsys.readouterr().err
    assert not (root / "artifacts/components").exists()


REMEDY = "out of memory .* raise training.accumulate .* training.recompute .* bf16-mixed"
OutOfMemoryError = type("OutOfMemoryError", (RuntimeError,), {})


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            MemoryError(),
            Exit.INFRASTRUCTURE,
            REMEDY,
        ),
        (
            OutOfMemoryError("CUDA out of memory. Tried"),
            Exit.INFRASTRUCTURE,
            REMEDY,
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), Exit.INFRASTRUCTURE, "out of memory"),
        (ModuleNotFoundError("x", name="ftfy"), Exit.USAGE, "'ftfy' is not installed; run `make install`"),
        (DataError("bad rows; mend them"), Exit.BAD_DATA, "base@scratch: bad rows; mend them"),
        (stage.Stopped("SIGTERM"), Exit.PREEMPTED, "stopped by SIGTERM"),
    ],
)
def test_known_errors_end_with_their_code_and_no_traceback(
    root: Path, error: BaseException, code: Exit, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(root, raising(error)) == code
    told = capsys.readouterr().err
    assert re.search(said, told) and "Traceback" not in told


def test_an_error_nobody_foresaw_shows_its_traceback(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, raising(ZeroDivisionError("oops"))) == 1
    assert "Traceback" in capsys.readouterr().err


def test_other_ranks_leave_neither_run_nor_lineage(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")

    assert run(root, lambda paths: None) == Exit.OK
    assert not (root / "mlruns").exists() and not (root / "artifacts/lineage").exists()


def test_typed_parameters_have_their_defaults_filled_in(root: Path) -> None:
    params = stage.typed_params(find(root, "train@digits-vae"), settings.load(root))

    assert params["training"]["batch"] == 64
    assert params["training"]["clip"] == Training().clip
    assert params["family"] == "vae" and params["options"]["conditional"] is True
