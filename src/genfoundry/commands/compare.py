"""`genfoundry compare`: print the gate's comparison and write decision.json."""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from genfoundry.core.errors import Exit

if TYPE_CHECKING:
    from genfoundry.config.specs import Score
    from genfoundry.gate.comparison import Comparison, Row


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``genfoundry compare``."""
    names = "a model key of params.yaml, a registered version (name/3, name@champion) or a model folder"
    parser.add_argument("challenger", metavar="A", help=f"the challenger: {names}")
    parser.add_argument("champion", metavar="B", nargs="?", help="the champion it would replace; without it, A alone")
    add_gate_arguments(parser)
    parser.add_argument("--rotate", default="", metavar="REASON", help="first start a new gate set, looks from none")
    parser.add_argument("--forget-best", action="store_true", help="with --rotate: let go of the best champion so far")


def add_gate_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of every command that asks the gate."""
    parser.add_argument("--rule", choices=("superior", "non_inferior"), help="instead of gate.rule of params.yaml")
    parser.add_argument("--margin", type=float, help="instead of gate.margin")
    parser.add_argument("--reason", default="", help="why an equal model is wanted (non_inferior)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the decision to this file")
    parser.add_argument(
        "--trust-split",
        action="store_true",
        help="let models take part that don't say which records they have learnt from",
    )


def run_compare(options: argparse.Namespace, root: Path) -> int:
    """Print the comparison; 0 if the challenger is blessed, 11 if not."""
    # Imported here so that `--help` does not load torch.
    from genfoundry.config import params as settings
    from genfoundry.core.io import write_json
    from genfoundry.gate.compare import compare
    from genfoundry.gate.rules import Gate

    given = {name: getattr(options, name) for name in ("rule", "margin", "reason") if getattr(options, name)}
    gate = settings.parse(Gate, {**settings.load(root).gate, **given}, "gate")
    found = compare(
        root,
        options.challenger,
        options.champion,
        gate=gate,
        trust_split=options.trust_split,
        rotate=options.rotate,
        forget_best=options.forget_best,
    )
    if options.json:
        write_json(options.json, found.decision.as_json())
    print("\n".join(lines(found)))
    return Exit.OK if found.decision.blessed else Exit.REJECTED


def lines(found: "Comparison") -> Iterator[str]:
    """The comparison for a person: verdict, scores, rules, looks."""
    other = f" against champion {found.champion.name}" if found.champion else ", first champion"
    yield f"{found.decision.verdict}: challenger {found.challenger.name}{other}, on {found.dataset}"
    yield from _headline(found)
    if found.rows:
        yield ""
        yield from _table(found.rows, found.primary)
    yield ""
    yield "rules"
    for rule in found.decision.rules:
        yield f"  {'passed' if rule.passed else 'FAILED':6}  {rule.words}{_bound(rule.numbers)}"
    for name, why in found.decision.facts.get("not_measured", {}).items():
        yield f"  not measured  {name}: {why}"
    yield ""
    counts = found.counts
    yield (
        f"gate set {found.decision.facts['gate_set']['number']}: {counts['used']} of {counts['frozen']} records; "
        f"{counts['seen']} seen by a model, {counts['gone']} gone from the data, {counts['new']} new wait for --rotate"
    )
    look = found.decision.facts.get("look")
    if look:
        yield f"look {look['number']}: it may spend alpha {look['alpha']:.2g}; {look['left']:.2g} is left for later"
    yield "error bars cover samples and records, not what another training seed would give: docs/gate.md"


def _headline(found: "Comparison") -> Iterator[str]:
    """Which model is better, by how much, with which confidence, and the baseline."""
    row = next((row for row in found.rows if row.metric == found.primary), None)
    if row is None or row.difference is None:
        return
    low, high = row.difference.interval()
    beside = _beside(row)
    floor = f"; held against: {beside}" if beside else ""
    between = f", 95 % interval {low:+.4g} to {high:+.4g}" if math.isfinite(low) else ""
    yield f"{row.metric}: {row.words}, challenger less champion {row.difference.value:+.4g}{between}{floor}"


def _table(rows: "tuple[Row, ...]", primary: str) -> Iterator[str]:
    heads = ["score", "challenger", "champion", "held against", "difference", "95 % interval", ""]
    cells = [
        heads,
        *(_cells(row, primary) for row in sorted(rows, key=lambda row: (row.metric != primary, row.metric))),
    ]
    widths = [max(len(line[place]) for line in cells) for place in range(len(heads))]
    for line in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _cells(row: "Row", primary: str) -> list[str]:
    arrow = {True: " (up)", False: " (down)", None: ""}[row.higher_is_better]
    name = f"{row.metric}{arrow}" + " *" * (row.metric == primary)
    champion = _value(row.champion) if row.champion else ""
    gap = ("", "")
    if row.difference is not None:
        low, high = row.difference.interval()
        gap = (f"{row.difference.value:+.3g}", f"{low:+.3g} to {high:+.3g}" if math.isfinite(low) else "unknown")
    return [name, _value(row.challenger), champion, _beside(row), *gap, row.words]


def _beside(row: "Row") -> str:
    """The baseline: real data's own score, else the best n-gram model's."""
    for rival, name in (("floor", "real data"), ("bigram", "bigram"), ("unigram", "unigram")):
        if rival in row.beside:
            return f"{name} {row.beside[rival]:.4g}"
    return ""


def _value(score: "Score") -> str:
    unbiased = f", without bias {score.value - score.bias:.4g}" if score.bias else ""
    return f"{score.value:.4g}{unbiased}" + (f" ± {1.96 * score.se:.2g}" if math.isfinite(score.se) else "")


def _bound(numbers: object) -> str:
    if not isinstance(numbers, dict) or "bound" not in numbers or not math.isfinite(numbers["bound"]):
        return ""
    return f" (loss {numbers['loss']:+.4g}, bound {numbers['bound']:+.4g} at alpha {numbers['alpha']:.2g})"
