"""What each answer means, and what is done about it."""

import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from migrator.api.outcome import Retry, RetryPolicy, Settle, Stop, classify, decide
from migrator.messages import JSON, AnswerRules, Failure, FailureKind, Instant, Reply, Request, Stage
from migrator.options import Verify
from migrator.ratelimit.headers import Dialect, QuotaReader, RateLimitSignal
from migrator.results import ErrorKind, Outcome, Status

NOW = Instant(100.0, 1_800_000_000.0)
BODY = {"target": {"kind": "Slack", "webhook_url": "https://hooks.slack.example/x"}}


def request(*, idempotent: bool = True, body: JSON = BODY) -> Request:
    """Return a request as a job renders it."""
    return Request(
        item=1,
        key="i-1",
        method="PATCH",
        url="http://127.0.0.1/i-1",
        body=json.dumps(body).encode(),
        idempotent=idempotent,
    )


def reply(status: int, body: JSON | bytes = b"", *, truncated: bool = False, **headers: str) -> Reply:
    """Return an answer."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status=status, headers=named, body=raw, truncated=truncated, sent=NOW, received=NOW)


def failure(kind: FailureKind, *, maybe_sent: bool, certificate: bool = False) -> Failure:
    """Return an exchange that broke."""
    return Failure(
        kind=kind,
        stage=Stage.READ if maybe_sent else Stage.CONNECT,
        maybe_sent=maybe_sent,
        message="it broke",
        certificate=certificate,
        sent=NOW,
        received=NOW,
    )


def judge(answer: Reply | Failure, *, idempotent: bool = True, verify: Verify = Verify.RESPONSE) -> Outcome:
    """Classify an answer to the usual request."""
    signal = QuotaReader(Dialect()).signal(answer) if isinstance(answer, Reply) else RateLimitSignal()
    return classify(request(idempotent=idempotent), answer, verify=verify, mask=str, signal=signal)


@pytest.mark.parametrize(
    ("status", "body", "kind", "transient", "fatal"),
    [
        pytest.param(400, {"errors": [{"title": "Invalid Filter"}]}, ErrorKind.VALIDATION, False, False, id="400"),
        pytest.param(400, {"errors": [{"code": "quota_exceeded"}]}, ErrorKind.QUOTA, False, False, id="400 for quota"),
        pytest.param(401, b"", ErrorKind.AUTH, False, True, id="401"),
        pytest.param(402, {"errors": []}, ErrorKind.QUOTA, False, False, id="402"),
        pytest.param(403, {"errors": [{"detail": "Forbidden Access"}]}, ErrorKind.FORBIDDEN, False, False, id="403"),
        pytest.param(403, {"errors": [{"detail": "invalid API key"}]}, ErrorKind.AUTH, False, True, id="403 of a key"),
        pytest.param(404, {"errors": [{"status": "404"}]}, ErrorKind.NOT_FOUND, False, False, id="404"),
        pytest.param(408, b"", ErrorKind.TIMEOUT, True, False, id="408"),
        pytest.param(409, b"", ErrorKind.CONFLICT, False, False, id="409"),
        pytest.param(410, b"", ErrorKind.NOT_FOUND, False, False, id="410"),
        pytest.param(422, b"", ErrorKind.VALIDATION, False, False, id="422"),
        pytest.param(500, b"<html>", ErrorKind.SERVER, True, False, id="500"),
        pytest.param(501, b"", ErrorKind.SERVER, False, False, id="501"),
        pytest.param(502, b"", ErrorKind.SERVER, True, False, id="502"),
        pytest.param(503, b"", ErrorKind.SERVER, True, False, id="503"),
        pytest.param(504, b"", ErrorKind.SERVER, True, False, id="504"),
        pytest.param(302, b"", ErrorKind.PROTOCOL, False, False, id="302"),
    ],
)
def test_refusals(status: int, body: JSON | bytes, kind: ErrorKind, transient: bool, fatal: bool) -> None:
    """Each status has its kind of error, and only the hopeless ones stop the run."""
    outcome = judge(reply(status, body))

    assert outcome.error is not None
    assert (outcome.status, outcome.error.kind, outcome.error.status) == (Status.FAILED, kind, status)
    assert (outcome.transient, outcome.fatal) == (transient, fatal)


@pytest.mark.parametrize(
    ("answer", "throttled"),
    [
        pytest.param(reply(429), True, id="429 without a body"),
        pytest.param(
            reply(403, {"message": "You have exceeded a secondary rate limit"}), True, id="GitHub's secondary"
        ),
        pytest.param(reply(403, b"", retry_after="60"), True, id="403 with Retry-After"),
        pytest.param(reply(403, {"errors": [{"detail": "Forbidden Access"}]}), False, id="403 of an item"),
        pytest.param(reply(503, b"", retry_after="5"), True, id="503 with Retry-After"),
        pytest.param(reply(503), False, id="503"),
        pytest.param(reply(200, b"", retry_after="5"), False, id="Retry-After on a 200 means nothing"),
    ],
)
def test_throttling(answer: Reply, throttled: bool) -> None:
    """A server's refusal for its rate limit is told from its other refusals."""
    assert judge(answer).throttled is throttled


