"""The gate draws each model with its own generator, and both under one protocol."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from graded import write_images, write_untrained

from genfoundry.config import params
from genfoundry.config.code import write_code
from genfoundry.config.params import Settings
from genfoundry.config.sections.evaluation import Evaluation
from genfoundry.config.sections.execution import Execution
from genfoundry.config.sections.reference import Reference
from genfoundry.config.sections.sampling import Sampling, default_generator
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import folder_digest, read_json
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.evaluation.reference import write_reference
from genfoundry.gate.compare import compare
from genfoundry.gate.evidence import Terms, measure
from genfoundry.gate.subjects import Subject, resolve
from genfoundry.generation.generator import Generator, seeds_of
from genfoundry.tracking import tags
from genfoundry.tracking.registry import as_default, fetch_model, register
from genfoundry.tracking.runs import Run
from genfoundry.tracking.store import Store, open_store
from genfoundry.tracking.versions import Registered

ROOT = Path(__file__).resolve().parents[3]
NOISE = {"width": 8, "widest": 1, "attention": 0, "conditional": True}
OPTIONS: dict[str, dict[str, Any]] = {"blur": {"width": 8, "latent": 2}, "noise": NOISE}
PARAMS = """
format: 1
project: p
execution: {}
bases: {scratch: {}}
components: {none: {set: none, role: none, model: scratch}}
datasets:
  stripes:
    {modality: image, source: data/stripes, ingest: {}, validation: {}, preprocess: {}, dedup: {}, split: {},
     encode: {}, reference: {}}
