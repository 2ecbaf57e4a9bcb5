"""Rate-limit headers are read in every dialect in use, and garbage is never a reason to fail."""

import json
from email.utils import formatdate
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.messages import Instant
from migrator.ratelimit.dialect.reset_time import ResetForm, parse_retry_after
from migrator.ratelimit.headers import Dialect, Quota, QuotaReader, parse_quota

NOW = Instant(1000.0, 1_795_435_200.0)
"""2026-11-23T12:00:00Z."""

DATE = "Mon, 23 Nov 2026 12:00:00 GMT"


def read(dialect: Dialect | None = None, **headers: str) -> Quota | None:
    """Parse headers, whose names are given with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return parse_quota(named, at=NOW, dialect=dialect or Dialect())


def trio(limit: str, remaining: str, reset: str) -> dict[str, str]:
    """Return the usual three headers."""
    return {"x-ratelimit-limit": limit, "x-ratelimit-remaining": remaining, "x-ratelimit-reset": reset}


SAMPLES = sorted((Path(__file__).parents[2] / "samples" / "rate_limits").glob("*.json"))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_recorded_headers(sample: Path) -> None:
    """Each recorded dialect gives its limit, its rest and its reset."""
    recorded = json.loads(sample.read_text())

    quota = parse_quota(recorded["headers"], at=NOW, dialect=Dialect())

    assert quota is not None
    found = {"limit": quota.limit, "remaining": quota.remaining, "reset_s": quota.reset_s}
    assert found == pytest.approx(recorded["expected"])


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-ratelimit-remaining": ""},
        {"x-ratelimit-remaining": "many"},
        {"x-ratelimit-remaining": "NaN", "x-ratelimit-reset": "inf"},
        {"x-ratelimit-reset": "-5"},
        {"x-ratelimit-reset": "9" * 24},
        {"ratelimit": '"default";q=5'},
        {"ratelimit": '"default;r='},
        {"x-ratelimit": "{"},
        {"retry-after": "5"},
    ],
)
def test_garbage_is_ignored(headers: dict[str, str]) -> None:
    """What cannot be read says nothing."""
    assert parse_quota(headers, at=NOW, dialect=Dialect()) is None


def test_odd_values() -> None:
    """A negative rest is none left, and absurd limits are passed over."""
    assert read(x_ratelimit_remaining="-1") == Quota(remaining=0)
    assert read(x_ratelimit_limit="99999999999999", x_ratelimit_remaining="5") == Quota(remaining=5)


def test_repeated_headers() -> None:
    """Of a repeated header the least rest and the latest reset count."""
    quota = parse_quota(trio("100, 50", "7, 3", "5, 9"), at=NOW, dialect=Dialect())

    assert quota is not None
    assert (quota.limit, quota.remaining, quota.reset_s) == (50, 3, 9.0)


def test_several_policies() -> None:
    """Of several policies the tightest binds, and those that count something else are passed over."""
    quota = read(
        ratelimit='"burst";r=40;t=5, "daily";r=12;t=3600, "bytes";r=0;t=1',
        ratelimit_policy='"burst";q=100;w=60,"daily";q=1000;w=86400,"bytes";q=9;qu="content-bytes"',
    )

    assert quota is not None
    assert (quota.policy, quota.limit, quota.remaining, quota.window_s) == ("daily", 1000, 12, 86400.0)


@given(
    st.dictionaries(st.sampled_from(["", "user", "short", "long", "daily"]), st.integers(0, 999), min_size=1),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_the_tightest_of_several_sets(left: dict[str, int], before: bool, rng: Random) -> None:
    """With any affixes, before or behind the word, and in any order, the set with the least left is returned."""
    lines = []
    for affix, remaining in left.items():
        for role, value in (("limit", 1000), ("remaining", remaining), ("reset", 10 + len(affix))):
            words = [affix, role] if before else [role, affix]
            lines.append(("x-ratelimit-" + "-".join(word for word in words if word), str(value)))
    rng.shuffle(lines)
    least = min(left.values())

    quota = parse_quota(dict(lines), at=NOW, dialect=Dialect())

    assert quota is not None
    assert (quota.limit, quota.remaining) == (1000, least)
    assert quota.reset_s in {10.0 + len(affix) for affix, remaining in left.items() if remaining == least}


@given(st.integers(0, 3600), st.floats(-86400, 86400))
def test_clock_skew_is_taken_out(seconds: int, skew_s: float) -> None:
    """An epoch is read by the server's own clock, however wrong ours is."""
    server = int(NOW.utc + skew_s)
    headers = {**trio("100", "1", str(server + seconds)), "date": formatdate(server, usegmt=True)}

    quota = parse_quota(headers, at=NOW, dialect=Dialect())

    assert quota is not None
    assert quota.reset_s == seconds
    assert quota.late_s >= 1.0