def test_github_primary_limit() -> None:
    """A 403 whose remaining is 0 is a refusal for the rate limit (GitHub, rate limits for the REST API)."""
    assert judge(reply(403, x_ratelimit_remaining="0")).throttled
    assert not judge(reply(403, x_ratelimit_remaining="5")).throttled


def test_a_2xx_alone_is_no_success() -> None:
    """An answer of 200 that does not hold what was sent is a mismatch, and names the place."""
    misspelt = judge(reply(200, {"target": {"kind": "Slack", "webhook_url": "https://old.example/"}}))

    assert misspelt.status is Status.FAILED
    assert misspelt.error is not None
    assert (misspelt.error.kind, misspelt.error.pointer) == (ErrorKind.MISMATCH, "/target/webhook_url")
    assert misspelt.verified is False


def test_verified_success() -> None:
    """An answer that holds what was sent, and more, is a verified success."""
    outcome = judge(reply(200, {"id": "i-1", "target": {**BODY["target"], "new": 1}}))

    assert (outcome.status, outcome.verified, outcome.error) == (Status.SUCCEEDED, True, None)


def test_unverified_success() -> None:
    """Where nothing can be compared, a 2xx is a success that is not said to be verified."""
    assert judge(reply(204)).verified is None
    assert judge(reply(200, {"nothing": 1}), verify=Verify.NONE) == Outcome(status=Status.SUCCEEDED)


@pytest.mark.parametrize(
    "answer",
    [reply(200, b"<html>log in</html>"), reply(200, b'{"target": {'), reply(200, b"{}", truncated=True)],
    ids=["no JSON", "cut off", "huge"],
)
def test_unreadable_success(answer: Reply) -> None:
    """A 2xx whose body cannot be read is not believed."""
    outcome = judge(answer)

    assert outcome.status is Status.FAILED
    assert outcome.error is not None
    assert outcome.error.kind is ErrorKind.PROTOCOL


@pytest.mark.parametrize(
    ("maybe_sent", "idempotent", "status", "transient"),
    [
        pytest.param(False, True, Status.FAILED, True, id="never sent"),
        pytest.param(False, False, Status.FAILED, True, id="never sent, not idempotent"),
        pytest.param(True, True, Status.FAILED, True, id="perhaps sent"),
        pytest.param(True, False, Status.IN_DOUBT, False, id="perhaps sent, not idempotent"),
    ],
)
@pytest.mark.parametrize("kind", [FailureKind.TIMEOUT, FailureKind.CONNECTION])
def test_no_answer(kind: FailureKind, maybe_sent: bool, idempotent: bool, status: Status, transient: bool) -> None:
    """Only a request that cannot have been seen, or may be seen twice, is sent again; any other is in doubt."""
    outcome = judge(failure(kind, maybe_sent=maybe_sent), idempotent=idempotent)

    assert (outcome.status, outcome.transient) == (status, transient)
    assert outcome.error is not None
    assert outcome.error.kind.value == kind.value


