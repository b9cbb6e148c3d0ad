"""Published networks: the right bytes or a refusal, the reference's preprocessing, the same features in any company.

No published weights can be had where the tests run: small models of the real classes with random weights stand in.
"""

import functools
import json
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from genfoundry.config.sections.reference import PretrainedNetwork
from genfoundry.core.errors import ConfigError, DataError, InfrastructureError
from genfoundry.core.io import file_digest
from genfoundry.evaluation.extraction import inception, pretrained
from genfoundry.evaluation.extraction.pretrained import fetch, in_colour, load, locate, prepare_clip, prepare_dinov2

LEVELS = np.random.default_rng(0).integers(0, 256, (3, 3, 40, 30), dtype=np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An Inception-v3 of random weights, as a file."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(inception.Inception().state_dict(), file)
    return file


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A server of ``<tmp_path>/served`` on the loopback interface."""
    (tmp_path / "served").mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *given: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path / "served")))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


# weights


def test_a_file_is_named_by_its_digest_and_loaded(weights: Path, tmp_path: Path) -> None:
    digest = file_digest(weights)

    found = locate("inception", PretrainedNetwork(weights=str(weights), sha256=digest), tmp_path, tmp_path)
    network = load(found)

    assert network.identity == {
        "name": "inception",
        "dimension": 2048,
        "preprocessing": "tf1-bilinear-299, (x - 128) / 128",
        "digest": digest,
    }
    features, logits = network.embed(LEVELS[:1, :1, :8, :8])
    assert features.shape == (1, 2048)
    assert logits is not None
    assert logits.shape == (1, 1008)


def test_without_a_digest_inception_must_be_the_published_one(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"inception\.pth: sha256 is \w{12}, wanted is 6726825d0af5"):
        locate("inception", PretrainedNetwork(weights=str(weights)), tmp_path, tmp_path)


def test_a_path_is_relative_to_the_workspace(weights: Path, tmp_path: Path) -> None:
    wanted = PretrainedNetwork(weights=weights.name, sha256=file_digest(weights))

    assert locate("inception", wanted, weights.parent, tmp_path).path == weights


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_an_address_is_fetched_once_into_the_cache(scheme: str, address: str, tmp_path: Path) -> None:
    served = tmp_path / "served/w.pth"
    served.write_bytes(b"weights")
    source = f"{address}/w.pth" if scheme == "http" else served.as_uri()
    wanted = PretrainedNetwork(weights=source, sha256=file_digest(served))

    first = locate("inception", wanted, tmp_path, tmp_path / "cache")
    served.unlink()
    second = locate("inception", wanted, tmp_path, tmp_path / "cache")

    assert first == second
    assert first.path.read_bytes() == b"weights"
    assert first.path.parent == tmp_path / "cache"


def test_a_damaged_copy_in_the_cache_is_fetched_again(address: str, tmp_path: Path) -> None:
    served = tmp_path / "served/w.pth"
    served.write_bytes(b"weights")
    digest = file_digest(served)
    fetch(f"{address}/w.pth", digest, tmp_path / "cache").write_bytes(b"damaged")

    assert fetch(f"{address}/w.pth", digest, tmp_path / "cache").read_bytes() == b"weights"


def test_what_comes_with_another_digest_is_never_kept(address: str, tmp_path: Path) -> None:
    (tmp_path / "served/w.pth").write_bytes(b"other")

    with pytest.raises(DataError, match=r"w\.pth: sha256 is \w{12}, wanted is 000000000000"):
        fetch(f"{address}/w.pth", "0" * 64, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_address_that_does_not_answer_is_told_with_the_way_out(address: str, tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match=r"none\.pth: .*404.*fetch the file by hand"):
        fetch(f"{address}/none.pth", "0" * 64, tmp_path / "cache")


@pytest.mark.parametrize(
    ("name", "source", "words"),
    [
        ("inception", "none.pth", "networks.inception.weights' is 'none.pth': there is no file .*; name a file"),
        (
            "dinov2",
            "none",
            r"there is no file .*none/model\.safetensors; name a folder with model",
        ),
        ("dinov2", "https://example.org/dinov2", "dinov2 takes a local folder"),
        ("inception", "ftp://example.org/w.pth", r"inception takes an http\(s\) address or a path"),
    ],
)
def test_sources_that_can_not_be_are_refused(name: Any, source: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        locate(name, PretrainedNetwork(weights=source), tmp_path, tmp_path)


def test_a_digest_in_the_settings_is_64_hex_digits() -> None:
    with pytest.raises(ValueError, match="sha256"):
        PretrainedNetwork(weights="w", sha256="6726825d")


# preprocessing


def test_dinov2_sees_the_whole_image_as_pillow_resizes_floats() -> None:
    found = prepare_dinov2(torch.from_numpy(LEVELS)).numpy()

    for image, levels in zip(found, LEVELS, strict=True):
        for channel, mean, deviation in zip(range(3), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True):
            plane = Image.fromarray(levels[channel].astype(np.float32))
            wanted = np.asarray(plane.resize((224, 224), Image.Resampling.BICUBIC)) / 255
            np.testing.assert_allclose(image[channel], (wanted - mean) / deviation, atol=2e-5)


def test_dinov2_smooths_when_it_shrinks() -> None:
    checks = np.zeros((1, 1, 448, 448), np.uint8)
    checks[..., ::2, ::2] = checks[..., 1::2, 1::2] = 255

    found = prepare_dinov2(torch.from_numpy(checks))[0, 0, 8:-8, 8:-8]

    np.testing.assert_allclose(found, (0.5 - 0.485) / 0.229, atol=1e-5)


@pytest.mark.parametrize("shape", [(40, 30), (30, 40), (30, 30), (31, 47)])
def test_clip_sees_the_centre_as_pillow_resizes_an_rgb_image(shape: tuple[int, int]) -> None:
    levels = np.random.default_rng(1).integers(0, 256, (1, 3, *shape), dtype=np.uint8)
    height, width = shape

    found = prepare_clip(torch.from_numpy(levels), 60)[0].numpy()

    size = (60, int(60 * height / width)) if width <= height else (int(60 * width / height), 60)
    picture = Image.fromarray(levels[0].transpose(1, 2, 0)).resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - 60) // 2, (size[1] - 60) // 2
    wanted = np.asarray(picture.crop((left, top, left + 60, top + 60))) / 255
    mean, deviation = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    np.testing.assert_allclose(found, ((wanted - mean) / deviation).transpose(2, 0, 1), atol=1e-6)


def test_one_channel_is_repeated() -> None:
    grey = torch.from_numpy(LEVELS[:1, :1])

    assert torch.equal(in_colour(grey), grey.repeat(1, 3, 1, 1))
    assert torch.equal(prepare_dinov2(grey), prepare_dinov2(grey.repeat(1, 3, 1, 1)))
    assert torch.equal(prepare_clip(grey, 20), prepare_clip(grey.repeat(1, 3, 1, 1), 20))


# the networks of transformers


def written(name: str, folder: Path) -> Path:
    """A small model of the real class with random weights, saved as transformers saves it."""
    reason = "extra 'pretrained' is not installed: pip install 'genfoundry[pretrained]'"
    transformers = pytest.importorskip("transformers", reason=reason)
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    if name == "dinov2":
        model = transformers.Dinov2Model(transformers.Dinov2Config(image_size=28, patch_size=14, **sizes))
    else:
        vision = {**sizes, "intermediate_size": 32, "image_size": 28, "patch_size": 14, "projection_dim": 10}
        text = {**sizes, "intermediate_size": 32, "vocab_size": 50}
        config = transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=10)
        model = transformers.CLIPModel(config)
    model.eval().save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("name", "dimension"), [("dinov2", 24), ("clip", 10)])
def test_features_are_those_of_the_class_that_wrote_the_weights(name: Any, dimension: int, tmp_path: Path) -> None:
    folder = written(name, tmp_path / "model")
    import transformers

    network = load(locate(name, PretrainedNetwork(weights="model"), tmp_path, tmp_path))
    features, logits = network.embed(LEVELS)
    alone, _ = network.embed(LEVELS[1:2])

    assert network.identity["digest"] == file_digest(folder / "model.safetensors")
    assert network.identity["config"] == file_digest(folder / "config.json")
    assert features.shape == (3, network.dimension) == (3, dimension)
    assert logits is None
    np.testing.assert_array_equal(alone[0], features[1])
    whole = (transformers.Dinov2Model if name == "dinov2" else transformers.CLIPModel).from_pretrained(folder).eval()
    with torch.inference_mode():
        if name == "dinov2":
            wanted = whole(pixel_values=prepare_dinov2(torch.from_numpy(LEVELS))).last_hidden_state[:, 0]
        else:
            hidden = whole.vision_model(pixel_values=prepare_clip(torch.from_numpy(LEVELS), 28)).pooler_output
            wanted = whole.visual_projection(hidden)
    np.testing.assert_allclose(features, wanted, rtol=1e-4, atol=1e-5)


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    written("clip", tmp_path / "model")

    with pytest.raises(DataError, match=r"config\.json says model_type 'clip'; dinov2 needs 'dinov2'"):
        load(locate("dinov2", PretrainedNetwork(weights="model"), tmp_path, tmp_path))


def test_weights_that_lack_a_tensor_are_refused_not_filled_with_random_numbers(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = written("dinov2", tmp_path / "model") / "model.safetensors"
    state = load_file(file)
    del state["layernorm.weight"]
    save_file(state, file, {"format": "pt"})

    with pytest.raises(DataError, match=r"model\.safetensors lacks 1 tensors of dinov2, first 'layernorm.weight'"):
        load(locate("dinov2", PretrainedNetwork(weights="model"), tmp_path, tmp_path))


def test_without_transformers_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.safetensors").touch()
    (tmp_path / "model/config.json").write_text(json.dumps({"model_type": "dinov2"}))

    with pytest.raises(ConfigError, match=r"pip install 'genfoundry\[pretrained\]'"):
        load(locate("dinov2", PretrainedNetwork(weights="model"), tmp_path, tmp_path))


@pytest.mark.parametrize(
    "levels", [np.zeros((1, 2, 8, 8), np.uint8), np.zeros((1, 1, 8), np.uint8), np.zeros((1, 3, 8, 8))]
)
def test_what_is_no_image_is_refused(levels: np.ndarray, weights: Path, tmp_path: Path) -> None:
    digest = file_digest(weights)
    network = load(pretrained.Weights("inception", weights, digest, ""))

    with pytest.raises(DataError, match=r"inception: .* but it takes images of 1 or 3 channels"):
        network.embed(levels)
