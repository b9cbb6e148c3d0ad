"""Descriptions in the registry: the decision on a version, and the history of a registered model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genfoundry.state.events import read_events
from genfoundry.tracking.versions import CHAMPION, PREVIOUS, Registered

KINDS = ("promoted", "rejected", "rolled_back", "restored")

SHOWN = 40
"""Events in a description, the last ones; all of them stand in events.jsonl."""

SAY = {
    "promoted": "**{version} became champion**",
    "rejected": "{version} was rejected",
    "rolled_back": "**back to {version}**",
    "restored": "**{version} is champion again**",
}


def events_of(state: Path, key: str) -> list[dict[str, Any]]:
    """Events of a model, oldest first."""
    return [event for event in read_events(state, *KINDS) if event.get("model") == key]


def timeline(state: Path, registered: Registered) -> None:
    """Write the history of a registered model into its description."""
    aliases = registered.aliases()
    lines = [f"The model `{registered.name}` of params.yaml; one version for each content digest.", ""]
    for alias in (CHAMPION, PREVIOUS):
        lines.append(f"- {alias}: {'version ' + aliases[alias] if alias in aliases else 'none'}")
    facts = events_of(state, registered.name)
    if facts:
        lines += ["", "| when (UTC) | what | why |", "|---|---|---|"]
    for event in reversed(facts[-SHOWN:]):
        what = SAY[event["kind"]].format(version=f"version {event['version']}")
        when = event["at"][:16].replace("T", " ")
        lines.append(f"| {when} | {what} | {cell(event.get('words', ''))} |")
    if len(facts) > SHOWN:
        lines += ["", f"{len(facts) - SHOWN} earlier events stand in mlruns/events.jsonl."]
    registered.store.client.update_registered_model(registered.name, "\n".join(lines))


def cell(text: str) -> str:
    """Text for a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


def decision_words(decision: Mapping[str, Any]) -> str:
    """The decision on a version, for its description."""
    lines = [f"**{decision['verdict']}** {decision['words']}", ""]
    lines += [f"- {'passed' if rule['passed'] else '**failed**'}: {rule['words']}" for rule in decision["rules"]]
    return "\n".join([*lines, "", "All numbers: decision.json beside the model's files."])
