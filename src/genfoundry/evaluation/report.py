"""The page that compares all models: how good, how sure, against what, from which data."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genfoundry.evaluation.charts import Row, curves, intervals
from genfoundry.evaluation.funnel import Funnel, read_funnel
from genfoundry.evaluation.results import ModelResult, read_model
from genfoundry.pages import escape, number, picture, table, tiles, write_page
from genfoundry.settings import DatasetBlock, ModelBlock

LEAD = "Every model of params.yaml on its data set: how good, how sure, against what."
SHOWN_TEXTS = 4
SHOWN_CHARACTERS = 900

NAMES = {
    "floor": "real data",
    "unigram": "unigram model",
    "bigram": "bigram model",
    "fid_domain": "Fréchet distance to held-out records (fid_domain)",
    "kid_domain": "Kernel distance to held-out records (kid_domain)",
    "is_domain": "Inception score by the data set's own classifier (is_domain)",
    "perplexity": "Perplexity per token on held-out documents (perplexity)",
    "bits_per_byte": "Bits per byte on held-out documents (bits_per_byte)",
    "distinct_n": "Share of different n-grams in the samples (distinct_n)",
}
RIVALS = ("floor", "unigram", "bigram")

HOW_TO_READ = """<h2>How to read this</h2><ul>
<li>A score is a measurement: the bar is its 95 % interval over samples and held-out records. It does not cover what
another training seed would give.</li>
<li><b>Real data</b> (the floor) is the same measurement with real records in place of samples, as many: no model
can be expected to do better, and where a model's interval reaches it, this score on this many samples shows no
difference.</li>
<li><b>Unigram</b> and <b>bigram</b> models, counted on the training documents, price the same held-out documents: a
language model must beat both clearly.</li>
<li>Scores stand in one chart only if they were measured alike: same records, network, sampling, window. The eight
digits behind a name are that protocol's digest.</li></ul>"""


def _plus_minus(score: Mapping[str, float]) -> str:
    half = f" ± {1.96 * score['se']:.2g}" if "se" in score else ""
    return f"{score['value']:.4g}{half}"


def verdict(score: Mapping[str, float], higher_is_better: bool) -> str:
    """A score against what it is held against, in words."""
    said = []
    for rival in RIVALS:
        if rival not in score:
            continue
        if rival == "floor" and "se" in score and score["low"] <= score["floor"] <= score["high"]:
            said.append("its interval reaches real data's")
        elif rival == "floor" and higher_is_better and score["value"] > score["floor"]:
            said.append(f"more than real data's {score['floor']:.4g}, which is no merit")
        elif rival == "floor" and "relative" in score:
            said.append(f"{score['relative']:.3g} times real data's {score['floor']:.4g}")
        elif rival == "floor":
            said.append(f"real data has {score['floor']:.4g}")
        else:
            share = score["value"] / score[rival] - 1
            better = (share > 0) == higher_is_better
            word = "above" if share > 0 else "below"
            judged = f"{abs(share):.0%} {word} the {NAMES[rival]}'s {score[rival]:.4g}"
            said.append(judged if better else f"{judged}: worse")
    return "; ".join(said)


def _glance(models: Sequence[ModelResult]) -> str:
    rows = []
    for model in models:
        scores = "<br>".join(
            f"<b>{escape(key.split('@')[0])}</b> {_plus_minus(score)}"
            f" <span class=soft>{escape(verdict(score, model.higher_is_better(key)))}</span>"
            for key, score in model.scores.items()
        )
        size = model.train.get("parameters", "")
        rows.append([model.key, model.dataset, model.family, size, scores or "<span class=bad>no scores yet</span>"])
    return table(["model", "data set", "family", "parameters", "scores, ± half of the 95 % interval"], rows, [_SCORES])


_SCORES = "scores, ± half of the 95 % interval"


def _funnel(funnel: Funnel) -> str:
    top = max([left for _, left, _ in funnel.stages] or [1])
    rows = [
        [what, left, f"<span class=bar style='width:{240 * left / max(top, 1):.0f}px'></span>", escape(why)]
        for what, left, why in funnel.stages
    ]
    parts = [table(["step", "records left", " ", "what went, and why"], rows, [" ", "what went, and why"])]
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
        rows.append(Row(model.key, value, score.get("low", value), score.get("high", value), _plus_minus(score), True))
        for rival in (name for name in RIVALS if name in score):
            held_against.setdefault((rival, score[rival]), None)
    rows += [Row(NAMES[rival], value, value, value, f"{value:.4g}", False) for rival, value in held_against]
    return rows


def _scores(models: Sequence[ModelResult]) -> str:
    parts = []
    for key in sorted({key for model in models for key in model.scores}):
        scored = [model for model in models if key in model.scores]
        name, protocol = key.split("@")[0], scored[0].protocols.get(key, {})
        better = "higher is better" if scored[0].higher_is_better(key) else "lower is better"
        counts = " against ".join(_counts(scored, key, side) for side in ("n", "n_reference")).removesuffix(" against ")
        parts.append(
            f"<h3>{escape(NAMES.get(name, name))}</h3><p class=soft>{better}; n = {counts}; protocol "
            f"<code>{escape(key.split('@')[-1])}</code></p>{intervals(name, _rows(scored, key))}"
            f"<details><summary class=soft>protocol</summary><pre>{_pretty(protocol)}</pre></details>"
        )
    return "".join(parts)


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
    if model.grid:
        parts.append(picture(model.grid, title=f"samples of {model.key}"))
    for text in model.texts[:SHOWN_TEXTS]:
        cut = text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + " …"
        parts.append(f"<pre>{escape(cut)}</pre>")
    parts.append(f"<details><summary class=soft>settings</summary><pre>{_pretty(model.settings)}</pre></details>")
    if model.missing:
        parts.append(f"<p class=bad>missing: {escape(', '.join(model.missing))}; run dvc repro</p>")
    return "".join(parts)


def _dataset(key: str, funnel: Funnel, models: Sequence[ModelResult]) -> str:
    parts = [f"<h2>Data set {escape(key)}</h2>", _funnel(funnel), _reference(funnel.reference)]
    if funnel.missing:
        parts.append(f"<p class=bad>missing: {escape(', '.join(funnel.missing))}; run dvc repro</p>")
    if not models:
        return "".join([*parts, "<p class=soft>no model of this data set</p>"])
    return "".join([*parts, _scores(models), *map(_model, models)])


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
