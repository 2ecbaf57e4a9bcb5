"""Job files become jobs, or every problem that they have, with its place."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.errors import MigratorError
from migrator.job.job_file import (
    Empty,
    Join,
    Preflight,
    ReadTemplate,
    RequestTemplate,
    builtin_template,
    load_job,
)
from migrator.job.json_reader import read_json
from migrator.job.problems import JobError, locate
from migrator.job.profile.api_profile import job_schema
from migrator.job.profile.auth import AuthKind
from migrator.job.profile.variables import Outside
from migrator.messages import Batch, is_loopback, unsafe_url
from migrator.secret import Secret

ENV = {"CONFLUENT_CLOUD_API_KEY": "KEY", "CONFLUENT_CLOUD_API_SECRET": "secret-value", "EXAMPLE_KEY": "KEY"}


def document(**changes: Any) -> dict[str, Any]:
    """Return a job file's document."""
    return {
        "name": "rotate",
        "api": "confluent-cloud",
        "request": {"method": "PATCH", "path": "/x/{id}", "body": {"a": "{a}"}},
        "key": "id",
        **changes,
    }


def files(name: str) -> str:
    """Return the content of a file."""
    if name == "token.txt":
        return "from-a-file\n"
    raise FileNotFoundError(2, "No such file or directory")


def load(text: str | dict[str, Any]) -> Any:
    """Load a job file."""
    raw = text if isinstance(text, str) else json.dumps(text, indent=2)
    return load_job(raw, source="job.json", outside=Outside(ENV, files))


def problems(text: str | dict[str, Any]) -> list[str]:
    """Return the problems of a job file, as texts."""
    with pytest.raises(JobError) as error:
        load(text)
    return [str(problem) for problem in error.value.problems]


def test_built_in_profile() -> None:
    """The profile's credentials come from the environment, the secret as a secret."""
    job = load(document())

    assert job.api.base_url == "https://api.confluent.cloud"
    assert (job.api.auth.kind, job.api.auth.username) == (AuthKind.BASIC, "KEY")
    assert job.api.auth.secret == Secret("secret-value")
    assert job.request.idempotent


def test_own_profile() -> None:
    """A profile of one's own may take values from files and variables, which are secrets."""
    api = {
        "base_url": "https://api.example/",
        "auth": {"type": "bearer", "token": "${file:token.txt}"},
        "headers": {"X-Version": "2", "X-Key": "${EXAMPLE_KEY}"},
        "rate_limit": {"dialect": "epoch", "write_spacing": "500ms", "key": "column:org"},
    }

    profile = load(document(api=api)).api

    assert profile.base_url == "https://api.example"
    assert profile.auth.secret == Secret("from-a-file")
    assert profile.headers == {"X-Version": "2", "X-Key": Secret("KEY")}
    assert (profile.write_spacing_s, profile.limiter_column) == (0.5, "org")


def test_targets_of_notices_keep_their_place() -> None:
    """One with which something is wrong is empty, so that what is told of the others names the right entry."""
    with pytest.raises(JobError) as found:
        load(document(notify=[{"webhook": "${NOT_SET}"}, {"webhook": "https://hooks.example/a"}]))

    broken, sound = found.value.notify
    assert (broken, list(sound)) == ({}, ["webhook"])


@pytest.mark.parametrize(("method", "idempotent"), [("PATCH", True), ("PUT", True), ("DELETE", True), ("POST", False)])
def test_idempotence(method: str, idempotent: bool) -> None:
    """A method's idempotence is assumed, and the job may declare otherwise."""
    request = {"method": method, "path": "/{id}"}

    assert load(document(request=request)).request.idempotent is idempotent
    assert load(document(request={**request, "idempotent": not idempotent})).request.idempotent is not idempotent


