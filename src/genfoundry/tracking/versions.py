"""Registered versions of a model and their aliases."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from genfoundry.core.errors import ConfigError, InfrastructureError
from genfoundry.tracking import tags
from genfoundry.tracking.runs import first_line, tracking_errors
from genfoundry.tracking.store import Store

CHAMPION, PREVIOUS = "champion", "previous"

SECTION = "\n\n---\n\n"
"""Separator in a version's description between its facts and the decision on it."""

NO_SUMMARY = "Registered without a card: it was not the model of a workspace's line."


@dataclass(frozen=True)
class Version:
    """A registered version."""

    name: str
    number: str
    digest: str
    run_id: str
    model_id: str
    description: str
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"{self.name}/{self.number}"


@contextmanager
def registry_errors(store: Store, doing: str) -> Iterator[None]:
    """Turn a registry that fails into an InfrastructureError that says what is kept."""
    try:
        yield
    except tracking_errors() as error:
        raise InfrastructureError(
            f"{doing}: the registry {store.uri} refuses ({first_line(error)}); run the command again when it is back: "
            "it goes on where it was stopped"
        ) from error


@dataclass(frozen=True)
class Registered:
    """One registered model: its versions and aliases."""

    store: Store
    name: str

    def versions(self) -> dict[str, Version]:
        """By number; empty if nothing is registered."""
        return {version.number: version for version in self._all()}

    def _all(self) -> Iterator[Version]:
        for entry in self.store.client.search_model_versions(f"name = '{self.name}'"):
            facts = dict(entry.tags)
            model_id = entry.source.removeprefix("models:/")
            digest = facts.get(tags.DIGEST, "")
            yield Version(self.name, str(entry.version), digest, entry.run_id, model_id, entry.description or "", facts)

    def version(self, number: str) -> Version:
        """The version of that number.

        Raises:
            ConfigError: There is none.
        """
        there = self.versions()
        if number not in there:
            known = ", ".join(sorted(there, key=int)) or "none"
            raise ConfigError(f"{self.name}/{number}: not in the registry {self.store.uri}; there are: {known}")
        return there[number]

    def aliases(self) -> dict[str, str]:
        """Number of the version by alias. MLflow drops an alias without a word when its version is deleted."""
        from mlflow.exceptions import MlflowException

        try:
            found = self.store.client.get_registered_model(self.name).aliases
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return {}
        return {alias: str(number) for alias, number in found.items()}

    def point(self, alias: str, number: str | None) -> None:
        """Let an alias mean that version, or none; nothing happens if it does already."""
        now = self.aliases().get(alias)
        if number is None and now is not None:
            self.store.client.delete_registered_model_alias(self.name, alias)
        elif number is not None and now != number:
            self.store.client.set_registered_model_alias(self.name, alias, number)

    def tag(self, number: str, values: Mapping[str, str | None]) -> None:
        """Set tags of a version; None takes one away."""
        there = self.version(number).tags
        for name, value in values.items():
            if value is None and name in there:
                self.store.client.delete_model_version_tag(self.name, number, name)
            elif value is not None and there.get(name) != value:
                self.store.client.set_model_version_tag(self.name, number, name, value)

    def describe(self, number: str, *, summary: str | None = None, decision: str | None = None) -> None:
        """Write one half of a version's description, what it is or what was decided; the other half stays."""
        there = self.version(number).description
        first, _, second = there.partition(SECTION)
        halves = [summary if summary is not None else first, decision if decision is not None else second]
        text = SECTION.join([halves[0] or NO_SUMMARY, halves[1]]).removesuffix(SECTION)
        if text != there:
            self.store.client.update_model_version(self.name, number, text)

    def attach(self, number: str, folder: Path, target: str) -> None:
        """Put the files of a folder beside the version: into its run and its LoggedModel, below ``target``."""
        version = self.version(number)
        self.store.client.log_artifacts(version.run_id, str(folder), target)
        for file in sorted(folder.iterdir()):
            self.store.client.log_model_artifact(version.model_id, str(file))