@pytest.mark.parametrize("status", [300, 301, 307, 400, 401, 403, 404, 409, 410, 412, 422, 425, 429, 451])
def test_refusals_prove_that_nothing_was_applied(status: int) -> None:
    """After a 3xx or a 4xx even a request that must not be sent twice has failed, and is not in doubt."""
    assert judge(reply(status), idempotent=False).status is Status.FAILED


@pytest.mark.parametrize("status", [101, 199, 408, 500, 501, 502, 503, 504, 505, 520, 524, 599])
def test_other_errors_leave_unsafe_requests_in_doubt(status: int) -> None:
    """The server may have acted before it answered so; the request is not sent again."""
    outcome = judge(reply(status), idempotent=False)

    assert (outcome.status, outcome.transient, outcome.throttled) == (Status.IN_DOUBT, False, False)


def test_503_with_retry_after_is_a_refusal() -> None:
    """A server that says when to come back has not acted: even an unsafe request is sent again."""
    outcome = judge(reply(503, retry_after="3"), idempotent=False)

    assert (outcome.status, outcome.transient) == (Status.FAILED, True)


@pytest.mark.parametrize("body", [b"no JSON", b"\xff\xfe", b"[" * 500, b'{"a": 2}'])
def test_success_that_proves_nothing_leaves_unsafe_requests_in_doubt(body: bytes) -> None:
    """A 2xx whose body cannot be read, or shows another value, may well have been applied."""
    assert judge(reply(200, body), idempotent=False).status is Status.IN_DOUBT


def test_refused_certificate() -> None:
    """A certificate that is not accepted stops the run: no other item can do better."""
    outcome = judge(failure(FailureKind.CONNECTION, maybe_sent=False, certificate=True))

    assert isinstance(decide(outcome, attempt=1, policy=RetryPolicy(), rng=Random(1)), Stop)


@pytest.mark.parametrize(
    ("body", "title", "detail", "code", "pointer"),
    [
        pytest.param(
            {"errors": [{"code": "c", "title": "T", "detail": "D", "source": {"pointer": "/p"}}]},
            "T",
            "D",
            "c",
            "/p",
            id="errors[]",
        ),
        pytest.param({"error": {"code": "UPPER", "message": "M"}}, None, "M", "UPPER", None, id="error{}"),
        pytest.param({"message": "M", "error_code": 40301}, None, "M", "40301", None, id="message"),
        pytest.param({"errors": [{}]}, None, None, None, None, id="every member missing"),
        pytest.param({"errors": [{"code": ["x"], "source": "x"}]}, None, None, None, None, id="wrong types"),
        pytest.param({"errors": [{"source": {"parameter": "q"}}]}, None, None, None, "q", id="parameter"),
    ],
)
def test_error_envelopes(
    body: JSON, title: str | None, detail: str | None, code: str | None, pointer: str | None
) -> None:
    """Both of Confluent's envelopes are read, every member optional."""
    error = judge(reply(400, body)).error

    assert error is not None
    assert (error.title, error.detail, error.code, error.pointer) == (title, detail, code, pointer)


def test_challenge_tells_why() -> None:
    """A 401 without a body is explained by its WWW-Authenticate header."""
    header = 'Basic error="invalid_key", error_description="The API Key is invalid"'

    error = judge(reply(401, b"", www_authenticate=header)).error

    assert error is not None
    assert error.message == "the server answered 401: The API Key is invalid"


def test_redirect_names_the_origin_alone() -> None:
    """A redirect is reported without its path and query, which may carry anything."""
    error = judge(reply(302, b"", location="https://login.example/in?token=secret")).error

    assert error is not None
    assert "https://login.example," in error.message
    assert "secret" not in error.message


@given(st.binary(max_size=200), st.integers(100, 599), st.booleans())
def test_any_answer_has_an_outcome(body: bytes, status: int, idempotent: bool) -> None:
    """Whatever a server sends, it is classified, and only a 2xx succeeds."""
    outcome = judge(reply(status, body), idempotent=idempotent)

    assert (outcome.status is Status.SUCCEEDED) <= (200 <= status < 300)
    assert (outcome.error is None) == (outcome.status is Status.SUCCEEDED)


