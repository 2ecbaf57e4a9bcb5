"""Which servers are spoken to, and with credentials."""

from ipaddress import ip_address
from urllib.parse import urlsplit

__all__ = ["host_of", "is_loopback", "unsafe_url"]


def host_of(url: str) -> str | None:
    """Return a URL's host, if it is one."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        # `unsafe_url` says what is wrong with it.
        return None


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine: the names and addresses of RFC 6761, section 6.3, and RFC 1122."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def unsafe_url(url: str, *, credentials: bool) -> str | None:
    """Return why a server's URL is not used, or None where it is."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "has to be an http or https URL without query and fragment"
    if not host or parts.scheme not in {"http", "https"} or parts.query or parts.fragment:
        return "has to be an http or https URL without query and fragment"
    if parts.username is not None:
        return "may not hold credentials: they belong into auth"
    if parts.scheme == "http" and credentials and not is_loopback(host):
        return "is plain HTTP: credentials go over it to this machine alone (localhost, 127.0.0.1)"
    return None
