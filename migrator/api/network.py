"""The way to a server: which certificates count, and which proxy is between."""

import ssl
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import unquote, urlsplit

from migrator.errors import MigratorError
from migrator.options import RunOptions
from migrator.secret import Secret

__all__ = ["Network", "Proxy", "network_of"]

PROXIES: Final = frozenset({"http", "https"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A proxy; its credentials are never in its URL, which messages quote.

    Attributes:
        url: scheme, host and port.
        password: of its user.
        headers: what only the proxy is sent.
    """

    url: str
    password: Secret | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What the user has set for connections.

    Attributes:
        ca_file: trust the certificates of this PEM file in place of the system's.
        client_cert: show the certificate of this PEM file, which holds its key too.
        use_proxy: use the proxies that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name.
    """

    ca_file: str | None = None
    client_cert: str | None = None
    use_proxy: bool = False

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
        """Return the proxy that the environment names for a URL.

        Raises:
            MigratorError: it is not an http or https proxy.
        """
        if not self.use_proxy:
            return None
        from urllib.request import getproxies_environment, proxy_bypass  # noqa: PLC0415  slow to import

        target = urlsplit(url)
        found = getproxies_environment().get(target.scheme)
        if not found or proxy_bypass(target.netloc):
            return None
        try:
            parts = urlsplit(found if "://" in found else f"http://{found}")
            port = f":{parts.port}" if parts.port is not None else ""
        except ValueError:
            parts, port = urlsplit(""), ""
        if parts.scheme not in PROXIES or not parts.hostname:
            raise MigratorError(f"the variable {target.scheme.upper()}_PROXY has to be an http or https URL")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        proxy = Proxy(url=f"{parts.scheme}://{host}{port}")
        if parts.username is None:
            return proxy
        user, password = unquote(parts.username), unquote(parts.password or "")
        basic = b64encode(f"{user}:{password}".encode()).decode()
        return replace(proxy, password=Secret(password), headers={"Proxy-Authorization": f"Basic {basic}"})


def network_of(options: RunOptions) -> Network:
    """Return what a run's options say of connections."""
    return Network(ca_file=options.ca_file, client_cert=options.client_cert, use_proxy=options.use_proxy)


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return "it is not a PEM file with what is needed, or its key is encrypted"
    return error.strerror or "it cannot be read"