@given(st.integers(1, 2000), st.integers(0, 2**32))
def test_backoff(attempt: int, seed: int) -> None:
    """Back-off has full jitter below a doubling bound with a cap, and the server's wish as its floor."""
    policy = RetryPolicy(max_attempts=3000)
    outcome = Outcome(status=Status.FAILED, transient=True, retry_after_s=0.1)

    decision = decide(outcome, attempt=attempt, policy=policy, rng=Random(seed))

    assert isinstance(decision, Retry)
    assert 0.1 <= decision.delay_s <= min(policy.cap_s, policy.base_s * 2 ** min(attempt - 1, 30))
    assert decision.counted


def test_attempts_end() -> None:
    """The last attempt settles the item."""
    outcome = judge(reply(500))

    assert isinstance(decide(outcome, attempt=4, policy=RetryPolicy(), rng=Random(1)), Retry)
    assert decide(outcome, attempt=5, policy=RetryPolicy(), rng=Random(1)) == Settle(outcome)


def test_a_429_costs_no_attempt() -> None:
    """A refusal for the rate limit is not the item's fault, however often it comes; a 503 is counted all the same."""
    policy, rng = RetryPolicy(max_attempts=1), Random(1)

    assert decide(judge(reply(429)), attempt=99, policy=policy, rng=rng) == Retry(delay_s=0.0, counted=False)
    assert isinstance(decide(judge(reply(503, b"", retry_after="5")), attempt=1, policy=policy, rng=rng), Settle)


def test_an_unreachable_server_stops_the_run() -> None:
    """A server that was not reached in all attempts stops the run rather than failing item after item."""
    outcome = judge(failure(FailureKind.CONNECTION, maybe_sent=False))

    assert isinstance(decide(outcome, attempt=4, policy=RetryPolicy(), rng=Random(1)), Retry)
    assert isinstance(decide(outcome, attempt=5, policy=RetryPolicy(), rng=Random(1)), Stop)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param('{"error": "schon geändert"}'.encode("latin-1"), id="Latin-1"),
        pytest.param(b'{"error":' * 5000, id="too deep"),
        pytest.param(b"\x00\xff\xfe", id="no text"),
        pytest.param(rb'{"error": "\ud800"}', id="half a surrogate pair"),
    ],
)
@pytest.mark.parametrize(("status", "kind"), [(409, ErrorKind.CONFLICT), (422, ErrorKind.VALIDATION)])
def test_a_body_never_hides_the_status(body: bytes, status: int, kind: ErrorKind) -> None:
    """The status says that it was refused, whatever the body is."""
    found = judge(reply(status, body))

    assert found.error is not None
    assert (found.status, found.error.kind, found.error.status) == (Status.FAILED, kind, status)
    found.error.message.encode()


def judged(answer: Reply, rules: AnswerRules, verify: Verify = Verify.RESPONSE) -> Outcome:
    """Classify an answer by an API's own rules."""
    signal = QuotaReader(Dialect()).signal(answer)
    return classify(replace(request(), rules=rules), answer, verify=verify, mask=str, signal=signal)


@pytest.mark.parametrize("verify", list(Verify))
@pytest.mark.parametrize("body", [b"", {"task": "7"}])
def test_what_is_accepted_is_not_finished(body: JSON | bytes, verify: Verify) -> None:
    """A 202 is no success by itself: the item is in doubt until the server is read."""
    outcome = judge(reply(202, body), verify=verify)

    assert outcome.status is Status.IN_DOUBT
    assert outcome.error is not None
    assert "reconcile" in outcome.error.message


def test_an_accepted_write_that_is_shown_is_done() -> None:
    """A 202 whose body is the record as it was wanted has been finished."""
    assert judge(reply(202, BODY)) == Outcome(status=Status.SUCCEEDED, verified=True)


