"""The sandbox's answers are those of Confluent Cloud's own description of its API."""

import signal
import socket
import subprocess
from collections import Counter
from copy import deepcopy
from itertools import chain
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from conftest import MIGRATOR, wait_until
from jsonschema_path import SchemaPath
from openapi_core import OpenAPI
from openapi_core.testing import MockRequest, MockResponse
from sandbox_server import KEY, SECRET, Guest, target, visit, webhook
from sandboxes import SandboxProcess

from migrator.sandbox.app import ROOT, Settings

pytestmark = pytest.mark.anyio

HOST = "https://api.confluent.cloud"
SPEC = Path(__file__).parents[2] / "samples" / "confluent-notifications.openapi.yaml"


def description() -> OpenAPI:
    """Return the vendor's description, and beside its one operation the others, of the same schemas.

    What the others answer is in the vendor's SDK: the object, a list of it, or nothing.
    """
    document: dict[str, Any] = deepcopy(SchemaPath.from_file_path(str(SPEC)).read_value())
    update = document["paths"][ROOT + "/{id}"]
    one = update["patch"]["responses"]["200"]
    refusals = {status: answer for status, answer in update["patch"]["responses"].items() if status >= "400"}
    whole = one["content"]["application/json"]["schema"]
    metadata = {"type": "object", "properties": {"next": {"type": "string", "format": "uri"}}}
    page = {
        "type": "object",
        "required": ["api_version", "kind", "metadata", "data"],
        "properties": {
            "kind": {"enum": ["IntegrationList"]},
            "metadata": metadata | {"required": ["first", "total_size"]},
            "data": {"type": "array", "items": whole},
        },
    }
    pages = one | {"content": {"application/json": {"schema": page}}}
    nothing = {"description": "Nothing."}

    def operation(status: str, answer: object, **more: object) -> dict[str, Any]:
        return {"responses": {status: answer, **refusals}, **more}

    which = {"parameters": update["patch"]["parameters"]}
    update |= {"get": operation("200", one, **which), "delete": operation("204", nothing, **which)}
    document["paths"][ROOT] = {"get": operation("200", pages), "post": operation("201", one)}
    document["paths"][ROOT + ":test"] = {"post": operation("204", nothing)}
    return OpenAPI.from_dict(document)


@pytest.fixture(scope="module")
def api() -> OpenAPI:
    """Read the description once."""
    return description()


def basic(key: str, secret: str) -> dict[str, str]:
    """Return the header with a key and its secret."""
    return {"Authorization": aiohttp.encode_basic_auth(key, secret)}


async def answer(
    api: OpenAPI, guest: Guest, method: str, path: str, body: Any = None, **options: Any
) -> tuple[aiohttp.ClientResponse, Any]:
    """Send a request, hold the answer against the description, and return it."""
    response, content = await guest.send(method, path, body, **options)
    path = path if path.startswith("/") else f"{ROOT}/{path}"
    sent = MockRequest(HOST, method.lower(), path.partition("?")[0])
    kind = response.headers.get("Content-Type", "")
    got = MockResponse(content or None, response.status, dict(response.headers), kind)  # type: ignore[arg-type]  # an empty body is none
    api.validate_response(sent, got)
    assert response.headers["X-Request-Id"]
    return response, msgspec.json.decode(content) if content else None


