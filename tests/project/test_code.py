"""Which edits re-run which stages: the digests of `config/code.py` on copies of this very project, changed."""

import ast
import inspect
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from genfoundry.config import code
from genfoundry.config.code import Sources
from genfoundry.config.dag import nodes
from genfoundry.core import parts
from genfoundry.core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
FAMILY = "src/genfoundry/models/vae.py"


@pytest.fixture()
def root(tmp_path: Path) -> Path:
    """The sources of this project, free to be changed."""
    for name in ("src", "pipelines"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    return tmp_path


def digests(root: Path) -> dict[str, dict[str, str]]:
    sources = Sources(root)
    return {address: code.reached(sources, node) for address, node in nodes(root).items() if node.kind != "code"}


BEFORE = digests(ROOT)


def edit(file: str, old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / "src/genfoundry" / file
        text = path.read_text()
        assert text.count(old) == 1, f"{file}: {old!r} stands {text.count(old)} times"
        path.write_text(text.replace(old, new))

    return change


def add(file: str, like: str) -> Callable[[Path], None]:
    return lambda root: shutil.copyfile(root / "src/genfoundry" / like, root / "src/genfoundry" / file)


def appended(file: str, text: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        with (root / "src/genfoundry" / file).open("a") as lines:
            lines.write(text)

    return change


SYNTAX = "import ast\nSKIPPED = {!r}\n{}".format(
    code.SKIPPED, "\n".join(map(inspect.getsource, (code._strip, code._kept, code._text)))
)
"""The part of the reader that meets syntax trees, by itself."""


def interpreter(version: str) -> str | None:
    """A Python of that version which starts: what PATH has under its name may be a shim that refuses."""
    for place in [
        *os.environ["PATH"].split(os.pathsep),
        *(Path.home() / ".pyenv/versions").glob(f"{version}.*/bin"),
    ]:
        python = Path(place) / f"python{version}"
        if python.is_file() and not subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode:
            return str(python)
    return None


def of(*stages: str) -> set[str]:
    return {address for address in BEFORE if address.partition("@")[0] in stages}


ALL = set(BEFORE)
IMAGES = {
    "validate@digits",
    "preprocess@digits",
    "deduplicate@digits",
    "split@digits",
    "encode@digits",
    "ingest@digits",
}
FAMILIES = ("vae", "gan", "diffusion")
FAMILY_STAGES = {"train@digits-vae", "sample@digits-vae", "extract@digits-vae"}

TABLE = {
    "a comment in a layer": (appended("nn/blocks.py", "\n# A remark.\n"), set()),
    "a docstring of a function that all use": (
        edit("core/io.py", '"""Publish a value as canonical JSON."""', '"""Write it."""'),
        set(),
    ),
    "a docstring of a setting": (
        edit("config/sections/training.py", '"""Batches to train on."""', '"""Steps."""'),
        set(),
    ),
    "an import for type checkers": (
        edit("metrics/__init__.py", "    from genfoundry.metrics._windows import sliding_windows\n", ""),
        set(),
    ),
    "a default of another section": (
        edit("config/sections/validation.py", "class Drift(Section):", "class Drift(Section):\n    more: int = 1\n"),
        # Preprocess and split read the settings of the split, which hold expectations too.
        of("validate", "preprocess", "split"),
    ),
    "a default of training": (
        edit(
            "config/sections/training.py", "class Training(Section):", "class Training(Section):\n    more: int = 1\n"
        ),
        of("train"),
    ),
    "a family": (appended("models/vae.py", "\nMORE = 1\n"), FAMILY_STAGES),
    "a new family": (add("models/other.py", "models/vae.py"), set()),
    "a modality": (appended("modalities/image/edits.py", "\nMORE = 1\n"), IMAGES),
    "how records of a modality are cleaned": (appended("modalities/image/cleaning.py", "\nMORE = 1\n"), IMAGES),
    "how samples of a modality look": (
        appended("modalities/image/media.py", "\nMORE = 1\n"),
        {f"{stage}@digits-{family}" for stage in ("train", "sample", "evaluate") for family in FAMILIES},
    ),
    "a new modality": (add("modalities/other.py", "modalities/text/__init__.py"), set()),
    "a new network": (add("evaluation/networks/other.py", "evaluation/networks/clip.py"), set()),
    "a new objective": (add("objectives/other.py", "nn/noise.py"), set()),
    "a metric": (appended("metrics/self_bleu.py", "\nMORE = 1\n"), of("evaluate", "report")),
    "a new metric": (add("metrics/other.py", "metrics/self_bleu.py"), of("evaluate", "report")),
    "a constant of the search for copies": (
        appended("data/deduplicate/calibration.py", "\nMORE = 1\n"),
        of("deduplicate"),
    ),
    "what the JSON of every output looks like": (edit("core/io.py", "indent=2", "indent=3"), ALL),
    "what a page looks like": (
        appended("core/pages.py", "\nMORE = 1\n"),
        of("ingest", "validate", "preprocess", "deduplicate", "split", "encode", "reference", "report"),
    ),
    "what MLflow shows": (appended("tracking/publish.py", "\nMORE = 1\n"), set()),
    "how a stage starts": (appended("pipeline/stage.py", "\nMORE = 1\n"), set()),
    "on what a stage runs": (appended("config/sections/execution.py", "\nMORE = 1\n"), set()),
}


@pytest.mark.parametrize("name", TABLE)
def test_an_edit_re_runs_the_stages_that_reach_it(name: str, root: Path) -> None:
    change, wanted = TABLE[name]

    change(root)

    after = digests(root)
    assert {address for address in after if after[address] != BEFORE[address]} == wanted


def test_a_base_that_is_a_folder_rests_on_all_families(root: Path) -> None:
    text = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(text.replace("  scratch: {}", "  scratch: {path: models/base}"))

    reached = code.reached(Sources(root), nodes(root)["base@scratch"])

    assert {f"genfoundry.models.{name}" for name in parts.names("models")} <= reached.keys()
    assert "genfoundry.models.vae" not in BEFORE["base@scratch"]


def test_a_network_re_runs_what_the_data_set_that_names_it_is_scored_with(root: Path) -> None:
    text = (root / "params.yaml").read_text()
    named = "reference: {features: 32, networks: {clip: {weights: clip}}}"
    (root / "params.yaml").write_text(text.replace("reference: {features: 32}", named))
    before = digests(root)
    appended("evaluation/networks/clip.py", "\nMORE = 1\n")(root)

    after = digests(root)

    assert {address for address in after if after[address] != before[address]} == {
        "reference@digits",
        "report",  # it shows the network's title
        *(f"extract@digits-{family}" for family in FAMILIES),
    }


def test_an_objective_re_runs_the_trainings_that_name_it(root: Path) -> None:
    shutil.copyfile(root / "src/genfoundry/nn/noise.py", root / "src/genfoundry/objectives/other.py")
    text = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(
        text.replace("{steps: 800, batch", "{objective: {name: other}, steps: 800, batch")
    )
    before = digests(root)
    appended("objectives/other.py", "\nMORE = 1\n")(root)

    after = digests(root)

    assert {address for address in after if after[address] != before[address]} == {"train@digits-vae"}


def test_a_metric_that_is_skipped_does_not_count(root: Path) -> None:
    text = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(text.replace("    evaluation: {}\n", "    evaluation: {skip: [self_bleu]}\n"))
    appended("metrics/self_bleu.py", "\nMORE = 1\n")(root)

    after = digests(root)
    changed = {address for address in after if after[address] != BEFORE[address]}
    # Those of the models whose block says so now have a metric less, and the others see it changed.
    assert all("genfoundry.metrics.self_bleu" not in after[f"evaluate@{key}"] for key in ("digits-vae", "digits-gan"))
    assert changed == of("evaluate", "report")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("import importlib\nfound = importlib.import_module(NAME)\n", "import_module"),
        ("found = __import__(NAME)\n", "__import__"),
        ("exec(TEXT)\n", "exec"),
        ("text = open(__file__).read()\n", "__file__"),
        ("from importlib.resources import files\n", "import of importlib.resources.files"),
        ("from genfoundry.core.parts import load\n", "import of genfoundry.core.parts.load"),
        ("from genfoundry.core import parts\n", "import of genfoundry.core.parts"),
        ("from genfoundry.metrics import frechet_distance\n", "import of genfoundry.metrics.frechet_distance"),
        ("import genfoundry.nowhere\n", "import of genfoundry.nowhere"),
        ("title = main.__doc__\n", "__doc__"),
    ],
)
def test_what_cant_be_followed_is_an_error_that_names_the_place(line: str, told: str, root: Path) -> None:
    lines = (root / FAMILY).read_text().count("\n")
    appended("models/vae.py", line)(root)

    with pytest.raises(ConfigError) as refused:
        code.reached(Sources(root), nodes(root)["train@digits-vae"])

    assert f"{FAMILY}:{lines + line.count(chr(10))}: {told}" in str(refused.value)
    assert "LOADERS" in str(refused.value)
    # It is the family of this stage alone.
    assert code.reached(Sources(root), nodes(root)["train@digits-gan"]) == BEFORE["train@digits-gan"]


def test_what_looks_alike_is_none(root: Path) -> None:
    appended("models/vae.py", "from genfoundry.core.parts import nearest\nMORE = lambda m: (m.eval(), nearest)\n")(root)

    assert "genfoundry.models.vae" in code.reached(Sources(root), nodes(root)["train@digits-vae"])


def test_a_loader_demands_its_kind_of_parts_among_the_roots(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "PARTS", {**code.PARTS, "evaluate": ()})

    with pytest.raises(ConfigError, match=r"genfoundry.evaluation.metrics loads metrics by name.*PARTS\['evaluate'\]"):
        code.reached(Sources(root), nodes(root)["evaluate@digits-vae"])


def test_every_claim_is_of_something_that_is_there() -> None:
    sources = Sources(ROOT)

    kinds = {kind for found in code.PARTS.values() for kind in found} - {"media"}
    whole = [f"{parts.package_of(kind)}.{name}" for kind in kinds for name in parts.names(kind)]
    reached = code.walk(sources, [*(f"pipelines.{node.stage}" for node in nodes(ROOT).values()), *whole])
    for name in (*code.PLUMBING, *code.LOADERS):
        assert sources.file(name), f"{name} is no module; take it out"
    for name in code.LOADERS:
        module = sources.module(name)
        assert module and module.opaque, f"{name} does nothing that can't be followed; take it out"
        assert name in reached, f"no stage reaches {name}; take it out"


def test_relative_imports_are_followed(root: Path) -> None:
    appended("models/vae.py", "\ndef late():\n    from ..data.shards import borders\n    return borders\n")(root)

    assert "genfoundry.data.shards.borders" in code.reached(Sources(root), nodes(root)["train@digits-vae"])


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_digests_are_the_same_in_every_python(version: str, tmp_path: Path) -> None:
    """By the interpreters that are installed here; genfoundry's packages are needed under none but our own."""
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} here")
    program = (
        "import ast, sys\n"
        "names = {}\n"
        f"exec(compile({SYNTAX!r}, 'reader', 'exec'), names)\n"
        "for path in sys.argv[1:]:\n"
        "    tree = ast.parse(open(path, 'rb').read())\n"
        "    names['_strip'](tree)\n"
        "    print(names['_text'](tree))\n"
    )
    files = [str(file) for file in sorted((ROOT / "src/genfoundry").rglob("*.py"))[::7]]

    told = subprocess.run([python, "-c", program, *files], capture_output=True, text=True, check=True).stdout

    trees = [ast.parse(Path(file).read_bytes()) for file in files]
    for tree in trees:
        code._strip(tree)
    assert told == "".join(f"{code._text(tree)}\n" for tree in trees)


