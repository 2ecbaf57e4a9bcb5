"""Every request is valid by the vendor's own OpenAPI document: Prism (npm) reads the document and judges each one.

The folder with the documents is named by MIGRATOR_OPENAPI; they are not part of this project. For each document Prism
serves made-up answers. The example jobs of the built-in profile run against it, its list is exported, and
`init --openapi` makes a job of every operation that writes, whose own template is then checked and run. What is not
valid, Prism writes into its log.

Run: MIGRATOR_OPENAPI=FOLDER make interop, or this file with the names of some documents
"""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from interop import Report, free_port, serving
from interop_profiles import JOBS, operations

from migrator.job.profile.api_profile import built_in, built_in_names

VIOLATION = re.compile(r"Violation: (request\S* .*)|HTTP SERVER\S* (\w+ /\S+) .*#(NO_PATH_MATCHED_ERROR)")
UNKNOWN = re.compile(r"HTTP SERVER\S* (\w+) (\S+) .*#(NO_METHOD_MATCHED_ERROR|NOT_ACCEPTABLE)")
RECEIVED = re.compile(r"HTTP SERVER\S* (\w+) (\S+)")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
PATIENCE_S = 120
"""Seconds that one command may take."""


@dataclass
class Prism:
    """A document that is served.

    Attributes:
        url: of the server.
        log: what Prism writes of each request.
        read: characters of the log that were looked at.
    """

    url: str
    log: Path
    read: int = 0

    def seen(self) -> tuple[int, list[str], list[str]]:
        """Return the requests since the last look, what was not valid of them, and what the document cannot judge."""
        text = COLOUR.sub("", self.log.read_text("utf-8"))
        new, self.read = text[self.read :], len(text)
        invalid = dict.fromkeys(" ".join(filter(None, found)) for found in VIOLATION.findall(new))
        unknown = dict.fromkeys(f"{method.upper()} ({why})" for method, _, why in UNKNOWN.findall(new))
        return len(RECEIVED.findall(new)), list(invalid), list(unknown)


@contextmanager
def prism(binary: Path, document: Path, home: Path) -> Iterator[Prism]:
    """Serve a document, whose answers have the profile's own media type as well: that one is cut out of the copies."""
    spec = json.loads(document.read_text("utf-8"))
    accept = json.loads(built_in(document.stem) or "{}").get("headers", {}).get("Accept")
    for item in spec["paths"].values():
        for operation in item.values() if accept else ():
            for reply in operation.get("responses", {}).values() if isinstance(operation, dict) else ():
                if "application/json" in reply.get("content", {}):
                    reply["content"][accept] = reply["content"]["application/json"]
    document = home / document.name
    document.write_text(json.dumps(spec), "utf-8")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with serving([str(binary), "mock", "--port", str(port), str(document)], url, home):
        yield Prism(url, home / "server.log")


