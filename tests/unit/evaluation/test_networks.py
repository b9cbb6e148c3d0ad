"""Published networks: the right bytes or a refusal, the reference's preprocessing, the same features in any company.

EfficientNet-Lite0's published weights come with the extra ``networks``. Those of Inception-v3, DINOv2 and CLIP can't be
had where the tests run: small models of the real classes with random weights stand in.
"""

import functools
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from genfoundry.config.specs import GridSpec, Section, TokenSpec
from genfoundry.core import parts
from genfoundry.core.errors import ConfigError, DataError, InfrastructureError
from genfoundry.core.io import file_digest
from genfoundry.evaluation.networks import clip, dinov2, efficientnet, inception, network_faults, published
from genfoundry.evaluation.networks._contract import Network, Weights, identity
from genfoundry.evaluation.networks._pictures import in_colour
from genfoundry.evaluation.networks._weights import fetch


def locate(name: str, options: dict[str, str], root: Path, cache: Path) -> Weights:
    part = parts.load("networks", name)
    return part.locate(part.Config(**options), root, cache)


def load(name: str, weights: Weights) -> Network:
    return parts.load("networks", name).load(weights, "cpu")


ROOT = Path(__file__).resolve().parents[3]
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

    found = locate("inception", {"weights": str(weights), "sha256": digest}, tmp_path, tmp_path)
    network = load("inception", found)

    assert identity("inception", found, network.dimension, inception.preprocessing(found)) == {
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
        locate("inception", {"weights": str(weights)}, tmp_path, tmp_path)


def test_a_path_is_relative_to_the_workspace(weights: Path, tmp_path: Path) -> None:
    wanted = {"weights": weights.name, "sha256": file_digest(weights)}

    assert locate("inception", wanted, weights.parent, tmp_path).path == weights


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_an_address_is_fetched_once_into_the_cache(scheme: str, address: str, tmp_path: Path) -> None:
    served = tmp_path / "served/w.pth"
    served.write_bytes(b"weights")
    source = f"{address}/w.pth" if scheme == "http" else served.as_uri()
    wanted = {"weights": source, "sha256": file_digest(served)}

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
        locate(name, {"weights": source}, tmp_path, tmp_path)


def test_a_digest_in_the_settings_is_64_hex_digits() -> None:
    with pytest.raises(ValueError, match="sha256"):
        inception.Config(weights="w", sha256="6726825d")


# preprocessing


def test_dinov2_sees_the_whole_image_as_pillow_resizes_floats() -> None:
    found = dinov2.prepare(torch.from_numpy(LEVELS)).numpy()

    for image, levels in zip(found, LEVELS, strict=True):
        for channel, mean, deviation in zip(range(3), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True):
            plane = Image.fromarray(levels[channel].astype(np.float32))
            wanted = np.asarray(plane.resize((224, 224), Image.Resampling.BICUBIC)) / 255
            np.testing.assert_allclose(image[channel], (wanted - mean) / deviation, atol=2e-5)


def test_dinov2_smooths_when_it_shrinks() -> None:
    checks = np.zeros((1, 1, 448, 448), np.uint8)
    checks[..., ::2, ::2] = checks[..., 1::2, 1::2] = 255

    found = dinov2.prepare(torch.from_numpy(checks))[0, 0, 8:-8, 8:-8]

    np.testing.assert_allclose(found, (0.5 - 0.485) / 0.229, atol=1e-5)


@pytest.mark.parametrize("shape", [(40, 30), (30, 40), (30, 30), (31, 47)])
def test_clip_sees_the_centre_as_pillow_resizes_an_rgb_image(shape: tuple[int, int]) -> None:
    levels = np.random.default_rng(1).integers(0, 256, (1, 3, *shape), dtype=np.uint8)
    height, width = shape

    found = clip.prepare(torch.from_numpy(levels), 60)[0].numpy()

    size = (60, int(60 * height / width)) if width <= height else (int(60 * width / height), 60)
    picture = Image.fromarray(levels[0].transpose(1, 2, 0)).resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - 60) // 2, (size[1] - 60) // 2
    wanted = np.asarray(picture.crop((left, top, left + 60, top + 60))) / 255
    mean, deviation = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    np.testing.assert_allclose(found, ((wanted - mean) / deviation).transpose(2, 0, 1), atol=1e-6)


