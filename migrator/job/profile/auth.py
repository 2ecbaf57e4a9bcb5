"""How a request shows who sends it: fixed credentials, tokens that are read again, and OAuth 2.0."""

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from migrator.messages import unsafe_url
from migrator.secret import Secret
from migrator.times import parse_duration

__all__ = ["Auth", "AuthKind", "AuthReader", "Grant", "OAuth2"]

TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105  the name of a grant
ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  the name of a type
JWT: Final = "urn:ietf:params:oauth:token-type:jwt"

FILE_PERIOD_S: Final = 60.0
"""Seconds after which a token file is read again: what writes it also replaces it, before the token ends."""


ROW_VALUE: Final = re.compile(r"\{([^{}$@]+)\}")
"""A member that is a column and nothing else: each row brings its own."""


class AuthKind(StrEnum):
    """How a request shows who sends it."""

    BASIC = "basic"
    BEARER = "bearer"
    HEADER = "header"
    OAUTH2 = "oauth2"
    NONE = "none"


class Grant(StrEnum):
    """How an OAuth 2.0 client gets a token: RFC 6749, section 4.4, and RFC 8693."""

    CLIENT_CREDENTIALS = "client_credentials"
    TOKEN_EXCHANGE = "token_exchange"  # noqa: S105  the name of a grant


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuth2:
    """What a token server is asked with.

    Attributes:
        token_url: the token endpoint, over HTTPS or on this machine.
        client_id: the client; None for an exchange that needs none.
        client_secret: its password.
        form: the members of the request's form, without what is secret.
        subject_token: returns the token that is exchanged, read again each time; raises OSError.
    """

    token_url: str
    client_id: str | None
    client_secret: Secret | None
    form: Mapping[str, str]
    subject_token: Callable[[], Secret] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """Credentials.

    Attributes:
        kind: how they are shown.
        username: the user of basic authentication; an API key's id, which is no secret.
        secret: the password, the token, or the header's value.
        header: the header's name.
        reload: reads the token again, from a file or a command; None for a fixed one; raises OSError.
        source: where that token comes from, as the profile has it.
        reload_after_s: seconds after which the token is read again; None: only once the server refuses it.
        oauth2: how a token is got.
        columns: the columns that hold members of `auth`, by the member's name: each row has its own credentials.
    """

    kind: AuthKind = AuthKind.NONE
    username: str | None = None
    secret: Secret | None = None
    header: str | None = None
    reload: Callable[[], Secret] | None = field(default=None, repr=False, compare=False)
    source: str = ""
    reload_after_s: float | None = None
    oauth2: OAuth2 | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    def header_of(self, values: Mapping[str, Any]) -> tuple[str, Secret]:
        """Return the name and the value of the header that carries a row's credentials.

        Args:
            values: the row's, by column.

        Raises:
            ValueError: a row's value cannot be sent; the text names the column.
        """
        found = {member: _text_of(column, values.get(column)) for member, column in self.columns.items()}
        if ":" in found.get("username", ""):
            raise ValueError(f"{self.columns['username']} may not hold a colon (RFC 7617, section 2)")
        secret = self.secret.reveal() if self.secret is not None else ""
        return _header(
            self.kind,
            found.get("username", self.username or ""),
            next((text for member, text in found.items() if member != "username"), secret),
            self.header,
        )

    def secrets(self) -> list[Secret]:
        """Return the secrets that are known before the first request."""
        found = [self.secret, self.oauth2.client_secret if self.oauth2 is not None else None]
        return [secret for secret in found if secret is not None]

    def identity(self) -> list[str]:
        """Return what tells these credentials from others, in clear; a token that ends does not."""
        client = [] if self.oauth2 is None else [self.oauth2.client_id or "", *self.oauth2.form.values()]
        fixed = [self.source] if self.source else [secret.reveal() for secret in self.secrets()]
        return [self.username or "", *client, *fixed]


