"""The block `retraining:` of params.yaml; no stage reads it, so changing it trains nothing."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from genfoundry.config.specs import Key, Section
from genfoundry.promotion.options import Servability
from genfoundry.upkeep.options import Keep

Share = Annotated[float, Field(gt=0, le=1)]


class NewData(Section):
    """Retrain when enough new data came."""

    records: int = Field(default=0, ge=0)
    """Least number of records for training and validation that are new since the last retrain, valid, and left after
    deduplication; 0 turns this trigger off.
    """
    cooldown_h: float = Field(default=0.0, ge=0)
    """Hours since the last retrain that this trigger started, before it may start another."""


class DriftTrigger(Section):
    """Retrain when the data drifted from what the champion learnt from."""

    on: bool = False
    """Whether drift starts a retrain."""
    alpha: float = Field(default=0.001, gt=0, lt=0.5)
    """How often equal data may count as drifted; the thresholds follow from null runs on the training data."""
    psi: float = Field(default=0.1, ge=0)
    """Least population stability index of a feature that counts, however sure it is (effect size)."""
    ks: Share = 0.1
    """The same for the largest difference of two distribution functions."""
    features: bool = True
    """Also the distance between the reference network's features of both (images), or of n-gram profiles (text)."""
    distance: float = Field(default=0.02, ge=0)
    """Least squared distance of these, over the variance within the training data, that counts."""
    cooldown_h: float = Field(default=24.0, ge=0)
    """Hours since the last retrain that this trigger started, before it may start another."""


class LiveMetric(Section):
    """Retrain when a metric from outside, such as of a live service, passes a limit."""

    source: str
    """File below the project, or an address (http, https) of a host in ``allow``; JSON, or a bare number."""
    field: str = ""
    """Path of the number inside the JSON, such as ``quality.rating``."""
    below: float | None = None
    """Fires when the number is below it; give this or ``above``."""
    above: float | None = None
    """Fires when the number is above it."""
    cooldown_h: float = Field(default=24.0, ge=0)
    """Hours since the last retrain that this trigger started, before it may start another."""

    @model_validator(mode="after")
    def _one_limit(self) -> "LiveMetric":
        if (self.below is None) == (self.above is None):
            raise ValueError("needs one of below and above")
        return self


class Triggers(Section):
    """What may start a scheduled retrain; any one is enough. A retrain that a person starts asks none of them."""

    slot: bool = True
    """Each slot of the schedule."""
    slot_cooldown_h: float = Field(default=0.0, ge=0)
    """Hours since the last retrain that a slot started, before it may start another."""
    new_data: NewData = NewData()
    drift: DriftTrigger = DriftTrigger()
    metrics: dict[Key, LiveMetric] = Field(default_factory=dict)


class Schedule(Section):
    """Slots in time; written by `genfoundry schedule`, kept by `genfoundry retrain --watch`."""

    cron: str = "0 3 * * *"
    """Five fields: minute, hour, day of month, month, day of week (crontab(5))."""
    timezone: str = "UTC"
    """IANA name, such as Europe/Berlin."""
    catch_up_h: float = Field(default=24.0, ge=0)
    """A missed slot is made up for, once and late, within so many hours; older ones are counted as missed."""
    pause_after: int = Field(default=3, ge=1)
    """Failures one after the other before `--watch` pauses until a person says `--resume`."""


class Mail(Section):
    """Notification by SMTP; user and password come from GENFOUNDRY_SMTP_USER and GENFOUNDRY_SMTP_PASSWORD."""

    host: str
    """The mail server."""
    port: int = Field(default=587, ge=1, le=65535)
    """587 is STARTTLS, 465 TLS."""
    security: Literal["starttls", "tls", "none"] = "starttls"
    """none is for servers on this machine: passwords are never sent without encryption."""
    sender: str
    """Address in From."""
    to: tuple[str, ...] = Field(min_length=1)
    """Addresses of the recipients."""


class Notify(Section):
    """Recipients of notifications."""

    on: tuple[Literal["promoted", "rejected", "failed", "no_op", "busy"], ...] = ("promoted", "rejected", "failed")
    """Outcomes that are notified; whatever is none of the others is ``failed``."""
    file: str = ""
    """File under the state root that gets one JSON line an event; empty: none."""
    webhooks: tuple[str, ...] = ()
    """Addresses that get the same JSON by POST; their hosts must stand in ``allow``. Whoever knows the address of a
    chat's webhook can write there: ``$NAME`` takes it from that environment variable.
    """
    mail: Mail | None = None


class Retraining(Section):
    """How `genfoundry retrain` works."""

    models: tuple[Key, ...] = ()
    """Models to retrain and promote; empty: all of params.yaml."""
    branch: str = ""
    """Branch of the project whose code and settings are taken; empty: what is checked out."""
    data: Literal["committed", "workspace"] = "committed"
    """committed: what data.dvc says on that branch; workspace: a snapshot of data/ as it lies there now."""
    update: tuple[str, ...] = ()
    """Command, word by word (no shell), that brings new data; it runs in the retrain's own worktree, such as
    ``[dvc, update, imports/letters.dvc]``. What it changes in data/ is added to DVC there.
    """
    update_minutes: float = Field(default=60.0, gt=0)
    """``update`` is stopped after so many minutes, and the retrain fails."""
    timeout_h: float = Field(default=24.0, gt=0)
    """`dvc repro` is stopped after so many hours; the next retrain of the same inputs goes on from its checkpoints."""
    free_gib: float = Field(default=3.0, ge=0)
    """Least free disk space to begin with."""
    push: str = ""
    """Git remote to which the branch of the retrain is pushed; empty: it stays local."""
    allow: tuple[str, ...] = ()
    """Hosts (``example.org`` or ``localhost:8080``) that notifications, heartbeat and live metrics may call."""
    heartbeat: str = ""
    """Address that is called after each retrain and each look of `--watch`, so that silence is noticed;
    ``$NAME``: from that environment variable.
    """
    triggers: Triggers = Triggers()
    schedule: Schedule = Schedule()
    notify: Notify = Notify()
    keep: Keep = Keep()
    servability: Servability = Servability()
