"""Compare dvc.lock as committed with the one just made: entries of models too if the kind of processor is the same."""

import json
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

DATA = ("ingest", "validate", "preprocess", "deduplicate", "split", "encode")
"""Stages whose bytes are equal on every processor."""


def entries(text: str, data_alone: bool) -> dict[tuple[str, str], str]:
    stages = (YAML(typ="safe", pure=True).load(text) or {}).get("stages", {})
    return {
        (name, out["path"]): out["md5"]
        for name, stage in stages.items()
        if not data_alone or name.split("@")[0] in DATA
        for out in stage.get("outs", ())
    }


def committed(name: str) -> str:
    return subprocess.run(["git", "show", f"HEAD:{name}"], capture_output=True, text=True, check=True).stdout


def kinds(reports: list[str]) -> str:
    return ", ".join(sorted({json.loads(text).get("processor", "an unknown kind") for text in reports}))


listed = subprocess.run(["git", "ls-files", "reports/models/*/train.json"], capture_output=True, text=True, check=True)
reports = listed.stdout.splitlines()
there, here = kinds([committed(name) for name in reports]), kinds([Path(name).read_text() for name in reports])
data_alone = there != here or not here.endswith("-avx2")
before = entries(committed("dvc.lock"), data_alone)
now = entries(Path("dvc.lock").read_text(), data_alone)
wrong = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
for name, path in wrong:
    print(f"{name}: {path} is not what dvc.lock says", file=sys.stderr)
of = "data entries alone" if data_alone else "entries, those of models among them"
print(f"models trained on {here}, those of the commit on {there}: compared {len(before)} {of}; {len(wrong)} differ")
sys.exit(1 if wrong else 0)