models:
  blur:
    {dataset: stripes, family: vae, init_from: scratch, components: none, options: {}, training: {},
     evaluation: {}, sampling: {temperature: 0.7, seed: 5}}
  noise:
    {dataset: stripes, family: diffusion, init_from: scratch, components: none, options: {}, training: {},
     evaluation: {}, sampling: {n: 30, steps: 40, guidance: 3.0}}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with two models that were trained and not sampled."""
    root = tmp_path_factory.mktemp("gate")
    for name in ("src", "pipelines", "presets", "dvc.yaml"):
        (root / name).symlink_to(ROOT / name)
    (root / "params.yaml").write_text(PARAMS)
    dataset = write_images(root)
    write_reference(dataset, Reference(features=2, steps=20))
    tree = params.load(root)
    for key, block in tree.models.items():
        write_untrained(ModelPaths(root, key), dataset, block.family, noise=0.05, **OPTIONS[key])
    write_code(root)
    return root


def no_store() -> Store:
    raise AssertionError("the registry was asked")


def terms(root: Path, tree: Settings, like: str) -> Terms:
    protocol = params.model_section(tree, like, Sampling).of_protocol()
    return Terms(root, tree, DatasetPaths(root, "stripes"), like, protocol, Evaluation(), Execution(), root / "work")


def drawn(model: Path, seed: int, count: int, **settings: Any) -> np.ndarray:
    found = Generator.load(model, settings).draw(seeds_of(seed, count))
    assert isinstance(found, torch.Tensor)
    return found.numpy()


def samples(subject: Subject, how: Terms) -> np.ndarray:
    return np.load(measure(subject, how)[0].samples / "samples.npy")


def test_a_diffusion_model_and_a_vae_keep_their_generators_under_one_protocol(root: Path) -> None:
    tree = params.load(root)
    noise, blur = (resolve(key, root, tree, no_store, root) for key in ("noise", "blur"))
    how = terms(root, tree, "noise")

    assert np.array_equal(samples(noise, how), drawn(noise.model, 0, 30, steps=40, guidance=3.0))
    assert np.array_equal(samples(blur, how), drawn(blur.model, 0, 30, temperature=0.7))
    assert not np.array_equal(samples(noise, how), drawn(noise.model, 0, 30))
    assert not np.array_equal(samples(blur, how), drawn(blur.model, 0, 30))
    # The other way round the other one's number and seed hold for both.
    back = terms(root, tree, "blur")
    assert np.array_equal(samples(noise, back), drawn(noise.model, 5, 40, steps=40, guidance=3.0))
    protocols = [read_json(measure(subject, back)[0].samples / "protocol.json") for subject in (noise, blur)]
    assert protocols[0] == protocols[1] == {"n": 40, "seed": 5}


def test_a_decision_names_the_generators(root: Path) -> None:
    found = compare(root, "noise", "blur", trust_split=True)

    told = found.decision.facts["models"]
    assert (told["challenger"]["generator"]["steps"], told["champion"]["generator"]["temperature"]) == (40, 0.7)
    assert any(row.metric == "fid_domain" and row.difference is not None for row in found.rows)


@pytest.fixture(scope="module")
def store(root: Path) -> Store:
    return open_store(root, "p")


def new_run(store: Store, **logged: Any) -> Run:
    run = Run(store, store.client.create_run(store.experiment).info.run_id, "train")
    run.params({"sampling": logged})
    return run


def register_as_before(store: Store, model: Path, run: Run) -> str:
    """Number of a version as it was registered when a model was its weights alone."""
    digest, client = folder_digest(model), store.client
    made = client.create_logged_model(store.experiment, "blur", source_run_id=run.run_id, tags={tags.DIGEST: digest})
    client.log_model_artifacts(made.model_id, str(model))
    client.finalize_logged_model(made.model_id, "READY")
    client.create_registered_model("blur")
    with as_default(store.uri):
        version = client.create_model_version(
            "blur", f"models:/{made.model_id}", run.run_id, tags={tags.DIGEST: digest}, model_id=made.model_id
        )
    return str(version.version)


def test_a_version_keeps_its_temperature_whatever_params_yaml_says_now(
    root: Path, store: Store, tmp_path: Path
) -> None:
    """An old version takes what its run was sampled with; a new one what it was registered with."""
    tree, model = params.load(root), ModelPaths(root, "blur").model
    logged = {"n": 7, "seed": 3, "batch": 256, "draw": "sample", "temperature": 0.3}
    old = register_as_before(store, model, new_run(store, **logged))
    colder, warmer = (default_generator("vae") | {"temperature": value} for value in (0.5, 0.9))
    new = [register(new_run(store), "blur", model, each, root) for each in (colder, warmer, colder)]
    how = terms(root, tree, "blur")

    subjects = [resolve(f"blur/{number}", root, tree, lambda: store, tmp_path) for number in (old, *new[:2])]

    assert [subject.generator["temperature"] for subject in subjects] == [0.3, 0.5, 0.9]
    # The rows that an old run was drawn in moved nothing then, so they are none of its settings.
    assert subjects[0].generator == {"batch": 32, "draw": "sample", "temperature": 0.3}
    assert np.array_equal(samples(subjects[0], how), drawn(model, 5, 40, temperature=0.3, draw="sample"))
    assert np.array_equal(samples(subjects[1], how), drawn(model, 5, 40, temperature=0.5))
    # Another temperature is another version of the same weights, which are fetched once; the same one is none.
    assert new[0] == new[2] != new[1] and len({subject.digest for subject in subjects}) == 3
    assert {subject.model for subject in subjects} == {tmp_path / folder_digest(model)}
    told = Registered(store, "blur").version(new[1]).tags
    assert told[tags.WEIGHTS] == folder_digest(model) and '"temperature": 0.9' in told[tags.GENERATOR]


def test_a_generator_that_was_changed_in_the_store_is_refused(root: Path, store: Store, tmp_path: Path) -> None:
    model = ModelPaths(root, "blur").model
    number = register(new_run(store), "blur", model, default_generator("vae") | {"temperature": 1.1}, root)
    changed = store.client.get_model_version("blur", number).tags[tags.GENERATOR].replace("1.1", "0.1")
    store.client.set_model_version_tag("blur", number, tags.GENERATOR, changed)

    with pytest.raises(DataError, match=f"blur/{number}: weights .* its tags were changed"):
        fetch_model(store, "blur", number, tmp_path)


def test_a_setting_that_a_family_does_not_know_is_an_error(root: Path) -> None:
    tree = params.load(root)
    blur = resolve("blur", root, tree, no_store, root)
    odd = Subject("odd", blur.model, "d", {"temprature": 0.5})
    with pytest.raises(ConfigError, match=r"odd, measured like models.noise: unknown key 'sampling.temprature'; did "):
        measure(odd, terms(root, tree, "noise"))
    with pytest.raises(ConfigError, match=r"'sampling.seed' is no setting of the generator of family vae, which has"):
        measure(Subject("odd", blur.model, "d", {"seed": 1}), terms(root, tree, "noise"))
