"""Which answers count, and what they say."""

import json
from pathlib import Path
from typing import Any

import pytest
from reviewing import PICTURES, answer_file, duel, originals, prefers, project

from genfoundry.commands.review import collect, write
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import read_json
from genfoundry.review.answers import read_answers
from genfoundry.review.plan import plan_digest, read_plan
from genfoundry.review.results import evaluate


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project(tmp_path_factory.mktemp("review"))


@pytest.fixture(scope="module")
def pictures(root: Path) -> Path:
    return write(root, PICTURES, count=45)


@pytest.fixture(scope="module")
def plan(pictures: Path) -> dict[str, Any]:
    return read_plan(pictures)


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_bad_lines_are_rejected_with_their_reasons(plan: dict[str, Any], tmp_path: Path) -> None:
    digest, item = plan_digest(plan), plan["items"][0]["id"]
    good = {"plan": digest, "rater": "ann", "item": item, "choice": "tie", "seconds": 3}

    found = read_answers(
        plan,
        [
            lines(
                tmp_path / "a.jsonl",
                good,
                '{"plan": "cut sho',
                "[1]",
                '"a bare string"',
                {**good, "plan": None},
                {**good, "rater": "../../x"},
                {**good, "rater": " "},
                {**good, "item": "0" * 16},
                {**good, "item": ["x"]},
                {**good, "choice": "both"},
                {**good, "choice": ["left"]},
                {**good, "seconds": -1},
                {**good, "seconds": "soon"},
                json.dumps({**good, "seconds": float("inf")}),
            )
        ],
    )

    assert found.read == 14
    assert found.used == 1 and found.by_rater["ann"][item].choice == "tie"
    assert found.reasons == {
        "choice is none of left, right, tie, undo": 2,
        "item is not in the plan": 2,
        "no JSON object": 2,
        "no plan": 1,
        "no valid rater": 2,
        "not JSON": 1,
        "seconds are no time": 3,
    }
    assert found.rejected[0] == ("a.jsonl", 2, "not JSON")


def test_the_last_answer_counts_and_undo_takes_it_back(plan: dict[str, Any], tmp_path: Path) -> None:
    items = [item["id"] for item in plan["items"][:3]]
    row = {"plan": plan_digest(plan), "rater": "ann"}
    first = lines(
        tmp_path / "1",
        {**row, "item": items[0], "choice": "left"},
        {**row, "item": items[1], "choice": "left"},
        {**row, "item": items[1], "choice": "undo"},
        {**row, "item": items[2], "choice": "tie"},
    )
    second = lines(tmp_path / "2", {**row, "item": items[0], "choice": "right"})

    found = read_answers(plan, [first, second])

    assert {item: answer.choice for item, answer in found.by_rater["ann"].items()} == {
        items[0]: "right",
        items[2]: "tie",
    }
    assert found.replaced == 2


def test_answers_to_another_plan_are_refused_in_both_forms(plan: dict[str, Any], tmp_path: Path) -> None:
    other = {**plan, "seed": 99}
    downloaded = answer_file(tmp_path / "a.json", other, "ann", lambda item: "tie")
    appended = lines(tmp_path / "b.jsonl", {"plan": plan_digest(other), "rater": "a", "item": "x", "choice": "tie"})

    for file in (downloaded, appended):
        with pytest.raises(DataError, match=f"entry 1 answers plan '{plan_digest(other)[:12]}'"):
            read_answers(plan, [file])
    with pytest.raises(DataError, match="no such file"):
        read_answers(plan, [tmp_path / "none"])
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        read_answers(plan, [tmp_path / "bytes"])


def test_the_digest_of_answers_knows_no_order(plan: dict[str, Any], tmp_path: Path) -> None:
    files = [answer_file(tmp_path / rater, plan, rater, prefers(*PICTURES)) for rater in ("ann", "bob")]

    assert read_answers(plan, files).digest == read_answers(plan, [*files[::-1], *files]).digest
    assert read_answers(plan, files).digest != read_answers(plan, files[:1]).digest


def test_results_know_no_order_of_answers(plan: dict[str, Any], tmp_path: Path) -> None:
    files = [
        answer_file(tmp_path / "bob", plan, "bob", prefers(*PICTURES)),
        answer_file(tmp_path / "ann", plan, "ann", prefers(*PICTURES[::-1])),
        answer_file(tmp_path / "cy", plan, "cy", lambda item: "tie" if int(item["id"], 16) % 3 else "left"),
    ]
    turned = []
    for file in files[::-1]:
        rows = json.loads(file.read_text())
        turned.append(tmp_path / f"{file.name}.turned")
        turned[-1].write_text(json.dumps({**rows, "answers": rows["answers"][::-1]}))

    first, second = evaluate(plan, read_answers(plan, files)), evaluate(plan, read_answers(plan, turned))

    assert first == second
    assert list(first["raters"]) == list(second["raters"]) == ["ann", "bob", "cy"]


