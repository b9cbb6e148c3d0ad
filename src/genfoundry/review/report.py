"""The results of a review as files: ``results.json``, ``results.csv`` and a self-contained page."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genfoundry.core.io import write_json, write_text
from genfoundry.core.pages import escape, table, tiles, write_page
from genfoundry.evaluation.charts import Row, intervals

LEAD = "Blind pairwise comparison: raters saw two samples, not which models drew them."


def write_results(folder: Path, results: Mapping[str, Any]) -> None:
    """Publish the three files; equal results give equal bytes."""
    write_json(folder / "results.json", results)
    write_text(folder / "results.csv", _csv(results))
    write_page(
        folder / "index.html",
        f"Review of {', '.join(results['models'])}",
        LEAD,
        _verdict(results),
        _headline(results),
        _strengths(results),
        _pairs(results),
        _trust(results),
        _raters(results),
        _answers(results),
    )


def summary(results: Mapping[str, Any]) -> list[str]:
    """The ranking in a few lines for a terminal."""
    lines = [f"{results['comparisons']} answers of {len(results['raters'])} raters; log strength with 95 % interval:"]
    for key in _names(results):
        model, entry = results["models"][key], results["models"][key]["strength"]
        lines.append(
            f"  {model['rank']} {key:24} {entry['value']:+.2f} ({entry['low']:+.2f} to {entry['high']:+.2f})  "
            f"preferred {model['wins']}, ties {model['ties']}, not preferred {model['losses']}"
        )
    if results["ranking"]["penalised"]:
        lines.append("  no finite maximum: half a win each way was added to every pair of models")
    lines += [f"  rejected: {number} entries, {reason}" for reason, number in results["answers"]["rejected"].items()]
    return lines


def _csv(results: Mapping[str, Any]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["first", "second", "first_wins", "ties", "second_wins", "difference", "low", "high"])
    for pair in results["pairs"]:
        counts = [pair[name] for name in ("first", "second", "first_wins", "ties", "second_wins")]
        writer.writerow([*counts, *(pair["difference"][name] for name in ("value", "low", "high"))])
    return file.getvalue()


def _names(results: Mapping[str, Any]) -> list[str]:
    """Models, the strongest first."""
    return sorted(results["models"], key=lambda key: results["models"][key]["rank"])


def _verdict(results: Mapping[str, Any]) -> str:
    """Significant differences in words: those whose interval leaves out zero."""
    said = []
    for pair in results["pairs"]:
        low, high = pair["difference"]["low"], pair["difference"]["high"]
        names = (pair["first"], pair["second"]) if low > 0 else (pair["second"], pair["first"])
        if low > 0 or high < 0:
            share = pair["preferred"]["value"] if low > 0 else 1 - pair["preferred"]["value"]
            said.append(
                f"<b>{escape(names[0])}</b> is preferred to <b>{escape(names[1])}</b>, in {share:.0%} of the "
                "comparisons that are not ties"
            )
        else:
            said.append(
                f"no difference shown between <b>{escape(pair['first'])}</b> and <b>{escape(pair['second'])}</b>"
            )
    alone = "<p class=soft>Each line is held to 95 % by itself.</p>" if len(said) > 1 else ""
    return f"<ul>{''.join(f'<li>{line}</li>' for line in said)}</ul>{alone}"


def _headline(results: Mapping[str, Any]) -> str:
    return tiles(
        {
            "raters": len(results["raters"]),
            "answers that count": results["comparisons"],
            "different pairs planned": results["pairs_planned"],
            "answers rejected": sum(results["answers"]["rejected"].values()),
        }
    )


def _strengths(results: Mapping[str, Any]) -> str:
    rows = []
    for key in _names(results):
        value = results["models"][key]["strength"]
        text = f"{value['value']:+.2f} ({value['low']:+.2f} to {value['high']:+.2f})"
        rows.append(Row(key, value["value"], value["low"], value["high"], text, True))
    covered = (
        "It covers other samples and other raters."
        if results["ranking"]["covers_raters"]
        else "It covers other samples of these models judged by the same raters, not other raters: they are too few to "
        "measure how raters differ."
    )
    penalty = (
        "<p class=bad>The answers set no bound to the strengths, as where a model won every comparison or all are "
        "ties: maximum likelihood has no finite answer. Half a win each way was added to every pair of models that was "
        "compared (the half count of Haldane and Anscombe), so the values and their outer ends are set by that as much "
        "as by the answers.</p>"
        if results["ranking"]["penalised"]
        else ""
    )
    return (
        f"<h2>Strengths</h2><p class=soft>{escape(results['ranking']['model'])}. Log strength in nats, mean zero over "
        "these models: a difference of 1.1 means preferred three times out of four, ties left out. Bar: "
        f"{escape(results['ranking']['interval'])}. {covered}</p>{penalty}{intervals('strengths', rows)}"
    )


def _pairs(results: Mapping[str, Any]) -> str:
    rows = []
    for pair in results["pairs"]:
        value, share = pair["difference"], pair["preferred"]
        rows.append(
            [
                pair["first"],
                pair["second"],
                pair["first_wins"],
                pair["ties"],
                pair["second_wins"],
                f"{value['value']:+.2f} ({value['low']:+.2f} to {value['high']:+.2f})",
                f"{share['value']:.0%} ({share['low']:.0%} to {share['high']:.0%})",
            ]
        )
    columns = ["first", "second", "first preferred", "ties", "second preferred", "difference", "first, ties left out"]
    return f"<h2>Pairs of models</h2>{table(columns, rows)}"


def _trust(results: Mapping[str, Any]) -> str:
    sides, agreement = results["sides"], results["agreement"]
    lines = []
    if agreement is None:
        lines.append("Agreement between raters: not measured, as no two pairs were answered by two raters.")
    elif agreement["value"] is None:
        lines.append("Agreement between raters: not defined, as all answers are the same.")
    else:
        lines.append(
            f"Agreement between raters: {agreement['value']:.2f} ({agreement['low']:.2f} to {agreement['high']:.2f}) "
            f"on {agreement['pairs']} pairs; 1 is full agreement, 0 what chance gives. {escape(agreement['measure'])}."
        )
    if sides["share_left"]["value"] is None:
        lines.append("Side: all answers are ties.")
    else:
        leaning = "the raters lean to a side, look at them one by one" if sides["p"] < 0.05 else "no lean shown"
        lines.append(
            f"Side: A was chosen {sides['left']} times, B {sides['right']} times; p = {sides['p']:.2g} that "
            f"sides drawn at random give so uneven a count: {leaning}."
        )
    lines.append(
        {
            "label": "The two samples of a pair were drawn for the same label.",
            "seed": "The two samples of a pair share their seed.",
            "none": "The two samples of a pair have nothing in common but the data set.",
        }[results["matched"]]
    )
    return f"<h2>How far to trust it</h2><ul>{''.join(f'<li>{line}</li>' for line in lines)}</ul>"


def _raters(results: Mapping[str, Any]) -> str:
    rows = []
    for name, rater in results["raters"].items():
        steady = rater["steadiness"]
        said = f"{steady['value']:.0%} ({steady['low']:.0%} to {steady['high']:.0%})" if steady else "no repeats yet"
        seconds = rater["median_seconds"]
        rows.append(
            [
                name,
                rater["answers"],
                rater["ties"],
                f"{rater['same_on_checks']} of {rater['checks']}",
                rater["reversed_on_checks"],
                said,
                "" if seconds is None else f"{seconds:.1f}",
            ]
        )
    columns = ["rater", "answers", "ties", "same when repeated", "reversed", "steadiness", "median seconds"]
    note = (
        "Some pairs came twice with sides swapped; they don't count for the ranking. A rater who guesses between A and "
        "B is the same half of the time."
    )
    return f"<h2>Raters</h2><p class=soft>{note}</p>{table(columns, rows)}"


def _answers(results: Mapping[str, Any]) -> str:
    counts = results["answers"]
    rows = [["read", counts["read"]], ["counted", counts["used"]], ["given again or taken back", counts["replaced"]]]
    rows += [[f"rejected: {reason}", number] for reason, number in counts["rejected"].items()]
    return (
        f"<h2>Answers</h2>{table(['what', 'n'], rows)}<p class=soft>Question: {escape(results['question'])} "
        f"Plan <code>{escape(results['plan'][:12])}</code>, "
        f"answers <code>{escape(results['answers_digest'][:12])}</code>.</p>"
    )
