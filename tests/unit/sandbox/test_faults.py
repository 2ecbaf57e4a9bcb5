"""Orders for faults, and faults by chance."""

import json
from typing import Any

import msgspec
import pytest

from migrator.sandbox.app import Settings
from migrator.sandbox.faults import Chance, Faults, Kind

PATH = "/notifications/v1/integrations"


def ordered(*documents: dict[str, Any]) -> Faults:
    """Return faults as they were ordered."""
    faults = Faults()
    faults.order(json.dumps(documents).encode())
    return faults


def taken(faults: Faults, *, key: str = "i-00001", method: str = "PATCH") -> str | None:
    """Return the text of the fault that a request meets."""
    found = faults.take(method=method, path=f"{PATH}/{key}", key=key)
    return None if found is None else found.text


def test_nothing_ordered() -> None:
    """Without orders nothing goes wrong."""
    assert taken(Faults()) is None


def test_a_fault_happens_as_often_as_ordered() -> None:
    """A fault happens so many times, once unless said, and to no other id."""
    faults = ordered({"match": "i-00001", "fault": "status", "text": "a", "times": 2})

    assert taken(faults, key="i-00002") is None
    assert [taken(faults) for _ in range(3)] == ["a", "a", None]


def test_the_closest_match_comes_first() -> None:
    """An order for an id comes before one for its path, and that before one for any request."""
    faults = ordered(
        {"match": "*", "fault": "status", "text": "any"},
        {"match": f"{PATH}/i-00001", "fault": "status", "text": "path"},
        {"match": "i-00001", "fault": "status", "text": "first"},
        {"match": "i-00001", "fault": "status", "text": "second"},
    )

    assert [taken(faults) for _ in range(5)] == ["first", "second", "path", "any", None]


def test_a_method_can_be_named() -> None:
    """An order for a method leaves the others alone."""
    faults = ordered({"match": "*", "fault": "status", "text": "a", "method": "GET"})

    assert [taken(faults, method=method) for method in ("PATCH", "GET")] == [None, "a"]


def test_what_is_left() -> None:
    """Orders that wait are told with the times that are left; new orders take the place of all."""
    faults = ordered({"match": "i-00001", "fault": "reset", "times": 3}, {"match": "*", "fault": "echo"})

    taken(faults)
    taken(faults, key="i-00002")

    assert [(fault.match, fault.fault, fault.times) for fault in faults.left()] == [("i-00001", Kind.RESET, 2)]
    faults.order(b"[]")
    assert faults.left() == []


@pytest.mark.parametrize(
    ("document", "what"),
    [
        (b"[", "truncated"),
        (b"{}", "Expected `array`"),
        (b"[{}]", "match"),
        (b'[{"match": "*", "fault": "explode"}]', "explode"),
        (b'[{"match": "*", "fault": "status", "staus": 409}]', "staus"),
        (b'[{"match": "*", "fault": "status", "status": 99}]', ">= 200"),
        (b'[{"match": "*", "fault": "status", "times": 0}]', ">= 1"),
        (b'[{"match": "*", "fault": "redirect"}]', "location"),
    ],
)
def test_wrong_orders(document: bytes, what: str) -> None:
    """An order that cannot be followed says why, and the orders before it stand."""
    faults = ordered({"match": "*", "fault": "reset"})

    with pytest.raises(msgspec.DecodeError, match=what):
        faults.order(document)

    assert len(faults.left()) == 1


def chance(**settings: float) -> Chance:
    """Return a chance of certain settings."""
    return Chance(
        **{"seed": 1, "latency_s": 0.0, "jitter_s": 0.0, "error_rate": 0.0} | settings  # type: ignore[arg-type]  # one dict for all
    )


def test_no_chance() -> None:
    """Without a rate there are no errors, without jitter each latency is the same."""
    plain = chance(latency_s=0.05)

    assert {plain.delay_s() for _ in range(100)} == {0.05}
    assert {plain.error() for _ in range(100)} == {None}


def test_errors_come_at_their_rate() -> None:
    """Errors are spread over three statuses and come about as often as asked for."""
    drawn = [chance_of.error() for chance_of in [chance(error_rate=0.25)] for _ in range(4000)]

    assert 900 < sum(status is not None for status in drawn) < 1100
    assert set(drawn) == {None, 500, 502, 503}


def test_latencies_lie_in_their_bounds() -> None:
    """A latency is at least what is asked for, and at most the jitter more."""
    jittery = chance(latency_s=0.05, jitter_s=0.02)
    drawn = [jittery.delay_s() for _ in range(1000)]

    assert 0.05 <= min(drawn) < 0.051
    assert 0.069 < max(drawn) <= 0.07


def test_a_seed_repeats_itself() -> None:
    """The same seed gives the same errors, with jitter or without; another seed gives others."""
    plain, jittery, other = chance(error_rate=0.3), chance(error_rate=0.3, jitter_s=1.0), chance(error_rate=0.3, seed=2)

    first = [plain.error() for _ in range(50)]
    second = [(jittery.delay_s(), jittery.error())[1] for _ in range(50)]

    assert first == second
    assert first != [other.error() for _ in range(50)]


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"window_s": 0.0}, "window"),
        ({"window_s": float("nan")}, "window"),
        ({"window_s": float("inf")}, "window"),
        ({"error_rate": 1.5}, "error rate"),
        ({"latency_s": -0.1}, "latency"),
        ({"jitter_s": float("nan")}, "jitter"),
        ({"limit": -1}, "limits"),
        ({"items": -1}, "items"),
        ({"api_secret": "made-up"}, "API secret"),
    ],
)
def test_settings_that_make_no_server(settings: dict[str, Any], what: str) -> None:
    """Settings that make no sense are refused, and it is said what the sandbox takes."""
    with pytest.raises(ValueError, match=what):
        Settings(**settings)
