"""From a model and its samples to records that say how good, how sure, against what, measured how."""

import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from graded import (
    Told,
    counting,
    stripes,
    write_image_samples,
    write_images,
    write_text_samples,
    write_texts,
    write_untrained,
)

from genfoundry.config.sections.evaluation import Evaluation
from genfoundry.config.sections.reference import Reference
from genfoundry.config.specs import Score, Section
from genfoundry.core.errors import ConfigError, DataError, TooFewError
from genfoundry.core.io import folder_digest, read_json, read_table, write_json
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.evaluation.evidence import CATALOGUE, Evidence, asked_for
from genfoundry.evaluation.extraction.extract import write_features
from genfoundry.evaluation.influences import read_influences
from genfoundry.evaluation.metrics import Metric
from genfoundry.evaluation.reference import write_reference
from genfoundry.evaluation.rivals import cut_like, rivals
from genfoundry.evaluation.scoring import Record, compute, configured, measure, write_scores

SRC = Path(__file__).resolve().parents[3] / "src"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelPaths, DatasetPaths]:
    """A model whose 50 samples follow the law of the data, and its features."""
    root = tmp_path_factory.mktemp("images")
    dataset, paths = write_images(root), ModelPaths(root, "copyist")
    write_reference(dataset, Reference(features=4, steps=60))
    write_untrained(paths, dataset, "vae", width=8, latent=2)
    write_image_samples(paths, stripes(50, seed=77)[0])
    write_features(Evaluation(), paths, dataset, Told())
    return paths, dataset


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelPaths, DatasetPaths]:
    """An untrained transformer, which knows nothing: log V nats a token."""
    root = tmp_path_factory.mktemp("texts")
    dataset, paths = write_texts(root), ModelPaths(root, "novice")
    write_reference(dataset, Reference())
    write_untrained(paths, dataset, "transformer", width=8, layers=1, heads=1, context=8)
    write_text_samples(paths, counting(6, seed=5))
    write_features(Evaluation(), paths, dataset, Told())
    return paths, dataset


def again(paths: ModelPaths, dataset: DatasetPaths, **config: object) -> dict[str, Record]:
    records = write_scores(Evaluation.model_validate(config), paths, dataset)
    return {record.name: record for record in records}


# extract


def test_features_carry_the_ids_of_their_samples(images: tuple[ModelPaths, DatasetPaths]) -> None:
    paths, dataset = images

    index = read_table(paths.features / "index.parquet")

    assert index["id"].tolist() == [f"copyist/{row}" for row in range(50)]
    assert np.load(paths.features / "features.npy").shape == (50, 4)
    assert read_json(paths.reports / "extract.json") == {"samples": 50, "features": 4}
    digest = read_json(dataset.reference / "network.json")["digest"]
    assert read_json(paths.features / "protocol.json")["network"]["digest"] == digest


def test_each_document_is_priced_once_and_keeps_its_id(texts: tuple[ModelPaths, DatasetPaths]) -> None:
    paths, dataset = texts

    table = read_table(paths.features / "nats.parquet")

    index = read_table(dataset.index / "test.parquet")
    assert table["id"].tolist() == index["id"].tolist()
    assert table["sha256"].tolist() == index["sha256"].tolist()
    np.testing.assert_allclose(table["nats"], table["tokens"] * math.log(12), rtol=1e-6)
    np.testing.assert_array_equal(table["bytes"], np.load(dataset.arrays / "test_bytes.npy"))
    assert read_json(paths.features / "protocol.json")["likelihood"] == {
        "window": 8,
        "stride": 4,
        "start": "boundary token given, not scored",
        "last": "last window filled to the left",
    }


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_extracting_again_gives_the_same_bytes_and_tells_the_speed(kind: str, request: pytest.FixtureRequest) -> None:
    paths, dataset = request.getfixturevalue(kind)
    digest, told = folder_digest(paths.features), Told()

    write_features(Evaluation(batch=3), paths, dataset, told)

    assert folder_digest(paths.features) == digest
    assert told.names == ["images_per_second" if kind == "images" else "tokens_per_second"]


def test_a_tokenizer_that_is_not_the_data_sets_is_refused(tmp_path: Path) -> None:
    dataset, paths = write_texts(tmp_path), ModelPaths(tmp_path, "novice")
    write_untrained(paths, dataset, "transformer", width=8, layers=1, heads=1, context=8)
    write_json(dataset.arrays / "tokenizer.json", {"of": "something else"})

    with pytest.raises(DataError, match="its tokenizer is not that of"):
        write_features(Evaluation(), paths, dataset, Told())
    assert not paths.features.exists()


