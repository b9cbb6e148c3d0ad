"""Prompts, their files and templates, and where a text ends."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from genfoundry.config.specs import TokenSpec
from genfoundry.core.errors import ConfigError
from genfoundry.core.io import canonical_json, publish_folder, read_json
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.generation.modelfile import write_model
from genfoundry.generation.prompts import Ending, read_prompts
from genfoundry.generation.sampling import write_samples
from genfoundry.modalities.common import tokens as _tokens
from genfoundry.modalities.text import Encode
from genfoundry.models import rnn
from genfoundry.nn.decoding import TextSampling
from genfoundry.tracking.runs import NoRun


def prompts(folder: Path, **options: object) -> list[str]:
    return read_prompts(TextSampling.model_validate(options), folder)


def test_prompts_come_from_the_settings_and_then_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\n two \n")

    assert prompts(tmp_path) == []
    assert prompts(tmp_path, prompts=["x\ny"], prompt_file="a.txt") == ["x\ny", "one", " two "]
    assert prompts(tmp_path, prompt_file="a.txt", template="<{}> {{}}") == ["<one> {}", "< two > {}"]


def test_fields_of_json_lines_fill_the_template(tmp_path: Path) -> None:
    rows = [{"name": "mean", "n": 2, "a.b": "c"}, {"name": "l\u00f6w {name}", "n": None, "a.b": ""}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "b.jsonl").write_text('"two\\nlines"\n')

    found = prompts(tmp_path, prompt_file="a.jsonl", template="def {name}({n}{a.b}")
    assert found == ["def mean(2c", "def l\u00f6w {name}(null"]
    assert prompts(tmp_path, prompt_file="b.jsonl") == ["two\nlines"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prompt_file": "b.txt"}, "'b.txt': no such file below presets/prompts/; did you mean 'a.txt'?"),
        ({"prompt_file": "../a.txt"}, "must lie below presets/prompts/"),
        ({"prompt_file": "empty.txt"}, "holds no prompt"),
        ({"prompt_file": "bad.jsonl"}, "bad.jsonl line 2: not JSON"),
        ({"prompt_file": "list.jsonl"}, "needs a JSON object or a JSON string"),
        ({"prompt_file": "latin.txt"}, "not UTF-8 at byte 1"),
        ({"prompt_file": "a.txt", "template": "{name}"}, "asks for {name}, but prompt 1 has {}"),
        ({"prompt_file": "a.jsonl"}, "asks for {}, but prompt 1 has {name}"),
        ({"prompts": ["x"], "template": "{"}, "a brace of the text is written twice"),
        ({"prompts": ["x"], "template": "{!r}"}, "name the field alone"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, options: dict[str, object], said: str) -> None:
    for name, content in {
        "a.txt": b"x\n",
        "empty.txt": b" \n",
        "bad.jsonl": b'{"a": 1}\n{a}\n',
        "list.jsonl": b"[1]\n",
        "latin.txt": b"a\xff",
        "a.jsonl": b'{"name": "x"}',
    }.items():
        (tmp_path / name).write_bytes(content)

    with pytest.raises(ConfigError) as caught:
        prompts(tmp_path, **options)
    assert said in str(caught.value)


TOKENIZER = _tokens.train(Encode(tokenizer="bytes"), [])


def ending(*stop: str) -> Ending:
    return Ending(stop, TOKENIZER.decode)


def encoded(text: str) -> list[int]:
    return TOKENIZER.encode(text).ids


def test_a_text_ends_before_the_first_stop_sequence() -> None:
    assert ending("END", "\n\n").cut(encoded("ab\n\ncENDd")) == (encoded("ab"), "ab")
    assert ending("END").cut(encoded("ab")) == (encoded("ab"), "ab")
    assert ending("ab").cut(encoded("ab")) == ([], "")


def test_a_stop_sequence_may_span_tokens_and_characters_of_several_bytes() -> None:
    text = encoded("x\u00e9\u00f6z")
    reached = [ending("\u00e9\u00f6").reached(text[:count]) for count in range(1, len(text) + 1)]

    assert reached.index(True) == 4
    assert ending("\u00e9\u00f6").cut(text) == (encoded("x"), "x")


def test_a_token_that_reaches_into_the_stop_is_left_out() -> None:
    tokenizer = _tokens.train(Encode(vocab_size=300), ["ab"] * 50)
    (token,) = tokenizer.encode("ab").ids

    assert Ending(("b",), tokenizer.decode).cut([token, token]) == ([], "a")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelPaths, DatasetPaths]:
    root = tmp_path_factory.mktemp("project")
    paths, dataset = ModelPaths(root, "m"), DatasetPaths(root, "d")
    spec = TokenSpec(vocab_size=257)
    with publish_folder(dataset.arrays) as folder:
        TOKENIZER.save(str(folder / "tokenizer.json"))
        (folder / "spec.json").write_bytes(canonical_json(spec.model_dump(mode="json")))
        for split in ("train", "val"):
            np.save(folder / f"{split}_records.npy", np.arange(2, dtype=np.uint64))
    config = rnn.Config(width=8, layers=1, context=16)
    torch.manual_seed(0)
    made = rnn.build(config, spec)
    torch.nn.init.normal_(made.head.weight)
    with publish_folder(paths.model) as folder:
        write_model(folder, made.state_dict(), "rnn", config, dataset.arrays)
    return paths, dataset


def samples(model: tuple[ModelPaths, DatasetPaths], **options: object) -> list[dict[str, object]]:
    paths, dataset = model
    write_samples(TextSampling.model_validate({"n": 5, "length": 12, **options}), paths, dataset, NoRun())  # type: ignore[arg-type]
    return [json.loads(line) for line in (paths.samples / "samples.jsonl").read_text().splitlines()]


def test_prompts_go_round_over_the_samples_and_stand_beside_the_text(model: tuple[ModelPaths, DatasetPaths]) -> None:
    found = samples(model, prompts=["one", "three"], batch=2)

    assert [row["prompt"] for row in found] == ["one", "three", "one", "three", "one"]
    assert all(TOKENIZER.decode(row["tokens"]) == row["text"] for row in found)
    assert max(len(row["tokens"]) for row in found) <= 12
    assert found == samples(model, prompts=["one", "three"])
    assert "prompt" not in samples(model)[0]


def test_the_protocol_tells_how_texts_were_drawn_and_from_which_prompts(
    model: tuple[ModelPaths, DatasetPaths],
) -> None:
    folder = model[1].root / "presets/prompts"
    folder.mkdir(parents=True, exist_ok=True)
    told = []
    for content in ("a\n", "b\n"):
        (folder / "p.txt").write_text(content)
        samples(model, prompt_file="p.txt", stop=["\n"], min_p=0.1)
        told.append(read_json(model[0].samples / "protocol.json"))

    assert told[0]["length"] == 12 and told[0]["prompt_file"] == "p.txt"
    # How tokens are chosen and where a text ends belongs to the model: scores are compared across it.
    assert not {"stop", "min_p", "temperature", "batch"} & told[0].keys()
    assert told[0]["prompt_file_sha256"] != told[1]["prompt_file_sha256"]


def test_a_stop_ends_samples_early_and_exactly(model: tuple[ModelPaths, DatasetPaths]) -> None:
    whole = samples(model, length=40)
    letter = next(character for character in str(whole[0]["text"])[5:] if character.isascii())

    cut = samples(model, length=40, stop=[letter])

    assert [row["text"] for row in cut] == [str(row["text"]).split(letter)[0] for row in whole]
    assert len(cut[0]["tokens"]) < len(whole[0]["tokens"])


def test_a_prompt_beyond_the_context_is_refused(model: tuple[ModelPaths, DatasetPaths]) -> None:
    with pytest.raises(ConfigError, match="a prompt has 16 tokens, but the model looks at 16"):
        samples(model, prompts=["x" * 16])
