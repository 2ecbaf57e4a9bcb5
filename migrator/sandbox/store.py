"""The integrations that the sandbox holds, with Confluent Cloud's rules for them. Pure."""

import base64
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["READ_ONLY_KINDS", "WRITABLE_KINDS", "Complaint", "Refusal", "Store", "check_test"]

WRITABLE_KINDS: Final = {"Slack": "webhook_url", "MsTeams": "webhook_url", "Webhook": "url"}
"""Kinds of target, and the member that each requires."""

READ_ONLY_KINDS: Final = frozenset({"RoleEmail", "UserEmail"})
LONGEST: Final = {"display_name": 64, "description": 128}
WRITABLE: Final = (*LONGEST, "target")
DEFAULT_PAGE: Final = 100
LARGEST_PAGE: Final = 250
SELF: Final = "https://api.confluent.cloud/notifications/v1/integrations/"


@dataclass(frozen=True, slots=True)
class Complaint:
    """One thing that is wrong with a request: what, and a JSON Pointer or a query parameter to where."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None

    def source(self) -> dict[str, str]:
        """Return the member `source` of an error object."""
        named = {"pointer": self.pointer, "parameter": self.parameter}
        return {name: place for name, place in named.items() if place is not None}


class Refusal(Exception):
    """Why a request is refused, in the members of an error body.

    Attributes:
        status: of the answer.
        code: the API's own; None where its reference shows none.
        title: the kind of problem; None where the API gives none.
        complaints: what is wrong, one error object each.
        location: of the resource that is in the way.
    """

    def __init__(
        self, status: int, code: str | None, title: str | None, *complaints: Complaint, location: str | None = None
    ) -> None:
        super().__init__(status, code)
        self.status = status
        self.code = code
        self.title = title
        self.complaints = complaints
        self.location = location

    def envelope(self, *, request_id: str) -> dict[str, Any]:
        """Write the `Failure` of the API's reference, every member optional.

        The 403 for an unknown id has neither id, status nor title, as in the vendor's own recorded answer
        (terraform-provider-confluent, read_deleted_integration.json).
        """
        common: dict[str, Any] = {"code": self.code} if self.code is not None else {}
        if self.title is not None:
            common |= {"id": request_id, "status": str(self.status), "title": self.title}
        errors = [common | {"detail": one.detail, "source": one.source()} for one in self.complaints]
        return {"errors": errors or [common]}

    def new_envelope(self, *, request_id: str, path: str, now: str) -> dict[str, Any]:
        """Write the newer envelope that the vendor's guide documents beside the older one."""
        code = self.code or (self.title or "").replace(" ", "_")
        said = " ".join(one.detail for one in self.complaints)
        error = {"code": code.upper(), "message": said or self.title or "", "timestamp": now, "path": path}
        places = ", ".join(place for one in self.complaints for place in one.source().values())
        if places:
            error["details"] = places
        return {"status": self.status, "error": error, "requestId": request_id}


class Store:
    """Integrations by id.

    Args:
        count: how many there are at first, with ids from ``i-00001``.
        now: the present as an RFC 3339 text.
    """

    def __init__(self, count: int, *, now: str) -> None:
        self._next = 1
        self.integrations: dict[str, dict[str, Any]] = {}
        for number in range(1, count + 1):
            hook = f"https://hooks.slack.example/services/TEXAMPLE/BOLD{number:04d}/old-{number:04d}"
            self._add({"display_name": f"Slack integration {number}", "target": _slack(hook)}, now)

    def _add(self, members: Mapping[str, Any], now: str) -> dict[str, Any]:
        key, self._next = f"i-{self._next:05d}", self._next + 1
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
            "description": "",
            **members,
        }
        self.integrations[key] = integration
        return integration

    def create(self, body: Any, *, now: str) -> dict[str, Any]:
        """Add an integration; raises `Refusal`, also for a display name that is taken."""
        wanted = _checked(body, required=("display_name", "target"))
        for key, other in self.integrations.items():
            if other["display_name"] == wanted["display_name"]:
                complaint = Complaint("An integration of this display name already exists.", "/display_name")
                title = "Resource Already exists"
                raise Refusal(409, "resource_already_exists", title, complaint, location=SELF + key)
        return self._add(wanted, now)

    def update(self, key: str, body: Any, *, now: str) -> dict[str, Any]:
        """Change an integration: members that are there, a target as a whole; unknown members are ignored.

        Raises:
            KeyError: there is no such integration.
            Refusal: the body breaks a rule.
        """
        integration = self.integrations[key]
        wanted = _checked(body)
        _check_kind(integration)
        integration.update(wanted)
        integration["metadata"]["updated_at"] = now
        return integration

    def delete(self, key: str) -> None:
        """Remove an integration; raises as `update` does."""
        _check_kind(self.integrations[key])
        del self.integrations[key]

    def page(self, *, size: str | None = None, token: str | None = None) -> tuple[list[dict[str, Any]], str | None]:
        """Return a page of the collection, and the token of the next one.

        Args:
            size: `page_size` as it was sent; it counts on the first request only, later ones go on as they began.
            token: `page_token`, opaque to clients: it names the last integration seen, so that none is left out or
                seen twice when others are removed between two pages.
        """
        after, wanted = _read_size(size) if token is None else _read_token(token)
        keys = list(self.integrations)
        begin = bisect_right(keys, after, key=_number)
        found = [self.integrations[key] for key in keys[begin : begin + wanted]]
        more = begin + wanted < len(keys)
        return found, _write_token(keys[begin + wanted - 1], wanted) if more else None


