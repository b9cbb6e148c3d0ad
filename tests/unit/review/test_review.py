"""What a review shows: balanced, matched, repeated for a check, and blind."""

import base64
import io
import json
import re
from collections import Counter
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from reviewing import PICTURES, TEXTS, duel, originals, project, publish

from genfoundry.commands.review import write
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.review.page import review_page
from genfoundry.review.plan import build_plan, read_plan, read_samples


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project(tmp_path_factory.mktemp("review"))


@pytest.fixture(scope="module")
def pictures(root: Path) -> Path:
    return write(root, PICTURES, count=45)


@pytest.fixture(scope="module")
def plan(pictures: Path) -> dict[str, Any]:
    return read_plan(pictures)


# --- the plan ---


def test_every_prefix_is_balanced_over_pairs_of_models(plan: dict[str, Any]) -> None:
    shown = originals(plan)
    assert len(shown) == 45
    for end in range(1, 46):
        counts = Counter(map(duel, shown[:end]))
        spread = [counts[pair] for pair in combinations(sorted(PICTURES), 2)]
        assert max(spread) - min(spread) <= 1


def test_each_model_stands_on_each_side_equally_often(plan: dict[str, Any]) -> None:
    for pair in combinations(sorted(PICTURES), 2):
        left = [item["left"]["model"] for item in originals(plan) if duel(item) == pair]
        assert abs(left.count(pair[0]) - left.count(pair[1])) <= 1


def test_pairs_share_their_label_and_no_sample_comes_twice_in_a_duel(plan: dict[str, Any], root: Path) -> None:
    labels = {key: read_samples(root, key).labels for key in PICTURES}
    assert plan["matched"] == "label"
    for item in plan["items"]:
        assert {labels[item[side]["model"]][item[side]["row"]] for side in ("left", "right")} == {item["label"]}
    for pair in combinations(sorted(PICTURES), 2):
        sides = [item[side] for item in originals(plan) if duel(item) == pair for side in ("left", "right")]
        assert len({(side["model"], side["row"]) for side in sides}) == len(sides) == 30
    counts = Counter(item["label"] for item in originals(plan))
    assert abs(counts["across"] - counts["down"]) <= 3


def test_without_labels_pairs_share_their_seed(root: Path) -> None:
    samples = [read_samples(root, key) for key in TEXTS]
    plan = build_plan(samples, 12, seed=1)

    assert plan["matched"] == "seed"
    for item in plan["items"]:
        assert item["left"]["row"] == item["right"]["row"]
        assert item["label"] is None


def test_models_that_share_neither_labels_nor_seeds_are_matched_by_nothing(tmp_path: Path) -> None:
    root = project(tmp_path)
    publish(root, "notes-small", [f"other {row}" for row in range(20)], [None] * 20, list(range(100, 120)))

    plan = build_plan([read_samples(root, key) for key in TEXTS], 12, seed=1)

    assert plan["matched"] == "none"
    assert any(item["left"]["row"] != item["right"]["row"] for item in originals(plan))
    for key in TEXTS:
        rows = [
            item[side]["row"] for item in originals(plan) for side in ("left", "right") if item[side]["model"] == key
        ]
        assert len(set(rows)) == len(rows) == 12


def test_repeats_come_later_with_sides_swapped(plan: dict[str, Any]) -> None:
    places = {item["id"]: place for place, item in enumerate(plan["items"])}
    repeats = [item for item in plan["items"] if item["repeats"]]

    assert len(repeats) == round(0.1 * 45)
    assert len(places) == len(plan["items"]) == 45 + len(repeats)
    for item in repeats:
        first = plan["items"][places[item["repeats"]]]
        assert (item["left"], item["right"]) == (first["right"], first["left"])
        assert places[item["id"]] - places[item["repeats"]] >= 45 // 6