@pytest.mark.parametrize(
    ("status", "method", "path", "body"),
    [
        (200, "PATCH", "i-00001", target()),
        (200, "PATCH", "i-00001", {"display_name": "x" * 64, "description": "é" * 128}),
        (200, "PATCH", "i-00001", {"target": {"kind": "Webhook", "url": "http://x.example"}}),
        (200, "PATCH", "i-00001", {"webhook_ulr": "https://x.example"}),
        (400, "PATCH", "i-00001", ["no object"]),
        (403, "PATCH", "i-99999", target()),
        (403, "PATCH", "..%2F..", target()),
        (405, "PUT", "i-00001", target()),
        (404, "PATCH", "/notifications/v1/integrations/", target()),
        (404, "PATCH", "/notifications/v1/", target()),
        (422, "PATCH", "i-00001", {"display_name": "x" * 65, "target": {"kind": "Slack"}}),
        (200, "GET", "i-00001", None),
        (403, "GET", "i-99999", None),
        (204, "DELETE", "i-00001", None),
        (403, "DELETE", "i-99999", None),
        (200, "GET", ROOT, None),
        (400, "GET", ROOT + "?page_size=251", None),
        (201, "POST", ROOT, {"display_name": "new", **target()}),
        (409, "POST", ROOT, {"display_name": "Slack integration 1", **target()}),
        (422, "POST", ROOT, {"display_name": "new"}),
        (204, "POST", ROOT + ":test", {"display_name": "new", **target()}),
        (422, "POST", ROOT + ":test", target()),
        (405, "PATCH", ROOT, target()),
    ],
)
async def test_every_answer_is_in_the_description(
    api: OpenAPI, status: int, method: str, path: str, body: object
) -> None:
    """Each operation answers with the status, headers and body that the API's description has for it."""
    async with visit(Settings(items=3)) as guest:
        if status in {404, 405}:  # what no description has
            response, _ = await guest.send(method, path, body)
        else:
            response, _ = await answer(api, guest, method, path, body)

        limited = {name for name in response.headers if name.startswith("X-RateLimit-")}
        whole = {"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"}
        assert response.status == status
        assert limited == (whole if status < 300 and not path.endswith(":test") else set())


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 422, 429, 500])
async def test_ordered_refusals_are_in_the_description(api: OpenAPI, status: int) -> None:
    """Every refusal that the API's description has can be ordered, and has its form."""
    async with visit() as guest:
        await guest.order({"match": "i-00001", "fault": "status", "status": status})

        response, document = await answer(api, guest, "PATCH", "i-00001", target())

        assert response.status == status
        assert (document is None) == (status == 429)


async def test_an_update_is_kept(api: OpenAPI) -> None:
    """What a change put there is read back, alone and in the list."""
    async with visit() as guest:
        _, updated = await answer(api, guest, "PATCH", "i-00002", target(2))
        _, read = await answer(api, guest, "GET", "i-00002")
        _, listed = await answer(api, guest, "GET", ROOT)

        assert updated["target"]["webhook_url"] == webhook(2)
        assert updated == read == listed["data"][1]


async def test_unknown_id_is_forbidden(api: OpenAPI) -> None:
    """An unknown id gets the 403 that the vendor's own clients take for "not found"."""
    async with visit() as guest:
        _, document = await answer(api, guest, "PATCH", "i-99999", target())

        assert document == {"errors": [{"code": "forbidden_access", "detail": "Forbidden Access", "source": {}}]}


async def test_unknown_id_is_not_found(api: OpenAPI) -> None:
    """By option an unknown id gets a 404."""
    async with visit(Settings(items=1, unknown_status=404)) as guest:
        response, _ = await answer(api, guest, "PATCH", "i-99999", target())

        assert response.status == 404


async def test_invalid_json(api: OpenAPI) -> None:
    """A body that is no JSON is a bad request, and changes nothing."""
    async with visit() as guest:
        response, content = await guest.send("PATCH", "i-00001", headers={"Content-Type": "application/json"})

        assert response.status == 400
        assert b"no valid JSON" in content
        assert guest.sandbox.statistics.writes == Counter()
        assert (await answer(api, guest, "GET", "i-00001"))[1]["description"] == ""


@pytest.mark.parametrize(
    "credentials",
    [None, f"{KEY}:wrong", f"wrong:{SECRET}", f"{KEY}:{SECRET}\u00e9"],
    ids=["none", "secret", "key", "not ASCII"],
)
async def test_wrong_credentials(api: OpenAPI, credentials: str | None) -> None:
    """Other credentials than the right ones get a 401 that says so in its header, and no header about limits."""
    async with visit(Settings(items=1, api_key=KEY, api_secret=SECRET)) as guest:
        headers = {} if credentials is None else basic(*credentials.split(":"))
        headers |= {"Authorization": "Bässic"} if credentials and credentials.endswith("\u00e9") else {}
        response, _ = await answer(api, guest, "PATCH", "i-00001", target(), headers=headers)

        assert response.status == 401
        assert response.headers["WWW-Authenticate"].startswith('Basic error="invalid_key"')
        assert "X-RateLimit-Limit" not in response.headers
        assert guest.sandbox.statistics.attempts == Counter()


