"""One way from a model to its samples: what stage, servability and `mlflow models` make of one request."""

import json
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from graded import write_images, write_untrained
from writers import TOKENIZER, painter, writer

from genfoundry.config.params import family_section
from genfoundry.config.sections.sampling import GENERATOR, Sampling, generator_json
from genfoundry.core import parts
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import MANIFEST, folder_digest, read_table
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.generation.generator import Generator, Text, seeds_of
from genfoundry.generation.sampling import write_samples
from genfoundry.nn.contract import Requests
from genfoundry.promotion.answer import answer
from genfoundry.promotion.requests import Sampled
from genfoundry.tracking.runs import NoRun

Made = tuple[ModelPaths, DatasetPaths]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return writer(tmp_path_factory.mktemp("texts"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return painter(tmp_path_factory.mktemp("pictures"))


def staged(made: Made, **settings: Any) -> Any:
    """What the sample stage leaves: pictures, or texts."""
    paths, dataset = made
    family = Generator.load(paths.model, {}).loaded.family
    write_samples(family_section(family, Sampling).model_validate(settings), paths, dataset, NoRun())
    if (paths.samples / "samples.npy").is_file():
        return np.load(paths.samples / "samples.npy")
    return [json.loads(line)["text"] for line in (paths.samples / "samples.jsonl").read_text("utf-8").splitlines()]


def released(made: Made, folder: Path, **generator: Any) -> Sampled:
    """What `mlflow models` loads of a registered version: model files, generator.json and others beside them."""
    shutil.copytree(made[0].model, folder)
    (folder / "MLmodel").write_text("flavors: {}\n")
    (folder / GENERATOR).write_bytes(generator_json(folder_digest(made[0].model), generator))
    return Sampled.beside(folder / MANIFEST)


def test_pictures_over_mlflow_are_those_of_the_stage(pictures: Made, tmp_path: Path) -> None:
    served = released(pictures, tmp_path / "version", temperature=0.4, draw="sample", batch=8)

    found = staged(pictures, n=5, seed=3, temperature=0.4, draw="sample", batch=8)

    assert served.answer([{"n": 5, "seed": 3}]).tobytes() == found.tobytes()
    assert served.answer([{"n": 5, "seed": 3}]).tobytes() != staged(pictures, n=5, seed=3).tobytes()
    # Labels come in turn, or one is asked for: the first one's pictures are those of the even places.
    one = served.answer([{"n": 5, "seed": 3, "label": "even"}])
    assert [np.array_equal(a, b) for a, b in zip(one, found, strict=True)] == [True, False, True, False, True]


def test_a_stop_holds_in_stage_answer_and_over_mlflow(texts: Made, tmp_path: Path) -> None:
    whole = staged(texts, n=6, length=40, top_k=40)
    letter = next(character for character in whole[0][3:] if character.isascii())
    how = {"stop": [letter], "top_k": 40}
    cut = staged(texts, n=6, length=40, **how)
    served = released(texts, tmp_path / "version", **how)

    assert cut == [text.split(letter)[0] for text in whole] != whole
    assert served.answer([{"max_tokens": 40}]) == [{"text": cut[0]}]
    (drawn,) = Generator.load(texts[0].model, {"length": 40, **how}).draw(seeds_of(0, 1))
    assert isinstance(drawn, Text) and drawn.text == cut[0]
    told = answer({"model": str(texts[0].model), "root": str(tmp_path), "sampling": {"length": 40, **how}})
    assert told == {"drew": f"a text of {len(drawn.tokens)} tokens"}


def test_a_prompt_is_encoded_alike_in_stage_answer_and_over_mlflow(texts: Made, tmp_path: Path) -> None:
    # One that spells the boundary's name is text like any other.
    prompts = ["\u00e9t\u00e9", "<|boundary|>"]
    found = staged(texts, n=4, seed=2, length=9, prompts=prompts)
    served = released(texts, tmp_path / "version")

    rows = [{"prompt": prompt, "seed": 2, "max_tokens": 9} for prompt in prompts]
    # The second row's own first sample has the stage's first seed.
    assert served.answer(rows[:1]) == [{"text": found[0]}]
    generator = Generator.load(texts[0].model, {"length": 9})
    assert [one.text for one in generator.draw(seeds_of(2, 4), prompts=prompts)] == found
    second = generator.draw(seeds_of(2, 1), prompts=prompts[1:])
    assert served.answer(rows[1:]) == [{"text": second[0].text}] != served.answer(rows[:1])


def test_tokens_that_are_no_text_are_refused_in_a_prompt(texts: Made) -> None:
    """As a special token of somebody else's tokenizer would be: a text that spells it would begin a new document."""
    from tokenizers import AddedToken, Tokenizer

    foreign = Tokenizer.from_str(TOKENIZER.to_str())
    foreign.add_special_tokens([AddedToken("<|boundary|>"), AddedToken("<|user|>")])
    generator = Generator.load(texts[0].model, {"length": 4})
    other = Generator(generator.loaded, generator.sampling, foreign)

    assert isinstance(generator.draw(seeds_of(0, 1), prompts=["<|boundary|>"])[0], Text)
    with pytest.raises(ConfigError, match=r"prompt 'a<\|boundary\|>b' holds token 0, which stands between documents"):
        other.draw(seeds_of(0, 1), prompts=["a<|boundary|>b"])
    with pytest.raises(ConfigError, match=r"holds token 257, the model knows 257"):
        other.draw(seeds_of(0, 1), prompts=["<|user|>a"])


@pytest.mark.parametrize("family", parts.names("models"))
def test_a_family_refuses_a_setting_that_it_does_not_know(family: str) -> None:
    with pytest.raises(ConfigError, match=r"a request: unknown key 'sampling.sede'; did you mean 'seed'"):
        Requests(torch.arange(1), options={"sede": 1}).section(family_section(family, Sampling))


def test_a_model_refuses_the_settings_of_another_family(texts: Made, pictures: Made) -> None:
    with pytest.raises(ConfigError, match=r"params.yaml: unknown key 'sampling.guidance'; there are: batch, draw"):
        Generator.load(pictures[0].model, {"guidance": 3.0})
    loaded = Generator.load(texts[0].model, {}).loaded
    with pytest.raises(ConfigError, match=r"unknown key 'sampling.guidance'"):
        loaded.model.sample(Requests(torch.arange(1), options={"guidance": 3.0}))


def test_requests_over_mlflow_are_held_to_their_fields(texts: Made, pictures: Made, tmp_path: Path) -> None:
    import pandas as pd

    writes, paints = released(texts, tmp_path / "texts"), released(pictures, tmp_path / "pictures")
    for served, row, said in (
        (writes, {"promt": "a"}, r"request: unknown key 'promt'; did you mean 'prompt'"),
        (
            writes,
            {"prompt": "a", "temperature": 0.1},
            r"request: unknown key 'temperature'; there are: max_tokens, prompt",
        ),
        (writes, {"max_tokens": 0}, r"request: 'max_tokens' is 0: input should be greater than"),
        (paints, {"n": 0}, r"request: 'n' is 0: input should be greater than"),
        (paints, {"seed": 2**31}, r"request: 'seed' is 2147483648: input should be less than"),
        (paints, {"label": "2"}, r"label is '2': the model knows even, odd"),
    ):
        with pytest.raises(ConfigError, match=said):
            served.answer([row])
    # An empty cell of a table is no value: pandas has NaN there.
    table = pd.DataFrame([{"prompt": "a", "max_tokens": 3}, {"prompt": "b", "max_tokens": None}])
    assert (
        len(writes.predict(table)) == 2
        and writes.predict(table)[0] == writes.answer([{"prompt": "a", "max_tokens": 3}])[0]
    )


def test_texts_over_mlflow_are_asked_for_by_label(texts: Made, tmp_path: Path) -> None:
    made = writer(tmp_path, labels=("prosé", "verse"))
    found, served = staged(made, n=4, seed=3, length=9), released(made, tmp_path / "version")
    lines = [json.loads(line) for line in (made[0].samples / "samples.jsonl").read_text("utf-8").splitlines()]
    asked = {"seed": 3, "max_tokens": 9}

    assert [line["label"] for line in lines] == ["prosé", "verse"] * 2
    assert read_table(made[0].samples / "index.parquet")["label"].tolist() == ["prosé", "verse"] * 2
    # Unasked, the first sample has the first label, in the stage as here.
    forms = [unicodedata.normalize(form, "prosé") for form in ("NFC", "NFD")]
    assert served.answer([asked, *({**asked, "label": form} for form in forms)]) == [{"text": found[0]}] * 3
    generator = Generator.load(made[0].model, {"length": 9})
    (verse,) = generator.draw(seeds_of(3, 1), {"label": torch.tensor([1])})
    assert served.answer([{**asked, "label": "verse"}]) == [{"text": verse.text}] != [{"text": found[0]}]
    told = answer({"model": str(made[0].model), "root": str(tmp_path), "sampling": {"length": 9}})
    assert told["drew"].startswith("a text of")

    for row, said in (
        ({"label": "drama"}, r"label is 'drama': the model knows prosé, verse"),
        ({"lable": "verse"}, r"request: unknown key 'lable'"),
    ):
        with pytest.raises(ConfigError, match=said):
            served.answer([row])
    with pytest.raises(ConfigError, match=r"label is 'verse': the model knows none"):
        released(texts, tmp_path / "plain").answer([{"label": "verse"}])


def test_a_label_is_refused_by_a_model_that_heeds_none(tmp_path: Path) -> None:
    dataset, paths = write_images(tmp_path), ModelPaths(tmp_path, "blind")
    write_untrained(paths, dataset, "vae", width=8, latent=2)
    with pytest.raises(ConfigError, match=r"label is 'even': the model knows none"):
        released((paths, dataset), tmp_path / "version").answer([{"label": "even"}])


def test_a_generator_of_other_weights_is_refused(texts: Made, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"generator.json: unknown key 'sampling.temprature'; did you mean"):
        released(texts, tmp_path / "version", temprature=1.0)
    (tmp_path / "version" / GENERATOR).write_bytes(generator_json("0" * 64, {}))
    with pytest.raises(DataError, match=r"is of other weights than manifest.json"):
        Sampled.beside(tmp_path / "version" / MANIFEST)
