"""The page that compares all models: scores, standard errors, baselines and data."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from genfoundry.config.params import DatasetBlock, ModelBlock
from genfoundry.core.io import write_json
from genfoundry.core.pages import Html, escape, number, picture, table, tiles, write_page
from genfoundry.data.funnel import Funnel, read_funnel
from genfoundry.evaluation.charts import Row, curves, intervals
from genfoundry.evaluation.metrics import load_metric, metric_names
from genfoundry.evaluation.results import ModelResult, read_model
from genfoundry.evaluation.verdicts import (
    COPYING,
    NAMES,
    PRIMARY,
    RIVALS,
    against,
    contests,
    copies,
    name_of,
    plus_minus,
    ranked,
    summary,
)
from genfoundry.tracking.glance import COMPARISON

LEAD = "Every model of params.yaml on its data set: how good, how sure, against what."
SHOWN_SAMPLES = 4
SHOWN_CHARACTERS = 900
SHOWN_PAIRS = 10

DIRECTIONS = {True: "higher is better", False: "lower is better", None: "neither end is good"}

HOW_TO_READ = """<h2>How to read this</h2><ul>
<li>Models are ranked by one score a kind of data: <code>fid_domain</code> for images, <code>bits_per_byte</code> for
text. "Can't be told apart" is a result: more samples or records may tell.</li>
<li>A score is a measurement: the bar is its 95 % interval over samples and held-out records. It does not cover what
another training seed would give. A Fréchet distance has a bias that shrinks with the number of samples and is larger
for wide models: its bar, and what models are compared by, is that of the distance without it, below the dot.</li>
<li><b>Real data</b> (the floor) is the same measurement with real records in place of samples, as many: no model
can be expected to do better, and where a model's interval reaches it, this score on this many samples shows no
difference.</li>
<li><b>Unigram</b> and <b>bigram</b> models, counted on the training documents, are scored on the same held-out
documents: a language model must beat both clearly.</li>
<li>Scores stand in one chart only if they were measured alike: same records, network, sampling, window. The eight
digits behind a name are that protocol's digest.</li></ul>"""


def _glance(models: Sequence[ModelResult]) -> str:
    rows = []
    for model in models:
        lines = [
            f"<b>{escape(name_of(key))}</b> {plus_minus(score)}"
            f" <span class=soft>{escape(against(score, model.higher_is_better(key)))}</span>"
            for key, score in sorted(model.scores.items(), key=lambda item: _place(item[0]))
            if name_of(key) in PRIMARY
        ]
        said, bad = copies(model)
        copying = ("<b class=bad>yes</b>" if bad else "no more than held-out records") if said else "not measured"
        size = model.train.get("parameters", "")
        facts = "<br>".join(lines) or "<span class=bad>no scores yet</span>"
        rows.append([model.key, model.dataset, model.family, size, Html(facts), Html(copying)])
    score = "score, ± half of the 95 % interval"
    return table(["model", "data set", "family", "parameters", score, "copies training data?"], rows)


def _funnel(funnel: Funnel) -> str:
    top = max([left for _, left, _ in funnel.steps] or [1])
    rows = [
        [what, left, Html(f"<span class=bar style='width:{240 * left / max(top, 1):.0f}px'></span>"), why]
        for what, left, why in funnel.steps
    ]
    parts = [table(["step", "records left", " ", "what went, and why"], rows)]
    if funnel.splits:
        parts.append(tiles({f"{split} records": count for split, count in funnel.splits.items()}))
    return "".join(parts)


def _reference(reference: Mapping[str, Any]) -> str:
    if "kind" in reference:
        text = f"Feature network: <code>{escape(reference['kind'])}</code>, {reference['dimension']} features, "
        if reference["kind"] == "conv":
            text += (
                f"{reference['accuracy']:.1%} of the held-out records classified rightly (linear classifier "
                f"{reference['linear_accuracy']:.1%}), "
            )
        return f"<p>{text}weights <code>{escape(str(reference['digest'])[:12])}</code>.</p>"
    if "bigram" in reference:
        both = ", ".join(f"{name} {reference[name]['bits_per_byte']:.3f}" for name in ("unigram", "bigram"))
        return f"<p>N-gram models of the training documents, bits per byte on the held-out ones: {both}.</p>"
    return ""


def _rows(models: Sequence[ModelResult], key: str) -> list[Row]:
    rows, held_against = [], {}
    for model in models:
        score = model.scores[key]
        value = score["value"]
        rows.append(Row(model.key, value, score.get("low", value), score.get("high", value), plus_minus(score), True))
        for rival in (name for name in RIVALS if name in score):
            held_against.setdefault((rival, score[rival]), None)
    rows += [Row(NAMES[rival], value, value, value, f"{value:.4g}", False) for rival, value in held_against]
    return rows