@pytest.mark.parametrize("text", ["{@run}-{@item}", '"{@run}-{@item}"', "{id}"])
def test_an_idempotency_key_makes_a_post_safe_to_send_again(text: str) -> None:
    """Whether it is bare or a string in quotes, as the draft has it; the job file can still say otherwise."""
    request = {"method": "POST", "path": "/things", "headers": {"Idempotency-Key": text}}

    assert load(document(request=request)).request.idempotent
    assert not load(document(request={**request, "idempotent": False})).request.idempotent


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"name": "x",\n  "api" }', "job.json:2:9: is no valid JSON"),
        ('{"name": "x", "name": "y"}', "job.json: has the member 'name' twice in one object"),
        (document(nmae="x"), "job.json:12:11: nmae: is not known; did you mean name?"),
        ({"name": "x"}, "api: is missing"),
        (
            document(api="confluent"),
            "and a file is named with .json; did you mean confluent-cloud?",
        ),
        (document(request={"method": "FETCH", "path": "/"}), "request.method: has to be PATCH, PUT, POST or DELETE"),
        (document(request={"method": "PATCH", "path": "/{id"}), "request.path: has a single brace at character 2"),
        (document(notify=[{"url": "https://x"}]), "notify.0: needs ping, webhook, command or apprise"),
        (document(secrets=["id"]), "key: names the secret id, but keys are shown"),
        (document(item_schema={"type": "strin"}), "item_schema: is no valid JSON Schema"),
        (document(api={"base_url": "ftp://x"}), "api.base_url"),
        (document(api={"base_url": "${NOT_SET}"}), "the variable NOT_SET is not set"),
        (document(api={"base_url": "https://x", "headers": {"A": "${file:gone}"}}), "the file gone: No such file"),
        (document(api={"base_url": "https://x", "headers": {"A": "b\r\nC: d"}}), "may not hold line breaks"),
        (document(api={"base_url": "http://x", "auth": {"type": "bearer", "token": "t"}}), "is plain HTTP"),
        (document(api={"base_url": "https://u:p@x"}), "may not hold credentials"),
        (document(api={"base_url": "https://x", "auth": {"type": "bearer"}}), "api.auth: needs token, file or command"),
    ],
)
def test_problems(text: str | dict[str, Any], problem: str) -> None:
    """What is wrong with a job file is said with its place and what is allowed."""
    found = problems(text)

    assert any(problem in one for one in found), found


def test_all_problems_at_once() -> None:
    """A job file's problems are told together."""
    assert len(problems(document(name=5, key=[], empty="maybe"))) == 3


def test_values_are_not_quoted() -> None:
    """A message never quotes a value, which may be a secret."""
    api = {"base_url": "https://x", "auth": {"type": "bearer", "token": ["s3cr3t"]}}

    assert "s3cr3t" not in " ".join(problems(document(api=api)))


def test_built_in_template() -> None:
    """The built-in template goes with an items file; an unknown one is refused."""
    job = builtin_template("confluent-integration", Outside(ENV, files))

    assert job.secrets == {"target.webhook_url", "target.url"}
    with pytest.raises(JobError, match="did you mean confluent-integration"):
        builtin_template("confluent-integratoin", Outside(ENV, files))


@pytest.mark.parametrize(
    "change",
    [
        {"key": "a"},
        {"api": {"base_url": "https://api.example"}},
        {"request": {"method": "PUT", "path": "/x/{id}", "body": {"a": "{a}"}}},
        {"item_schema": {"properties": {"a": {"type": "integer"}}}},
        {"empty": "null"},
        {"join": {"column": "name", "member": "display_name"}},
        {"trim": True},
        {"ignore_columns": ["note"]},
    ],
)
def test_digest_holds_what_decides_requests(change: dict[str, Any]) -> None:
    """It changes with each member that a request is made of, so that no run is resumed with other requests."""
    assert load(document()).digest != load(document(**change)).digest


def test_digest_leaves_out_what_does_not_decide_requests() -> None:
    """Options of the run may change between two invocations, and so may what people read."""
    changes = {"run": {"canary": 5}, "description": "x", "secrets": ["a"], "notify": [{"ping": "https://x.example"}]}
    assert load(document()).digest == load(document(**changes)).digest


def test_every_member_of_a_request_arrives() -> None:
    """What is left out has the value that the schema's descriptions name."""
    full = {
        "method": "POST",
        "path": "/x/{id}",
        "body": {"data": "{@wanted}"},
        "wanted": {"a": "{a}"},
        "headers": {"Idempotency-Key": "{@run}-{@item}"},
        "read": {"path": "/y/{id}"},
        "batch": {"size": 7, "body": {"inputs": "{@items}"}, "result": "results", "match": "id", "error": "reason"},
    }
    assert load(document(request=full, key=["id", "a"])).request == RequestTemplate(
        method="POST",
        path="/x/{id}",
        body={"data": "{@wanted}"},
        has_body=True,
        wanted={"a": "{a}"},
        has_wanted=True,
        headers={"Idempotency-Key": "{@run}-{@item}"},
        read=ReadTemplate(path="/y/{id}"),
        batch=Batch(size=7, body={"inputs": "{@items}"}, result="results", match="id", error="reason"),
        idempotent=True,
    )
    assert load(document(request={"method": "DELETE", "path": "/x/{id}"})).request == RequestTemplate(
        method="DELETE", path="/x/{id}"
    )


