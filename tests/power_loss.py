"""Replay the writes of a run as a power loss would leave them, resume, and compare: `make power-loss`.

A run is traced with strace: opens, writes, truncations, fsyncs, renames, links, unlinks and new folders below the
working folder, and what is sent to the server. For each prefix of that trace the disk is built again in four ways: with
all that was written; with only what fsync had promised (unsynced data and unsynced names are dropped; a file keeps its
last synced content); and torn, twice: of what was not synced some pages of 4 KiB, or some sectors of 512 bytes, have
arrived, in any order, and the others are as they were, or zeros in a file that has grown. The server is put into the
state that the sent requests make. Then the same command is given, and ledger, results, views and server have to agree.
"""

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Any, Final

from crash import ROUNDS, SCENARIOS, Bench, Scenario, Worker, check_run, offsets, states, workers
from reliability import table, write_section

TRACED: Final = (
    "openat,write,pwrite64,writev,ftruncate,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat,"
    "mkdir,mkdirat,rmdir,close,sendto,sendmsg"
)
CALL: Final = re.compile(r"^(\d+) +(?:([a-z0-9]+)\((.*)|<\.\.\. ([a-z0-9]+) resumed>(.*))$")
RESULT: Final = re.compile(r"\) += +(-?\d+)")
DESCRIPTOR: Final = re.compile(r"^(\d+)<([^>]*)>")
REQUEST: Final = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.1\r\n.*?\r\n\r\n", re.DOTALL)
LENGTH: Final = re.compile(rb"\r\nContent-Length: (\d+)\r\n", re.IGNORECASE)
SCENARIOS_CUT: Final = (
    "run PATCH",
    "run POST",
    "run PATCH, keep-before and verify read",
    "run PATCH, keep-before and plan",
    "rollback",
    "retry",
)
TEXT: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass(slots=True)
class File:
    """A file as the system has it and as the disk has it."""

    now: bytearray = field(default_factory=bytearray)
    synced: bytes = b""

    def torn(self, rng: Random, size: int) -> bytes:
        """Return what the disk holds if only some blocks of that size of what was not synced have arrived."""
        length = rng.choice((len(self.now), len(self.synced)))
        old, new = (bytes(data).ljust(length, b"\0") for data in (self.synced, self.now))
        return b"".join(rng.choice((old, new))[at : at + size] for at in range(0, length, size))[:length]


@dataclass(slots=True)
class Disk:
    """The folder as the system has it (`names`) and as the disk has it after a power loss (`durable`)."""

    names: dict[str, File] = field(default_factory=dict)
    durable: dict[str, File] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    offsets: dict[int, int] = field(default_factory=dict)

    def open(self, descriptor: int, path: str, flags: str) -> None:
        """Open a file, and make or empty it as the flags say."""
        if "O_DIRECTORY" in flags:
            return
        known = self.names.get(path)
        if known is None and "O_CREAT" in flags:
            known = self.names[path] = File()
        if known is not None and "O_TRUNC" in flags:
            known.now.clear()
        self.offsets[descriptor] = len(known.now) if known is not None and "O_APPEND" in flags else 0

    def write(self, descriptor: int, path: str, data: bytes, offset: int | None) -> None:
        """Write at an offset, or at the descriptor's own."""
        if (known := self.names.get(path)) is None:
            return
        place = self.offsets.get(descriptor, 0) if offset is None else offset
        known.now.extend(b"\0" * (place - len(known.now)))
        known.now[place : place + len(data)] = data
        if offset is None:
            self.offsets[descriptor] = place + len(data)

    def sync(self, path: str) -> None:
        """Make a file's data durable, or a folder's names."""
        if path in self.names:
            self.names[path].synced = bytes(self.names[path].now)
            # A journalling file system makes the new file's name durable with its data.
            self.durable.setdefault(path, self.names[path])
            return
        below = f"{path}/"
        for name in [name for name in self.durable if name.startswith(below) and "/" not in name[len(below) :]]:
            if name not in self.names:
                del self.durable[name]
        for name, file in self.names.items():
            if name.startswith(below) and "/" not in name[len(below) :]:
                self.durable[name] = file

    def build(self, folder: Path, root: str, loss: "Loss", rng: Random) -> None:
        """Write the folder as it is found after the power is back."""
        for path in sorted(self.folders):
            target = folder / Path(path).relative_to(root)
            target.mkdir(mode=0o700, exist_ok=True)
        named = loss is Loss.NOTHING or (loss is not Loss.UNSYNCED and rng.random() < 1 / 2)
        for path, file in (self.names if named else self.durable).items():
            target = folder / Path(path).relative_to(root)
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            match loss:
                case Loss.NOTHING:
                    target.write_bytes(file.now)
                case Loss.UNSYNCED:
                    target.write_bytes(file.synced)
                case _:
                    target.write_bytes(file.torn(rng, TORN[loss]))
            target.chmod(0o600)


class Loss(StrEnum):
    """What of the unsynced a cut leaves."""

    NOTHING = "all that was written"
    UNSYNCED = "what was synced"
    PAGES = "torn pages"
    SECTORS = "torn sectors"