def test_cached_date_is_not_trusted() -> None:
    """The Date of an answer out of a cache is not the server's clock."""
    quota = parse_quota({**trio("1", "1", "1795435230"), "date": DATE, "age": "500"}, at=NOW, dialect=Dialect())

    assert quota is not None
    assert (quota.reset_s, quota.late_s) == (30.0, 2.0)


@given(st.integers(1, 10**6), st.floats(0, 3600), st.sampled_from(["epoch", "epoch_ms", "relative", "relative_ms"]))
def test_forms_agree(limit: int, seconds: float, form: str) -> None:
    """The same instant is the same interval, in whichever form a profile says it is written."""
    value = {
        "epoch": NOW.utc + seconds,
        "epoch_ms": (NOW.utc + seconds) * 1000,
        "relative": seconds,
        "relative_ms": seconds * 1000,
    }[form]
    dialect = Dialect(reset=ResetForm(form))

    quota = parse_quota({**trio(str(limit), "0", str(int(value))), "date": DATE}, at=NOW, dialect=dialect)

    assert quota is not None
    assert quota.reset_s is not None
    slack_s = 1.0 if form in {"epoch", "relative"} else 0.002
    assert seconds - slack_s <= quota.reset_s <= seconds + 1e-3


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        ("0", 0.0),
        ("0.493", 0.493),
        ("5, 5", 5.0),
        ("Mon, 23 Nov 2026 12:00:30 GMT", 30.0),
        ("Monday, 23-Nov-26 12:00:30 GMT", 30.0),
        ("Mon Nov 23 12:00:30 2026", 30.0),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1e9", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    """Retry-After is read as seconds, and as a date in all three forms (RFC 9110, section 10.2.3)."""
    assert parse_retry_after(value, at=NOW) == seconds


def test_retry_after_by_the_servers_clock() -> None:
    """A date is taken from the server's own clock."""
    later = Instant(0.0, NOW.utc + 3600)

    assert parse_retry_after("Mon, 23 Nov 2026 12:00:30 GMT", at=later, date=DATE) == 30.0


names = st.sampled_from(
    ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "ratelimit", "ratelimit-policy", "x-ratelimit"]
)
values = st.text(max_size=40) | st.from_regex(
    r'"[a-z]*";r=\d*;t=\d*|\d{1,30}(\.\d*)?|[A-Z][a-z]{2}, \d+ .*', fullmatch=True
)


@given(st.dictionaries(names | st.just("date"), values), values)
def test_any_headers(headers: dict[str, str], value: str) -> None:
    """Whatever headers hold, reading them ends, and no value is out of range."""
    quota = QuotaReader(Dialect()).read(headers, at=NOW)
    retry_after = parse_retry_after(value, at=NOW, date=headers.get("date"))

    assert quota is None or (quota.remaining or 0) >= 0
    assert quota is None or 0 <= (quota.reset_s or 0) < 1e9
    assert retry_after is None or retry_after >= 0


def test_milliseconds_are_told_by_their_slope() -> None:
    """A value that falls by a thousand a second is milliseconds, once three answers have said so."""
    reader = QuotaReader(Dialect())
    found = []
    for step in range(8):
        at = Instant(1000.0 + step, NOW.utc + step)
        quota = reader.read(trio("100", str(90 - step), str(60_000 - 1000 * step)), at=at)
        found.append(quota.reset_s if quota is not None else None)

    assert reader.form is ResetForm.RELATIVE_MS
    assert found[-1] == 53.0


def test_one_odd_value_does_not_flip_the_dialect() -> None:
    """A single epoch among relative values is ignored; three in a row are believed."""
    reader = QuotaReader(Dialect())
    readings = ["30", "29", "1795435260", "28", "1795435260", "1795435260", "1795435260"]

    found = [reader.read(trio("100", "5", text), at=NOW) for text in readings]

    resets = [quota.reset_s for quota in found if quota is not None]
    assert resets[:4] == [30.0, 29.0, None, 28.0]
    assert resets[4:] == [None, None, 60.0]
    assert all(quota is not None and quota.remaining == 5 for quota in found)
