"""What can be taken out of a line without changing its hash: the personal fields, under salted commitments.

In a record the fields of a group do not stand. In their place `sealed` names the group with its commitment; the line
holds the group's object, which is the fields and a fresh salt of 128 bits, beside the record under `open`:

    {"leaf":"…","record":{…,"sealed":{"agent":"<commitment>"}},"open":{"agent":{"salt":"…","subject":"maria"}}}

The commitment is SHA-256 of the object's exact bytes in unpadded base64url. Whoever takes the object away leaves the
record and its leaf hash as they were, and without the salt nobody can try values until one fits.
"""

import hashlib
from binascii import b2a_base64
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "actor": ("actor", "client_ip", "user_agent"),
    "agent": ("subject",),
    "giver": ("by", "granted_by", "recipient"),
    "words": ("stated_reason", "ticket"),
}
"""The personal fields of a record, by whose data they are."""
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that somebody has altered."""
ERASED = "erased"
"""The field of an entry that names the groups which have been taken away."""

_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_raw = msgspec.json.Decoder(dict[str, msgspec.Raw])


class OpeningError(Exception):
    """The line's fault: what stands under `open` is not what was written."""


def commit(opening: bytes) -> str:
    """Return the commitment to a group's object."""
    return encode_bytes(hashlib.sha256(opening).digest())


def encode_bytes(value: bytes) -> str:
    """Return base64url without padding (RFC 4648 section 5)."""
    return b2a_base64(value, newline=False).translate(_URL_SAFE, b"=").decode("ascii")


def join_openings(openings: Iterable[tuple[str, bytes]]) -> bytes:
    """Return what stands under `open`; empty if nothing does. The groups must be given in the order of their names."""
    inner = b",".join(b'"%s":%s' % (group.encode(), opening) for group, opening in openings)
    return b"{%s}" % inner if inner else b""


def split_openings(openings: bytes) -> dict[str, bytes]:
    """Return each group's exact bytes; raises OpeningError if these are not what `join_openings` makes."""
    if not openings:
        return {}
    try:
        parts = {group: bytes(raw) for group, raw in _raw.decode(openings).items()}
    except UNREADABLE as error:
        raise OpeningError("what stands under `open` cannot be read") from error
    if not parts or list(parts) != sorted(parts) or join_openings(parts.items()) != openings:
        raise OpeningError("what stands under `open` is not in canonical form")
    return parts


def reveal(record: dict[str, Any], openings: bytes) -> dict[str, Any]:
    """Put the fields of a decoded record back in their places, and name the groups that are gone as `erased`."""
    sealed = record.pop("sealed", None)
    if not isinstance(sealed, dict):
        return record
    try:
        parts = split_openings(openings)
    except OpeningError:
        parts = {}
    erased = []
    for group in sealed:
        fields = _fields_of(group, parts.get(group))
        if fields is None:
            erased.append(group)
        else:
            record.update(fields)
    if erased:
        record[ERASED] = erased
    return record


def _fields_of(group: str, opening: bytes | None) -> dict[str, Any] | None:
    """Return a group's own fields, so that what was put beside them never passes for a part of the record."""
    if opening is None:
        return None
    try:
        found = msgspec.json.decode(opening, type=dict[str, Any])
    except UNREADABLE:
        return None
    return {name: found[name] for name in GROUPS.get(group, ()) if name in found}
