"""The block `retraining.keep` of params.yaml: the retention policy of upkeep."""

from pydantic import Field

from genfoundry.config.specs import Section


class Keep(Section):
    """Retention policy of upkeep; champion, previous and what they were made from are never deleted."""

    checkpoints_days: float = Field(default=14.0, ge=0)
    """Days after which checkpoints of unfinished runs that were not resumed are deleted."""
    runs_days: float = Field(default=365.0, ge=0)
    """Days after which failed MLflow runs, models that were never champion, and runs of data that no kept version was
    made from are deleted, with their artifacts.
    """
    versions: int = Field(default=20, ge=2)
    """Number of registered versions of a model to keep, the newest ones, besides champion and previous."""
    worktrees: int = Field(default=2, ge=0)
    """Number of worktrees of finished retrains to keep, the newest ones, to inspect failures."""
    retrains: int = Field(default=200, ge=1)
    """Number of journals of finished retrains to keep."""
    cache_gib: float = Field(default=0.0, ge=0)
    """Above this size unreferenced objects are deleted from DVC's cache. What champion, previous, workspaces, branches,
    tags and experiments need stays, and what is younger than a day. 0: never.
    """