def migrator(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the program, with every variable that a profile or a made job may name."""
    named = set(re.findall(r"\$\{(\w+)\}", "".join(built_in(name) or "" for name in built_in_names(templates=False))))
    named |= {name for one in folder.glob("*.json") for name in re.findall(r"\$\{(\w+)\}", one.read_text("utf-8"))}
    values = {name: "https://server.example.com" if name.endswith("_URL") else "example.com" for name in named}
    values["OKTA_BASE_URL"] = "https://example.okta.com"
    return subprocess.run(
        [sys.executable, "-m", "migrator", *arguments],
        cwd=folder,
        env={**os.environ, **values},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,  # a command that does not end is a finding
        stdin=subprocess.DEVNULL,
    )


def variables(job: Path) -> tuple[str, ...]:
    """Return the option that lets a made job read its own variables."""
    named = sorted(set(re.findall(r"\$\{(\w+)\}", job.read_text("utf-8"))))
    return ("--allow-env", ",".join(named)) if named else ()


def try_job(server: Prism, folder: Path, name: str, *allowed: str) -> list[str]:
    """Run a job, whose rows are checked before, and return what is wrong with it or with its requests.

    Prism's answers are made up, so that they are not compared with what was sent. What the document cannot judge is
    said, and is no failure: the copies are cut down.
    """
    server.seen()
    options = ("--base-url", server.url, "--verify", "none", "--canary", "0", "--max-failures", "100%", "--yes")
    told = migrator(folder, "run", f"{name}.json", *options, *allowed)
    requests, invalid, unknown = server.seen()
    if unknown:
        print(f"        {name}: the document cannot judge {', '.join(unknown)}", flush=True)
    problems = [f"{name}: {one}" for one in invalid]
    if (told.returncode and not unknown) or not requests:
        problems.append(f"{name}: {requests} requests, run ended with {told.returncode}: {told.stderr[-600:]}")
    return problems


def more_rows(items: Path, job: Path) -> None:
    """Make three rows of a template's one, with keys of their own."""
    key = json.loads(job.read_text("utf-8"))["key"]
    last = key if isinstance(key, str) else key[-1]
    if items.suffix == ".jsonl":
        one = json.loads(items.read_text("utf-8"))
        made = [{**one, last: f"{one[last]}{more}"} for more in ("", "2", "3")]
        items.write_text("".join(json.dumps(row) + "\n" for row in made), "utf-8")
        return
    with items.open(newline="", encoding="utf-8") as file:
        names, *rows = csv.reader(file)
    place = names.index(last)
    with items.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(names)
        for row in rows[:1]:
            table.writerows([*row[:place], row[place] + more, *row[place + 1 :]] for more in ("", "2", "3"))


def examples(server: Prism, name: str, folder: Path) -> Iterator[str]:
    """Run a built-in profile's example jobs, and export its list; yield what is wrong."""
    for job in sorted(JOBS.glob("*.json")):
        if json.loads(job.read_text("utf-8"))["api"] == name:
            for suffix in (".json", ".csv"):
                shutil.copy(job.with_suffix(suffix), folder)
            yield from try_job(server, folder, job.stem)
    if "collection" in json.loads(built_in(name) or "{}"):
        server.seen()
        told = migrator(folder, "export", name, "--base-url", server.url, "--out", "exported.csv")
        requests, invalid, _ = server.seen()
        yield from (f"{name}: export: {one}" for one in invalid)
        # A made-up page may name a next one, or a total that does not fit: that ends the export, as it has to.
        if not requests or told.returncode not in {0, 2, 3}:
            yield f"{name}: export: {requests} requests, ended with {told.returncode}: {told.stderr[-400:]}"


def made_jobs(server: Prism, document: Path, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Make a job of each operation that writes, run it, and yield the operation with what is wrong."""
    spec = json.loads(document.read_text("utf-8"))
    for place in operations(spec):
        method = place.partition(" ")[0]
        if method == "GET":
            continue
        path = next(path for path, item in spec["paths"].items() if method.lower() in item and fits(place, path))
        within = Path(tempfile.mkdtemp(dir=folder))
        made = migrator(within, "init", "--openapi", str(document), "--operation", f"{method} {path}")
        job = next(within.glob("*.json"), None)
        if made.returncode or job is None:
            yield place, [f"{document.stem}: {place}: init ended with {made.returncode}: {made.stderr[-400:]}"]
            continue
        rows = next(one for one in within.iterdir() if one.suffix in {".csv", ".jsonl"})
        if rows.read_text("utf-8").count("\n") == 1 and rows.suffix == ".csv":
            print(f"        {document.stem}: {place}: its members are not described, so that there is no example")
            continue
        more_rows(rows, job)
        yield place, [f"{document.stem}: {one}" for one in try_job(server, within, job.stem, *variables(job))]


def fits(place: str, path: str) -> bool:
    """Tell whether an operation's place, whose columns have no names, is that of a path."""
    return re.sub(r"\{[^{}]*\}", "{}", path) == place.partition(" ")[2]


def install(home: Path, report: Report) -> Iterator[Path]:
    """Install Prism into a folder of its own, and yield its program; nothing where that cannot be done."""
    binary = home / "node_modules" / ".bin" / "prism"
    if not binary.exists():
        home.mkdir(parents=True, exist_ok=True)
        npm = shutil.which("npm")
        command = [npm or "npm", "install", "--silent", "--no-fund", "--no-audit", "@stoplight/prism-cli@5"]
        if npm is None or subprocess.run(command, cwd=home, check=False, timeout=600).returncode:
            report.missing.append("Prism cannot be installed: npm is missing, or its registry")
            return
    yield binary


def main() -> int:
    """Hold every document's requests against it, and print what was looked at."""
    folder = Path(os.environ.get("MIGRATOR_OPENAPI", ""))
    if not os.environ.get("MIGRATOR_OPENAPI") or not folder.is_dir():
        print("missing the vendors' documents: MIGRATOR_OPENAPI names no folder, so that Prism was not asked")
        return 0
    report, home = Report(), Path("build/interop/prism").absolute()
    only = set(sys.argv[1:])
    for binary, document in product(install(home, report), sorted(folder.glob("*.json"))):
        if only and document.stem not in only:
            continue
        with tempfile.TemporaryDirectory(prefix="interop-") as place, prism(binary, document, home) as server:
            if document.stem in built_in_names(templates=False):
                found = list(examples(server, document.stem, Path(place)))
                told(report, f"Prism, {document.stem}: the profile's examples and list", found)
            for operation, found in made_jobs(server, document, Path(place)):
                told(report, f"Prism, {document.stem}: init of {operation}", found)
    for line in report.missing:
        print(f"missing {line}")
    print(f"{len(report.passed)} passed, {len(report.failed)} failed, {len(report.missing)} servers missing")
    return 1 if report.failed else 0


def told(report: Report, what: str, problems: list[str]) -> None:
    """Take down what came of something, and print it."""
    (report.failed if problems else report.passed).append(what)
    print(f"{'FAILED ' if problems else 'passed '} {what}", *problems, sep="\n        ", flush=True)


if __name__ == "__main__":
    sys.exit(main())
