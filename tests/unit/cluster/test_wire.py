"""Requests travel unchanged, and no text of a frame shows what is in it."""

from hypothesis import given
from hypothesis import strategies as st

from migrator.cluster import wire
from migrator.cluster.parcel import packed, restored
from migrator.messages import NO_RULES, AnswerRules, Request
from migrator.secret import Secret

TEXTS = st.text(st.characters(), max_size=20)
"""Lone surrogates among them: JSON can hold them, and a key may."""

ASCII = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)
BODIES = st.none() | st.binary(max_size=20)
SECRETS = st.builds(Secret, TEXTS)


def requests(reading: st.SearchStrategy[Request | None]) -> st.SearchStrategy[Request]:
    """Return requests of any kind."""
    return st.builds(
        Request,
        item=st.integers(1, 10**9),
        key=TEXTS,
        method=st.sampled_from(["PATCH", "POST", "DELETE"]),
        url=ASCII,
        body=BODIES,
        wanted=BODIES,
        headers=st.lists(st.tuples(ASCII, ASCII), max_size=2).map(tuple),
        frame=BODIES,
        credentials=st.none() | st.tuples(ASCII, SECRETS),
        needs_record=st.booleans(),
        reading=reading,
        secrets=st.lists(SECRETS, max_size=2).map(tuple),
        limiter_key=TEXTS,
        idempotent=st.booleans(),
    )


@given(requests(st.none() | requests(st.none())))
def test_a_request_comes_back_as_it_was(request: Request) -> None:
    """With its secrets, its lone surrogates and the request that reads its record."""
    frame = wire.encode([wire.Work(packed(request), canary=True, doubtful=False, written=None)])
    (work,) = wire.decode_to_worker(frame)
    assert isinstance(work, wire.Work)
    assert restored(work.request, NO_RULES) == request


def test_a_request_gets_the_rules_of_the_worker_s_job() -> None:
    """They are the same for all items, and do not travel."""
    request = Request(item=1, key="a", method="PATCH", url="https://api.example/a", body=b"{}")
    rules = AnswerRules(record="data")
    assert restored(packed(request), rules).rules is rules


def test_a_frame_is_shown_as_its_length() -> None:
    """Dask logs a message that it cannot send."""
    frame = wire.encode([wire.Withdraw(1)])
    assert repr(frame) == str(frame) == f"<frame of {len(frame)} bytes>"


def test_another_version_can_be_told_whatever_else_has_changed() -> None:
    """The setup of a later version may have other members."""
    assert wire.version_in(b"\x82\xa7version\xa39.9\xa4more\x01") == "9.9"
