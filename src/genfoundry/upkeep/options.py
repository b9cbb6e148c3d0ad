"""The block `retraining.keep` of params.yaml: what upkeep leaves."""

from pydantic import Field

from genfoundry.config.specs import Section


class Keep(Section):
    """What upkeep leaves; champion, previous and what they were made from are never touched."""

    checkpoints_days: float = Field(default=14.0, ge=0)
    """Checkpoints of unfinished runs that nobody went on with for so long go."""
    runs_days: float = Field(default=365.0, ge=0)
    """Failed MLflow runs, models that were never champion, and runs of data that no kept version was made from go
    after so many days, with their artifacts.
    """
    versions: int = Field(default=20, ge=2)
    """Registered versions of a model, beside champion and previous, the newest ones."""
    worktrees: int = Field(default=2, ge=0)
    """Worktrees of finished retrains, the newest ones, for a look at what went wrong."""
    retrains: int = Field(default=200, ge=1)
    """Journals of finished retrains."""
    cache_gib: float = Field(default=0.0, ge=0)
    """Above this size what nothing leads to is deleted from DVC's cache. What champion, previous, workspaces, branches,
    tags and experiments need stays, and what is younger than a day. 0: never.
    """
