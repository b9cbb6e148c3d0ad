"""dvc.yaml is the map of the line: its params are what each main() names, its code is one file that `code` writes."""

import inspect
import re
from pathlib import Path

import pytest

from genfoundry.config import dag
from genfoundry.config.params import PLAIN, read_yaml
from genfoundry.config.sections.table import DATASET_SECTIONS, MODEL_SECTIONS, SECTIONS
from genfoundry.core import parts

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src/genfoundry"
STAGES = read_yaml(ROOT / "dvc.yaml")["stages"]
NODES = dag.nodes(ROOT)


def main_of(stage: str) -> inspect.Signature:
    module = __import__(f"pipelines.{stage}", fromlist=["main"])
    return inspect.signature(module.main)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_one_thin_module(stage: str) -> None:
    path = ROOT / "pipelines" / f"{stage}.py"

    assert len(path.read_text().splitlines()) <= 35
    body = STAGES[stage].get("do", STAGES[stage])
    assert body["cmd"] == f"python -m pipelines.{stage}" + (" ${key}" if "do" in STAGES[stage] else "")


@pytest.mark.parametrize("stage", sorted(set(STAGES) - {"code"}))
def test_every_stage_but_code_starts_through_the_runner_which_guards_its_digests(stage: str) -> None:
    end = (ROOT / "pipelines" / f"{stage}.py").read_text().partition('if __name__ == "__main__":\n')[2]

    assert re.fullmatch(r"    run_stage\(main(, \w+)?\)\n", end), end


@pytest.mark.parametrize("address", NODES)
def test_params_are_the_sections_that_main_names(address: str) -> None:
    node, names = NODES[address], set(main_of(NODES[address].stage).parameters)
    scalars = {"modality", "source", "dataset", "init_from", "components", "family", "numerics"}
    sections = {name.split(".")[-1] for name in node.params} - scalars

    if node.kind in ("dataset", "model"):
        assert sections == names & set(SECTIONS)
    if node.kind == "dataset":
        assert ("modality" in names) == (f"datasets.{node.key}.modality" in node.params)


@pytest.mark.parametrize("address", NODES)
def test_code_deps_are_the_stage_s_own_file_and_what_it_reads_of_presets(address: str) -> None:
    node = NODES[address]
    presets = {
        "sample": "presets/prompts",
        "split": "presets/guards",
        "deduplicate": "presets/embeddings",
        "validate": "presets/profiles",
        "encode": "presets/tokenizers",
    }

    wanted = {f"artifacts/code/{address}.json", presets.get(node.stage, "")} - {""}
    assert set(node.code) == (wanted if address != "code" else {"pipelines", "src/genfoundry"})


def test_every_output_has_one_maker_and_every_input_one() -> None:
    outs = [out for node in NODES.values() for out in node.outs]
    assert len(outs) == len(set(outs))
    for node in NODES.values():
        for dep in node.data:
            folder = ("reports/datasets", "reports/models", "artifacts/components/none")
            assert dep in outs or dep.startswith(("data/", "imports/")) or dep in folder


def test_the_table_of_sections_is_what_stages_name() -> None:
    """The runner reads a section by the class that main() names; check and the docs by the table."""
    named = {
        name: parameter.annotation
        for stage in STAGES
        for name, parameter in main_of(stage).parameters.items()
        if name in {**DATASET_SECTIONS, **MODEL_SECTIONS}
    }

    assert named == {**DATASET_SECTIONS, **MODEL_SECTIONS}


def test_no_part_adds_fields_to_a_section_whose_stage_runs_without_it() -> None:
    for kind in ("modalities", "models"):
        for name in parts.names(kind):
            assert not PLAIN & set(vars(parts.load(kind, name))), f"{kind}/{name}"


def test_sections_of_settings_are_all_read_by_a_stage() -> None:
    read = {name for stage in STAGES for name in main_of(stage).parameters}

    assert {*DATASET_SECTIONS, *MODEL_SECTIONS, "options"} <= read


def test_free_strings_stay_out_of_commands() -> None:
    for stage, body in STAGES.items():
        assert set(re.findall(r"\$\{([^}]+)\}", body.get("do", body)["cmd"])) <= {"key"}, stage


def test_a_folder_is_the_registry() -> None:
    for kind in ("models", "objectives", "metrics", "modalities"):
        for name in parts.names(kind):
            assert parts.load(kind, name).__name__ == f"genfoundry.{kind}.{name}"


def test_data_and_modalities_never_import_torch() -> None:
    for folder in ("data", "modalities", "metrics"):
        for file in sorted((SRC / folder).rglob("*.py")):
            assert not re.search(r"^\s*(import|from) (torch|pytorch_lightning)", file.read_text(), re.M), file


@pytest.mark.parametrize(
    ("package", "home"),
    [
        ("pytorch_lightning", "training"),
        ("mlflow", "tracking"),
        ("great_expectations", "data/validate/expectations.py"),
    ],
)
def test_a_heavy_package_has_one_home(package: str, home: str) -> None:
    for file in sorted(SRC.rglob("*.py")):
        if re.search(rf"^\s*(import|from) {package}\b", file.read_text(), re.M):
            assert file.relative_to(SRC).as_posix().startswith(home), f"{file} imports {package}"


def test_resolution_is_dvc_s_own(tmp_path: Path) -> None:
    from dvc.repo import Repo

    graph = {}
    with Repo(str(ROOT)) as repo:
        for stage in repo.index.stages:
            if stage.path_in_repo.endswith("dvc.yaml"):
                graph[stage.name] = stage
    assert set(graph) == set(NODES)
    for address, node in NODES.items():
        stage = graph[address]
        assert stage.cmd == node.cmd
        assert {out.def_path for out in stage.outs} == set(node.outs)
        params = {name for dep in stage.deps if hasattr(dep, "params") for name in dep.params}
        assert params == set(node.params)
        assert {dep.def_path for dep in stage.deps if not hasattr(dep, "params")} == set(node.deps)
