"""The request of a test message is made from the item's own."""

import json

from migrator.commands.webhooks.channel_test import request_of
from migrator.job.profile.api_profile import ChannelTest
from migrator.messages import Request
from migrator.secret import Secret

TEST = ChannelTest(path="/integrations:test", named="display_name")


def request(body: bytes) -> Request:
    """Return an item's request."""
    url = "https://api.acme.io/integrations/i-1"
    return Request(item=1, key="i-1", method="PATCH", url=url, body=body, secrets=(Secret("s"),))


def test_the_row_s_own_values_are_tested() -> None:
    """The item's key stands for a name that the row does not set; the request is not sent twice by itself."""
    made = request_of(request(b'{"target": {"kind": "Slack"}}'), TEST, "https://api.acme.io")

    assert (made.method, made.url) == ("POST", "https://api.acme.io/integrations:test")
    assert json.loads(made.body or b"") == {"display_name": "i-1", "target": {"kind": "Slack"}}
    assert (made.idempotent, made.secrets) == (False, (Secret("s"),))


def test_a_name_that_the_row_sets() -> None:
    """It is what people then see in the channel."""
    made = request_of(request(b'{"display_name": "Alerts"}'), TEST, "https://api.acme.io")

    assert json.loads(made.body or b"") == {"display_name": "Alerts"}
