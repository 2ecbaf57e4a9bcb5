"""What docs/deploy holds is taken by those it is for, and starts a run where there is nothing but what it says."""

import json
import re
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from conftest import CREDENTIALS, Workplace
from sandboxes import SandboxProcess

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs" / "deploy"
MIGRATOR = Path(sys.executable).parent / "migrator"
WITH_CREDENTIALS = DEPLOY / "with-credentials"

LEAST_GRACE_S = 30
"""More than the program takes to end after a SIGTERM."""


class Place:
    """A folder that stands for a machine on which the program is installed as the files say.

    Args:
        workplace: has the job.
        sandbox: the server.
    """

    def __init__(self, workplace: Workplace, sandbox: SandboxProcess) -> None:
        self.folder = workplace.folder
        workplace.write_job(30, run={"base_url": sandbox.url})
        credentials = self.folder / "credentials"
        credentials.mkdir()
        for name, value in CREDENTIALS.items():
            (credentials / name).write_text(f"{value}\n")

    def here(self, text: str) -> str:
        """Return a command or a value with the paths of this place."""
        paths = {
            "/opt/migrator/bin/with-credentials": WITH_CREDENTIALS,
            "/opt/migrator/bin/migrator": MIGRATOR,
            "/run/secrets/migrator": self.folder / "credentials",
            "/etc/migrator/items": self.folder,
            "/etc/migrator/job/": f"{self.folder}/",
            "/etc/migrator": self.folder,
            "/var/lib/migrator": self.folder / "lib",
        }
        for there, here in paths.items():
            text = text.replace(there, str(here))
        return text

    def run(self, command: list[str], env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
        """Run a command with this environment alone, without a terminal and elsewhere."""
        return subprocess.run(
            [self.here(word) for word in command],
            cwd="/",
            env={name: self.here(value) for name, value in env.items()},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )


@pytest.fixture
def place(workplace: Workplace, sandbox: SandboxProcess) -> Place:
    """Return a place with a job of thirty items."""
    return Place(workplace, sandbox)


def crontab() -> tuple[dict[str, str], list[tuple[str, str, str]]]:
    """Return the variables of the crontab, and the time, the user and the command of each line."""
    variables, jobs = {}, []
    for line in (DEPLOY / "crontab").read_text().splitlines():
        if found := re.fullmatch(r"([A-Z_]+)=(.*)", line):
            variables[found[1]] = found[2]
        elif line and not line.startswith("#"):
            *when, user, command = line.split(None, 6)
            jobs.append((" ".join(when), user, command))
    return variables, jobs


def unit(name: str) -> dict[str, list[str]]:
    """Return the settings of a unit file, each with all its values."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / name).read_text().splitlines():
        if line and line[0] not in "#[":
            setting, _, value = line.partition("=")
            found.setdefault(setting, []).append(value)
    return found


def manifests() -> dict[str, Any]:
    """Return the Kubernetes objects by kind."""
    found = list(yaml.safe_load_all((DEPLOY / "cronjob.yaml").read_text()))
    return {document["kind"]: document for document in found}


def test_crontab_is_one_that_cron_takes() -> None:
    """The line has a time, a user and a command on one line, without a percent sign, which cron makes a line end."""
    ((when, user, command),) = crontab()[1]

    assert re.fullmatch(r"[0-5]?\d ([01]?\d|2[0-3])( \*){3}", when)
    assert user == "migrator"
    assert "%" not in command
    assert (DEPLOY / "crontab").read_bytes().endswith(b"\n")


def test_crontab_runs_as_cron_runs_it(place: Place, sandbox: SandboxProcess) -> None:
    """In cron's environment, without a terminal, the line changes every item and ends with 0."""
    variables, ((_, _, command),) = crontab()
    env = {"HOME": "/", "LOGNAME": "nobody", **variables}

    done = place.run([variables["SHELL"], "-c", command], env)

    assert (done.returncode, done.stderr) == (0, "")
    assert len(sandbox.stats()["writes"]) == 30


def test_cron_has_nothing_to_mail(place: Place) -> None:
    """A run in which all is well prints nothing, so that a mail is news."""
    variables, ((_, _, command),) = crontab()

    done = place.run([variables["SHELL"], "-c", command], variables)

    assert done.stdout + done.stderr == ""


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_units_are_valid(tmp_path: Path) -> None:
    """Systemd itself has nothing to say against the units."""
    for name in ("migrator.service", "migrator.timer"):
        text = (DEPLOY / name).read_text().replace("/opt/migrator/bin/with-credentials", "/bin/true")
        (tmp_path / name).write_text(text)

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / "migrator.service", tmp_path / "migrator.timer"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_service_is_shut_in() -> None:
    """The unit takes all rights away that a client of a REST API has no use for, and waits for what is in flight."""
    service = unit("migrator.service")

    assert service["Type"] == ["oneshot"]
    assert service["ProtectSystem"] == ["strict"]
    assert service["CapabilityBoundingSet"] == [""]
    assert {service[name][0] for name in ("NoNewPrivileges", "PrivateTmp", "ProtectHome", "PrivateDevices")} == {"yes"}
    assert service["User"] != ["root"]
    assert int(service["TimeoutStopSec"][0]) >= LEAST_GRACE_S
    assert service["StateDirectory"] == ["migrator"]
    assert not [value for value in service["Environment"] if "SECRET" in value or "KEY" in value]


def test_service_runs(place: Place, sandbox: SandboxProcess) -> None:
    """The unit's command, with what systemd would put into its environment, changes every item and ends with 0."""
    service = unit("migrator.service")
    (command,), (setting,) = service["ExecStart"], service["Environment"]
    name, _, value = setting.partition("=")
    loaded = {line.partition(":")[0] for line in service["LoadCredential"]}
    assert loaded == set(CREDENTIALS)
    env = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
        "CREDENTIALS_DIRECTORY": "/run/secrets/migrator",
        name: value.replace("%S", "/var/lib"),
    }

    done = place.run(shlex.split(command), env)

    assert (done.returncode, done.stderr) == (0, "")
    assert len(sandbox.stats()["writes"]) == 30


