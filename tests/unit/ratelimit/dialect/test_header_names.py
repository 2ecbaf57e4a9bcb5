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


@pytest.mark.parametrize(
    ("name", "window_s"),
    [
        ("x-ratelimit-remaining-minute", "60"),
        ("x-ratelimit-remaining-hour", "3600"),
        ("x-hubspot-ratelimit-daily-remaining", "86400"),
        ("x-ratelimit-remaining-short", None),
    ],
)
def test_a_set_that_is_named_after_its_window(name: str, window_s: str | None) -> None:
    """The word is all that such servers say of it."""
    (found,) = header_sets({name: "7"})
    assert found.get("window_s", ("", None))[1] == window_s


def test_a_window_that_is_told_counts_more_than_a_word() -> None:
    """HubSpot's interval is in milliseconds."""
    (found,) = header_sets({"x-ratelimit-remaining-daily": "7", "x-ratelimit-interval-milliseconds-daily": "5000"})
    assert "window_s" not in found


def test_a_limit_that_only_its_rest_makes_one() -> None:
    """HubSpot's `-Secondly` is a limit without a rest, and says nothing; `-Daily` has one."""
    assert header_sets({"x-hubspot-ratelimit-secondly": "10"}) == []
    (daily,) = header_sets({"x-hubspot-ratelimit-daily": "250000", "x-hubspot-ratelimit-daily-remaining": "7"})
    assert daily["limit"][1] == "250000"
    assert daily["remaining"][1] == "7"


@pytest.mark.parametrize(
    "names", [("x-ratelimit-reset", "x-ratelimit-reset-after"), ("x-ratelimit-next", "x-ratelimit-reset")]
)
@pytest.mark.parametrize("backwards", [False, True])
def test_of_several_resets_the_clearest_counts(names: tuple[str, str], backwards: bool) -> None:
    """Seconds from now need no clock, whatever the order of the headers."""
    headers = {name: name for name in (names[::-1] if backwards else names)}
    (found,) = header_sets(headers | {"x-ratelimit-remaining": "7"})
    assert found["reset"][0] == names[1]