def _scores(models: Sequence[ModelResult]) -> str:
    parts = []
    for key in sorted({key for model in models for key in model.scores}, key=_place):
        scored = [model for model in models if key in model.scores]
        name, protocol = name_of(key), scored[0].protocols.get(key, {})
        counts = " against ".join(_counts(scored, key, side) for side in ("n", "n_reference")).removesuffix(" against ")
        title, caveat = _described(name)
        parts.append(
            f"<h4>{escape(title)} <code>{escape(name)}</code></h4><p class=soft>"
            f"{DIRECTIONS[scored[0].higher_is_better(key)]}; n = {counts}; protocol "
            f"<code>{escape(key.split('@')[-1])}</code>.{escape(' ' + caveat if caveat else '')}</p>"
            f"{intervals(name, _rows(scored, key))}"
            f"<details><summary class=soft>protocol</summary><pre>{_pretty(protocol)}</pre></details>"
        )
    parts += [
        f"<p class=soft>Not measured of {escape(model.key)}: {escape(why)}.</p>"
        for model in models
        for why in model.not_measured.values()
    ]
    return f"<h3>All scores</h3>{''.join(parts)}"


def _place(key: str) -> tuple[int, str]:
    """Primary scores first, copying next, the others by name."""
    order = (*PRIMARY, *COPYING)
    return (order.index(name_of(key)) if name_of(key) in order else len(order), key)


def _described(name: str) -> tuple[str, str]:
    """Title and caveat of a metric; its bare name if this checkout has no such file any more."""
    if name not in metric_names():
        return name, ""
    metric = load_metric(name)
    return metric.title, metric.caveat


def _counts(models: Sequence[ModelResult], key: str, side: str) -> str:
    """Numbers of samples or records, one for all models or several."""
    return ", ".join(sorted({number(model.scores[key][side]) for model in models if side in model.scores[key]}))


def _pretty(value: Any) -> str:
    return escape(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False))


def _model(model: ModelResult) -> str:
    parts = [f"<h3>{escape(model.key)}</h3>"]
    facts = {name.replace("_", " "): value for name, value in model.train.items() if isinstance(value, int | float)}
    if facts:
        parts.append(tiles(facts))
    if model.curves:
        parts.append(curves(f"loss of {model.key}", model.curves))
    parts += [one.html(f"samples of {model.key}", SHOWN_CHARACTERS) for one in model.samples[:SHOWN_SAMPLES]]
    parts += _latent(model)
    parts.append(f"<details><summary class=soft>settings</summary><pre>{_pretty(model.settings)}</pre></details>")
    if model.missing:
        parts.append(f"<p class=bad>missing: {escape(', '.join(model.missing))}; run dvc repro</p>")
    return "".join(parts)


def _latent(model: ModelResult) -> list[str]:
    """The latent space in three pictures: reconstruction, interpolation, traversal."""
    facts = model.latent
    if not facts:
        return []
    moved = facts["traversed"]
    captions = {
        "reconstruction": "Test records, and below each what its latent gives back.",
        "interpolation": "From one test record (left) to the next of its label (right), along the sphere of latents.",
        "traversal": f"The first test record; in each row one dimension of its latent goes from -{moved['span']:g} to "
        f"{moved['span']:g}, most used first: {', '.join(map(str, moved['dimensions']))}.",
    }
    shown = "".join(
        f"<p class=soft>{escape(captions[name])}</p>{picture(png, title=f'{name} of {model.key}')}"
        for name, png in model.latent_pictures.items()
        if png
    )
    used = f"{facts['active_units']} of {facts['latent']} dimensions in use, {sum(facts['kl']):.3g} nats a record"
    return [f"<details open><summary>Latent space: {used}</summary>{shown}</details>"]


def _better(models: Sequence[ModelResult]) -> str:
    """Ranking by the primary score and every two models against each other."""
    parts = []
    for key in sorted({key for model in models for key in model.scores if name_of(key) in PRIMARY}):
        order = ranked(models, key)
        facts = "".join(
            f"<li><b>{escape(model.key)}</b> {plus_minus(model.scores[key])} "
            f"<span class=soft>{escape(against(model.scores[key], model.higher_is_better(key)))}</span></li>"
            for model in order
        )
        parts.append(f"<p>By <code>{escape(key)}</code>, best first:</p><ol>{facts}</ol>")
    found = contests(models)
    if found:
        how = {True: "paired by seed and record", False: "unpaired: the bar is wider than it need be"}
        said = [
            f"<li>{escape(contest.words)} <span class=soft>({escape(contest.key)}, {how[contest.paired]})</span></li>"
            for contest in found
        ]
        parts.append(f"<ul>{''.join(said)}</ul>")
    elif len(models) > 1:
        parts.append("<p class=soft>No two of these models were measured alike: see their protocols.</p>")
    return f"<h3>Which is better</h3>{''.join(parts)}" if parts else ""


