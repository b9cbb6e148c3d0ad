"""A project whose stages take no time, under real git and real DVC: for what the real line does around stages."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

CLI = """
import json, pathlib, sys
command, *words = sys.argv[1:]
with open("calls.txt", "a") as calls:
    print(command, file=calls)
if command == "promote":
    plan = json.loads(pathlib.Path("promote.json").read_text())
    pathlib.Path(words[words.index("--json") + 1]).write_text(json.dumps(plan["told"]))
    print("https://user:hunter2@example.org/ said", plan["code"])
    sys.exit(plan["code"])
"""

STAGE = """
import json, os, pathlib, signal, sys, time
name, key = sys.argv[1:]
text = pathlib.Path("data/notes.txt").read_text()
def end(code, message):
    pathlib.Path(os.environ["GENFOUNDRY_FAILURE"]).write_text(
        json.dumps({"stage": f"{name}@{key}", "code": code, "message": message}))
    sys.exit(code)
def stop(number, frame):
    pathlib.Path(os.environ["GENFOUNDRY_STATE"], "saved.txt").write_text("saved")
    end(143, "stopped")
signal.signal(signal.SIGTERM, stop)
if name == "split" and "poison" in text:
    end(13, "notes: 1 record is poisoned")
if name == "evaluate" and "slow" in text:
    pathlib.Path(os.environ["GENFOUNDRY_STATE"], "slow.txt").write_text(str(os.getpid()))
    time.sleep(60)
if name == "evaluate" and "edit" in text:
    state = pathlib.Path(os.environ["GENFOUNDRY_STATE"])
    (state / "edited.txt").write_text("a person types while a stage runs")
assert "DVC_ROOT" not in os.environ or pathlib.Path(os.environ["DVC_ROOT"]) == pathlib.Path.cwd()
assert "MLFLOW_RUN_ID" not in os.environ
out = pathlib.Path("reports", f"{name}.json")
out.parent.mkdir(exist_ok=True)
out.write_text(json.dumps({"characters": len(text)}))
"""

DVC = """
stages:
  split:
    foreach: ${datasets}
    do:
      cmd: python stage.py split ${key}
      deps: [data]
      metrics: [{reports/split.json: {cache: false}}]
  evaluate:
    foreach: ${models}
    do:
      cmd: python stage.py evaluate ${key}
      deps: [data, reports/split.json]
      metrics: [{reports/evaluate.json: {cache: false}}]
"""

PARAMS = """
format: 1
project: tiny
execution: {}
bases: {scratch: {}}
datasets:
  notes: {modality: text, source: data, ingest: {}, validation: {}, preprocess: {}, dedup: {}, split: {}, encode: {},
    reference: {}}
models:
  writer: {dataset: notes, family: rnn, init_from: scratch, options: {}, training: {}, sampling: {}, evaluation: {}}
"""

PROMOTED = {"told": {"verdict": "BLESSED", "model": "writer", "version": "2", "champion_before": "1",
                     "champion_after": "2", "rules": []}, "code": 0}  # fmt: skip
REJECTED = {"told": {**PROMOTED["told"], "verdict": "NOT_BLESSED", "champion_after": "1"}, "code": 11}  # type: ignore[dict-item]


def git(root: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def dvc(root: Path, *words: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *words], cwd=root, check=True, capture_output=True, text=True)


def add_data(root: Path, text: str) -> None:
    """Set the raw data, `dvc add` and commit them."""
    shutil.rmtree(root / "data", ignore_errors=True)
    (root / "data").mkdir()
    (root / "data/notes.txt").write_text(text)
    dvc(root, "add", "-q", "data")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", text)


def lay_out(root: Path, promote: dict[str, Any] | None = None) -> Path:
    """A committed project; its `genfoundry` command and its stages are the few lines above."""
    (root / "src/genfoundry").mkdir(parents=True)
    (root / "src/genfoundry/__init__.py").touch()
    (root / "src/genfoundry/cli.py").write_text(CLI)
    for name, text in {
        "stage.py": STAGE,
        "dvc.yaml": DVC,
        "params.yaml": PARAMS,
        "promote.json": json.dumps(promote or PROMOTED),
        ".gitignore": "/data\n/mlruns\n__pycache__\ncalls.txt\n*.txt\n",
    }.items():
        (root / name).write_text(text)
    git(root, "init", "-q", "-b", "main")
    dvc(root, "init", "-q")
    add_data(root, "first")
    return root


def picture(root: Path) -> dict[str, Any]:
    """All of a checkout that a retrain must leave alone: files with their times, index, HEAD, branches, status."""
    files = {}
    for folder, names, entries in os.walk(root):
        names[:] = [name for name in names if name not in (".git", "mlruns", "tmp", "cache")]
        for name in entries:
            path = Path(folder, name)
            facts = path.lstat()
            files[str(path.relative_to(root))] = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
    return {
        "files": files,
        "index": (root / ".git/index").read_bytes(),
        "head": (root / ".git/HEAD").read_text(),
        "branch": git(root, "rev-parse", "HEAD"),
        "status": git(root, "--no-optional-locks", "status", "--porcelain"),
        "branches": [line for line in git(root, "branch", "--format=%(refname)").split() if "retrain/" not in line],
    }
