"""Migrations on real servers that others wrote: Kinto (PyPI) and json-server (npm), with kills in between.

Each server is installed into a folder of its own. 300 records go export, plan, run, verify, a change by another writer,
rollback. The runs are killed several times on the way, and the server's own state is compared leaf by leaf. It is no
part of the gate: it needs a package index. A server that cannot be installed is named, and is no failure.
"""

import argparse
import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

RECORDS = 300
KILLS = 3
KEY_TEXT = "a key of the interop target"
BASIC = {"type": "basic", "username": "u", "password": "p"}
AUTHORIZATION = "Basic dTpw"

KINTO_INI = """
[app:main]
use = egg:kinto
kinto.userid_hmac_secret = interop
kinto.storage_backend = kinto.core.storage.memory
kinto.cache_backend = kinto.core.cache.memory
kinto.permission_backend = kinto.core.permission.memory
multiauth.policies = basicauth
kinto.paginate_by = 50
kinto.bucket_create_principals = system.Authenticated
[server:main]
use = egg:waitress#main
host = 127.0.0.1
port = {port}
[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys = generic
[logger_root]
level = ERROR
handlers = console
[handler_console]
class = StreamHandler
args = (sys.stderr,)
level = NOTSET
formatter = generic
[formatter_generic]
format = %(message)s
"""


@dataclass
class Shape:
    """How one server is asked.

    Attributes:
        name: of the server and the encoding.
        profile: the job file's `api`, but for its base URL.
        request: the job file's `request`.
        records: returns what the server holds, by id.
        change: changes a record as another writer would.
        volatile: members that the server alone writes.
    """

    name: str
    profile: dict[str, Any]
    request: dict[str, Any]
    records: Callable[[], dict[str, dict[str, Any]]]
    change: Callable[[str, dict[str, Any]], None]
    volatile: frozenset[str] = frozenset()


@dataclass
class Report:
    """What was found out.

    Attributes:
        passed: shapes that went through.
        failed: what went wrong.
        missing: servers that could not be installed.
    """

    passed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def ask(method: str, url: str, body: Any = None) -> Any:
    """Ask a server directly, without the program under test."""
    request = urllib.request.Request(url, method=method)  # noqa: S310  loopback
    request.add_header("Authorization", AUTHORIZATION)
    data = None
    if body is not None:
        data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, data, timeout=30) as answer:  # noqa: S310  loopback
        return json.load(answer)


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def serving(command: list[str], url: str, cwd: Path) -> Iterator[None]:
    """Run a server until the block is left."""
    with (cwd / "server.log").open("w") as log:
        process = subprocess.Popen(command, cwd=cwd, stdout=log, stderr=log, start_new_session=True)
        try:
            for _ in range(600):
                try:
                    ask("GET", url)
                    break
                except urllib.error.HTTPError:
                    break
                except OSError:
                    time.sleep(0.1)
            else:
                raise RuntimeError(f"{command[0]} does not answer: {(cwd / 'server.log').read_text()[-500:]}")
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def first_record(number: int) -> dict[str, Any]:
    """Return a record as it is before the migration."""
    return {
        "title": f"old {number}",
        "owner": {"name": "Ann", "mail": f"old{number}@example.com"},
        "tags": ["a", {"b": number}],
    }


def kinto_shapes(url: str) -> list[Shape]:
    """Return how Kinto is asked: merge patches in an envelope, JSON Patches, and whole records with If-Match."""
    things = f"{url}/buckets/b/collections/c/records"

    def records() -> dict[str, dict[str, Any]]:
        found = ask("GET", f"{things}?_limit=1000&_sort=id")["data"]
        for number in range(1, RECORDS + 1) if len(found) < RECORDS else ():
            if f"r{number:03d}" not in {one["id"] for one in found}:
                found.append(ask("GET", f"{things}/r{number:03d}")["data"])
        return {one["id"]: one for one in found}

    def change(name: str, members: dict[str, Any]) -> None:
        ask("PATCH", f"{things}/{name}", {"data": members})

    ask("PUT", f"{url}/buckets/b", {})
    ask("PUT", f"{url}/buckets/b/collections/c", {})
    for number in range(1, RECORDS + 1):
        ask("PUT", f"{things}/r{number:03d}", {"data": first_record(number)})
    path = "/buckets/b/collections/c/records"
    profile = {
        "auth": BASIC,
        "read": True,
        "record": "data",
        "read_only": ["/last_modified", "/id"],
        "collection": {
            "path": f"{path}?_limit=50",
            "items": "data",
            "item": f"{path}/{{id}}",
            "paging": {"by": "next-header", "from": "Next-Page"},
            "columns": ["id", "title", "owner.mail"],
        },
    }
    wanted = {"title": "{title}", "owner": {"name": "Ann", "mail": "{owner.mail}"}}
    by_leaf = {"title": "{title}", "owner": {"mail": "{owner.mail}"}}
    at = f"{path}/{{id}}"
    envelope = {"data": "{@wanted}"}
    requests = {
        "merge-patch": {"method": "PATCH", "path": at, "encoding": "merge-patch", "wanted": by_leaf, "body": envelope},
        "json-patch": {"method": "PATCH", "path": at, "encoding": "json-patch", "wanted": by_leaf, "body": envelope},
        "put-merge": {"method": "PUT", "path": at, "encoding": "put-merge", "wanted": by_leaf, "body": envelope},
        "json with {@etag}": {
            "method": "PATCH",
            "path": at,
            "wanted": wanted,
            "body": envelope,
            "headers": {"If-Match": "{@etag}"},
        },
    }
    whole = {"json with {@etag}": {"replaced_whole": ["/owner"]}}
    volatile = frozenset({"last_modified"})
    return [
        Shape(f"Kinto, {name}", {**profile, **whole.get(name, {})}, request, records, change, volatile)
        for name, request in requests.items()
    ]


