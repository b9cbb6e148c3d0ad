"""`genfoundry trace`: follow lineage from a digest, path, sample or record back to raw data, or forward.

The graph is the union of the lineage files of the workspace and those logged to MLflow, so that a state no longer
in the workspace can be traced too.
"""

import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from genfoundry.config.dag import CODE, LINEAGE, Lineage, parse_lineage
from genfoundry.config.params import read_yaml
from genfoundry.core.errors import ConfigError
from genfoundry.core.io import MANIFEST, file_digest, listed, read_table, tree_digest
from genfoundry.metrics._record import SCORES
from genfoundry.tracking import tags
from genfoundry.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

HEX = re.compile(r"^[0-9a-f]{8,64}$")


@dataclass(frozen=True)
class Found:
    """A resolved query: digest, path it was published at, and a description of the sample or record."""

    digest: str
    path: str
    note: str = ""


class Graph:
    """Lineage records by what they made and by what they used."""

    def __init__(self, records: Iterable[Lineage]) -> None:
        self.records = {record["fingerprint"]: record for record in records}
        self.made: dict[tuple[str, str], Lineage] = {}
        self.used: dict[tuple[str, str], list[Lineage]] = {}
        for record in self.records.values():
            for path, digest in record["outputs"].items():
                self.made[digest, path] = record
            for path, digest in record["inputs"].items():
                self.used.setdefault((digest, path), []).append(record)

    def by_prefix(self, prefix: str) -> list[tuple[str, str]]:
        """(digest, path) of everything whose digest starts with a prefix."""
        return sorted({pair for pair in (*self.made, *self.used) if pair[0].startswith(prefix)})


def workspace_records(root: Path) -> list[Lineage]:
    return [parse_lineage(path.read_bytes(), str(path)) for path in sorted((root / LINEAGE).glob("*.json"))]


def store_records(store: Store) -> Iterator[Lineage]:
    """Lineage records logged to MLflow."""
    token = None
    while True:
        page = store.client.search_runs([store.experiment], page_token=token, max_results=500)
        for run in page:
            stages = [name.removeprefix(tags.STAGE) for name in run.data.tags if name.startswith(tags.STAGE)]
            for stage in stages:
                yield from _downloaded(store, run.info.run_id, stage)
        token = page.token
        if not token:
            return


def _downloaded(store: Store, run_id: str, stage: str) -> Iterator[Lineage]:
    with tempfile.TemporaryDirectory() as folder:
        for file in store.client.list_artifacts(run_id, f"{stage}/lineage"):
            yield parse_lineage(
                Path(store.client.download_artifacts(run_id, file.path, folder)).read_bytes(), file.path
            )


def resolve(root: Path, store: Store, graph: Graph, query: str) -> list[Found]:
    """Resolve a query: a path, a sample or record id, a run, a registered version, a sha256, DVC's md5."""
    found = _by_path(root, store, graph, query) or _by_sample(root, graph, query)
    found = found or _by_version(store, graph, query) or _by_run(store, graph, query)
    if found:
        return found
    if HEX.match(query.removesuffix(".dir")):
        found = _by_md5(root, graph, query) or [Found(*pair) for pair in graph.by_prefix(query)]
        found = found or _by_release(store, graph, query) or _by_inner_digest(root, graph, query)
        if found:
            return found
    raise ConfigError(
        f"trace: nothing known as {query!r}; give a path, a sample id (digits-vae/000017), a record id "
        "(digits:3/0007.png), a run id, a version (digits-vae/1, digits-vae@champion), a sha256 or DVC's md5"
    )


def _by_path(root: Path, store: Store, graph: Graph, query: str) -> list[Found]:
    path = (Path.cwd() / query).resolve()
    if not path.exists():
        return []
    if path.is_relative_to(root):
        for folder in (path, *path.parents):
            relative = folder.relative_to(root).as_posix() if folder.is_relative_to(root) else ""
            if not relative or relative == ".":
                break
            known = {pair[1] for pair in (*graph.made, *graph.used)}
            if relative in known and not relative.startswith(CODE):
                note = f"file {path.relative_to(folder).as_posix()}" if folder != path else ""
                if _raw(relative, graph):
                    return _by_record(root, graph, relative, path.relative_to(folder).as_posix())
                return [Found(tree_digest(folder), relative, note)]
    if path.is_file():
        for digest in (file_digest(path), *_pixels(path)):
            inside = _by_inner_digest(root, graph, digest) or _by_release(store, graph, digest)
            if inside:
                return inside
    return []


def _raw(relative: str, graph: Graph) -> bool:
    return not any(path == relative for _, path in graph.made)