def _copying(models: Sequence[ModelResult]) -> str:
    parts = []
    for model in models:
        said, bad = copies(model)
        if said:
            verdict = (
                "<b class=bad>copies more than held-out records do</b>" if bad else "no more than held-out records"
            )
            parts.append(f"<p><b>{escape(model.key)}</b>: {verdict}. <span class=soft>{escape(said)}.</span></p>")
        if model.distances:
            parts.append(picture(model.distances, title=f"nearest training records of {model.key}"))
        if model.pairs:
            shown = picture(model.pairs, title=f"nearest pairs of {model.key}")
            parts.append(f"<details><summary class=soft>the ten nearest pairs</summary>{shown}</details>")
        elif model.nearest.get("pairs"):
            shown = "".join(_text_pair(pair) for pair in model.nearest["pairs"][:SHOWN_PAIRS])
            parts.append(f"<details><summary class=soft>the longest runs found in training</summary>{shown}</details>")
    return f"<h3>Does it copy?</h3>{''.join(parts)}" if parts else ""


def _text_pair(pair: Mapping[str, Any]) -> str:
    def marked(side: Mapping[str, Any]) -> str:
        return f"{escape(side['before'])}<ins>{escape(side['run'])}</ins>{escape(side['after'])}"

    return (
        f"<div class=pair><div><p class=soft>sample {escape(pair['sample']['id'])}, {pair['tokens']} tokens</p>"
        f"<pre>{marked(pair['sample'])}</pre></div><div><p class=soft>training record "
        f"{escape(pair['training']['id'])}</p><pre>{marked(pair['training'])}</pre></div></div>"
    )


def _slices(models: Sequence[ModelResult]) -> str:
    parts = []
    for model in models:
        for column, found in model.slices.items():
            names = sorted({name for scores in found["scores"].values() for name in scores if name != "n"})
            for name in names:
                rows = [
                    Row(
                        group,
                        score["value"],
                        score.get("low", score["value"]),
                        score.get("high", score["value"]),
                        f"{plus_minus(score)}  n {score['n']:,}",
                        True,
                    )
                    for group, scores in found["scores"].items()
                    if (score := scores.get(name))
                ]
                spread = found["spread"][name]
                parts.append(
                    f"<details><summary>{escape(model.key)}: {escape(name)} by {escape(column)}, from "
                    f"{escape(spread['lowest'])} to {escape(spread['highest'])}: {spread['gap']:.3g} apart</summary>"
                    f"{intervals(f'{name} by {column}', rows)}</details>"
                )
            if left := found["counts"]["too_small"] + found["counts"]["not_scored"]:
                parts.append(
                    f"<p class=soft>{left} groups of {escape(column)} are too small to score or beyond 50.</p>"
                )
    return f"<h3>For whom is it worse?</h3>{''.join(parts)}" if parts else ""


def _dataset(key: str, funnel: Funnel, models: Sequence[ModelResult]) -> str:
    pages = ", ".join(f"<code>{name}.html</code>" for name in ("validate", "deduplicate", "split", "reference"))
    parts = [f"<h2>Data set {escape(key)}</h2>", _funnel(funnel), _reference(funnel.reference)]
    parts.append(f"<p class=soft>More under <code>reports/datasets/{escape(key)}/</code>: {pages}.</p>")
    if funnel.missing:
        parts.append(f"<p class=bad>missing: {escape(', '.join(funnel.missing))}; run dvc repro</p>")
    if not models:
        return "".join([*parts, "<p class=soft>no model of this data set</p>"])
    judged = [_better(models), _copying(models), _slices(models), _scores(models)]
    return "".join([*parts, *judged, *map(_model, models)])


def write_report(datasets: Mapping[str, DatasetBlock], models: Mapping[str, ModelBlock], root: Path) -> None:
    """Publish ``reports/index.html`` over the data sets and models that params.yaml has, whatever else lies there."""
    results = [
        read_model(root / "reports/models" / key, key, block.dataset, block.family, block.model_dump(mode="json"))
        for key, block in models.items()
    ]
    parts = [f"<h2>At a glance</h2>{_glance(results)}", HOW_TO_READ]
    for key in datasets:
        funnel = read_funnel(root / "reports/datasets" / key)
        parts.append(_dataset(key, funnel, [model for model in results if model.dataset == key]))
    write_page(root / "reports/index.html", "genfoundry: models compared", LEAD, *parts)
    write_json(root / COMPARISON, comparison(datasets, results))


def comparison(datasets: Iterable[str], results: Sequence[ModelResult]) -> dict[str, Any]:
    """The page's verdicts in words, for MLflow: by model, and by data set which of two models is better."""
    return {
        "models": {model.key: summary(model) for model in results},
        "datasets": {
            key: [contest.words for contest in contests([model for model in results if model.dataset == key])]
            for key in datasets
        },
    }
