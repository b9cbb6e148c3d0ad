"""`genfoundry promote` and `genfoundry rollback`."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from genfoundry.commands.compare import add_gate_arguments
from genfoundry.core.errors import Exit

if TYPE_CHECKING:
    from genfoundry.promotion.promote import Outcome


def add_promote_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``genfoundry promote``."""
    parser.add_argument("key", metavar="KEY", help="the model: a key of params.yaml")
    parser.add_argument("--version", default="", metavar="N", help="a registered version, not what the line made last")
    add_gate_arguments(parser)
    parser.add_argument("--again", default="", metavar="REASON", help="promote a version that was rolled back from")
    parser.add_argument(
        "--wait", type=float, default=3600.0, metavar="SECONDS", help="for another promotion of this project (3600)"
    )


def add_rollback_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``genfoundry rollback``."""
    parser.add_argument("key", metavar="KEY", help="the model")
    parser.add_argument("--to", default="", metavar="N", help="this version (the champion before this one)")
    parser.add_argument("--reason", default="", help="why, for the record")
    parser.add_argument("--force", action="store_true", help="even if it does not answer in a clean process")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what was done to this file")


def run_promote(options: argparse.Namespace, root: Path) -> int:
    """Print the decision; 0 promoted, 10 champion already, 11 rejected."""
    # Imported here so that `--help` does not load torch.
    from genfoundry.core.io import write_json
    from genfoundry.promotion.promote import Wishes, promote

    rules = {name: getattr(options, name) for name in ("rule", "margin", "reason") if getattr(options, name)}
    wishes = Wishes(options.version, rules, options.trust_split, options.again, options.wait)
    outcome = promote(root, options.key, wishes)
    if options.json:
        write_json(options.json, outcome.facts)
    print("\n".join(lines(outcome)))
    return int(outcome.code)


def lines(outcome: "Outcome") -> Iterator[str]:
    """Lines that report a promotion or its rejection to a person."""
    from genfoundry.commands import compare as commands

    facts = outcome.facts
    for note in outcome.notes:
        yield f"note: {note}"
    if outcome.found is not None:
        yield from commands.lines(outcome.found)
        yield ""
    before = f" (before: version {facts['champion_before']})" if facts["champion_before"] else ""
    yield {
        Exit.OK: f"PROMOTED: {facts['model']} version {facts['version']} is champion{before}",
        Exit.NO_OP: f"nothing to do: {facts['model']} {facts['words']}",
        Exit.REJECTED: f"REJECTED: {facts['model']} {facts['words']}",
    }[outcome.code]


def run_rollback(options: argparse.Namespace, root: Path) -> int:
    """Print what was done."""
    from genfoundry.core.io import write_json
    from genfoundry.promotion.rollback import roll_back

    done = roll_back(root, options.key, options.to, options.reason, options.force)
    if options.json:
        write_json(options.json, done.facts)
    for note in done.notes:
        print(f"note: {note}")
    facts = done.facts
    print(f"champion of {facts['model']} is version {facts['champion_after']}: {facts['words']}")
    print(facts["servability"]["words"])
    return Exit.OK