def test_a_success_without_a_body_is_one() -> None:
    """A 204 has nothing to compare, and neither has an API's own rule for a body."""
    assert judged(reply(204), AnswerRules(success="!errors")).status is Status.SUCCEEDED


@pytest.mark.parametrize("verify", [Verify.NONE, Verify.RESPONSE])
def test_a_200_can_say_that_it_failed(verify: Verify) -> None:
    """The API's own rule decides whether a 2xx answer counts, and its own words are told."""
    rules = AnswerRules(success="!errors", error="errors[0].message")
    refused = judged(reply(200, {"data": None, "errors": [{"message": "no such thing"}]}), rules, verify)
    busy = judged(reply(200, {"errors": [{"message": "wait", "extensions": {"code": "THROTTLED"}}]}), rules, verify)

    assert (refused.status, refused.transient) == (Status.FAILED, False)
    assert refused.error is not None
    assert refused.error.message == "the server answered 200: no such thing"
    assert (busy.status, busy.transient) == (Status.FAILED, True)
    assert judged(reply(200, b"<html>"), rules, verify).status is Status.FAILED


def test_another_spelling_is_told_from_another_value() -> None:
    """A server that only normalises what it is sent can be told from one that ignores it."""
    target = {"kind": "Slack", "webhook_url": "https://hooks.slack.example/X/"}
    normalised, ignored = judge(reply(200, {"target": target})), judge(reply(200, {"target": {"kind": "Slack"}}))

    assert normalised.error is not None
    assert ignored.error is not None
    assert "normalise" in normalised.error.message
    assert "normalise" not in ignored.error.message


def test_a_value_that_is_shown_under_another_name_is_the_same() -> None:
    """What the API shows in place of a value is compared as the value that is written."""
    rules = AnswerRules(shown_as={"/target/kind": {"SlackTarget": "Slack"}})
    shown = {"target": {**BODY["target"], "kind": "SlackTarget"}}

    assert judged(reply(200, shown), rules).verified is True
    assert judge(reply(200, shown)).verified is False


@pytest.mark.parametrize("body", [{"data": None}, {"data": []}, [], None])
def test_an_answer_without_a_record_says_where_it_was_looked_for(body: JSON) -> None:
    """Where nothing stands at the profile's place, that is the cause, and not each member of the record."""
    outcome = judged(reply(200, body), AnswerRules(record="data"))

    assert (outcome.status, outcome.verified) == (Status.FAILED, False)
    assert outcome.error is not None
    assert "no record stands in the answer (at data, api.record)" in outcome.error.message


def test_an_api_says_where_its_refusals_are_explained() -> None:
    """The member that the profile names is told, whatever else the body has."""
    outcome = judged(reply(400, {"status": {"reason": "too long"}}), AnswerRules(error="status.reason"))

    assert outcome.error is not None
    assert (outcome.error.kind, outcome.error.detail) == (ErrorKind.VALIDATION, "too long")


@pytest.mark.parametrize("certificate", [False, True])
def test_an_exchange_that_broke_is_told_in_its_own_words(certificate: bool) -> None:
    """What is not safe to repeat says so behind them; a certificate that is not trusted stops the run."""
    broke = failure(FailureKind.CONNECTION, maybe_sent=True, certificate=certificate)
    safe, unsafe = judge(broke), judge(broke, idempotent=False)

    assert safe.error is not None
    assert unsafe.error is not None
    assert safe.error.message == "it broke"
    assert unsafe.error.message == "it broke; the server may have acted on it, and it is not safe to send again"
    assert (safe.fatal, unsafe.fatal) == (certificate, certificate)
    assert (safe.transient, unsafe.transient) == (not certificate, False)


def test_a_server_that_says_when_to_come_back_is_heeded() -> None:
    """The item waits for as long, whatever the back-off says."""
    outcome = judge(reply(500, b"", retry_after="7"))
    assert outcome.retry_after_s == 7.0
    decision = decide(outcome, attempt=1, policy=RetryPolicy(max_attempts=3), rng=Random(1))
    assert isinstance(decision, Retry)
    assert decision.delay_s >= 7.0
