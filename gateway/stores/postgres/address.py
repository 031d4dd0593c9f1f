"""The URL of the database: which hosts it names, and whether the way there is one that we take.

What is said of a URL never repeats it, because it may hold a password.
"""

from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from gateway.loopback import LOOPBACK

_PROTECTED = frozenset({"disable", "require", "verify-ca", "verify-full"})
_PORT = 5432

Host = tuple[str, int]
"""A name, an address or the directory of a Unix socket; and a port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A URL that was checked."""

    url: str
    hosts: tuple[Host, ...]
    """In the order of the URL; which of them may be written to shows when they are asked."""

    def __repr__(self) -> str:
        """Show where it leads and hide the rest."""
        return f"Address({', '.join(f'{host}:{port}' for host, port in self.hosts)})"


def parse_url(url: str) -> Address:
    """Return the address of a `postgresql://` URL; raises ValueError with a text that may be shown.

    It names its hosts, several with commas between them, and for any but this machine says how they are spoken to.
    """
    try:
        parts = urlsplit(url)
        query = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
    except ValueError:
        raise ValueError("is not a URL such as postgresql://locum@db.example/locum?sslmode=verify-full") from None
    if parts.scheme not in ("postgresql", "postgres") or parts.fragment:
        raise ValueError("must begin with postgresql:// and hold no `#` (in a password it is written %23)")
    hosts = _hosts(parts.netloc, query)
    if query.get("target_session_attrs", ["read-write"])[-1] not in ("read-write", "primary"):
        raise ValueError("target_session_attrs must be read-write, or left out: a replica lags behind what was revoked")
    mode = query.get("sslmode", [""])[-1]
    away = [host for host, _ in hosts if host not in LOOPBACK and not host.startswith("/")]
    if away and mode not in _PROTECTED:
        raise ValueError(
            "add sslmode=verify-full with sslrootcert=FILE, or sslmode=disable where the network itself is trusted;"
            " without one, whoever sits in between can read and change everything"
        )
    return Address(url=url, hosts=hosts)


def _hosts(netloc: str, query: dict[str, list[str]]) -> tuple[Host, ...]:
    listed = netloc.rpartition("@")[2] or query.get("host", [""])[-1]
    if "@" in netloc.rpartition("@")[0]:
        raise ValueError("holds two `@`: write the one in the name or password as %40")
    ports = query.get("port", [""])[-1].split(",")
    hosts = tuple(
        _host(unquote(text), ports[index] if len(ports) > index else ports[0])
        for index, text in enumerate(listed.split(","))
    )
    if not listed or not all(host for host, _ in hosts):
        raise ValueError("must name a host, such as postgresql://locum@db.example/locum, or ?host=/directory")
    return hosts


def _host(text: str, default: str) -> Host:
    host, port = text, default
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or default
    elif not text.startswith("/") and ":" in text:
        host, _, port = text.rpartition(":")
    if port and not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError("a port must be a number between 1 and 65535")
    return host, int(port or _PORT)
