"""A server that remembers what it was sent: the witness of the crash tests.

`/things/N` takes GET, PATCH and PUT; POST to `/things` makes one, and only one for an Idempotency-Key. `/witness` tells
the state and how often each thing was written; `/notice/...` counts notices.
"""

import asyncio
import multiprocessing
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from aiohttp import web

__all__ = ["witness"]


class _Witness:
    def __init__(self, things: int) -> None:
        self.things: dict[str, dict[str, Any]] = {f"t-{n}": self._thing(n) for n in range(1, things + 1)}
        self.writes: Counter[str] = Counter()
        self.notices: Counter[str] = Counter()
        self.refused: set[str] = set()
        self.broken: set[str] = set()
        self.made: dict[str | None, Any] = {}
        self.held: dict[str, list[str]] = {key: [thing["name"]] for key, thing in self.things.items()}

    @staticmethod
    def _thing(number: int) -> dict[str, Any]:
        return {"id": f"t-{number}", "name": f"old {number}", "owner": f"owner {number}"}

    async def reset(self, request: web.Request) -> web.Response:
        things = int(request.query["things"])
        self.__init__(things)  # type: ignore[misc]
        return web.json_response({})

    async def restore(self, request: web.Request) -> web.Response:
        state = await request.json()
        self.things = state["things"]
        self.writes, self.notices = Counter(state["writes"]), Counter(state["notices"])
        return web.json_response({})

    async def tell(self, _: web.Request) -> web.Response:
        return web.json_response(
            {"things": self.things, "writes": self.writes, "notices": self.notices, "held": self.held}
        )

    async def refuse(self, request: web.Request) -> web.Response:
        """Refuse every write to some keys from now on, answer those to others with an error, and no others."""
        keys = await request.json()
        self.refused, self.broken = set(keys["refused"]), set(keys["broken"])
        return web.json_response({})

    async def notice(self, request: web.Request) -> web.Response:
        self.notices[request.match_info["rest"]] += 1
        return web.Response()

    async def listed(self, _: web.Request) -> web.Response:
        return web.json_response({"data": list(self.things.values())})

    async def get(self, request: web.Request) -> web.Response:
        thing = self.things.get(request.match_info["id"])
        return web.json_response(thing, status=200 if thing is not None else 404)

    async def write(self, request: web.Request) -> web.Response:
        key, body = request.match_info["id"], await request.json()
        if key in self.refused:
            return web.json_response({"error": "refused"}, status=422)
        self.writes[key] += 1
        known = self.things[key] if request.method == "PATCH" else {"id": key, "owner": self.things[key]["owner"]}
        self.things[key] = known | body
        self.held[key].append(self.things[key]["name"])
        return web.json_response(self.things[key], status=500 if key in self.broken else 200)

    async def make(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body["id"] in self.refused:
            return web.json_response({"error": "refused"}, status=422)
        key = request.headers.get("Idempotency-Key")
        if key is not None and key in self.made:
            return web.json_response(self.made[key], status=201)
        self.writes[body["id"]] += 1
        self.things.setdefault(body["id"], {}).update(body)
        self.held.setdefault(body["id"], []).append(body["name"])
        self.made[key] = body
        return web.json_response(body, status=201)


async def _serve(pipe: Connection) -> None:
    seen = _Witness(0)
    app = web.Application()
    app.add_routes(
        [
            web.get("/witness", seen.tell),
            web.post("/witness/reset", seen.reset),
            web.post("/witness/state", seen.restore),
            web.post("/witness/refuse", seen.refuse),
            web.route("*", "/notice{rest:.*}", seen.notice),
            web.get("/things", seen.listed),
            web.post("/things", seen.make),
            web.get("/things/{id}", seen.get),
            web.patch("/things/{id}", seen.write),
            web.put("/things/{id}", seen.write),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    pipe.send(runner.addresses[0][1])
    await asyncio.Event().wait()


def _process(pipe: Connection) -> None:
    asyncio.run(_serve(pipe))


@contextmanager
def witness() -> Iterator[str]:
    """Serve on a free port of loopback in a process of its own; yields the URL."""
    reading, writing = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_process, args=(writing,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{reading.recv()}"
    finally:
        process.terminate()
        process.join()
