"""What a witness signs: an Ed25519 cosignature on a checkpoint (C2SP tlog-cosignature, `cosignature/v1`)."""

import hashlib
from base64 import b64decode
from binascii import Error
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_TYPE = b"\x04"
_SIGNATURE = "\u2014 "
_ID_BYTES, _TIME_BYTES, _SIGNATURE_BYTES, _KEY_BYTES = 4, 8, 64, 32


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessKey:
    """By whom a checkpoint must be cosigned."""

    name: str
    public: Ed25519PublicKey
    key_id: bytes


def parse_key(text: str) -> WitnessKey:
    """Read a verifier key (C2SP signed-note), `<name>+<key id>+<base64>`, of type 4; raises ValueError."""
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    try:
        blob = b64decode(encoded, validate=True)
    except Error as error:
        raise ValueError("its last part is no base64") from error
    if not name or any(char.isspace() for char in name) or blob[:1] != _TYPE or len(blob) != 1 + _KEY_BYTES:
        raise ValueError("it must be `<name>+<key id>+<base64>`, of an Ed25519 cosigner (type 4)")
    expected = hashlib.sha256(name.encode() + b"\n" + blob).digest()[:_ID_BYTES]
    if expected.hex() != key_id.lower():
        raise ValueError("its key id is not that of its name and key: copy it again")
    return WitnessKey(name=name, public=Ed25519PublicKey.from_public_bytes(blob[1:]), key_id=expected)


def find_cosignature(lines: str, *, note: bytes, key: WitnessKey) -> str | None:
    """Return the line of `lines` by which `key` cosigns a note, without its end; None if there is none that is good.

    Lines by other keys, and whatever else stands there, are passed over.
    """
    body = note[: note.rindex(b"\n\n") + 1]
    for line in lines.split("\n"):
        name, _, value = line.removeprefix(_SIGNATURE).partition(" ")
        if line.startswith(_SIGNATURE) and name == key.name and _is_good(value, body=body, key=key):
            return line
    return None


def _is_good(value: str, *, body: bytes, key: WitnessKey) -> bool:
    try:
        blob = b64decode(value, validate=True)
    except (Error, ValueError):
        return False
    if len(blob) != _ID_BYTES + _TIME_BYTES + _SIGNATURE_BYTES or blob[:_ID_BYTES] != key.key_id:
        return False
    moment = int.from_bytes(blob[_ID_BYTES : _ID_BYTES + _TIME_BYTES], "big")
    try:
        key.public.verify(blob[_ID_BYTES + _TIME_BYTES :], b"cosignature/v1\ntime %d\n" % moment + body)
    except InvalidSignature:
        return False
    return True