# scores


def test_image_scores_stand_beside_the_floor(images: tuple[ModelPaths, DatasetPaths]) -> None:
    found = again(*images)

    assert set(found) == {
        "authenticity",
        "class_balance",
        "coverage_domain",
        "density_domain",
        "exact_copies",
        "fid_domain",
        "fid_inf_domain",
        "is_domain",
        "kid_domain",
        "near_copies",
        "precision_domain",
        "recall_domain",
    }, "label_agreement needs a model that can be asked for a class"
    scores = read_json(images[0].reports / "scores.json")
    fid = scores[found["fid_domain"].key]
    assert {"value", "se", "low", "high", "n", "n_reference", "floor", "relative"} <= set(fid)
    assert (fid["n"], fid["n_reference"]) == (50, 40)
    assert fid["relative"] == fid["value"] / fid["floor"]
    assert "relative" not in found["kid_domain"].numbers()
    centre = fid["value"] - fid["bias"]
    assert fid["low"] == pytest.approx(max(centre - 1.96 * fid["se"], 0))
    assert fid["high"] == pytest.approx(centre + 1.96 * fid["se"])
    protocol = read_json(images[0].evaluation / "protocols.json")[found["fid_domain"].key]
    assert protocol["network"]["digest"]
    assert protocol["reference"]["split"] == "test"
    assert protocol["sampling"] == {"n": 50, "seed": 0}
    assert "reference" not in found["is_domain"].protocol


def test_the_floor_is_real_training_data_of_the_same_number(images: tuple[ModelPaths, DatasetPaths]) -> None:
    evidence = Evidence(*images)

    held = rivals(evidence, ["features", "reference_features"])
    alone = rivals(evidence, ["logits"])

    train = evidence["train_features"]
    assert held.keys() == {"floor"}
    assert held["floor"]["features"].shape == (50, 4)
    assert {row.tobytes() for row in held["floor"]["features"]} < {row.tobytes() for row in train}
    assert {row.tobytes() for row in alone["floor"]["logits"]} == {
        row.tobytes() for row in evidence["reference_logits"]
    }


def test_text_scores_stand_beside_the_ngram_models(texts: tuple[ModelPaths, DatasetPaths]) -> None:
    found = again(*texts)

    assert set(found) == {
        "bits_per_byte",
        "bits_per_character",
        "byte_perplexity",
        "copied_ngrams",
        "distinct_n",
        "length_distance",
        "longest_overlap",
        "perplexity",
        "repetition",
        "self_bleu",
        "word_perplexity",
    }
    score = found["perplexity"].numbers()
    assert score["value"] == pytest.approx(12, rel=1e-6)
    assert score["bigram"] < score["unigram"] < 12
    assert "floor" not in score
    assert set(found["perplexity"].protocol) > {"documents", "likelihood", "tokenizer"}
    assert "tokenizer" not in found["bits_per_byte"].protocol, "bits per byte compare across tokenizers"
    assert "likelihood" not in found["distinct_n"].protocol
    assert found["distinct_n"].numbers()["floor"] > 0


def test_real_text_is_cut_to_the_lengths_of_the_samples() -> None:
    real = [[1, 2, 3], [4, 5], [6]]

    pieces = cut_like(real, [[0, 0], [0, 0, 0], [], [0, 0, 0, 0]])

    assert pieces[:2] == [[4, 5], [1, 2, 3]], "each document once, from its start"
    assert pieces[2:] == [[]], "none is as long as the last sample"


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_equal_evidence_gives_equal_bytes(kind: str, request: pytest.FixtureRequest) -> None:
    paths, dataset = request.getfixturevalue(kind)

    def published() -> list[bytes]:
        again(paths, dataset)
        files = [paths.reports / "scores.json", paths.reports / "evaluation.png", *sorted(paths.evaluation.iterdir())]
        return [file.read_bytes() for file in files]

    assert published() == published()