def test_manifests_follow_the_schema() -> None:
    """Every member of the Kubernetes objects is one that Kubernetes knows, in its place and of its type."""
    schema = json.loads((ROOT / "tests/samples/kubernetes-cronjob.schema.json").read_text())

    found = manifests()

    assert set(found) == {"CronJob", "PersistentVolumeClaim"}
    for kind, document in found.items():
        problems = [
            f"{list(error.instance_path)}: {error.message}"
            for error in jsonschema_rs.Draft202012Validator(schema[kind]).iter_errors(document)
        ]
        assert problems == []


def test_schema_finds_a_misspelling() -> None:
    """The schema that stands for Kubernetes does see a member that there is not."""
    schema = json.loads((ROOT / "tests/samples/kubernetes-cronjob.schema.json").read_text())
    document = manifests()["CronJob"]
    document["spec"]["jobTemplate"]["spec"]["template"]["spec"]["restartpolicy"] = "Never"

    assert not jsonschema_rs.Draft202012Validator(schema["CronJob"]).is_valid(document)


def test_cronjob_is_careful() -> None:
    """Runs do not overlap, nothing is started again blindly, a stop has time, and the pod has no rights to spare."""
    spec = manifests()["CronJob"]["spec"]
    job = spec["jobTemplate"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]

    assert (spec["concurrencyPolicy"], job["backoffLimit"], pod["restartPolicy"]) == ("Forbid", 0, "Never")
    assert pod["terminationGracePeriodSeconds"] >= LEAST_GRACE_S
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    assert {entry["name"] for entry in container["env"]} == {"CREDENTIALS_DIRECTORY", "MIGRATOR_STATE"}


