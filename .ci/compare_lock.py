"""Compare the data entries of the committed dvc.lock with those just made."""

import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

STAGES = ("ingest", "validate", "preprocess", "deduplicate", "split", "encode")


def entries(text: str) -> dict[tuple[str, str], str]:
    stages = (YAML(typ="safe", pure=True).load(text) or {}).get("stages", {})
    return {
        (name, out["path"]): out["md5"]
        for name, stage in stages.items()
        if name.split("@")[0] in STAGES
        for out in stage.get("outs", ())
    }


committed = subprocess.run(["git", "show", "HEAD:dvc.lock"], capture_output=True, text=True, check=True).stdout
before, now = entries(committed), entries(Path("dvc.lock").read_text())
wrong = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
for name, path in wrong:
    print(f"{name}: {path} is not what dvc.lock says", file=sys.stderr)
print(f"{len(before)} data entries of dvc.lock, {len(wrong)} differ")
sys.exit(1 if wrong else 0)
