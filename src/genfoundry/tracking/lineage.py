"""Lineage: one file per stage with the content digests of its inputs and outputs (no time, host, commit or run)."""

from pathlib import Path
from typing import Any

from genfoundry.config.dag import LINEAGE, NUMERICS, Lineage, Node, digests, lineage_file, stage_inputs
from genfoundry.config.params import NO_COMPONENTS
from genfoundry.core.io import FORMAT, digest_of, read_json, write_json
from genfoundry.core.pin import kind


def results(node: Node) -> tuple[str, ...]:
    """Outputs that a stage makes itself: all but its lineage file."""
    return tuple(out for out in node.outs if not out.startswith(f"{LINEAGE}/"))


def _components(root: Path, node: Node) -> dict[str, Any]:
    """Model and digest of each component that a stage's set holds, by role."""
    folders = [root / dep for dep in node.deps if dep.startswith("artifacts/components/")]
    files = [file for folder in folders for file in sorted(folder.glob("*.json")) if folder.name != NO_COMPONENTS]
    return {file.stem: read_json(file) for file in files}


def write_lineage(root: Path, node: Node, inputs: dict[str, Any] | None = None) -> Lineage:
    """Write and return a stage's lineage: fingerprint, inputs, parameters and outputs with their digests."""
    inputs = inputs or stage_inputs(root, node)
    record: Lineage = {
        "format": FORMAT,
        "stage": node.stage,
        "key": node.key,
        "fingerprint": digest_of(inputs),
        "inputs": inputs["deps"],
        "params": inputs["params"],
        "lock": inputs["lock"],
        "outputs": digests(root, results(node)),
    }
    if NUMERICS in node.params:
        # The environment decides last digits and is no input: equal on all processors of a kind.
        record["processor"] = kind()
    if components := _components(root, node):
        record["components"] = components
    write_json(lineage_file(root, node.address), record)
    return record
