"""The headers of one limit are found whatever their affixes, and those of several limits are kept apart."""

import pytest

from migrator.ratelimit.dialect.header_names import header_sets


@pytest.mark.parametrize(
    ("limit", "remaining", "reset"),
    [
        ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"),
        ("x-rate-limit-limit", "x-rate-limit-remaining", "x-rate-limit-reset"),
        ("x-ratelimit-userlimit", "x-ratelimit-userremaining", "x-ratelimit-userreset"),
        ("x-ratelimit-limit-short", "x-ratelimit-remaining-short", "x-ratelimit-reset-short"),
        ("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"),
    ],
)
def test_one_set(limit: str, remaining: str, reset: str) -> None:
    """Each spelling gives one set with the three roles."""
    (one,) = header_sets({limit: "100", "date": "today", remaining: "7", reset: "30"})

    assert one == {"limit": (limit, "100"), "remaining": (remaining, "7"), "reset": (reset, "30")}


def test_several_sets() -> None:
    """Limits with different affixes do not mix."""
    headers = {f"x-ratelimit-{role}-{name}": name for name in ("short", "long") for role in ("limit", "remaining")}

    assert [{value for _, value in one.values()} for one in header_sets(headers)] == [{"short"}, {"long"}]


def test_other_units() -> None:
    """What counts tokens or complexity is no limit of requests."""
    assert header_sets({"x-ratelimit-remaining-tokens": "5", "content-length": "3"}) == []