# --- results ---


def test_two_steady_raters_who_agree(root: Path, pictures: Path, plan: dict[str, Any], tmp_path: Path) -> None:
    order = ("bars-wide", "bars-deep", "bars-vae")
    files = [answer_file(tmp_path / f"{rater}.json", plan, rater, prefers(*order)) for rater in ("ann", "bob")]

    results, reports = collect(root, pictures, files)

    assert sorted(results["models"], key=lambda key: results["models"][key]["rank"]) == list(order)
    assert results["models"]["bars-wide"] | {"strength": 0, "samples": 0, "model": 0} == {
        "rank": 1, "wins": 60, "ties": 0, "losses": 0, "strength": 0, "samples": 0, "model": 0,
    }  # fmt: skip
    assert results["ranking"]["penalised"]
    assert results["comparisons"] == 90 and results["answers"]["used"] == 98
    assert results["agreement"]["value"] == 1 and results["agreement"]["pairs"] == 45
    for rater in results["raters"].values():
        assert (rater["checks"], rater["same_on_checks"], rater["reversed_on_checks"]) == (4, 4, 0)
        assert rater["median_seconds"] == 2.5
    assert reports == root / "reports/review" / plan_digest(plan)[:12]
    assert read_json(reports / "results.json") == results
    page = (reports / "index.html").read_text()
    assert "no finite answer" in page and "<b>bars-wide</b> is preferred to <b>bars-vae</b>" in page
    rows = (reports / "results.csv").read_text().splitlines()
    assert rows[3].startswith("bars-vae,bars-wide,0,0,30,-")


def test_a_rater_who_always_says_left_is_found_out(plan: dict[str, Any], tmp_path: Path) -> None:
    files = [answer_file(tmp_path / "a", plan, "ann", lambda item: "left")]

    results = evaluate(plan, read_answers(plan, files))

    assert results["sides"]["share_left"]["value"] == 1
    assert results["sides"]["p"] < 1e-9
    rater = results["raters"]["ann"]
    assert (rater["same_on_checks"], rater["reversed_on_checks"]) == (0, 4)
    assert results["agreement"] is None
    # Sides are balanced, so such a rater moves no model far.
    assert all(pair["difference"]["low"] < 0 < pair["difference"]["high"] for pair in results["pairs"])


def test_repeats_don_t_count_for_the_ranking(plan: dict[str, Any], tmp_path: Path) -> None:
    def choose(item: dict[str, Any]) -> str:
        return "left" if item["repeats"] else "tie"

    results = evaluate(plan, read_answers(plan, [answer_file(tmp_path / "a", plan, "ann", choose)]))

    assert [(pair["first_wins"], pair["ties"], pair["second_wins"]) for pair in results["pairs"]] == [(0, 15, 0)] * 3
    assert results["raters"]["ann"]["same_on_checks"] == 0
    assert results["raters"]["ann"]["reversed_on_checks"] == 0


def test_many_raters_widen_the_interval_to_other_raters(plan: dict[str, Any], tmp_path: Path) -> None:
    """Half of the raters like best what the others like least: then as many answers say little about other raters."""
    orders = [PICTURES, PICTURES[::-1]] * 4
    files = [answer_file(tmp_path / f"{n}", plan, f"r{n}", prefers(*order)) for n, order in enumerate(orders)]

    eight = evaluate(plan, read_answers(plan, files))
    six = evaluate(plan, read_answers(plan, files[:6]))

    assert eight["ranking"]["covers_raters"] and not six["ranking"]["covers_raters"]
    widths = [
        pair["difference"]["high"] - pair["difference"]["low"]
        for results in (six, eight)
        for pair in results["pairs"]
        if {pair["first"], pair["second"]} == {PICTURES[0], PICTURES[2]}
    ]
    assert widths[1] > 1.5 * widths[0]


def test_no_answers_and_unconnected_models_are_told(plan: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of 0 entries"):
        evaluate(plan, read_answers(plan, []))
    item = next(item for item in originals(plan) if duel(item) == ("bars-vae", "bars-wide"))
    row = {"plan": plan_digest(plan), "rater": "ann", "item": item["id"], "choice": "left"}
    with pytest.raises(DataError, match=r"0 bars-deep, .*models \[1, 2\]"):
        evaluate(plan, read_answers(plan, [lines(tmp_path / "a", row)]))


def test_results_name_the_folder_that_is_missing(root: Path, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no plan\.json"):
        collect(root, tmp_path)
    with pytest.raises(ConfigError, match=r"no answers\.jsonl"):
        collect(root, pictures)