def test_equal_arguments_give_an_equal_review_and_another_seed_another(root: Path, pictures: Path) -> None:
    before = {file.name: file.read_bytes() for file in pictures.iterdir()}

    assert write(root, PICTURES, count=45) == pictures
    assert {file.name: file.read_bytes() for file in pictures.iterdir()} == before
    assert write(root, PICTURES, count=45, seed=1) != pictures


def test_sides_and_order_follow_the_seed_alone_over_many_seeds(root: Path) -> None:
    samples = [read_samples(root, key) for key in PICTURES[:2]]
    first = [build_plan(samples, 5, seed)["items"][0]["left"]["model"] for seed in range(60)]

    assert 15 < first.count(PICTURES[0]) < 45


@pytest.mark.parametrize(
    ("keys", "more", "error", "message"),
    [
        (["bars-vae"], {}, ConfigError, "two or more"),
        (["bars-vae", "bars-vae"], {}, ConfigError, "two or more"),
        (["bars-vae", "bars-wid"], {}, ConfigError, "did you mean 'bars-wide'"),
        (["bars-vae", "notes-small"], {}, ConfigError, "different data sets"),
        (PICTURES, {"count": 2}, ConfigError, "give 3"),
        (PICTURES, {"count": 10**6}, ConfigError, "1000000 pairs"),
        (PICTURES, {"checks": 0.5}, ConfigError, "at most 0.33"),
        (PICTURES[:2], {"count": 61}, DataError, "their samples give 60"),
    ],
)
def test_what_can_t_be_planned_is_refused(
    root: Path, keys: list[str], more: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        write(root, keys, **more)


def test_samples_that_give_the_model_away_or_are_damaged_are_refused(tmp_path: Path) -> None:
    root = project(tmp_path)
    publish(root, "bars-deep", np.zeros((60, 1, 16, 16), np.uint8), ["down"] * 60, list(range(60)))
    with pytest.raises(ConfigError, match=r"shapes \(1, 8, 8\) and \(1, 16, 16\); a rater would see which is which"):
        write(root, PICTURES)

    file = root / "artifacts/models/bars-wide/samples/samples.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\x07")
    with pytest.raises(DataError, match=r"samples\.npy was changed"):
        write(root, PICTURES[:2])

    publish(root, "bars-wide", np.zeros((60, 1, 16), np.uint8), ["down"] * 60, list(range(60)))
    with pytest.raises(DataError, match=r"uint8 \(60, 1, 16\)"):
        write(root, PICTURES[:2])


def test_a_folder_of_another_review_is_left_alone(root: Path, tmp_path: Path) -> None:
    write(root, PICTURES, out=tmp_path / "mine")
    before = (tmp_path / "mine/plan.json").read_bytes()

    with pytest.raises(ConfigError, match="another review"):
        write(root, PICTURES, seed=3, out=tmp_path / "mine")
    assert (tmp_path / "mine/plan.json").read_bytes() == before


# --- the page ---