async def test_right_credentials(api: OpenAPI) -> None:
    """The right key and secret are let in."""
    async with visit(Settings(items=1, api_key=KEY, api_secret=SECRET)) as guest:
        headers = basic(KEY, SECRET)
        response, _ = await answer(api, guest, "PATCH", "i-00001", target(), headers=headers)

        assert response.status == 200


async def test_newer_envelope() -> None:
    """By option errors come in the newer envelope."""
    async with visit(Settings(items=1, new_envelope=True)) as guest:
        response, content = await guest.send("PATCH", "i-00001", {"target": {"kind": "Slack"}})

        document = msgspec.json.decode(content)
        assert document.keys() == {"status", "error", "requestId"}
        assert document["error"]["code"] == "INVALID_CONFIGURATION"
        assert document["error"]["details"] == "/target/webhook_url"
        assert document["requestId"] == response.headers["X-Request-Id"]


async def test_pages(api: OpenAPI) -> None:
    """The collection is read to its end by following absolute URLs; the size counts on the first request."""
    async with visit(Settings(items=7, limit=0)) as guest:
        pages, path = [], f"{ROOT}?page_size=3"
        while path:
            _, page = await answer(api, guest, "GET", path)
            pages.append([one["id"] for one in page["data"]])
            assert page["metadata"]["total_size"] == 7
            assert page["metadata"].get("next", "http://127.0.0.1:").startswith("http://127.0.0.1:")
            path = "/" + page["metadata"].get("next", "///").split("/", 3)[3]
            path = path.removesuffix("/")

        assert [len(page) for page in pages] == [3, 3, 1]
        assert sorted(chain.from_iterable(pages)) == [f"i-{number:05d}" for number in range(1, 8)]


async def test_request_ids_differ() -> None:
    """No two answers have the same request id."""
    async with visit() as guest:
        ids = {(await guest.patch())[0].headers["X-Request-Id"] for _ in range(9)}

        assert len(ids) == 9


async def test_statistics() -> None:
    """The statistics tell requests by status, and writes and attempts by id."""
    async with visit() as guest:
        await guest.order({"match": "i-00002", "fault": "status", "status": 503})
        for key in ("i-00001", "i-00001", "i-00002", "i-00002", "i-99999"):
            await guest.patch(key)
        await guest.send("GET", "i-00001")
        await guest.send("DELETE", "i-00003")
        await guest.send("POST", ROOT, {"display_name": "new", **target()})

        seen = msgspec.json.decode((await guest.send("GET", "/_sandbox/stats"))[1])

        assert seen["requests"] == 8
        assert seen["by_status"] == {"200": 4, "503": 1, "403": 1, "204": 1, "201": 1}
        assert seen["writes"] == {"i-00001": 2, "i-00002": 1, "i-00003": 1, "i-00010": 1}
        assert seen["attempts"] == {"i-00001": 2, "i-00002": 2, "i-99999": 1, "i-00003": 1}
        assert (seen["refused"], seen["in_flight"], seen["highest_in_flight"]) == (0, 0, 1)


async def test_no_other_control() -> None:
    """A control path that is not there is a 404."""
    async with visit() as guest:
        assert (await guest.send("GET", "/_sandbox/nothing"))[0].status == 404


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it(number: signal.Signals) -> None:
    """A signal ends the process with code 0 and without a word, even while a request stalls."""
    command = [*MIGRATOR, "sandbox", "--items", "1", "--limit", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        sandbox = SandboxProcess(process.stdout.readline().removeprefix("listening on ").strip())
        sandbox.order({"match": "i-00001", "fault": "stall"})
        with socket.create_connection(("127.0.0.1", int(sandbox.url.rsplit(":", 1)[1]))) as connection:
            connection.sendall(f"GET {ROOT}/i-00001 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            wait_until(lambda: sandbox.stats()["in_flight"])

            process.send_signal(number)
            out, err = process.communicate(timeout=200)

    assert (process.returncode, out, err) == (0, "", "")
