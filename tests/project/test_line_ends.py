"""Files are inputs of stages by their bytes, so a clone must have them as they were committed."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_core_autocrlf_changes_no_byte(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        named = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *named, *words], cwd=tmp_path, check=True, capture_output=True)

    names = (".gitattributes", "params.yaml", "requirements.lock", "presets/prompts/apidocs.jsonl")
    git("init", "-q", "first")
    for name in names:
        (tmp_path / "first" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "first" / name).write_bytes((ROOT / name).read_bytes())
    git("-C", "first", "add", "-A")
    git("-C", "first", "commit", "-q", "-m", "first")

    git("-c", "core.autocrlf=true", "clone", "-q", "-c", "core.autocrlf=true", "first", "second")

    assert [name for name in names if (tmp_path / "second" / name).read_bytes() != (ROOT / name).read_bytes()] == []