def _slack(webhook_url: str) -> dict[str, str]:
    return {"kind": "Slack", "webhook_url": webhook_url}


def _number(key: str) -> int:
    return int(key.removeprefix("i-"))


def _read_size(size: str | None) -> tuple[int, int]:
    if size is None:
        return 0, DEFAULT_PAGE
    if not (size.isascii() and size.isdigit() and len(size) < 4 and 1 <= int(size) <= LARGEST_PAGE):
        complaint = Complaint(f"page_size has to be from 1 to {LARGEST_PAGE}.", parameter="page_size")
        raise Refusal(400, "invalid_page_size", "Bad Request", complaint)
    return 0, int(size)


def _write_token(key: str, size: int) -> str:
    return base64.urlsafe_b64encode(f"{_number(key)}.{size}".encode()).decode()


def _read_token(token: str) -> tuple[int, int]:
    try:
        after, _, size = base64.b64decode(token, altchars=b"-_", validate=True).decode().partition(".")
        return int(after), min(max(int(size), 1), LARGEST_PAGE)
    except ValueError:
        complaint = Complaint("The page token is invalid or has expired.", parameter="page_token")
        raise Refusal(400, "invalid_page_token", "Bad Request", complaint) from None


def check_test(body: Any) -> None:
    """Check the body of a test message's request; raises `Refusal`."""
    _checked(body, required=("display_name", "target"))


def _invalid(*complaints: Complaint) -> Refusal:
    return Refusal(422, "invalid_configuration", "Validation Failed", *complaints)


def _check_kind(integration: Mapping[str, Any]) -> None:
    """Refuse to change what can only be read (reference, "The Integrations Model")."""
    kind = integration["target"]["kind"]
    if kind in READ_ONLY_KINDS:
        raise _invalid(Complaint(f"Integrations of the kind {kind} cannot be updated or deleted.", "/target/kind"))


def _checked(body: Any, *, required: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the members that may be written, or refuse them as the API's schema does."""
    if not isinstance(body, Mapping):
        raise Refusal(400, "invalid_request", "Bad Request", Complaint("The body has to be a JSON object."))
    complaints = tuple(_complaints(body, required))
    if complaints:
        raise _invalid(*complaints)
    wanted = {name: body[name] for name in WRITABLE if name in body}
    if "target" in wanted:
        member = WRITABLE_KINDS[wanted["target"]["kind"]]
        wanted["target"] = {name: wanted["target"][name] for name in ("kind", member)}
    return wanted


def _complaints(body: Mapping[str, Any], required: tuple[str, ...]) -> Iterator[Complaint]:
    for name in required:
        if name not in body:
            yield Complaint(f"The property '/{name}' is required.", f"/{name}")
    for name, longest in LONGEST.items():
        value = body.get(name, "")
        if not isinstance(value, str) or len(value) > longest:
            yield Complaint(f"The property '/{name}' has to be a string of at most {longest} characters.", f"/{name}")
    if "target" in body:
        complaint = _target_complaint(body["target"])
        if complaint is not None:
            yield complaint


def _target_complaint(target: Any) -> Complaint | None:
    if not isinstance(target, Mapping):
        return Complaint("The property '/target' has to be an object.", "/target")
    kind = target.get("kind")
    if not isinstance(kind, str):
        return Complaint("The property '/target/kind' is required.", "/target/kind")
    if kind in READ_ONLY_KINDS:
        return Complaint(f"Integrations of the kind {kind} cannot be created or updated.", "/target/kind")
    if kind not in WRITABLE_KINDS:
        kinds = ", ".join(WRITABLE_KINDS)
        return Complaint(f"The property '/target/kind' has to be one of {kinds}.", "/target/kind")
    place = f"/target/{WRITABLE_KINDS[kind]}"
    url = target.get(WRITABLE_KINDS[kind])
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        return Complaint(f"The property '{place}' has to be a URL.", place)
    return None