TORN: Final = {Loss.PAGES: 4096, Loss.SECTORS: 512}


@dataclass(frozen=True, slots=True)
class Step:
    """One traced call, with its arguments still as text."""

    call: str
    arguments: str
    result: int

    @property
    def durable(self) -> bool:
        """Whether the call changes what a power loss leaves."""
        return self.call in {
            "fsync",
            "fdatasync",
            "rename",
            "renameat",
            "renameat2",
            "link",
            "linkat",
            "unlink",
            "unlinkat",
        }


def text(escaped: str) -> bytes:
    """Return the bytes that strace has written with escapes."""
    found: bytes = ast.literal_eval(f'b"{escaped}"')
    return found


def trace(path: Path) -> Iterator[Step]:
    """Yield the calls of a trace in the order in which they ended."""
    waiting: dict[str, tuple[str, str]] = {}
    for line in path.read_text("latin-1").splitlines():
        if (found := CALL.match(line)) is None:
            continue
        pid, call, rest, resumed, tail = found.groups()
        if call and rest.endswith("<unfinished ...>"):
            waiting[pid] = call, rest.removesuffix("<unfinished ...>").rstrip()
            continue
        if resumed:
            call, begun = waiting.pop(pid, (resumed, ""))
            rest = begun + tail
        if (result := RESULT.search(rest)) is not None and int(result[1]) >= 0:
            yield Step(call, rest, int(result[1]))


class Replay:
    """Follows a trace: what the disk holds, and what the server has been sent."""

    def __init__(self, start: Path, root: str) -> None:
        self.root = root
        self.disk = Disk()
        self.sent: list[tuple[str, str, Any]] = []
        self._streams: defaultdict[str, bytes] = defaultdict(bytes)
        for path in sorted(start.rglob("*")):
            name = f"{root}/{path.relative_to(start)}"
            if path.is_dir():
                self.disk.folders.add(name)
            else:
                data = path.read_bytes()
                self.disk.names[name] = self.disk.durable[name] = File(bytearray(data), data)

    def follow(self, step: Step) -> None:
        """Take one step."""
        match step.call:
            case "openat":
                names = TEXT.findall(step.arguments)
                shown = re.search(r"= \d+<([^>]*)>", step.arguments)
                if shown and shown[1].startswith(self.root) and names:
                    self.disk.open(step.result, shown[1], step.arguments)
            case "write" | "writev" | "pwrite64" | "ftruncate" | "fsync" | "fdatasync":
                self._file(step)
            case "sendto" | "sendmsg":
                self._send(step)
            case "mkdir" | "mkdirat":
                self.disk.folders.update(self._paths(step))
            case "rename" | "renameat" | "renameat2" | "link" | "linkat" | "unlink" | "unlinkat":
                self._name(step)
            case _:
                pass

    def _file(self, step: Step) -> None:
        found = DESCRIPTOR.match(step.arguments)
        if found is None:
            return
        descriptor, path = int(found[1]), found[2].removesuffix(" (deleted)")
        if step.call in {"fsync", "fdatasync"}:
            self.disk.sync(path)
        elif path.startswith(self.root):
            data = b"".join(map(text, TEXT.findall(step.arguments)))
            if step.call == "ftruncate":
                length = int(step.arguments.split(",")[1].split(")")[0])
                known = self.disk.names[path].now
                known[length:] = b"\0" * max(0, length - len(known))
            elif step.call == "pwrite64":
                offset = int(step.arguments.rsplit(")", 1)[0].rsplit(",", 1)[1])
                self.disk.write(descriptor, path, data[: step.result], offset)
            else:
                self.disk.write(descriptor, path, data[: step.result], None)
        elif "socket:" in path or "TCP:" in path:
            self._send(step)

    def _paths(self, step: Step) -> list[str]:
        names = [text(name).decode() for name in TEXT.findall(step.arguments)]
        return [
            path for path in (f"{self.root}/{name}" if name[0] != "/" else name for name in names) if self._ours(path)
        ]

    def _ours(self, path: str) -> bool:
        return path.startswith(self.root)

    def _name(self, step: Step) -> None:
        paths = self._paths(step)
        names = self.disk.names
        if step.call.startswith("unlink") and paths:
            names.pop(paths[0], None)
        elif len(paths) == 2 and paths[0] in names:
            names[paths[1]] = names[paths[0]]
            if step.call.startswith("rename"):
                del names[paths[0]]

    def _send(self, step: Step) -> None:
        """Collect what is sent on a connection, and take whole writes from it."""
        if (found := DESCRIPTOR.match(step.arguments)) is None:
            return
        data = self._streams[found[2]] + b"".join(text(part) for part in TEXT.findall(step.arguments))[: step.result]
        while (request := REQUEST.match(data)) is not None:
            head, whole = request[0], len(request[0]) + int((LENGTH.search(request[0]) or [0, 0])[1])
            if len(data) < whole:
                break
            if request[1] in {b"PATCH", b"PUT", b"POST"} and request[2].startswith(b"/things"):
                self.sent.append((request[1].decode(), request[2].decode(), json.loads(data[len(head) : whole])))
            data = data[whole:]
        self._streams[found[2]] = data

    def server(self, start: Mapping[str, Any]) -> dict[str, Any]:
        """Return the server's state after what was sent."""
        state: dict[str, Any] = json.loads(json.dumps(start))
        for method, path, body in self.sent:
            key = body["id"] if method == "POST" else path.rpartition("/")[2]
            known = state["things"].get(key, {})
            kept = {name: known[name] for name in ("id", "owner")} if method == "PUT" else known
            state["things"][key] = kept | body
            state["writes"][key] = state["writes"].get(key, 0) + 1
        return state


