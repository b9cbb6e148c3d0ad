"""How samples are shown, kept and asked for, whatever their modality."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genfoundry.config.conditions import Classes
from genfoundry.config.specs import GridSpec, TokenSpec
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import write_json
from genfoundry.modalities.common.exhibits import Exhibit, exhibits
from genfoundry.modalities.common.lookup import media_of, media_of_samples
from genfoundry.modalities.common.media import CELL, GridMedia, TextMedia

PICTURES = GridSpec(channels=1, shape=(8, 8), labels=("a", "b"))
WAVES = GridSpec(channels=1, shape=(200,), storage="int16", rates={"time": 8000})
TEXTS = TokenSpec(vocab_size=300)


def opened(exhibit: Exhibit) -> np.ndarray:
    assert exhibit.type == "image/png"
    return np.asarray(Image.open(io.BytesIO(exhibit.content)))


@pytest.mark.parametrize(
    ("spec", "home"), [(PICTURES, "image"), (TEXTS, "text"), (TokenSpec(vocab_size=2, modality="code"), "code")]
)
def test_a_spec_leads_to_the_media_of_its_modality(spec: Any, home: str) -> None:
    made = media_of(spec)

    assert made.spec is spec and isinstance(made, GridMedia if home == "image" else TextMedia)
    with pytest.raises(ConfigError, match="unknown modalities part 'wave'"):
        media_of(spec.model_copy(update={"modality": "wave"}))


def test_a_sheet_has_enlarged_pictures_in_rows_with_white_gaps() -> None:
    levels = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 8, 8), np.uint8)

    sheet = opened(media_of(PICTURES).sheet(levels, columns=3))

    side = 48 + 2  # 8 pixels enlarged to 48, and a gap
    assert sheet.shape == (2 * side + 2, 3 * side + 2)
    for number in range(5):
        top, left = number // 3 * side + 2, number % 3 * side + 2
        assert (sheet[top : top + 48, left : left + 48] == number).all()
        assert (sheet[top - 2 : top, left : left + 48] == 255).all()
    assert (sheet[side + 2 :, 2 * side + 2 :] == 255).all()


def test_colours_stay_and_other_numbers_of_channels_become_grey() -> None:
    colour = np.random.default_rng(0).integers(0, 256, (3, 8, 8)).astype(np.uint8)
    pair = np.stack([np.full((8, 8), 10), np.full((8, 8), 30)]).astype(np.uint8)

    assert (opened(GridMedia(GridSpec(channels=3, shape=(8, 8))).exhibit(colour)) == colour.transpose(1, 2, 0)).all()
    assert (opened(GridMedia(GridSpec(channels=2, shape=(8, 8))).exhibit(pair)) == 20).all()


@pytest.mark.parametrize(
    ("storage", "levels", "shades"),
    [("int16", [-32767, 0, 32767], [0, 128, 255]), ("float16", [-1.0, 0.0, 2.0], [0, 128, 255])],
)
def test_levels_of_other_types_are_shown_from_black_to_white(
    storage: Any, levels: list[float], shades: list[int]
) -> None:
    media = GridMedia(GridSpec(channels=1, shape=(1, 3), storage=storage))

    assert media.picture(np.array([[levels]], storage)).tolist() == [shades]


def test_of_a_film_the_first_frame_is_shown() -> None:
    media = GridMedia(GridSpec(channels=1, shape=(2, 3, 3)))

    assert (media.picture(np.stack([np.full((3, 3), 9), np.zeros((3, 3))])[None].astype(np.uint8)) == 9).all()


def test_a_wave_is_drawn_as_a_line_without_gaps() -> None:
    wave = (32767 * np.sin(np.linspace(0, 2 * np.pi, 200))).astype(np.int16)[None]

    dark = GridMedia(WAVES).picture(wave) < 255

    assert dark.shape == (CELL, 2 * CELL) and dark.any(axis=0).all()
    heights = np.array([np.flatnonzero(column).mean() for column in dark.T])
    assert heights[CELL // 2] < 2 and heights[CELL + CELL // 2] > CELL - 3, "up first, then down"
    for left, right in zip(dark.T[:-1], dark.T[1:], strict=True):
        assert np.flatnonzero(right).min() <= np.flatnonzero(left).max() + 1
        assert np.flatnonzero(right).max() >= np.flatnonzero(left).min() - 1


@pytest.mark.parametrize("spec", [PICTURES, WAVES, GridSpec(channels=2, shape=(2, 3, 4), storage="float16")])
def test_grids_come_back_from_their_file(spec: GridSpec, tmp_path: Path) -> None:
    media = GridMedia(spec)
    samples = np.random.default_rng(1).integers(0, 100, (4, spec.channels, *spec.shape)).astype(spec.storage)

    media.write(tmp_path, samples, [{}] * 4)

    found = media.read(tmp_path)
    assert found.dtype == spec.dtype
    np.testing.assert_array_equal(found, samples)
    assert len(set(media.contents(samples))) == 4 and media.contents(samples)[0] == samples[0].tobytes()
    with pytest.raises(DataError, match="the spec says"):
        GridMedia(spec.model_copy(update={"channels": 7})).read(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        media.read(tmp_path / "none")


def test_texts_come_back_from_their_file_and_facts_stand_around_them(tmp_path: Path) -> None:
    media, texts = TextMedia(TEXTS), ["Grüße\n\u2028", ""]
    facts = [{"id": "m/0", "seed": 3, "prompt": "p", "tokens": [5]}, {"id": "m/1", "seed": 4, "tokens": []}]

    media.write(tmp_path, texts, facts)

    assert media.read(tmp_path) == texts
    first = (tmp_path / "samples.jsonl").read_text().split("\n")[0]
    assert list(json.loads(first)) == ["id", "seed", "prompt", "text", "tokens"]


class Played(GridMedia):
    """Sound whose bytes are its levels."""

    played = 2

    def exhibit(self, sample: np.ndarray) -> Exhibit:
        return Exhibit("audio/wav", sample.tobytes())


def test_a_report_holds_a_sheet_and_what_must_be_played(tmp_path: Path) -> None:
    samples = np.arange(3 * 200, dtype=np.int16).reshape(3, 1, 200)

    Played(WAVES).report(tmp_path, samples)

    assert sorted(file.name for file in tmp_path.iterdir()) == ["grid.png", "sample-000.wav", "sample-001.wav"]
    sheet, first, second = exhibits(tmp_path)
    assert (sheet.kind, first.kind, second.content) == ("picture", "sound", samples[1].tobytes())
    assert re.fullmatch(r"<audio controls title='x&lt;' src='data:audio/wav;base64,[^']+'></audio>", first.html("x<"))


def test_a_report_of_texts_holds_the_first_ones(tmp_path: Path) -> None:
    media = TextMedia(TEXTS)

    media.report(tmp_path, ["<b>", *map(str, range(20))])

    found = exhibits(tmp_path)
    assert [one.text for one in found] == ["<b>", *map(str, range(media.shown - 1))]
    assert found[0].html() == "<pre>&lt;b&gt;</pre>"
    assert Exhibit("text/plain", b"abcdef").html(longest=3) == "<pre>abc …</pre>"
    assert exhibits(tmp_path / "none") == []


def test_an_exhibit_gets_the_ending_of_its_type_and_is_its_own_address(tmp_path: Path) -> None:
    one = Exhibit("video/mp4", b"frames")

    assert one.save(tmp_path / "film-0000001").name == "film-0000001.mp4"
    assert base64.b64decode(one.address.removeprefix("data:video/mp4;base64,")) == b"frames"
    assert one.kind == "film"


def test_requests_and_answers_are_those_of_the_spec() -> None:
    pictures, texts = media_of(PICTURES), media_of(TEXTS)

    assert pictures.request(labelled=True) == {"n": 2, "seed": 0, "label": "a"}
    assert pictures.request(labelled=False) == {"n": 2, "seed": 0}
    assert GridMedia(WAVES).answers() == {"dtype": "int16", "shape": (-1, 1, 200)}
    assert list(texts.request(labelled=False)) == ["prompt", "max_tokens", "seed"] and texts.answers() == {"text": ""}
    conditions = {"source": Classes(names=("x", "y"))}
    labelled = media_of(TEXTS.model_copy(update={"labels": ("a", "b"), "conditions": conditions}))
    assert labelled.request(labelled=True) == {**texts.request(labelled=True), "label": "a", "source": "x"}
    assert "label" not in labelled.request(labelled=False)
    assert pictures.words() == "It draws grids of 1 x 8 x 8 (channels first, 8 bits), of 2 classes: a, b"
    assert GridMedia(WAVES).words() == "It draws grids of 1 x 200 (channels first, 16 bits)"


def test_published_samples_are_known_by_their_model_or_by_what_they_are(tmp_path: Path) -> None:
    samples, model = tmp_path / "samples", tmp_path / "model"
    samples.mkdir()
    with pytest.raises(DataError, match=r"neither samples\.npy nor samples\.jsonl"):
        media_of_samples(samples, model)
    np.save(samples / "samples.npy", np.zeros((2, 3, 4, 5), np.uint8))
    assert media_of_samples(samples, model).spec == GridSpec(channels=3, shape=(4, 5))
    np.save(samples / "samples.npy", np.zeros((2, 1, 9), np.int16))
    with pytest.raises(DataError, match="bring the model back"):
        media_of_samples(samples, model)
    write_json(model / "spec.json", PICTURES.model_dump(mode="json"))
    assert media_of_samples(samples, model).spec == PICTURES
