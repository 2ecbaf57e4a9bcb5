"""Faults of every kind against real processes, for as long as is asked; writes what it measured to docs/reliability.md.

It is a script and no test: `make soak`, or `python tests/soak.py --minutes 60 --items 1000000`.
"""

import argparse
import json
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from conftest import MIGRATOR, Workplace
from fault_proxy import FAULTS, Fault, fault_proxy, on_items
from reliability import table, write_section
from sandboxes import SECRET, SandboxProcess, sandbox_process

ROUND_ITEMS: Final = 200
EVERY: Final = 5
SLOTS: Final = 8
ITEMS_A_SIGNAL: Final = 10
LONGEST_S: Final = 120.0
HUNG: Final = 124
"""What stands in the place of the exit code of a command that does not come to its end, as timeout(1) has it."""

PAUSING: Final = frozenset({"429", "429 with Retry-After", "503 with Retry-After"})
"""Faults that hold up the whole run for a second or more each, and so are given to fewer items."""

ENDED: Final = frozenset({0, 1})
"""Exit codes of a run that has come to its end."""

SECRETS: Final = (b"new-secret", b"BEXAMPLE", SECRET.encode())
OWN_FILES: Final = frozenset({"succeeded.csv", "failed.csv"})


@dataclass
class Tally:
    """What came of one kind of fault, over all its rounds.

    Attributes:
        times: how often the fault happened.
        items: that were to be sent.
        lost: items that do not stand in the results exactly once.
        doubled: requests of an item beyond those that its record or a kill accounts for.
        secrets: outputs and files that show one.
        endings: exit codes of commands that came to their end.
    """

    times: int = 0
    items: int = 0
    lost: int = 0
    doubled: int = 0
    secrets: int = 0
    endings: Counter[int] | None = None

    def add(self, other: "Tally") -> None:
        """Add a round."""
        self.times += other.times
        self.items += other.items
        self.lost += other.lost
        self.doubled += other.doubled
        self.secrets += other.secrets
        self.endings = (self.endings or Counter()) + (other.endings or Counter())

    @property
    def bad(self) -> bool:
        """Tell whether a promise was broken."""
        wrong = set(self.endings or ()) - {0, 1, 3, 143}
        return bool(self.lost or self.doubled or self.secrets or wrong)


Round = Callable[[Workplace, random.Random], Tally]


def command(url: str, *options: str) -> list[str]:
    """Return the arguments of a run."""
    return ["run", "job.json", "--base-url", url, "--concurrency", str(SLOTS), "--timeout", "1", *options]