def json_server_shapes(url: str) -> list[Shape]:
    """Return how json-server is asked: a Link header leads to the next page, and records are bare."""

    def records() -> dict[str, dict[str, Any]]:
        return {one["id"]: one for one in ask("GET", f"{url}/things")}

    def change(name: str, members: dict[str, Any]) -> None:
        record = ask("GET", f"{url}/things/{name}")
        ask("PUT", f"{url}/things/{name}", {**record, **members})

    collection = {
        "path": "/things?_page=1&_limit=50",
        "items": "@",
        "item": "/things/{id}",
        "paging": {"by": "link-header"},
        "columns": ["id", "title", "owner.mail"],
    }
    wanted: dict[str, Any] = {"title": "{title}", "owner": {"mail": "{owner.mail}"}}
    profile = {"read": True, "collection": collection}
    requests = {
        "put-merge": ({"method": "PUT", "path": "/things/{id}", "encoding": "put-merge", "wanted": wanted}, {}),
        "json, owner replaced whole": (
            {
                "method": "PATCH",
                "path": "/things/{id}",
                "wanted": {**wanted, "owner": {"name": "Ann", **wanted["owner"]}},
            },
            {"replaced_whole": ["/owner"]},
        ),
    }
    return [
        Shape(f"json-server, {name}", {**profile, **more}, request, records, change)
        for name, (request, more) in requests.items()
    ]