def test_every_other_member_of_a_job_arrives() -> None:
    """Those too that only some commands use."""
    job = load(
        document(
            description="for a test",
            key=["id", "b"],
            secrets=["a"],
            ignore_columns=["note"],
            empty="null",
            trim=True,
            before="read",
            items=[{"id": 1}],
            run={"canary": 5},
            gate=["true"],
            join={"column": "name", "member": "display_name"},
            preflight={"kind": "slack", "column": "a", "server": "http://127.0.0.1:1"},
        )
    )
    assert (job.name, job.description, job.key) == ("rotate", "for a test", ("id", "b"))
    assert (job.secrets, job.ignored) == (frozenset({"a"}), frozenset({"note"}))
    assert (job.empty, job.trim, job.keep_before) == (Empty.NULL, True, True)
    assert (job.items, job.run, job.gate) == (({"id": 1},), {"canary": 5}, ("true",))
    assert job.join == Join(column="name", member="display_name")
    assert job.preflight == Preflight(column="a", server="http://127.0.0.1:1")


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.0.0.1", "127.8.9.1", "::1"])
def test_loopback(host: str) -> None:
    """This machine's names and addresses are known."""
    assert is_loopback(host)
    assert not is_loopback("127.0.0.1.example")


def test_unsafe_urls() -> None:
    """Credentials go over plain HTTP to this machine alone."""
    assert unsafe_url("http://127.0.0.1:80", credentials=True) is None
    assert unsafe_url("http://x.example", credentials=False) is None
    assert unsafe_url("http://x.example", credentials=True) is not None
    assert unsafe_url("https://[::1", credentials=False) is not None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=8), json_values, max_size=4) | json_values)
def test_any_document(value: Any) -> None:
    """Whatever stands in a job file, it is a job or a list of problems."""
    try:
        load(json.dumps(value))
    except JobError as error:
        assert error.problems  # noqa: PT017  either end is right


@given(st.text(max_size=60))
def test_any_text(text: str) -> None:
    """Whatever text a job file is, it ends in problems and no other error."""
    try:
        load(text)
    except JobError as error:
        assert error.problems  # noqa: PT017  either end is right


@given(st.dictionaries(st.text(max_size=4), json_values, min_size=1, max_size=4), st.data())
def test_places(value: dict[str, Any], data: st.DataObject) -> None:
    """A member is found where it stands in the text."""
    name = data.draw(st.sampled_from(sorted(value)))
    text = json.dumps(value, indent=2)

    line, column = locate(text, (name,))

    rest = "\n".join(text.splitlines()[line - 1 :])[column - 1 :]
    assert json.JSONDecoder().raw_decode(rest)[0] == value[name]


def test_strict_json_keeps_integers() -> None:
    """Integers of any size are kept."""
    assert read_json("[18446744073709551617]") == [2**64 + 1]


def test_profiles_credentials_stay_with_their_server() -> None:
    """A job file from elsewhere cannot have a built-in profile's variables sent to a server of its own."""
    auth = {"type": "bearer", "token": "${CONFLUENT_CLOUD_API_SECRET}"}

    (problem,) = problems(document(api={"base_url": "https://collector.example", "auth": auth}))

    assert "would send CONFLUENT_CLOUD_API_SECRET to collector.example" in problem
    assert load(document(api={"base_url": "http://127.0.0.1:1", "auth": auth})).api.credentials()
    assert load(document(api={"base_url": "https://api.confluent.cloud", "auth": auth})).api.credentials()


@pytest.mark.parametrize("url", ["http://[::1/x", "http://[x]/", "https://"])
def test_base_url_that_is_none(url: str) -> None:
    """What is no URL is one problem of its member."""
    assert all("base_url" in problem for problem in problems(document(api={"base_url": url})))