class Reader(HTMLParser):
    """Attributes and the text of each script and style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: dict[str, list[str]] = {}
        self.inside: list[str] = []
        self.tags: Counter[str] = Counter()
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.tags[tag] += 1
        if tag in ("script", "style"):
            self.texts.setdefault(tag, []).append("")
            self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.inside and self.inside[-1] == tag:
            self.inside.pop()

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.texts[self.inside[-1]][-1] += data


def embedded(page: str) -> dict[str, Any]:
    return json.loads(Reader(page).texts["script"][0])


def test_the_page_names_no_model_sample_or_seed(pictures: Path, plan: dict[str, Any]) -> None:
    page = (pictures / "review.html").read_text()
    data = embedded(page)

    for secret in (*PICTURES, "bars", "vae", *(side["sha256"][:8] for i in plan["items"] for side in (i["left"],))):
        assert secret not in re.sub(r"base64,[^\"]*", "", page)
        assert secret not in pictures.name
    assert set(data) == {"plan", "kind", "contents", "items"}
    assert all(set(map(type, item)) <= {str, int} and len(item) == 4 for item in data["items"])
    # Contents stand in the order in which they appear, so their numbers tell nothing.
    seen = list(dict.fromkeys(number for item in data["items"] for number in item[1:3]))
    assert seen == list(range(len(data["contents"])))
    # A repeat's id looks like any other.
    assert {len(item[0]) for item in data["items"]} == {16}


def test_the_page_shows_the_planned_pictures_in_the_planned_order(
    pictures: Path, plan: dict[str, Any], root: Path
) -> None:
    data = embedded((pictures / "review.html").read_text())
    levels = {key: read_samples(root, key).contents for key in PICTURES}

    assert [item[0] for item in data["items"]] == [item["id"] for item in plan["items"]]
    for shown, item in zip(data["items"], plan["items"], strict=True):
        for place, side in ((1, "left"), (2, "right")):
            png = base64.b64decode(data["contents"][shown[place]].removeprefix("data:image/png;base64,"))
            expected = levels[item[side]["model"]][item[side]["row"]][0]
            assert (np.asarray(Image.open(io.BytesIO(png))) == expected).all()


def test_colour_pictures_keep_their_colours(tmp_path: Path) -> None:
    root = project(tmp_path)
    levels = np.random.default_rng(0).integers(0, 256, (6, 3, 4, 5)).astype(np.uint8)
    for key in PICTURES[:2]:
        publish(root, key, levels, [None] * 6, list(range(6)))

    data = embedded((write(root, PICTURES[:2], count=6) / "review.html").read_text())

    decoded = {
        np.asarray(Image.open(io.BytesIO(base64.b64decode(content.split(",")[1])))).tobytes()
        for content in data["contents"]
    }
    assert decoded == {np.ascontiguousarray(one.transpose(1, 2, 0)).tobytes() for one in levels}


def test_the_page_needs_no_other_host(pictures: Path) -> None:
    page = (pictures / "review.html").read_text()
    read = Reader(page)

    assert not re.search(r"(?:https?:)?//[a-z0-9-]+\.", re.sub(r"base64,[^\"]*", "", page))
    assert not [entry for entry in read.attributes if entry[1] in ("src", "href", "action", "srcset", "style")]
    policy = next(value for _, name, value in read.attributes if name == "content" and "default-src" in value)
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_the_policy_admits_exactly_the_script_and_style_inside(pictures: Path) -> None:
    import hashlib

    read = Reader((pictures / "review.html").read_text())
    policy = next(value for _, name, value in read.attributes if name == "content" and "default-src" in value)

    for text, word in ((read.texts["script"][1], "script-src"), (read.texts["style"][0], "style-src")):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{word} 'sha256-{digest}'" in policy


def test_texts_are_escaped_cut_alike_and_never_taken_for_the_template(root: Path) -> None:
    folder = write(root, TEXTS, count=20)
    page = (folder / "review.html").read_text()
    data = embedded(page)

    assert Reader(page).tags["script"] == 2
    assert not set(Reader(page).texts["script"][0]) & set("<>&")
    assert "<b>&amp;amp;" not in page and "</script><b>" not in page
    assert len(data["contents"]) == 40
    for text in data["contents"]:
        assert re.match(r"\d+ </script><b>&amp; \{\{data\}\} \u2028 long ", text)
        assert len(text) == 1502 and text.endswith(" …")


def test_a_question_is_asked_as_given_and_escaped(root: Path) -> None:
    samples = [read_samples(root, key) for key in PICTURES[:2]]

    page = review_page(build_plan(samples, 4, 0, question="Which <i>bar</i> is straighter?"), samples)

    assert "Which &lt;i&gt;bar&lt;/i&gt; is straighter?" in page


def test_keys_are_handled_and_named(pictures: Path) -> None:
    page = (pictures / "review.html").read_text()
    script = Reader(page).texts["script"][1]

    assert 'addEventListener("keydown"' in script
    for key in ("ArrowLeft", "ArrowRight", "ArrowDown", "Backspace"):
        assert key in script
    assert "<kbd>Backspace</kbd>" in page