def _pixels(path: Path) -> list[str]:
    """sha256 of a picture's pixels, as samples are indexed, to look up a saved sample."""
    import hashlib

    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            image.load()
            planes = image.split()
            return [hashlib.sha256(b"".join(plane.tobytes() for plane in planes)).hexdigest()]
    except (UnidentifiedImageError, OSError):
        return []


def _by_record(root: Path, graph: Graph, source: str, name: str) -> list[Found]:
    """A raw file: the records read from it, where each went, and the source they belong to."""
    for (digest, path), users in graph.used.items():
        if path == source:
            key = users[0]["key"]
            facts = "" if name == "." else "; ".join(fate(root, key, name)) or f"file {name}"
            return [Found(digest, path, facts)]
    return []


def fate(root: Path, key: str, record: str) -> list[str]:
    """Fate of a record (or all of a file): rejected, dropped, removed as a duplicate, withheld, or its split."""
    folder = root / "artifacts/datasets" / key
    places = {
        "records/rejected.parquet": ("id", lambda row: f"rejected at ingest: {row['reason']}"),
        "clean/rejected.parquet": ("id", lambda row: f"dropped in preprocessing: {row['reason']}"),
        "copies/duplicates.parquet": (
            "removed_id",
            lambda row: f"removed as {row['method']} copy of {row['kept_id']} (score {row['score']:.3f})",
        ),
        "splits/withheld.parquet": ("id", lambda row: "withheld from evaluation"),
        "splits/ids.parquet": ("id", lambda row: f"in split {row['split']}"),
    }
    facts = []
    for name, (column, words) in places.items():
        if (folder / name).is_file():
            table = read_table(folder / name)
            mine = table[(table[column] == record) | table[column].str.startswith(record + "#")]
            facts += [f"record {row[column]}: {words(row)}" for _, row in mine.head(5).iterrows()]
    return facts


def _by_sample(root: Path, graph: Graph, query: str) -> list[Found]:
    """``digits-vae/000017`` is a sample, ``digits:3/0007.png`` a record."""
    model, _, number = query.partition("/")
    index = root / "artifacts/models" / model / "samples/index.parquet"
    if number and index.is_file():
        table = read_table(index)
        rows = table[table["id"] == query]
        if len(rows):
            row, folder = rows.iloc[0], index.parent
            return [
                Found(
                    tree_digest(folder),
                    folder.relative_to(root).as_posix(),
                    f"sample {query}, seed {row['seed']}, sha256 {row['sha256']}",
                )
            ]
    dataset, colon, record = query.partition(":")
    if colon:
        facts = fate(root, dataset, record)
        for record_made in graph.records.values():
            if facts and record_made["stage"] == "ingest" and record_made["key"] == dataset:
                (path, digest), *_ = [
                    item
                    for item in record_made["inputs"].items()
                    if _raw(item[0], graph) and not item[0].startswith(CODE)
                ]
                return [Found(digest, path, "; ".join(facts))]
    return []


def _by_version(store: Store, graph: Graph, query: str) -> list[Found]:
    match = re.match(r"^(?:models:/)?([a-z0-9][a-z0-9_-]*)(?:/(\d+)|@([a-z0-9_-]+))$", query)
    if not match:
        return []
    from mlflow.exceptions import MlflowException

    name, version, alias = match.groups()
    try:
        get = store.client.get_model_version_by_alias if alias else store.client.get_model_version
        entry = get(name, alias or version)
    except MlflowException:
        return []
    return _weights(graph, entry)


def _weights(graph: Graph, entry: "ModelVersion") -> list[Found]:
    found = graph.by_prefix(tags.weights_of(entry.tags) or "?")
    return [Found(*pair, f"registered {entry.name} version {entry.version}") for pair in found]


def _by_release(store: Store, graph: Graph, query: str) -> list[Found]:
    """Digest of a registered version (that of its generator.json, which lineage does not know): its weights."""
    entries = store.client.search_model_versions(f"tags.`{tags.DIGEST}` LIKE '{query}%'")
    return [found for entry in entries for found in _weights(graph, entry)]


def _by_run(store: Store, graph: Graph, query: str) -> list[Found]:
    if not re.match(r"^[0-9a-f]{32}$", query):
        return []
    from mlflow.exceptions import MlflowException

    try:
        run = store.client.get_run(query)
    except MlflowException:
        return []
    outputs = {
        name.removeprefix(tags.OUTPUT): value for name, value in run.data.tags.items() if name.startswith(tags.OUTPUT)
    }
    last = [path for path in outputs if path.endswith(("/arrays", "/model", "/samples", f"/{SCORES}"))] or list(outputs)
    return [Found(outputs[path], path, f"run {run.info.run_name}") for path in last]


