"""What a URL in the configuration must be that the gateway asks, or sends to."""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from gateway.loopback import LOOPBACK

_URL = re.compile(r"https?://[!$-;=?A-Z\[\]_a-z~]+", re.ASCII)
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"  # RFC 1123 section 2.1, with the underscore that some have
_NAME = re.compile(rf"(?=.{{1,254}}\Z){_LABEL}(?:\.{_LABEL})*\.?", re.ASCII)


def split_url(url: str) -> SplitResult | None:
    """Return the parts of an absolute http or https URL in ASCII, its scheme in small letters; None if it is none.

    It names a host and maybe a port that there can be; there is no user in it, which would be a secret in a place that
    is logged, and no fragment, which is never sent.
    """
    if _URL.fullmatch(url) is None:
        return None
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        if "[" in parts.netloc:
            ipaddress.IPv6Address(host)
        elif _NAME.fullmatch(host) is None:
            return None
    except ValueError:
        return None
    return None if port == 0 or parts.netloc.endswith(":") else parts


def is_in_the_open(parts: SplitResult) -> bool:
    """Tell whether somebody in between can listen and answer: without TLS, and to another machine."""
    return parts.scheme != "https" and parts.hostname not in LOOPBACK


def is_safe(url: str) -> bool:
    """Tell whether a URL, its scheme in letters of any size, can be asked so that nobody in between listens."""
    scheme, mark, rest = url.partition("://")
    parts = split_url(scheme.lower() + mark + rest)
    return parts is not None and not is_in_the_open(parts)
