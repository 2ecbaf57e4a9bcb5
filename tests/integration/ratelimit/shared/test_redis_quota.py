"""The quota in a real Redis server: the same as the specification, and no reason to stop where the server is gone."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
import redis
from msgspec.structs import astuple, fields
from redis_server import RedisServer, needs_redis, redis_server

from migrator.ratelimit.shared.budget import Budget
from migrator.ratelimit.shared.model import Report, ReportKind, Share
from migrator.ratelimit.shared.redis_quota import SCRIPT, TAKE, RedisQuota

pytestmark = needs_redis

IDENTITY = b"an identity of at least 16 bytes"
CLOCK = "local now = tonumber(time[1]) + tonumber(time[2]) / 1000000"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Start a server for the module."""
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


def connect(server: RedisServer) -> Any:
    """Return a client."""
    return redis.Redis(port=server.port, decode_responses=True)


def never(why: str | None) -> None:
    """Be told that a server has gone that has not."""
    raise AssertionError(why)


class Twin:
    """The specification and the script, side by side, with a clock that the test sets."""

    def __init__(self, server: RedisServer) -> None:
        self.client = connect(server)
        self.client.flushall()
        assert CLOCK in SCRIPT
        self.script = self.client.register_script(SCRIPT.replace(CLOCK, "local now = tonumber(ARGV[#ARGV])"))
        self.budgets: defaultdict[str, Budget] = defaultdict(Budget)

    def apply(self, now: float, *steps: tuple[str, Report | None]) -> list[Share]:
        """Apply steps to both, compare all that is known, and return what was taken."""
        keys: list[str] = []
        arguments: list[int | float] = []
        expected: list[Share] = []
        for key, report in steps:
            keys.append(key)
            if report is None:
                expected.append(self.budgets[key].take(now))
                arguments += [TAKE, 0, 0, 0]
            else:
                self.budgets[key].tell(report, now)
                expected.append(Share(0.0, 0))
                arguments += [int(report.kind), report.window, report.remaining, report.wait_s]
        answers = self.script(keys=keys, args=[*arguments, repr(now)])
        found = [Share(float(wait), int(window)) for wait, window in zip(answers[::2], answers[1::2], strict=True)]
        assert found == expected
        for key in keys:
            stored = {name: float(value) for name, value in self.client.hgetall(key).items()}
            names = [one.name for one in fields(Budget)]
            assert stored == dict(zip(names, map(float, astuple(self.budgets[key])), strict=True))
        return found


@pytest.mark.parametrize("seed", range(12))
def test_the_script_does_what_the_specification_says(server: RedisServer, seed: int) -> None:
    """Random histories: takes and reports of every kind, of any window, in any order, at any distance in time."""
    rng, twin = Random(seed), Twin(server)
    now = 1_795_435_200.0 + rng.random()
    taken: list[tuple[str, int]] = []
    modes: set[int] = set()
    for _ in range(400):
        now += rng.choice([0.0, 0.0, 0.001, rng.random() * 0.3, rng.random() * 4.0, 7.0])
        steps: list[tuple[str, Report | None]] = []
        for _ in range(rng.randint(1, 6)):
            key = rng.choice(["one", "two"])
            if taken and rng.random() < 0.5:
                key, window = taken.pop(rng.randrange(len(taken)))
                kind = rng.choice([*ReportKind, ReportKind.ANSWERED, ReportKind.ANSWERED, ReportKind.ANSWERED])
                wait_s = rng.choice([0.0, rng.random(), rng.random() * 10.0])
                steps.append((key, Report(key, window, kind, rng.randint(0, 9), wait_s)))
            else:
                steps.append((key, None))
        for (key, report), share in zip(steps, twin.apply(now, *steps), strict=True):
            modes.add(twin.budgets[key].mode)
            if report is None and share.window:
                taken.append((key, share.window))
    assert modes == {0, 1, 2, 3}


async def ask(quota: RedisQuota, count: int) -> list[Share]:
    """Ask so many times at once."""
    shares: list[Share] = []

    async def one() -> None:
        shares.append(await quota.take("key"))

    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(one)
    return shares


@pytest.mark.anyio
async def test_runs_on_two_connections_share_one_window(server: RedisServer) -> None:
    """One opens it, and both together take what is left, by the server's clock."""
    async with (
        RedisQuota(server.url, identity=IDENTITY, changed=never) as here,
        RedisQuota(server.url, identity=IDENTITY, changed=never) as there,
    ):
        first = await here.take("key")
        assert first.wait_s == 0.0
        assert (await there.take("key")).wait_s > 0.0
        here.report(Report("key", first.window, ReportKind.ANSWERED, 9, 60.0))
        granted = [share for share in await ask(here, 6) + await ask(there, 6) if share.wait_s == 0.0]
        assert len(granted) == 9
        assert {share.window for share in granted} == {first.window}


@pytest.mark.anyio
async def test_another_identity_is_another_quota_and_the_server_learns_nothing_else(server: RedisServer) -> None:
    """All that stands in Redis is digests and numbers."""
    client = connect(server)
    client.flushall()
    for identity in (IDENTITY, b"another identity of 16 or more b"):
        async with RedisQuota(server.url, identity=identity, changed=never) as quota:
            share = await quota.take("tenant-key@https://api.example")
            assert share.wait_s == 0.0
    assert len(client.keys("migrator:quota:*")) == 2
    stored = "".join(key + "".join(client.hgetall(key).values()) for key in client.scan_iter())
    for word in ("tenant", "example", IDENTITY.decode()):
        assert word not in stored


@pytest.mark.anyio
async def test_a_run_goes_on_by_itself_while_the_server_is_gone(tmp_path: Path) -> None:
    """One word when it is lost, one when it is back, and no wait in between."""
    words: list[str | None] = []
    back = anyio.Event()

    def changed(why: str | None) -> None:
        words.append(why)
        if why is None:
            back.set()

    with redis_server(tmp_path) as server:
        async with RedisQuota(server.url, identity=IDENTITY, changed=changed, retry_s=0.05) as quota:
            first = await quota.take("key")
            assert first.window > 0
            server.kill()
            assert await ask(quota, 5) == [Share(0.0, 0)] * 5
            assert quota.take_at_once("key") == 0
            assert words == ["the server cannot be reached"]
            server.start()
            with anyio.fail_after(20.0):
                await back.wait()
            assert words == ["the server cannot be reached", None]
            assert (await quota.take("key")).window > 0


@pytest.mark.anyio
async def test_a_wrong_password_is_named_and_not_shown(tmp_path: Path) -> None:
    """The password comes with the URL."""
    words: list[str | None] = []
    with redis_server(tmp_path, "--requirepass", "right-password") as server:
        for password in ("right-password", "wrong-password"):
            url = server.url.replace("127.0.0.1", f":{password}@127.0.0.1")
            async with RedisQuota(url, identity=IDENTITY, changed=words.append) as quota:
                await quota.take("key")
                assert password not in repr(quota)
    assert words == ["the server refuses the password"]