@dataclass
class Migrator:
    """The program under test, in a folder of its own."""

    folder: Path
    rng: Random
    killed: int = 0

    def run(self, *arguments: str, codes: tuple[int, ...] = (0,)) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "migrator", *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode not in codes:
            raise AssertionError(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr[-800:]}")
        return done

    def run_with_kills(self, *arguments: str) -> None:
        """Run a command, kill it a few times on its way, and let it end at last."""
        for _ in range(KILLS):
            process = subprocess.Popen(
                [sys.executable, "-m", "migrator", *arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                process.wait(timeout=self.rng.uniform(1.0, 3.0))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                self.killed += 1
        self.run(*arguments)

    def last_run(self) -> str:
        """Return the id of the latest run."""
        return max((self.folder / ".migrator" / "runs").iterdir(), key=lambda path: path.stat().st_mtime_ns).name


def settled(records: dict[str, dict[str, Any]], volatile: frozenset[str]) -> dict[str, dict[str, Any]]:
    """Return records without what the server alone writes."""
    return {key: {name: value for name, value in one.items() if name not in volatile} for key, one in records.items()}


def migrate(shape: Shape, url: str, folder: Path, rng: Random) -> int:
    """Take 300 records through the whole way, and return how often the program was killed on it.

    Raises:
        AssertionError: the server does not hold what it should.
    """
    migrator = Migrator(folder, rng)
    job = {
        "name": "interop",
        "api": {"base_url": url, **shape.profile},
        "request": shape.request,
        "key": "id",
        "items": "items.csv",
    }
    (folder / "job.json").write_text(json.dumps(job))
    (folder / "key").write_text(KEY_TEXT)
    before = settled(shape.records(), shape.volatile)
    assert len(before) == RECORDS
    migrator.run("export", "job.json", "--out", "exported.csv")
    with (folder / "exported.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["id"] for row in rows} == before.keys(), "the export is not the whole collection"
    with (folder / "items.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "title", "owner.mail"])
        writer.writeheader()
        for row in rows:
            number = row["title"].split()[1]
            writer.writerow({"id": row["id"], "title": f"new {number}", "owner.mail": f"new{number}@example.com"})
    assert json.loads(migrator.run("plan", "job.json", "--json").stdout)["counts"]["change"] == RECORDS
    assert settled(shape.records(), shape.volatile) == before, "a plan has written"

    migrator.run_with_kills("run", "job.json", "--keep-before", "--key-file", "key", "--verify", "read", "--yes")
    expected = {key: wanted_of(one) for key, one in before.items()}
    assert settled(shape.records(), shape.volatile) == expected, "the server does not hold what was wanted"
    assert json.loads(migrator.run("plan", "job.json", "--json").stdout)["counts"]["unchanged"] == RECORDS

    foreign = sorted(before)[6]
    run = migrator.last_run()
    shape.change(foreign, {"tags": ["another writer's"]})
    migrator.run_with_kills("rollback", run, "--key-file", "key", "--yes")
    before[foreign]["tags"] = ["another writer's"]
    held = settled(shape.records(), shape.volatile)
    assert held == before, f"{sum(held[key] != before[key] for key in before)} records are not as before"
    shape.change(foreign, {"tags": first_record(int(foreign[1:]))["tags"]})
    return migrator.killed


def wanted_of(record: dict[str, Any]) -> dict[str, Any]:
    """Return what a record is to hold after the run."""
    number = record["title"].split()[1]
    return {**record, "title": f"new {number}", "owner": {"name": "Ann", "mail": f"new{number}@example.com"}}


def try_shapes(shapes: list[Shape], url: str, report: Report, rng: Random) -> None:
    """Migrate by each shape."""
    for shape in shapes:
        with tempfile.TemporaryDirectory(prefix="interop-") as folder:
            started = time.monotonic()
            try:
                kills = migrate(shape, url, Path(folder), rng)
            except (AssertionError, subprocess.TimeoutExpired) as error:
                report.failed.append(f"{shape.name}: {error}")
                print(f"FAILED  {shape.name}: {error}", flush=True)
            else:
                report.passed.append(shape.name)
                took_s = time.monotonic() - started
                print(f"passed  {shape.name}: {RECORDS} records, {kills} kills, {took_s:.0f} s", flush=True)


def kinto(home: Path, report: Report, rng: Random) -> None:
    """Install Kinto into an environment of its own, and migrate on it."""
    binary = home / "kinto" / "bin" / "kinto"
    if not binary.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home / "kinto")], check=True)
        pip = [str(home / "kinto" / "bin" / "pip"), "install", "--quiet", "kinto"]
        if subprocess.run(pip, check=False, timeout=600).returncode:
            report.missing.append("Kinto cannot be installed from PyPI")
            return
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1"
    (home / "kinto.ini").write_text(KINTO_INI.format(port=port))
    with serving([str(binary), "start", "--ini", str(home / "kinto.ini")], f"{url}/", home):
        try_shapes(kinto_shapes(url), url, report, rng)


def json_server(home: Path, report: Report, rng: Random) -> None:
    """Install json-server into a folder of its own, and migrate on it."""
    npm = shutil.which("npm")
    folder = home / "json-server"
    binary = folder / "node_modules" / ".bin" / "json-server"
    if not binary.exists():
        folder.mkdir(parents=True, exist_ok=True)
        install = [npm or "npm", "install", "--silent", "--no-fund", "--no-audit", "json-server@0.17.4"]
        if npm is None or subprocess.run(install, cwd=folder, check=False, timeout=600).returncode:
            report.missing.append("json-server cannot be installed: npm is missing, or its registry")
            return
    things = [{"id": f"r{number:03d}", **first_record(number)} for number in range(1, RECORDS + 1)]
    (folder / "db.json").write_text(json.dumps({"things": things}))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with serving(
        [str(binary), "--quiet", "--host", "127.0.0.1", "--port", str(port), "db.json"], f"{url}/things/r001", folder
    ):
        try_shapes(json_server_shapes(url), url, report, rng)


def main() -> int:
    """Migrate on each server, and say what passed, what failed and what could not be installed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--home", type=Path, default=Path("build/interop"), help="where the servers are installed")
    options.add_argument("--seed", type=int, default=1, help="of the moments at which runs are killed")
    given = options.parse_args()
    home = given.home.absolute()
    home.mkdir(parents=True, exist_ok=True)
    report, rng = Report(), Random(given.seed)
    kinto(home, report, rng)
    json_server(home, report, rng)
    for line in report.missing:
        print(f"missing {line}")
    print(f"{len(report.passed)} passed, {len(report.failed)} failed, {len(report.missing)} servers missing")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
