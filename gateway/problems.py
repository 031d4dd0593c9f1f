"""Problem details (RFC 9457), the form in which every fault and refusal of ours is told to programs."""

import msgspec


def build(kind: str, *, title: str, status: int, **more: object) -> bytes:
    """Return the JSON document; `kind` ends its type, a URN that stays the same for the same kind of problem."""
    return msgspec.json.encode({"type": f"urn:locum:{kind}", "title": title, "status": status, **more})
