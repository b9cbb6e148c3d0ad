"""Tag keys that genfoundry writes to MLflow, in one place (docs/tags.md is made from this table)."""

from collections.abc import Mapping

KIND = "genfoundry.kind"
KEY = "genfoundry.key"
STATE = "genfoundry.state"
STAGE = "genfoundry.pipeline.stage."
OUTPUT = "genfoundry.output."
FAILURE = "genfoundry.failure"
PROCESS = "genfoundry.process"
COMMIT = "genfoundry.git.commit"
DIRTY = "genfoundry.git.dirty"
EXECUTION = "genfoundry.execution"
LOCK = "genfoundry.lock"
DEVICES = "genfoundry.devices"
VERSIONS = "genfoundry.versions"
RESTORED = "genfoundry.restored"
DIGEST = "genfoundry.digest"
WEIGHTS = "genfoundry.weights"
GENERATOR = "genfoundry.generator"
VERSION = "genfoundry.version"
PROCESSOR = "genfoundry.processor."
SWEEP = "genfoundry.sweep"
EXPERIMENT = "genfoundry.experiment"
COPIED = "genfoundry.copied"
UPKEEP = "genfoundry.upkeep"
FINGERPRINT = "genfoundry.fingerprint"
ARRAYS = "genfoundry.arrays"
DATA = "genfoundry.data"
CARD = "genfoundry.card"
VERDICT = "genfoundry.verdict"
DECISION = "genfoundry.decision"
CHAMPION_SINCE = "genfoundry.champion.since"
CHAMPION_UNTIL = "genfoundry.champion.until"
ROLLED_BACK = "genfoundry.rolled_back"
REVIEW_PLAN = "genfoundry.review.plan"
REVIEW_MODEL = "genfoundry.review.model."
REVIEW_SAMPLES = "genfoundry.review.samples."
REVIEW_STATE = "genfoundry.review.state"


def weights_of(facts: Mapping[str, str]) -> str:
    """Digest of the model folder of a version or LoggedModel, by its tags; those before generators had no other."""
    return facts.get(WEIGHTS) or facts.get(DIGEST, "")


MEANING = {
    KIND: "`dataset`, `model`, `base`, `repository` or `review`: what the run tells about",
    KEY: "the block of params.yaml: `digits`, `digits-vae`, ...",
    STATE: "fingerprint of the state (dag.state); one run each, found by this tag",
    STAGE + "<stage>": "fingerprint of the stage's inputs, set when its results are in the run",
    OUTPUT + "<path>": "content digest of an output (sha256 of its manifest or file)",
    FAILURE: "why the run is FAILED: stage, kind of error, message",
    PROCESS: "host, pid and start of the process that has the run open; a dead one is reaped at the next start",
    COMMIT: "git commit at the first stage of this state",
    DIRTY: "`true` if tracked files differed from that commit",
    EXECUTION: "devices, strategy and threads of the last stage that ran (no part of the state)",
    LOCK: "sha256 of requirements.lock when the model was trained",
    DEVICES: "what the model was trained on: number and name of the devices",
    VERSIONS: "torch, Lightning and Python that trained the model",
    RESTORED: "stages whose results were taken from files because DVC restored or skipped them",
    DIGEST: "on a LoggedModel and registered version: sha256 of its `generator.json`, which names its weights and how "
    "it draws; of versions without that file, content digest of the model folder",
    WEIGHTS: "on a LoggedModel and registered version: content digest of its model folder",
    GENERATOR: "on a LoggedModel and registered version: settings of its generator, as JSON",
    VERSION: "registered version of the model that this run made",
    PROCESSOR + "<stage>": "kind of processor (its model where `numerics.instructions` is native) and C library that "
    "the stage ran on: bytes are equal on equal ones only",
    SWEEP: "commit from which an experiment of DVC started: the experiments of a sweep have it in common",
    EXPERIMENT: "name of the experiment of DVC (`dvc exp run`) in which the run was made",
    COPIED: "id that a run had in the store from which it was copied (`genfoundry copy-store`)",
    UPKEEP: "on a run or LoggedModel that is being deleted: why",
    FINGERPRINT: "on a registered version: fingerprint of the stage `train` that made it",
    ARRAYS: "on a registered version: content digest of the arrays it learnt from",
    DATA: "on a registered version: content digest of the raw data behind those arrays",
    CARD: "on a registered version: digest of what its card was made from",
    VERDICT: "on a registered version: `BLESSED` or `NOT_BLESSED`, of its last judgement",
    DECISION: "on a registered version: digest of that decision; decision.json lies beside the version",
    CHAMPION_SINCE: "on a registered version: when it last became champion, in UTC",
    CHAMPION_UNTIL: "on a registered version: when it last ceased to be champion, in UTC",
    ROLLED_BACK: "on a registered version: when and why an operator went back from it; it is not promoted again "
    "without a word (`--again`)",
    REVIEW_PLAN: "digest of a review's plan: which samples were shown against which",
    REVIEW_MODEL + "<model>": "content digest of a model that a review compared",
    REVIEW_SAMPLES + "<model>": "content digest of the samples that were shown",
    REVIEW_STATE: "on a model's run: state of the review whose strength was logged last",
    "mlflow.parentRunId": "the run of the repository state in which this state first appeared",
}