def test_cronjob_mounts_what_it_has() -> None:
    """Every mount has its volume, secrets come as files, and only the state and /tmp can be written."""
    pod = manifests()["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    mounts = {mount["name"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}

    assert mounts.keys() == volumes.keys()
    assert {name for name, mount in mounts.items() if not mount.get("readOnly")} == {"state", "tmp"}
    assert {"credentials", "items"} == {name for name, volume in volumes.items() if "secret" in volume}
    claim = manifests()["PersistentVolumeClaim"]["metadata"]["name"]
    assert volumes["state"]["persistentVolumeClaim"]["claimName"] == claim
    user = pod["securityContext"]["runAsUser"]
    assert f"USER {user}:{user}" in (DEPLOY / "Dockerfile").read_text()


def test_cronjob_runs(place: Place, sandbox: SandboxProcess) -> None:
    """The container's command and arguments, with its environment alone, change every item and end with 0."""
    (container,) = manifests()["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    programs = {"with-credentials": str(WITH_CREDENTIALS), "migrator": str(MIGRATOR)}
    command = [*(programs[word] for word in container["command"]), *container["args"]]
    env = {"PATH": "/usr/bin:/bin"} | {entry["name"]: entry["value"] for entry in container["env"]}

    done = place.run(command, env)

    assert (done.returncode, done.stderr) == (0, "")
    assert len(sandbox.stats()["writes"]) == 30


def dockerfile() -> list[tuple[str, list[str]]]:
    """Return the Dockerfile's instructions and their words."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split()[1:]) for line in text.splitlines() if line.strip()]


def test_image_is_rootless_and_without_secrets() -> None:
    """The image's last stage runs as a user that is known by number, and no instruction names a credential."""
    instructions = dockerfile()
    last_stage = instructions[max(place for place, (name, _) in enumerate(instructions) if name == "FROM") :]

    (user,) = [words for name, words in last_stage if name == "USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user[0])
    assert sorted({"USER", "ENTRYPOINT"} & {name for name, _ in last_stage}) == ["ENTRYPOINT", "USER"]
    named = [word for name, words in instructions if name in {"ENV", "ARG", "LABEL"} for word in words]
    assert not re.search(r"secret|token|password|api_?key|credential", " ".join(named), re.IGNORECASE)


def test_image_has_locked_dependencies() -> None:
    """What pip takes from an index it takes by hash, and installs from that alone; the base is no `latest`."""
    commands = [" ".join(words) for name, words in dockerfile() if name == "RUN"]

    fetching = [command for command in commands if "pip download" in command or "pip install" in command]
    assert fetching
    assert all("--require-hashes" in command or "--no-index" in command for command in fetching)
    bases = [words[0] for name, words in dockerfile() if name == "FROM"]
    assert bases == ["${PYTHON}", "${PYTHON}"]
    assert ["PYTHON=python:3.13-slim"] in [words for name, words in dockerfile() if name == "ARG"]


def test_image_is_made_of_what_is_there() -> None:
    """Every file that the Dockerfile copies is there, and gets into the build."""
    sources = [
        source
        for name, words in dockerfile()
        if name == "COPY" and not words[0].startswith("--from=")
        for source in words[:-1]
    ]
    let_in = {
        line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")
    }

    assert {source for source in sources if not (ROOT / source).exists()} == set()
    assert set(sources) == let_in


@pytest.mark.parametrize("folder", ["", "/missing", "empty", "strange"])
def test_without_credentials_nothing_is_run(tmp_path: Path, folder: str) -> None:
    """Where the credentials' folder is not as it should be, the command is not run, and the exit code is that of 2."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "not a name").write_text("x")
    where = str(tmp_path / folder) if folder else ""

    done = subprocess.run(
        [WITH_CREDENTIALS, "/bin/echo", "ran"],
        env={"PATH": "/usr/bin:/bin", "CREDENTIALS_DIRECTORY": where},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr


def test_credentials_are_given_as_they_are(tmp_path: Path) -> None:
    """A value keeps its spaces, quotes and dollar signs; only newlines at its end go."""
    (tmp_path / "A_TOKEN").write_text('it\'s $HOME "and" `more` \\ \n')

    done = subprocess.run(
        [WITH_CREDENTIALS, sys.executable, "-c", "import os; print(repr(os.environ['A_TOKEN']))"],
        env={"PATH": "/usr/bin:/bin", "CREDENTIALS_DIRECTORY": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == repr('it\'s $HOME "and" `more` \\ ') + "\n"
    assert stat.S_IMODE(WITH_CREDENTIALS.stat().st_mode) == 0o755


def test_exit_codes_are_all_told() -> None:
    """The table of alarms names every exit code that the program has."""
    from migrator.results import Exit

    told = re.findall(r"^\| ([\d, ]+) \|", (DEPLOY / "README.md").read_text(), re.MULTILINE)

    assert {int(code) for codes in told for code in codes.split(",")} == {int(code) for code in Exit}