@pytest.mark.parametrize(
    ("request_", "place", "words"),
    [
        ({"encoding": "json-patch", "body": {}}, "encoding", "wanted is missing"),
        ({"encoding": "graphql", "wanted": {"a": "{a}"}}, "", "query"),
        ({"encoding": "put-merge", "wanted": {"a": "{a}"}}, "method", "PUT"),
        ({"wanted": {"a": "{a}"}, "body": {"data": {}}}, "body", "{@wanted}"),
        ({"wanted": {"a": "{@etag}"}}, "wanted", "{@etag}"),
        ({"body": {"a": "{@run}"}}, "body", "{@run}"),
        ({"body": {}, "headers": {"X-A": "1", "x-a": "2"}}, "headers", "twice"),
        ({"body": {}, "headers": {"idempotency-key": "{@run}"}}, "headers", "the same Idempotency-Key for every item"),
        ({"body": {}, "batch": {"size": 2, "body": {"x": "{id}"}}}, "batch.body", "needs {@items} once"),
        ({"wanted": {"a": 1}, "encoding": "form", "batch": {"size": 2}}, "batch", "only with the encoding json"),
        ({"body": {}, "batch": {"size": 2, "result": "]"}}, "batch.result", "is no valid JMESPath expression"),
        ({"body": {}, "batch": {"size": 2, "result": "@|" * 101 + "[::2]"}}, "batch.result", "more than 100 steps"),
        ({"body": {}, "batch": {"size": 2, "result": "a||" * 5000 + "@"}}, "batch.result", "JMESPath expression"),
        ({"body": {}, "batch": {"size": 2, "result": "none(@)"}}, "batch.result", "no function none"),
        ({"body": {"a": "{a"}}, "body.a", "brace"),
        ({"body": {}, "read": {"path": "/{id"}}, "read.path", "brace"),
    ],
)
def test_what_does_not_go_together_in_a_request(request_: dict[str, Any], place: str, words: str) -> None:
    """A request that would not say what is wanted is refused before anything is sent, with the member's name."""
    document = {
        "name": "j",
        "api": {"base_url": "http://127.0.0.1", "read": True},
        "request": {"method": "PATCH", "path": "/{id}", **request_},
        "key": "id",
    }

    with pytest.raises(JobError) as error:
        load_job(json.dumps(document), source="job.json", outside=Outside({}, str))
    (problem,) = error.value.problems
    assert problem.field == f"request.{place}".removesuffix(".")
    assert words in problem.message


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"preflight": {"kind": "slack", "column": "a", "server": "https://hooks.example"}}, "preflight.server"),
        ({"join": {"column": "n", "member": "n"}, "request": {"method": "DELETE", "path": "/{id}"}}, "join"),
        ({"secrets": ["id"]}, "key"),
        ({"item_schema": {"type": 7}}, "item_schema"),
    ],
)
def test_problems_name_their_member(changes: dict[str, Any], field: str) -> None:
    """Those too that the schema of a job file cannot say."""
    with pytest.raises(JobError) as error:
        load(document(**changes))
    assert [problem.field for problem in error.value.problems] == [field]


def test_every_member_of_the_schema_is_typed_and_described() -> None:
    """An editor can complete and explain every member of a job file."""

    def untold(schema: Any, place: str) -> Iterator[str]:
        if not isinstance(schema, dict):
            return
        typed = schema.keys() & {"type", "enum", "const", "$ref", "oneOf", "anyOf", "allOf"}
        if not typed:
            yield f"{place} has no type"
        if not schema.keys() & {"description", "$ref", "const"}:
            yield f"{place} has no description"
        for name, inner in schema.get("properties", {}).items():
            yield from untold(inner, f"{place}/{name}")
        for number, inner in enumerate(schema.get("oneOf", ())):
            for name, member in inner.get("properties", {}).items():
                yield from untold(member, f"{place}/{number}/{name}")

    schema = job_schema()
    parts = [(schema, "job"), *((inner, name) for name, inner in schema["$defs"].items())]
    assert [one for part, place in parts for one in untold(part, place)] == []


@pytest.mark.parametrize(
    ("request_", "item", "path"),
    [
        ({"method": "PATCH", "path": "/x/{id}?a=1"}, None, "/x/{id}"),
        ({"method": "POST", "path": "/x", "wanted": {"a": 1}, "read": {"path": "/y/{id}"}}, None, "/y/{id}"),
        ({"method": "PATCH", "path": "/x/{id}"}, "/z/{key}", "/z/{key}"),
        ({"method": "POST", "path": "/x", "wanted": {"a": 1}, "read": {"path": "/q", "query": "{ a }"}}, None, None),
    ],
)
def test_a_record_s_own_path_is_the_one_that_is_read(
    request_: dict[str, Any], item: str | None, path: str | None
) -> None:
    """A list need not say it again."""
    listed = {"path": "/x", "items": "data"} | ({} if item is None else {"item": item})
    collection = load(document(api={"base_url": "https://api.example", "collection": listed}, request=request_)).api
    assert collection.collection.item == path


@pytest.mark.parametrize(
    ("declared", "method", "read", "readable"),
    [
        (None, "PATCH", None, True),
        (True, "POST", None, True),
        (False, "PATCH", None, False),
        (None, "POST", None, False),
        (None, "POST", {"path": "/y/{id}"}, True),
        (False, "PATCH", {"path": "/y/{id}"}, True),
    ],
)
def test_what_can_be_read(declared: bool | None, method: str, read: dict[str, str] | None, readable: bool) -> None:
    """A request's own `read` is enough; a GET of the same URL is tried unless it is ruled out, but not of a POST's."""
    api = {"base_url": "https://api.example"} | ({} if declared is None else {"read": declared})
    request_ = {"method": method, "path": "/x/{id}", "wanted": {"a": 1}} | ({} if read is None else {"read": read})
    job = load(document(api=api, request=request_))

    assert job.readable == readable
    if not readable:
        with pytest.raises(MigratorError, match=r"declares no way to read a record .* which a plan needs"):
            job.must_be_readable("a plan")