def test_one_channel_is_repeated() -> None:
    grey = torch.from_numpy(LEVELS[:1, :1])

    assert torch.equal(in_colour(grey), grey.repeat(1, 3, 1, 1))
    assert torch.equal(dinov2.prepare(grey), dinov2.prepare(grey.repeat(1, 3, 1, 1)))
    assert torch.equal(clip.prepare(grey, 20), clip.prepare(grey.repeat(1, 3, 1, 1), 20))


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

    weights = locate(name, {"weights": "model"}, tmp_path, tmp_path)
    network = load(name, weights)
    features, logits = network.embed(LEVELS)
    alone, _ = network.embed(LEVELS[1:2])

    assert weights.digest == file_digest(folder / "model.safetensors")
    assert weights.config == file_digest(folder / "config.json")
    assert features.shape == (3, network.dimension) == (3, dimension)
    assert logits is None
    np.testing.assert_array_equal(alone[0], features[1])
    whole = (transformers.Dinov2Model if name == "dinov2" else transformers.CLIPModel).from_pretrained(folder).eval()
    with torch.inference_mode():
        if name == "dinov2":
            wanted = whole(pixel_values=dinov2.prepare(torch.from_numpy(LEVELS))).last_hidden_state[:, 0]
        else:
            hidden = whole.vision_model(pixel_values=clip.prepare(torch.from_numpy(LEVELS), 28)).pooler_output
            wanted = whole.visual_projection(hidden)
    np.testing.assert_allclose(features, wanted, rtol=1e-4, atol=1e-5)


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    written("clip", tmp_path / "model")

    with pytest.raises(DataError, match=r"config\.json says model_type 'clip'; dinov2 needs 'dinov2'"):
        load("dinov2", locate("dinov2", {"weights": "model"}, tmp_path, tmp_path))


