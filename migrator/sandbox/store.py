"""The integrations that the sandbox holds, with Confluent Cloud's rules for them. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Refusal", "Store"]

WRITABLE: Final = {"Slack": "webhook_url", "MsTeams": "webhook_url", "Webhook": "url"}
"""Kinds of target, and the member that each requires."""

READ_ONLY_KINDS: Final = frozenset({"RoleEmail", "UserEmail"})
LONGEST: Final = {"display_name": 64, "description": 128}
SELF: Final = "https://api.confluent.cloud/notifications/v1/integrations/"


@dataclass(frozen=True, slots=True)
class Refusal(Exception):  # noqa: N818  a server's answer, no error of the program
    """Why a request is refused, in the words of an error body."""

    status: int
    code: str
    title: str
    detail: str
    pointer: str | None = None


class Store:
    """Integrations by id.

    Args:
        count: how many there are at first, with ids from ``i-00001``.
        now: the present as an RFC 3339 text.
    """

    def __init__(self, count: int, *, now: str) -> None:
        self._next = count + 1
        self.integrations: dict[str, dict[str, Any]] = {}
        for number in range(1, count + 1):
            hook = f"https://hooks.slack.example/services/TEXAMPLE/BOLD{number:04d}/old-{number:04d}"
            self._add(f"i-{number:05d}", f"Slack integration {number}", {"kind": "Slack", "webhook_url": hook}, now)

    def _add(self, key: str, display_name: str, target: Mapping[str, Any], now: str) -> dict[str, Any]:
        integration = {
            "api_version": "notifications/v1",
            "kind": "Integration",
            "id": key,
            "metadata": {
                "self": SELF + key,
                "resource_name": f"crn://confluent.cloud/organization=sandbox/integration={key}",
                "created_at": now,
                "updated_at": now,
            },
            "display_name": display_name,
            "description": "",
            "target": dict(target),
        }
        self.integrations[key] = integration
        return integration

    def create(self, body: Any, *, now: str) -> dict[str, Any]:
        """Add an integration; raises `Refusal`."""
        wanted = _checked(body, required=("display_name", "target"))
        if any(one["display_name"] == wanted["display_name"] for one in self.integrations.values()):
            raise Refusal(409, "resource_already_exists", "Resource Already exists", "The display name is taken.")
        key, self._next = f"i-{self._next:05d}", self._next + 1
        integration = self._add(key, wanted["display_name"], wanted["target"], now)
        integration["description"] = wanted.get("description", "")
        return integration

    def update(self, key: str, body: Any, *, now: str) -> dict[str, Any]:
        """Change an integration: members that are there, a target as a whole; unknown members are ignored."""
        wanted = _checked(body, required=())
        integration = self.integrations[key]
        if "target" in wanted and integration["target"]["kind"] in READ_ONLY_KINDS:
            raise _invalid("target", "An integration of this kind cannot be updated.")
        integration.update(wanted)
        integration["metadata"]["updated_at"] = now
        return integration

    def page(self, *, after: str, size: int) -> tuple[list[dict[str, Any]], str | None]:
        """Return a page of the collection, and the token of the next one."""
        keys = list(self.integrations)
        begin = int(after) if after.isdecimal() else 0
        found = [self.integrations[key] for key in keys[begin : begin + size]]
        return found, str(begin + size) if begin + size < len(keys) else None


def check_test(body: Any) -> None:
    """Check the body of a test message's request; raises `Refusal`."""
    _checked(body, required=("display_name", "target"))


def _invalid(place: str, detail: str) -> Refusal:
    return Refusal(422, "invalid_configuration", "Validation Failed", detail, "/" + place)


def _checked(body: Any, *, required: tuple[str, ...]) -> dict[str, Any]:
    """Return the members that may be written, or refuse them as the API's schema does."""
    if not isinstance(body, Mapping):
        raise Refusal(400, "invalid_request", "Bad Request", "The body has to be a JSON object.")
    for name in required:
        if name not in body:
            raise _invalid(name, f"The property '/{name}' is required.")
    for name, longest in LONGEST.items():
        value = body.get(name, "")
        if not isinstance(value, str) or len(value) > longest:
            raise _invalid(name, f"The property '/{name}' has to be a string of at most {longest} characters.")
    if "target" in body:
        _check_target(body["target"])
    return {name: body[name] for name in ("display_name", "description", "target") if name in body}


def _check_target(target: Any) -> None:
    if not isinstance(target, Mapping) or not isinstance(target.get("kind"), str):
        raise _invalid("target/kind", "The property '/target/kind' is required.")
    kind = target["kind"]
    if kind in READ_ONLY_KINDS:
        raise _invalid("target/kind", f"Integrations of the kind {kind} cannot be created or updated.")
    if kind not in WRITABLE:
        raise _invalid("target/kind", "The property '/target/kind' has to be one of Slack, MsTeams, Webhook.")
    url = target.get(WRITABLE[kind])
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise _invalid(f"target/{WRITABLE[kind]}", f"The property '/target/{WRITABLE[kind]}' has to be a URL.")