def _by_md5(root: Path, graph: Graph, query: str) -> list[Found]:
    """DVC's md5 of an output, in dvc.lock or a .dvc file of the workspace."""
    paths = set()
    if (root / "dvc.lock").is_file():
        for stage in (read_yaml(root / "dvc.lock").get("stages") or {}).values():
            for entry in (*stage.get("deps", ()), *stage.get("outs", ())):
                if str(entry.get("md5", "")).startswith(query):
                    paths.add(entry["path"])
    for pointer in (root / "data.dvc", *sorted((root / "imports").glob("*.dvc"))):
        if pointer.is_file():
            for entry in read_yaml(pointer).get("outs") or ():
                if str(entry.get("md5", "")).startswith(query):
                    paths |= {path for _, path in graph.used if path.startswith(entry["path"])}
    return [Found(tree_digest(root / path), path, f"md5 {query}") for path in sorted(paths) if (root / path).exists()]


def _by_inner_digest(root: Path, graph: Graph, digest: str) -> list[Found]:
    """sha256 of a file inside a published folder, of a sample, or of a record."""
    found = []
    for _, path in sorted(graph.made):
        folder = root / path
        if (folder / MANIFEST).is_file():
            for name, entry in listed(folder).items():
                if entry["sha256"].startswith(digest):
                    found.append(Found(tree_digest(folder), path, f"file {name}"))
        for table, kind in (("index.parquet", "sample"), ("ids.parquet", "record")):
            if (folder / table).is_file():
                rows = read_table(folder / table)
                for name in rows.loc[rows["sha256"].str.startswith(digest), "id"]:
                    found.append(Found(tree_digest(folder), path, f"{kind} {name}"))
    return found


def chain(graph: Graph, found: Found, store: Store, forward: bool) -> list[str]:
    """Lines of the tree from a thing back to its raw data, or forward to all made from it."""
    seen: set[tuple[str, str]] = set()
    lines = [f"{found.path}  {found.digest[:16]}" + (f"  ({found.note})" if found.note else "")]

    def walk(pair: tuple[str, str], depth: int) -> None:
        if pair in seen:
            return
        seen.add(pair)
        steps = graph.used.get(pair, []) if forward else [graph.made[pair]] if pair in graph.made else []
        for record in steps:
            run = _run_of(store, record)
            lines.append(
                "  " * depth + f"{'->' if forward else '<-'} {record['stage']}@{record['key']}".rstrip("@") + f"  {run}"
            )
            side = record["outputs"] if forward else record["inputs"]
            for path, digest in side.items():
                code = path.startswith(CODE) and not path.startswith("presets/")
                if code or (forward and path.startswith("reports/")):
                    continue
                raw = "" if (digest, path) in graph.made else "  raw data"
                again = "  (above)" if (digest, path) in seen else ""
                lines.append("  " * (depth + 1) + f"{path}  {digest[:16]}{raw}{again}")
                walk((digest, path), depth + 2)

    walk((found.digest, found.path), 1)
    return lines


def _run_of(store: Store, record: Lineage) -> str:
    query = f"tags.`{tags.STAGE}{record['stage']}` = '{record['fingerprint']}'"
    runs = store.client.search_runs([store.experiment], filter_string=query, max_results=1)
    if not runs:
        return "run: none (genfoundry record logs it)"
    found = runs[0].data.tags
    dirty = " with changes" if found.get(tags.DIRTY) == "true" else ""
    commit = f", commit {found[tags.COMMIT][:12]}{dirty}" if tags.COMMIT in found else ""
    return f"run {runs[0].info.run_id}{commit}"


def trace(root: Path, store: Store, query: str, forward: bool) -> list[str]:
    """Lines that answer `genfoundry trace QUERY`."""
    local = workspace_records(root)
    graph = Graph(local)
    try:
        found = resolve(root, store, graph, query)
    except ConfigError:
        graph = Graph([*store_records(store), *local])
        found = resolve(root, store, graph, query)
    if any(
        (entry.digest, entry.path) not in graph.made and (entry.digest, entry.path) not in graph.used for entry in found
    ):
        graph = Graph([*store_records(store), *local])
    lines: list[str] = []
    for entry in found:
        lines += chain(graph, entry, store, forward)
    if not forward:
        lines += _raw_pointers(root, lines)
    return lines


def _raw_pointers(root: Path, lines: list[str]) -> list[str]:
    """DVC's md5 of the raw data, if the walk reached any."""
    pointers = []
    for pointer in (root / "data.dvc", *sorted((root / "imports").glob("*.dvc"))):
        if pointer.is_file():
            for entry in read_yaml(pointer).get("outs") or ():
                folder = (pointer.parent / entry["path"]).relative_to(root).as_posix()
                if any(line.strip().startswith(folder) for line in lines):
                    pointers.append(f"{pointer.relative_to(root)}: {folder} is {entry['md5']} to DVC")
    return pointers