def finish(process: "subprocess.Popen[str]", tally: Tally) -> int:
    """Wait for a command's end; note its exit code and what it said that it should not."""
    try:
        out, err = process.communicate(timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        tally.endings = (tally.endings or Counter()) + Counter({HUNG: 1})
        return HUNG
    tally.secrets += shows_a_secret(out.encode()) + shows_a_secret(err.encode())
    if process.returncode >= 0:
        tally.endings = (tally.endings or Counter()) + Counter({process.returncode: 1})
    return process.returncode


def shows_a_secret(output: bytes) -> bool:
    """Tell whether a secret of the job stands in it."""
    return any(secret in output for secret in SECRETS)


def account(workplace: Workplace, tally: Tally) -> dict[str, dict[str, Any]]:
    """Count what the run's files have lost or show, and return its records by key."""
    seen: Counter[str] = Counter()
    records: dict[str, dict[str, Any]] = {}
    for record in workplace.results():
        seen[record["key"]] += 1
        records[record["key"]] = record
    wanted = [f"i-{number:05d}" for number in range(1, tally.items + 1)]
    tally.lost += sum(seen[key] != 1 for key in wanted)
    for path in (workplace.folder / ".migrator").rglob("*"):
        if path.is_file() and path.name not in OWN_FILES:
            tally.secrets += shows_a_secret(path.read_bytes())
    return records


def network_round(name: str, fault: Fault, workplace: Workplace, rng: random.Random) -> Tally:
    """One run with a fault at some of its items."""
    tally = Tally(items=ROUND_ITEMS)
    workplace.write_job(ROUND_ITEMS)
    times = rng.randint(1, 2)
    with (
        sandbox_process("--items", str(ROUND_ITEMS), "--limit", "0") as sandbox,
        fault_proxy(sandbox.url, on_items(fault, every=50 if name in PAUSING else EVERY, times=times)) as proxy,
    ):
        finish(workplace.start(*command(proxy.url, "--max-failures", "50%", "--log-level", "debug")), tally)
        tally.times = sum(proxy.met.values()) - proxy.met[""]
        attempts = sandbox.stats()["attempts"]
    records = account(workplace, tally)
    for key, count in attempts.items():
        tally.doubled += max(0, count - records.get(key, {"attempts": 1})["attempts"])
    return tally


def away_round(workplace: Workplace, rng: random.Random) -> Tally:
    """One run whose server refuses connections until it gives up, and comes back."""
    tally = Tally(items=ROUND_ITEMS)
    workplace.write_job(ROUND_ITEMS)
    with sandbox_process("--items", str(ROUND_ITEMS), "--limit", "0", "--latency", "5ms") as sandbox:
        with fault_proxy(sandbox.url) as proxy:
            moment = rng.randint(1, ROUND_ITEMS // 2)
            process = workplace.start(*command(proxy.url, "--max-attempts", "2", "--max-outage", "2s"))
            wait_for(process, lambda: len(proxy.attempts) >= moment)
            proxy.refuse()
            tally.times += 1
            finish(process, tally)
            proxy.listen()
            finish(workplace.start(*command(proxy.url)), tally)
        attempts = sandbox.stats()["attempts"]
    account(workplace, tally)
    tally.doubled += max(0, sum(count - 1 for count in attempts.values()) - SLOTS)
    return tally


def interrupted_round(
    number: signal.Signals, times: int, request: dict[str, Any], workplace: Workplace, rng: random.Random
) -> Tally:
    """One job that is ended with a signal at random moments and goes on with the same command."""
    items = max(ROUND_ITEMS, ITEMS_A_SIGNAL * times)
    tally = Tally(items=items)
    workplace.write_job(items, **request)
    unsafe = bool(request)
    options = ("--canary", "0", "--max-failures", "100%") if unsafe else ()
    recorded: dict[str, int] = {}
    with sandbox_process("--items", str(items), "--limit", "0", "--latency", "5ms", "--jitter", "10ms") as sandbox:
        for moment in sorted(rng.sample(range(1, items), times)):
            process = workplace.start(*command(sandbox.url, *options))
            wait_for(process, partial(has_sent, sandbox, moment))
            if process.poll() is None:
                process.send_signal(number)
                tally.times += 1
            code = finish(process, tally)
            attempts = sandbox.stats()["attempts"]
            for key in recorded_keys(workplace):
                recorded.setdefault(key, attempts[key])
            if code in ENDED:
                # What is in doubt may never reach the server. The same command would begin anew.
                break
        else:
            finish(workplace.start(*command(sandbox.url, *options)), tally)
        attempts = sandbox.stats()["attempts"]
    account(workplace, tally)
    again = sum(count - 1 for count in attempts.values())
    # SIGTERM lets what is in flight end, and what may not be sent twice is not sent twice whatever happens.
    allowed = 0 if unsafe or number is not signal.SIGKILL else tally.times * SLOTS
    tally.doubled += max(0, again - allowed) + sum(attempts[key] - count for key, count in recorded.items())
    return tally


def full_disk_round(workplace: Workplace, rng: random.Random) -> Tally:
    """One run whose files may not grow beyond a size, and which goes on when they may."""
    tally = Tally(times=1, items=ROUND_ITEMS)
    workplace.write_job(ROUND_ITEMS)
    size = rng.randint(40_000, 150_000)
    with sandbox_process("--items", str(ROUND_ITEMS), "--limit", "0", "--latency", "5ms") as sandbox:
        process = subprocess.Popen(
            [*MIGRATOR, *command(sandbox.url)],
            cwd=workplace.folder,
            env=workplace.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),  # noqa: PLW1509  no lock is held
        )
        if finish(process, tally) != 0:
            finish(workplace.start(*command(sandbox.url)), tally)
        attempts = sandbox.stats()["attempts"]
    account(workplace, tally)
    tally.doubled += max(0, sum(count - 1 for count in attempts.values()) - SLOTS)
    return tally


def wait_for(process: "subprocess.Popen[str]", reached: Callable[[], bool]) -> None:
    """Wait until a moment is reached or the process has ended; give up after a while."""
    until = time.monotonic() + LONGEST_S
    while process.poll() is None and not reached():
        if time.monotonic() > until:
            raise TimeoutError("the run does not get on")


def has_sent(sandbox: SandboxProcess, moment: int) -> bool:
    """Tell whether the server has seen so many items."""
    return len(sandbox.stats()["attempts"]) >= moment


def recorded_keys(workplace: Workplace) -> list[str]:
    """Return the keys of the whole lines of the results that say success; there may be no run yet."""
    found = []
    for results in (workplace.folder / ".migrator").glob("runs/*/results.jsonl"):
        *whole, _ = results.read_bytes().split(b"\n")
        found += [record["key"] for record in map(json.loads, whole) if record["status"] == "succeeded"]
    return found


UNSAFE: Final = {
    "request": {
        "method": "PATCH",
        "path": "/notifications/v1/integrations/{id}",
        "body": {"target": {"kind": "Slack", "webhook_url": "{webhook_url}"}},
        "idempotent": False,
    }
}

ANSWERS: Final[dict[str, Round]] = {
    f"answer: {name}": partial(network_round, name, fault) for name, fault in FAULTS.items()
}
ROUNDS: Final[dict[str, Round]] = {
    "kill -9": partial(interrupted_round, signal.SIGKILL, 200, {}),
    "kill -9, requests that are not idempotent": partial(interrupted_round, signal.SIGKILL, 100, UNSAFE),
    "SIGTERM": partial(interrupted_round, signal.SIGTERM, 20, {}),
    "files may not grow": full_disk_round,
    "server away": away_round,
    **ANSWERS,
}


@contextmanager
def workplace() -> Iterator[Workplace]:
    """Make an empty folder to work in."""
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        yield Workplace(Path(folder))


@dataclass(frozen=True)
class Large:
    """What one large run took."""

    items: int
    seconds: float
    memory_mb: float
    ledger_mb: float
    results_mb: float
    faults: tuple[str, ...]

    def text(self) -> str:
        """Return it for people."""
        return (
            f"{self.items:,} items, 64 at a time: {self.seconds:.0f} s from start to summary "
            f"({self.items / self.seconds:,.0f}/s), {self.memory_mb:.0f} MB of memory at the most, "
            f"`ledger.db` {self.ledger_mb:.0f} MB, `results.jsonl` {self.results_mb:.0f} MB; "
            + ("consistent with what the server saw." if not self.faults else "WRONG: " + "; ".join(self.faults) + ".")
        )


def peak_mb(process: int) -> float:
    """Return a running process's largest memory so far; what wait4(2) tells counts the parent it was forked from."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


def large_run(items: int) -> Large:
    """Run one job of many items against a server without a limit, and compare all that there is to compare."""
    with workplace() as place, sandbox_process("--items", str(items), "--limit", "0") as sandbox:
        place.write_job(items)
        started = time.monotonic()
        with (place.folder / "out").open("wb") as out:
            process = subprocess.Popen(
                [*MIGRATOR, "run", "job.json", "--base-url", sandbox.url, "--concurrency", "64", "--progress", "none"],
                cwd=place.folder,
                env=place.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
            memory_mb = 0.0
            while (code := process.poll()) is None:
                memory_mb = max(memory_mb, peak_mb(process.pid))
                time.sleep(0.2)
        seconds = time.monotonic() - started
        run = place.last_run()
        faults = []
        if code:
            faults.append(f"exit code {code}")
        once = bytearray(items + 1)
        with (run / "results.jsonl").open("rb") as lines:
            for line in lines:
                record = json.loads(line)
                once[record["item"]] += record["status"] == "succeeded"
        if once.count(1) != items:
            faults.append(f"{items - once.count(1)} items are not in the results exactly once")
        with closing(sqlite3.connect(run / "ledger.db")) as connection:
            (held,) = connection.execute("SELECT count(*) FROM item WHERE status = 'succeeded'").fetchone()
        if held != items:
            faults.append(f"{held} items are in the ledger")
        writes = sandbox.stats()["writes"]
        if len(writes) != items or set(writes.values()) != {1}:
            faults.append("the server was not written to exactly once for each item")
        return Large(
            items=items,
            seconds=seconds,
            memory_mb=memory_mb,
            ledger_mb=(run / "ledger.db").stat().st_size / 1e6,
            results_mb=(run / "results.jsonl").stat().st_size / 1e6,
            faults=tuple(faults),
        )


def soak(minutes: float, seed: int) -> dict[str, Tally]:
    """Go round all faults until the time is over; each is met once at least."""
    rng, tallies = random.Random(seed), {name: Tally() for name in ROUNDS}
    until = time.monotonic() + 60 * minutes
    for count, (name, one) in enumerate(cycle(ROUNDS.items())):
        if count >= len(ROUNDS) and time.monotonic() > until:
            break
        with workplace() as place:
            done = one(place, rng)
        tallies[name].add(done)
        print(f"{name:45} {done}", flush=True)
    return tallies


def write_report(tallies: dict[str, Tally], large: Large, *, minutes: float, seed: int) -> None:
    """Write the section of docs/reliability.md."""
    rows = [
        (name, tally.times, f"{tally.items:,}", tally.lost, tally.doubled, tally.secrets)
        for name, tally in tallies.items()
    ]
    text = (
        "*Lost* are items that do not stand in `results.jsonl` exactly once at the end. *Doubled* are requests that "
        "the server saw beyond what an item's record tells and, after a kill, beyond the slots in flight. *Secrets* "
        "are outputs and files that show one, but for `succeeded.csv` and `failed.csv`."
    )
    heads = ["fault", "times", "items", "lost", "doubled beyond those in flight", "secrets found"]
    paragraphs = [
        f"{minutes:g} minutes of faults, seed {seed}.",
        text,
        table(heads, rows),
        f"One large run: {large.text()}",
    ]
    write_section("soak", "Faults of every kind", paragraphs)


def main() -> int:
    """Soak, and return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    tallies = soak(given.minutes, given.seed)
    large = large_run(given.items)
    print(large.text())
    write_report(tallies, large, minutes=given.minutes, seed=given.seed)
    bad = [name for name, tally in tallies.items() if tally.bad]
    for name in bad:
        print(f"broken: {name}: {tallies[name]}")
    return 1 if bad or large.faults else 0


if __name__ == "__main__":
    sys.exit(main())