def test_weights_that_lack_a_tensor_are_refused_not_filled_with_random_numbers(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = written("dinov2", tmp_path / "model") / "model.safetensors"
    state = load_file(file)
    del state["layernorm.weight"]
    save_file(state, file, {"format": "pt"})

    with pytest.raises(DataError, match=r"model\.safetensors lacks 1 tensors of dinov2, first 'layernorm.weight'"):
        load("dinov2", locate("dinov2", {"weights": "model"}, tmp_path, tmp_path))


@pytest.mark.parametrize("name", [name for name in published() if parts.load("networks", name).EXTRA])
def test_without_its_package_the_extra_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    part = parts.load("networks", name)
    monkeypatch.setitem(sys.modules, part.PACKAGE, None)

    (fault,) = network_faults({name: {"weights": "w"} if "weights" in part.Config.model_fields else {}}, "here")

    assert fault.startswith(f"params.yaml: 'here.{name}': ")
    assert fault.endswith(f"is not installed; run pip install 'genfoundry[{part.EXTRA}]'")


def test_faults_of_the_settings_come_all_at_once() -> None:
    named = {"domain": {}, "incepton": {}, "inception": {"weights": "w", "sha": "x"}}

    domain, unknown, option = network_faults(named, "here")

    assert domain == "params.yaml: 'here.domain': the data set's own network is always there; remove it"
    assert unknown.startswith(
        "params.yaml: 'here.incepton': unknown networks part 'incepton'; did you mean 'inception'"
    )
    assert option.startswith("params.yaml: unknown key 'here.inception.sha'; did you mean 'sha256'")


# the contract


@pytest.mark.parametrize("name", parts.names("networks"))
def test_the_file_keeps_the_contract(name: str) -> None:
    part = parts.load("networks", name)

    assert part.__doc__
    assert part.CAVEAT.endswith(".")
    for text in (part.TITLE, part.LICENCE, part.TAKES):
        assert len(text) >= 3
    assert bool(part.PACKAGE) == bool(part.EXTRA)
    assert f"{part.EXTRA} = [" in (ROOT / "pyproject.toml").read_text() or not part.EXTRA
    assert issubclass(part.Config, Section)
    assert part.BATCH >= 1
    for function in (part.locate, part.preprocessing, part.load, part.takes):
        assert callable(function)


@pytest.mark.parametrize("name", published())
def test_published_networks_take_images_of_one_or_three_channels(name: str) -> None:
    takes = parts.load("networks", name).takes

    assert all(takes(GridSpec(channels=channels, shape=(8, 8))) for channels in (1, 3))
    assert not takes(GridSpec(channels=2, shape=(8, 8)))
    assert not takes(GridSpec(channels=1, shape=(8, 8), storage="int16"))
    assert not takes(GridSpec(channels=1, shape=(8, 8), axes=("band", "time")))
    assert not takes(GridSpec(channels=1, shape=(64,)))
    assert not takes(GridSpec(channels=1, shape=(4, 8, 8)))
    assert not takes(TokenSpec(vocab_size=9))


# EfficientNet-Lite0


def test_efficientnets_tensors_are_those_of_the_paper() -> None:
    with torch.device("meta"):
        network = efficientnet.EfficientNet()

    # Table 5 of the paper has 5.3 M for B0; without squeeze-and-excitation 4.65 M are left, as TensorFlow's page says.
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_652_008
    strides = [block._depthwise_conv.stride[0] for block in network._blocks]
    assert [place for place, stride in enumerate(strides) if stride == 2] == [1, 3, 5, 11]


@pytest.mark.parametrize(("size", "kernel", "stride"), [(224, 3, 2), (7, 5, 1), (14, 5, 2), (15, 3, 2)])
def test_convolutions_are_padded_as_tensorflows_same(size: int, kernel: int, stride: int) -> None:
    conv = efficientnet.SameConv(1, 1, kernel, stride)
    torch.nn.init.ones_(conv.weight)

    found = conv(torch.ones(1, 1, size, size))[0, 0]

    # A window at place i covers what is inside of [i * stride - before, i * stride - before + kernel).
    out = -(-size // stride)
    before = max((out - 1) * stride + kernel - size, 0) // 2
    starts = [place * stride - before for place in range(out)]
    inside = torch.tensor([float(min(start + kernel, size) - max(start, 0)) for start in starts])
    torch.testing.assert_close(found, inside[:, None] * inside)


def test_efficientnet_sees_grey_levels_around_zero_and_small_images_enlarged() -> None:
    flat = torch.full((1, 1, 8, 8), 127, dtype=torch.uint8)
    checks = torch.zeros((1, 1, 8, 8), dtype=torch.uint8)
    checks[..., 4:] = 255

    grey, halves = efficientnet.prepare(flat), efficientnet.prepare(checks)

    assert grey.shape == (1, 3, 224, 224)
    torch.testing.assert_close(grey, torch.zeros_like(grey), atol=1e-5, rtol=0)
    assert torch.equal(halves[:, 0], halves[:, 2])
    assert halves[0, 0, 112, :56].mean() < -0.9 < 0.9 < halves[0, 0, 112, 168:].mean()


@pytest.fixture(scope="module")
def lite() -> Weights:
    pytest.importorskip(efficientnet.PACKAGE, reason="extra 'networks' is not installed: pip install .[networks]")
    return locate("efficientnet", {}, Path(), Path())


def test_the_published_efficientnet_knows_a_daisy_alone_and_in_company(lite: Weights) -> None:
    network = load("efficientnet", lite)
    pictures = np.stack([picture.transpose(2, 0, 1) for picture in load_sample_images().images])

    features, logits = network.embed(pictures)
    alone, _ = network.embed(pictures[1:])

    assert lite.digest == efficientnet.SHA256
    assert features.shape == (2, 1280) and features.dtype == np.float32
    assert logits is not None and logits.shape == (2, 1000)
    # ImageNet's 985 is daisy; the other picture is the Summer Palace, 698 palace among its first three.
    assert logits[1].argmax() == 985
    assert 698 in np.argsort(logits[0])[-3:]
    np.testing.assert_array_equal(alone[0], features[1])


def test_efficientnet_gives_the_numbers_of_the_package_that_published_it(lite: Weights) -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch", reason="efficientnet-lite-pytorch is not installed")
    theirs = package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(lite.path)).eval()
    grid = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))

    with torch.inference_mode():
        features, logits = load("efficientnet", lite).forward(grid)

        # Equal to the last bit for most inputs and threads; kernels may choose another order of sums.
        torch.testing.assert_close(logits, theirs(grid), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(features, theirs.extract_features(grid).mean(dim=(2, 3)), rtol=1e-5, atol=1e-5)


def test_another_file_in_the_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / efficientnet.PACKAGE / efficientnet.FILE
    file.parent.mkdir(parents=True)
    (tmp_path / efficientnet.PACKAGE / "__init__.py").write_text("raise RuntimeError('code of the package was run')")
    file.write_bytes(b"other")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, efficientnet.PACKAGE, raising=False)

    with pytest.raises(DataError, match=r"57934424\.pth: sha256 is \w{12}, wanted is 579344248a93"):
        locate("efficientnet", {}, tmp_path, tmp_path)