class AuthReader:
    """Turns a profile's `auth` into credentials.

    Args:
        filled: returns a text with its variables filled in, and takes down what is wrong with them.
        again: does the same for a token that is read again; raises OSError.
        wrong: takes down a problem with a member.
        place: where the members stand in the document.
    """

    def __init__(
        self,
        filled: Callable[[str, tuple[str | int, ...]], str],
        again: Callable[[str], str],
        wrong: Callable[[tuple[str | int, ...], str], None],
        place: tuple[str | int, ...],
    ) -> None:
        self._filled = filled
        self._again = again
        self._wrong = wrong
        self._place = place

    def auth(self, given: Mapping[str, Any]) -> Auth:
        """Return the credentials that a valid document describes."""
        kind = AuthKind(given["type"])
        members = {"username", "password", "token", "value"} & given.keys()
        columns = {name: found[1].strip() for name in members if (found := ROW_VALUE.fullmatch(given[name]))}
        if columns and kind in {AuthKind.BASIC, AuthKind.BEARER, AuthKind.HEADER}:
            return self._of_rows(kind, given, columns)
        match kind:
            case AuthKind.BASIC:
                username = self._member(given, "username")
                if ":" in username:
                    self._wrong((*self._place, "username"), "may not hold a colon (RFC 7617, section 2)")
                return Auth(kind=kind, username=username, secret=Secret(self._member(given, "password")))
            case AuthKind.BEARER:
                return self._bearer(given)
            case AuthKind.HEADER:
                return Auth(kind=kind, header=given["name"], secret=Secret(self._member(given, "value")))
            case AuthKind.OAUTH2:
                return Auth(kind=kind, oauth2=self._oauth2(given))
            case AuthKind.NONE:
                return Auth()

    def _of_rows(self, kind: AuthKind, given: Mapping[str, Any], columns: Mapping[str, str]) -> Auth:
        fixed = {
            name: self._member(given, name)
            for name in ("username", "password")
            if name in given and name not in columns
        }
        return Auth(
            kind=kind,
            username=fixed.get("username"),
            secret=Secret(fixed["password"]) if "password" in fixed else None,
            header=given.get("name"),
            columns=columns,
        )

    def _member(self, given: Mapping[str, Any], name: str) -> str:
        return self._filled(given[name], (*self._place, name))

    def _bearer(self, given: Mapping[str, Any]) -> Auth:
        """Return a token, which is read again where a file or a command gives it."""
        member = next(name for name in ("token", "file", "command") if name in given)
        text = given[member] if member == "token" else f"${{{member}:{given[member]}}}"
        secret = Secret(self._filled(text, (*self._place, member)))
        living = "${file:" in text or "${command:" in text
        period_s = FILE_PERIOD_S if "${file:" in text else None
        if "renew_every" in given:
            period_s = self._duration(given["renew_every"])
        return Auth(
            kind=AuthKind.BEARER,
            secret=secret,
            source=text if living else "",
            reload=(lambda: Secret(self._again(text))) if living else None,
            reload_after_s=period_s if living else None,
        )

    def _duration(self, text: str) -> float | None:
        try:
            return parse_duration(text)
        except ValueError as error:
            self._wrong((*self._place, "renew_every"), f"has to be {error}")
            return None

    def _oauth2(self, given: Mapping[str, Any]) -> OAuth2:
        token_url = self._member(given, "token_url")
        if token_url and (message := unsafe_url(token_url, credentials=True)):
            self._wrong((*self._place, "token_url"), message)
        grant = Grant(given["grant"])
        subject = given.get("subject_token") if grant is Grant.TOKEN_EXCHANGE else None
        if subject is not None:
            self._filled(subject, (*self._place, "subject_token"))
        parameters = {
            name: self._filled(value, (*self._place, "parameters", name))
            for name, value in given.get("parameters", {}).items()
        }
        scope = {"scope": self._member(given, "scope")} if "scope" in given else {}
        return OAuth2(
            token_url=token_url,
            client_id=self._member(given, "client_id") if "client_id" in given else None,
            client_secret=Secret(self._member(given, "client_secret")) if "client_secret" in given else None,
            form=_form(grant, given) | scope | parameters,
            subject_token=None if subject is None else lambda: Secret(self._again(subject)),
        )


def _form(grant: Grant, given: Mapping[str, Any]) -> dict[str, str]:
    """Return the fixed members of the form: RFC 6749, section 4.4.2, or RFC 8693, section 2.1."""
    if grant is Grant.CLIENT_CREDENTIALS:
        return {"grant_type": grant.value}
    return {
        "grant_type": TOKEN_EXCHANGE,
        "subject_token_type": given.get("subject_token_type", JWT),
        "requested_token_type": ACCESS_TOKEN,
    }


def _header(kind: AuthKind, username: str, secret: str, name: str | None) -> tuple[str, Secret]:
    """Return the header of RFC 7617, of RFC 6750, or the API's own."""
    if kind is AuthKind.BASIC:
        return "Authorization", Secret("Basic " + b64encode(f"{username}:{secret}".encode()).decode())
    if kind is AuthKind.BEARER:
        return "Authorization", Secret(f"Bearer {secret}")
    return name or "Authorization", Secret(secret)


def _text_of(column: str, value: Any) -> str:
    text = value.reveal() if isinstance(value, Secret) else str(value or "")
    if not text or not text.isprintable() or not text.isascii():
        raise ValueError(f"{column} is a credential, and has to be printable ASCII and not empty")
    return text
