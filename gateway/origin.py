"""An origin of the web (RFC 6454): where a page of ours stands, and what browsers say of who asks for it, and how."""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.loopback import LOOPBACK

DEFAULT_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """One origin, in the one spelling that browsers send."""

    text: str
    """Such as `https://assume.vendor.example`, without a default port (RFC 6454 section 6.2)."""
    host: str
    """As a `Host` header says it, without a default port."""
    scheme: str

    @classmethod
    def of(cls, url: str) -> "Origin":
        """Return the origin of a URL that has a host; raises ValueError."""
        parts = urlsplit(url)
        if not parts.hostname:
            raise ValueError("the URL has no host")
        name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        usual = parts.port in (None, DEFAULT_PORTS.get(parts.scheme))
        host = name if usual else f"{name}:{parts.port}"
        return cls(text=f"{parts.scheme}://{host}", host=host, scheme=parts.scheme)

    @property
    def secure(self) -> bool:
        """Whether browsers keep its cookies from whoever listens in between."""
        return self.scheme == "https"

    @property
    def is_safe(self) -> bool:
        """Whether nobody can listen in between: it is over TLS, or on this machine's own loopback."""
        return self.secure or (urlsplit(self.text).hostname or "") in LOOPBACK

    def is_named_by(self, hosts: list[str]) -> bool:
        """Tell whether the `Host` lines of a request, one there must be, name this origin."""
        if len(hosts) != 1:
            return False
        host = hosts[0].lower()
        return host in (self.host, f"{self.host}:{DEFAULT_PORTS.get(self.scheme)}")


def is_page_load(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Tell whether a browser that asks, as far as it says, asks for a page of its own window or tab.

    False for what a script asks for, and for a frame, an image or the like (W3C Fetch Metadata). What says nothing is
    no browser of today, which no page can make ask.
    """
    modes, destinations = [], []
    for name, value in headers:
        lower = name.lower()
        if lower == b"sec-fetch-mode":
            modes.append(value)
        elif lower == b"sec-fetch-dest":
            destinations.append(value)
    return modes in ([], [b"navigate"]) and destinations in ([], [b"document"])


def is_seen(method: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Tell whether a person gets to see what answers, so that it may be what tells them something once.

    Nobody sees a script's answer, that of a frame, which may be hidden, and that of a page fetched ahead of a click.
    """
    lines = tuple(headers)
    ahead = any(name.lower() in (b"sec-purpose", b"purpose") for name, _ in lines)
    return method == b"GET" and not ahead and is_page_load(lines)
