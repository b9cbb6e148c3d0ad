"""Tag keys that genfoundry writes to MLflow, in one place (docs/tags.md is made from this table)."""

KIND = "genfoundry.kind"
KEY = "genfoundry.key"
STATE = "genfoundry.state"
STAGE = "genfoundry.stage."
OUTPUT = "genfoundry.output."
FAILURE = "genfoundry.failure"
PROCESS = "genfoundry.process"
COMMIT = "genfoundry.git.commit"
DIRTY = "genfoundry.git.dirty"
EXECUTION = "genfoundry.execution"
RESTORED = "genfoundry.restored"
DIGEST = "genfoundry.digest"
VERSION = "genfoundry.version"

MEANING = {
    KIND: "`dataset`, `model`, `base` or `repository`: what the run tells about",
    KEY: "the block of params.yaml: `digits`, `digits-vae`, ...",
    STATE: "fingerprint of the state (dag.state); one run each, found by this tag",
    STAGE + "<stage>": "fingerprint of the stage's inputs, set when its results are in the run",
    OUTPUT + "<path>": "content digest of an output (sha256 of its manifest or file)",
    FAILURE: "why the run is FAILED: stage, kind of error, message",
    PROCESS: "host, pid and start of the process that has the run open; a dead one is reaped at the next start",
    COMMIT: "git commit at the first stage of this state",
    DIRTY: "`true` if tracked files differed from that commit",
    EXECUTION: "devices, strategy and threads of the last stage that ran (no part of the state)",
    RESTORED: "stages whose results were taken from files because DVC restored or skipped them",
    DIGEST: "content digest of a model, on its LoggedModel and registered version",
    VERSION: "registered version of the model that this run made",
    "mlflow.parentRunId": "the run of the repository state in which this state first appeared",
}
