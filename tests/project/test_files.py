"""A published file is named in one module, its writer's or the home of its format: others read it through that one."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from genfoundry.data.funnel import STEPS

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src/genfoundry"

FOREIGN = {"config.json", "model.safetensors"}
"""Names that others gave their files, such as those of a Hugging Face folder."""

TWO_FORMATS = {
    "network.json",  # in `reference/`: of the network that the reference trains; below it, one for each published one
    "protocol.json",  # in `samples/`: how they were drawn; in `features/`: how they were measured
}
"""Files of two writers in different folders."""

CATALOGUES = {
    "evaluation/evidence.py",  # one table of all that scores are computed from, without torch
    "tracking/trace.py",  # follows a record through the tables of every stage
    "retraining/triggers/learnt.py",  # keeps a copy of a reference, without torch
    "upkeep/backup/take.py",  # which files of the state root a backup leaves out
}
"""Modules whose purpose is to know files of many rooms; each is tested on files that the stages wrote."""

FILES = {"MANIFEST", "SPEC", "CONFIG", "GENERATOR", "TRAIN"}
"""Names of files that others look for without reading them."""

READERS = {"read_json", "loads"}


def strings(file: Path) -> Iterator[str]:
    """String constants of a module but for docstrings; the constant ends of f-strings among them."""
    tree = ast.parse(file.read_text())
    documented = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
            yield node.value


def test_each_json_file_is_named_in_one_module() -> None:
    named = defaultdict(set)
    for file in [*SRC.rglob("*.py"), *(ROOT / "pipelines").glob("*.py")]:
        where = file.relative_to(SRC).as_posix() if file.is_relative_to(SRC) else f"pipelines/{file.name}"
        for text in strings(file):
            name = text.rpartition("/")[2]
            if name.endswith((".json", ".jsonl")) and name.strip(".*") not in ("json", "jsonl") and " " not in name:
                named[name].add(where)

    assert {"spec.json", "comparison.json", "manifest.json", "train.json"} <= named.keys()
    twice = {name: places - CATALOGUES for name, places in named.items() if name not in FOREIGN | TWO_FORMATS}
    assert {name: places for name, places in twice.items() if len(places) > 1} == {}
    assert not named.keys() & {f"{stage}.json" for stage in STEPS}, "reports of data stages pass through data/funnel.py"


def test_what_a_file_holds_is_asked_of_its_reader() -> None:
    """Of a file like ``MANIFEST`` others need the name, to see whether a folder was published; never the keys."""
    read = set()
    for file in SRC.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and READERS & {getattr(node.func, "id", ""), getattr(node.func, "attr", "")}:
                names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
                read |= {
                    (name, file.relative_to(SRC).as_posix())
                    for name in names & {"MANIFEST", "SPEC", "CONFIG", "GENERATOR", "TRAIN"}
                }

    assert read == {
        ("MANIFEST", "core/io.py"),
        ("SPEC", "config/specs.py"),
        ("CONFIG", "config/params.py"),
        ("GENERATOR", "config/sections/sampling.py"),
        ("TRAIN", "training/reports.py"),
    }
