"""The headers that every request of an API carries."""

import pytest

from migrator.api.transport.client import session_headers
from migrator.job.profile.api_profile import ApiProfile


@pytest.mark.parametrize("name", ["Content-Type", "content-type", "ACCEPT"])
def test_a_header_of_the_profile_takes_the_place_of_ours(name: str) -> None:
    """A header's name does not heed case, so that none is sent twice."""
    headers = session_headers(ApiProfile(name="test", base_url="http://127.0.0.1", headers={name: "application/x"}))

    assert [text for given, text in headers.items() if given.lower() == name.lower()] == ["application/x"]