def test_another_protocol_is_another_key(texts: tuple[ModelPaths, DatasetPaths], tmp_path: Path) -> None:
    paths, dataset = texts
    before = {name: record.key for name, record in again(paths, dataset).items()}

    write_features(Evaluation(stride=8), paths, dataset, Told())
    strided = {name: record.key for name, record in again(paths, dataset).items()}
    write_text_samples(paths, counting(6, seed=5), temperature=0.5)
    warmer = {name: record.key for name, record in again(paths, dataset, metrics={"distinct_n": {"n": 1}}).items()}
    write_text_samples(paths, counting(6, seed=5))
    write_features(Evaluation(), paths, dataset, Told())

    priced = {"perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "bits_per_character"}
    assert {name for name in before if before[name] != strided[name]} == priced
    assert {name for name in strided if strided[name] != warmer[name]} == before.keys() - priced
    assert {name: record.key for name, record in again(paths, dataset).items()} == before


def test_other_settings_of_a_metric_are_another_protocol(texts: tuple[ModelPaths, DatasetPaths]) -> None:
    pairs, same, triples = (again(*texts, metrics={"distinct_n": {"n": n}})["distinct_n"].key for n in (2, 2, 3))

    assert pairs == same != triples


def test_an_unknown_error_bar_and_a_ratio_to_noise_are_left_out() -> None:
    unsure = Record("m", Score(2.0, 9), {}, {"floor": Score(0.1, 9)}, ratio=False).numbers()
    firm = Record("m", Score(2.0, 9, 0.5), {}, {"floor": Score(0.1, 9)}).numbers()

    assert unsure == {"value": 2.0, "n": 9, "floor": 0.1}
    assert firm["relative"] == 20
    assert firm["high"] == pytest.approx(2.98)
    share = Record("m", Score(0.01, 9, 0.5), {}, {}, range=(0.0, 1.0)).numbers()
    assert (share["low"], share["high"]) == (0.0, pytest.approx(0.99))


def test_evaluation_does_not_import_torch(images: tuple[ModelPaths, DatasetPaths]) -> None:
    code = (
        "import sys; from pathlib import Path; from genfoundry.config.sections.evaluation import Evaluation\n"
        "from genfoundry.evaluation.scoring import write_scores\n"
        "from genfoundry.core.paths import DatasetPaths, ModelPaths\n"
        f"root = Path({str(images[0].root)!r})\n"
        "write_scores(Evaluation(), ModelPaths(root, 'copyist'), DatasetPaths(root, 'stripes'))\n"
        "sys.exit(sorted({'torch', 'scipy', 'sklearn', 'mlflow'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(SRC)}, capture_output=True, text=True)

    assert done.stderr == "[]\n"


# refusals


def test_a_metric_without_its_evidence_is_refused_only_if_named(texts: tuple[ModelPaths, DatasetPaths]) -> None:
    with pytest.raises(
        ConfigError, match=r"models.novice.evaluation.metrics.fid_domain': needs features, reference_features"
    ):
        again(*texts, metrics={"fid_domain": {}, "perplexity": {}})


def test_all_faults_of_the_metrics_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        configured({"distinkt_n": {}, "distinct_n": {"m": 2}, "kid_domain": {"standardise": "perhaps"}}, "e.metrics")

    first, second, third = str(caught.value).splitlines()
    assert first == "params.yaml: unknown metric 'e.metrics.distinkt_n'; did you mean 'distinct_n'?"
    assert "unknown key 'e.metrics.distinct_n.m'" in second
    assert "e.metrics.kid_domain.standardise' is 'perhaps'" in third


def test_a_metric_that_asks_for_unknown_evidence_is_told_the_nearest() -> None:
    def score(featurs: object, config: object) -> None: ...

    with pytest.raises(
        ConfigError, match=r"metrics/own.py: score asks for evidence 'featurs'; did you mean 'features'"
    ):
        asked_for(Metric("own", SimpleNamespace(__name__="genfoundry.metrics.own", score=score)))  # type: ignore[arg-type]


def test_a_score_that_is_no_number_is_refused(texts: tuple[ModelPaths, DatasetPaths]) -> None:
    def score(nats: object, config: object) -> Score:
        return Score(math.inf, 3)

    metric = Metric("own", SimpleNamespace(__name__="genfoundry.metrics.own", score=score))
    with pytest.raises(DataError, match="own: the score is inf"):
        compute("own", metric, Section(), Evidence(*texts))  # type: ignore[arg-type]


def test_a_metric_that_finds_too_little_fails_only_if_named(texts: tuple[ModelPaths, DatasetPaths]) -> None:
    too_long = {"copied_ngrams": {"n": 300}}
    chosen = configured({**too_long, "distinct_n": {}}, "e.metrics")

    records, reasons = measure(chosen, Evidence(*texts), named=())

    assert [record.name for record in records] == ["distinct_n"]
    assert reasons["copied_ngrams"].startswith("copied_ngrams: 0 of 6 samples have 300 tokens")
    with pytest.raises(TooFewError, match="0 of 6 samples have 300 tokens"):
        again(*texts, metrics=too_long)
    with pytest.raises(DataError, match="nothing could be measured: copied_ngrams"):
        measure({"copied_ngrams": chosen["copied_ngrams"]}, Evidence(*texts), named=())


def test_metrics_can_be_left_out(texts: tuple[ModelPaths, DatasetPaths]) -> None:
    assert "self_bleu" not in again(*texts, skip=["self_bleu"])
    for faulty, words in (
        ({"skip": ["self_blue"]}, "did you mean 'self_bleu'"),
        ({"skip": ["x"]}, "unknown metric 'x'"),
    ):
        with pytest.raises(ConfigError, match=words):
            again(*texts, **faulty)
    with pytest.raises(ConfigError, match="also stands under skip"):
        again(*texts, metrics={"distinct_n": {}}, skip=["distinct_n"])


def test_off_until_named(texts: tuple[ModelPaths, DatasetPaths]) -> None:
    assert "parses" not in again(*texts)
    assert again(*texts, metrics={"parses": {}})["parses"].numbers()["floor"] == 0, "numbers in a row are no Python"


def test_influences_and_details_are_published(images: tuple[ModelPaths, DatasetPaths]) -> None:
    found = again(*images)
    paths = images[0]

    influences = read_influences(paths.evaluation / "influences.npz")
    fid = found["fid_domain"]
    assert {unit: len(rows) for unit, rows in influences[fid.key].items()} == {"sample": 50, "test": 40}
    for name in ("fid_domain", "kid_domain", "is_domain", "precision_domain", "class_balance"):
        record = found[name]
        squares = sum(float((rows**2).sum()) for rows in influences[record.key].values())
        assert squares == pytest.approx(record.score.se**2, rel=1e-4)
    assert read_json(paths.evaluation / "details.json")["slices"].keys() == {"label", "source"}
    assert (paths.evaluation / "pairs.png").is_file()


def test_the_floor_of_copying_is_held_out_data(images: tuple[ModelPaths, DatasetPaths]) -> None:
    evidence = Evidence(*images)

    floor = rivals(evidence, ["features", "train_features", "reference_features"], held_out=True)["floor"]

    real = {row.tobytes() for row in evidence["reference_features"]}
    assert {row.tobytes() for row in floor["features"]} < real
    assert len(floor["features"]) == 20, "the half that gives no threshold"


def test_features_of_another_network_are_refused(images: tuple[ModelPaths, DatasetPaths], tmp_path: Path) -> None:
    paths, _ = images
    dataset = write_images(tmp_path)
    write_reference(dataset, Reference(features=4, steps=10, seed=3))

    with pytest.raises(DataError, match=r"made with feature network \w{12}, the reference is of \w{12}"):
        write_scores(Evaluation(), paths, dataset)


def test_nan_features_leave_no_scores(tmp_path: Path) -> None:
    dataset, paths = write_images(tmp_path), ModelPaths(tmp_path, "broken")
    write_reference(dataset, Reference(features=4, steps=10))
    write_untrained(paths, dataset, "vae", width=8, latent=2)
    write_image_samples(paths, stripes(9, seed=1)[0])
    write_features(Evaluation(), paths, dataset, Told())
    features = np.load(paths.features / "features.npy")
    features[4, 1] = np.nan
    np.save(paths.features / "features.npy", features)

    with pytest.raises(DataError, match="features hold NaN or infinity in 1 of 9 rows, first in row 4"):
        again(paths, dataset)
    assert not (paths.reports / "scores.json").exists()


def test_nothing_to_score_is_an_error(tmp_path: Path) -> None:
    paths = ModelPaths(tmp_path, "empty")

    with pytest.raises(DataError, match="no metric applies"):
        again(paths, DatasetPaths(tmp_path, "none"))


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_every_piece_of_evidence_can_be_read(kind: str, request: pytest.FixtureRequest) -> None:
    evidence = Evidence(*request.getfixturevalue(kind))
    there = [name for name in CATALOGUE if evidence.has(name)]

    assert len(there) == (11 if kind == "images" else 13)
    for name in there:
        assert len(evidence[name])
        assert evidence.facts([name])


def test_reference_tokens_are_the_documents(texts: tuple[ModelPaths, DatasetPaths]) -> None:
    assert Evidence(*texts)["reference_tokens"] == counting(40, seed=2)
