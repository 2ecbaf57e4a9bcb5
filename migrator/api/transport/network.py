"""The way to a server: which certificates count, and which proxy is between."""

import ssl
from base64 import b64encode
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import msgspec
from msgspec.structs import replace

from migrator.errors import MigratorError
from migrator.job.profile.api_profile import ApiProfile
from migrator.messages import host_of, is_loopback
from migrator.options import RunOptions
from migrator.secret import Secret

__all__ = ["Network", "Proxy", "network_of"]

PROXIES: Final = frozenset({"http", "https"})


class Proxy(msgspec.Struct, frozen=True, kw_only=True):
    """A proxy; its credentials are never in its URL, which messages quote.

    Attributes:
        url: scheme, host and port.
        password: of its user.
        headers: what only the proxy is sent.
    """

    url: str
    password: Secret | None = None
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<proxy {self.url}>"


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """What the user has set for connections.

    Attributes:
        ca_file: trust the certificates of this PEM file in place of the system's.
        client_cert: show the certificate of this PEM file, which holds its key too.
        use_proxy: use the proxies that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name.
        proxy: the profile's own proxy, which is used in their place; None for none.
    """

    ca_file: str | None = None
    client_cert: str | None = None
    use_proxy: bool = False
    proxy: str | Secret | None = None

    def __repr__(self) -> str:
        return "<network>"

    def context(self) -> ssl.SSLContext:
        """Return the TLS settings; SSL_CERT_FILE counts as it is now.

        Raises:
            MigratorError: a file cannot be used.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise MigratorError(f"--ca-file {self.ca_file}: {_reason(error)}") from None
        if self.client_cert is not None:
            try:
                # Without a password of our own, OpenSSL would ask for one on the terminal.
                context.load_cert_chain(self.client_cert, password="")
            except OSError as error:
                raise MigratorError(f"--client-cert {self.client_cert}: {_reason(error)}") from None
        return context

    def proxy_for(self, url: str) -> Proxy | None:
        """Return the proxy for a URL: the profile's own, else the one that the environment names.

        A rehearsal on loopback does not go through the profile's proxy.

        Raises:
            MigratorError: it is not an http or https proxy.
        """
        if self.proxy is not None:
            if is_loopback(host_of(url) or ""):
                return None
            text = self.proxy.reveal() if isinstance(self.proxy, Secret) else self.proxy
            return _proxy_at(text, "the profile's proxy")
        if not self.use_proxy:
            return None
        target = urlsplit(url)
        found = getproxies_environment().get(target.scheme)
        if not found or proxy_bypass(target.netloc):
            return None
        return _proxy_at(found if "://" in found else f"http://{found}", f"the variable {target.scheme.upper()}_PROXY")


def network_of(options: RunOptions, profile: ApiProfile) -> Network:
    """Return what a run's options and an API's profile say of connections."""
    return Network(
        ca_file=options.ca_file,
        client_cert=options.client_cert,
        use_proxy=options.use_proxy or profile.proxy is True,
        proxy=None if isinstance(profile.proxy, bool) else profile.proxy,
    )


def _proxy_at(text: str, name: str) -> Proxy:
    """Return the proxy with a URL; its credentials are taken out of it.

    Raises:
        MigratorError: it is not an http or https proxy.
    """
    try:
        parts = urlsplit(text)
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        parts, port = urlsplit(""), ""
    if parts.scheme not in PROXIES or not parts.hostname:
        raise MigratorError(f"{name} has to be an http or https URL")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    proxy = Proxy(url=f"{parts.scheme}://{host}{port}")
    if parts.username is None:
        return proxy
    user, password = unquote(parts.username), unquote(parts.password or "")
    basic = b64encode(f"{user}:{password}".encode()).decode()
    return replace(proxy, password=Secret(password), headers={"Proxy-Authorization": f"Basic {basic}"})


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return "it is not a PEM file with what is needed, or its key is encrypted"
    return error.strerror or "it cannot be read"
