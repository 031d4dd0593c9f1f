"""Secrets of webhooks, and the signature that they make, as Standard Webhooks has it.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hmac
from typing import Final

from gateway.config.section import Secret

_PREFIX: Final = "whsec_"
_LEAST, _MOST = 24, 64


def derive(master: Secret, account: str, url: str) -> Secret:
    """Return the secret of one account's webhook, which says nothing of any other's: whoever receives is told it."""
    text = f"{account}\0{url}".encode("utf-8", "surrogatepass")
    key = hmac.digest(master.reveal().encode(), b"locum webhook\0" + text, "sha256")
    return Secret(_PREFIX + base64.b64encode(key).decode())


def is_secret(text: str) -> bool:
    """Tell whether a text is a secret of Standard Webhooks: `whsec_` and 24 to 64 bytes in base64."""
    try:
        return text.startswith(_PREFIX) and _LEAST <= len(_key(text)) <= _MOST
    except ValueError:
        return False


def sign(secret: Secret, name: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of a webhook: HMAC-SHA256 over its id, its time and its body, joined by full stops."""
    signed = f"{name}.{timestamp}.".encode() + body
    signature = base64.b64encode(hmac.digest(_key(secret.reveal()), signed, "sha256")).decode()
    return {
        "Content-Type": "application/json",
        "User-Agent": "locum",
        "webhook-id": name,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature}",
    }


def _key(text: str) -> bytes:
    return base64.b64decode(text.removeprefix(_PREFIX), validate=True)