def traced_run(bench: Bench, scenario: Scenario) -> list[Step]:
    """Run a scenario's command under strace and return its steps."""
    log = bench.folder / "trace.txt"
    command = ["strace", "-f", "-y", "-s", "4000000", "-o", str(log), "-e", f"trace={TRACED}"]
    cheap = "import migrator.store.vault as vault; vault.COST = 2; from migrator.cli.main import main; main()"
    program = [sys.executable, "-c", cheap, *scenario.command]  # the key is derived as cheaply as in `crash_points`
    subprocess.run([*command, *program], cwd=bench.work, env=bench.environment, capture_output=True, check=False)
    return list(trace(log))


@dataclass(slots=True)
class Tally:
    """What came of a scenario."""

    name: str
    cuts: int = 0
    tried: int = 0
    findings: list[str] = field(default_factory=list)


def examine(name: str, deadline: float) -> Tally:
    """Cut the power after each step that matters.

    Each round tries other cuts, so that the time limit leaves out some all over the run, and not its end.
    """
    scenario, bench, tally = SCENARIOS[name], Bench(Worker.folder / "power", Worker.url), Tally(name)
    bench.prepare(scenario)
    start = bench.seen()
    steps = traced_run(bench, scenario)
    for first in offsets(ROUNDS):
        replay = Replay(bench.start, str(bench.work))
        tally.cuts = 0
        for number, step in enumerate(steps):
            sent = len(replay.sent)
            replay.follow(step)
            if not step.durable and len(replay.sent) == sent:
                continue
            for loss in Loss:
                tally.cuts += 1
                if tally.cuts % ROUNDS != first or time.monotonic() > deadline:
                    continue
                tally.tried += 1
                found = cut(bench, scenario, replay, start, loss, Random(f"{name} {number} {loss}"))
                tally.findings += [f"step {number} ({step.call}), {loss}: {one}" for one in found]
    return tally


def cut(
    bench: Bench, scenario: Scenario, replay: Replay, start: Mapping[str, Any], loss: Loss, rng: Random
) -> Iterator[str]:
    """Build the disk as the cut leaves it, resume, and yield what is wrong."""
    shutil.rmtree(bench.work)
    bench.work.mkdir()
    replay.disk.build(bench.work, replay.root, loss, rng)
    bench.restore(replay.server(start))
    if scenario.command[0] != "run" or not states(bench)["ended"]:
        code = bench.run(scenario.command)
        said = (bench.work / "err.txt").read_text()
        if code not in {0, 1} or "Traceback" in said:
            yield f"exit code {code}: {said[-300:]}"
            return
    yield from (scenario.check or check_run)(bench, scenario)


def main() -> None:
    """Examine the scenarios, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0, help="end after that time")
    parser.add_argument("--only", default="", help="scenarios whose names contain this")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes that cut")
    parser.add_argument("--write", action="store_true", help="write the section of docs/reliability.md")
    given = parser.parse_args()
    deadline = time.monotonic() + given.minutes * 60
    names = [name for name in SCENARIOS_CUT if given.only in name]
    tallies: list[Tally] = []
    with tempfile.TemporaryDirectory() as folder, workers(Path(folder), given.jobs) as pool:
        for tally in pool.map(examine, names, [deadline] * len(names)):
            tallies.append(tally)
            print(f"{tally.name:<42} {tally.cuts:>4} cuts, {tally.tried:>4} tried {len(tally.findings):>3} findings")
            for finding in tally.findings:
                print(f"    {finding}")
            sys.stdout.flush()
    rows = [(tally.name, tally.cuts, tally.tried, len(tally.findings)) for tally in tallies]
    cuts, tried, findings = (sum(numbers) for numbers in list(zip(*rows, strict=True))[1:])
    print(f"{tried} of {cuts} cuts, {findings} findings")
    if given.write:
        text = (
            "The calls of a run are recorded with strace. After each fsync, rename, link, unlink and write to the "
            "server the disk is built again four times: with all that was written; with only what was synced; and "
            "twice torn, with some of the pages (4 KiB) or sectors (512 bytes) that were not synced, drawn at random, "
            "and zeros where a file had grown. The same command is given, and ledger, results, views and server have "
            "to agree. Names that reach the disk in another order than they were made were not tried."
        )
        told = f"**{tried:,} cuts, {findings} findings.** {cuts - tried:,} of {cuts:,} cuts were not tried."
        shown = table(["command", "cuts", "tried", "findings"], rows)
        write_section("power-loss", "The power is cut", [text, told, shown])
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