def test_a_stage_refuses_sources_that_its_file_does_not_tell_of(root: Path) -> None:
    code.write_code(root)
    node = nodes(root)["train@digits-vae"]
    assert "genfoundry.models.vae" in code.current(root, node)
    appended("models/vae.py", "\nMORE = 1\n")(root)

    with pytest.raises(
        ConfigError, match=r"train@digits-vae.json is stale: genfoundry.models.vae changed; run .*--force"
    ):
        code.current(root, node)
    code.current(root, nodes(root)["train@digits-gan"])

    code.write_code(root)
    code.current(root, node)
    (root / "artifacts/code/train@digits-vae.json").unlink()
    with pytest.raises(ConfigError, match=r"train@digits-vae\.json is missing"):
        code.current(root, node)


def test_files_of_another_format_are_stale(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code.write_code(root)
    monkeypatch.setattr(code, "FORMAT", 2)

    with pytest.raises(ConfigError, match="is stale: its format changed"):
        code.current(root, nodes(root)["report"])


def test_a_process_that_imported_more_than_was_foreseen_fails() -> None:
    """In a process of its own, where nothing but the stage is imported."""
    program = (
        "import sys; sys.path.insert(0, 'src')\n"
        "from pathlib import Path\n"
        "from genfoundry.config import code, dag\n"
        "node = dag.nodes(Path.cwd())['base@scratch']\n"
        "seen = code.reached(code.Sources(Path.cwd()), node)\n"
        "import pipelines.base, genfoundry.core.io, genfoundry.tracking.tags\n"
        "code.check_imports(node, seen)\n"
        "import genfoundry.data.shards.borders\n"
        "try: code.check_imports(node, seen)\n"
        "except Exception as error: print(error)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, env={**os.environ}
    )

    assert done.stdout.startswith(
        "imported genfoundry.data, genfoundry.data.shards, genfoundry.data.shards.borders, which artifacts/code/"
    )
