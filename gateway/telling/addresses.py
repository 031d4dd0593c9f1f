"""What may stand where notices go: mail addresses and webhooks, each of which somebody may have made up to do harm."""

import re
from typing import Final

from gateway.config.urls import split_url
from gateway.loopback import LOOPBACK

MOST: Final = 10
"""Of each kind that an account may have."""
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# RFC 5321 section 4.1.2, of its local parts only dot-atoms: nothing that a header or a command could be made of.
_MAIL = re.compile(rf"(?=.{{3,254}}\Z)[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~.-]{{1,64}}@{_LABEL}(?:\.{_LABEL})+", re.ASCII)
_MOST_URL = 1024


def is_mail(text: str) -> bool:
    """Tell whether a text is one mail address in ASCII and nothing else."""
    local = text.partition("@")[0]
    is_dotted = not local.startswith(".") and not local.endswith(".") and ".." not in local
    return _MAIL.fullmatch(text) is not None and is_dotted and not local.startswith("-")


def is_webhook(text: str) -> bool:
    """Tell whether a text is a URL that notices can be sent to: https, or http to this machine itself."""
    parts = split_url(text)
    if parts is None or len(text) > _MOST_URL:
        return False
    return parts.scheme == "https" or parts.hostname in LOOPBACK


def shown(channel: str, address: str) -> str:
    """Return an address as the journal says it: of a webhook only where it is, for its path can be a secret."""
    if channel != "webhook":
        return address
    parts = split_url(address)
    return "" if parts is None else f"{parts.scheme}://{parts.netloc}"
