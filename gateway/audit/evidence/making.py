"""The process that makes one receipt: `python -m gateway.audit.evidence.making`.

A process and no thread, because the whole journal is read for it and a thread would take the interpreter from the
requests; it stands behind all others when the processor is short. The order comes in on one line, the receipt goes out.
"""

import os
import sys
from enum import IntEnum
from pathlib import Path

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from gateway.audit.evidence.proofs import NothingToProve, NotSignedYet, ProofError
from gateway.audit.evidence.receipts import build_receipt
from gateway.audit.evidence.sources import JournalFiles
from gateway.audit.search import printable

_NICE = 10


class Ending(IntEnum):
    """How it ends, and how `locum audit receipt` does; every other number is a fault of another kind."""

    MADE = 0
    FAILED = 1
    """Nothing is said about the journal: a file cannot be read, or is no key."""
    NOTHING_TO_PROVE = 4
    """There is no record of the assumption."""
    ALTERED = 5
    """The journal does not bear out what it says: verify it."""
    NOT_SIGNED_YET = 6
    """None of its records is under a checkpoint yet: try again behind the next one."""


def ending_of(error: ProofError) -> Ending:
    """Return how it ends if that is why there is no receipt."""
    if isinstance(error, NothingToProve):
        return Ending.NOTHING_TO_PROVE
    return Ending.NOT_SIGNED_YET if isinstance(error, NotSignedYet) else Ending.ALTERED


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which receipt."""

    journal: str
    """The journal's directory."""
    key: str
    """The file of its public key."""
    assumption: str
    account: str | None
    """Only if the assumption was in this account; None for whichever it was."""


def main() -> Ending:
    """Make what is ordered; what went wrong is told on standard error."""
    os.nice(_NICE)
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    try:
        journal = JournalFiles(Path(order.journal))
        key = read_public_key(Path(order.key))
        receipt, _ = build_receipt(journal, order.assumption, key=key, account=order.account)
        sys.stdout.buffer.write(receipt.encode())
        sys.stdout.buffer.flush()
    except ProofError as error:
        ending = ending_of(error)
        return _tell(ending, error) if ending == Ending.ALTERED else ending
    except (OSError, ValueError) as error:
        return _tell(Ending.FAILED, error)
    return Ending.MADE


def read_public_key(path: Path) -> Ed25519PublicKey:
    """Return the key that a file holds in PEM; raises OSError, and ValueError, which says what is wrong with it."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("the public key is no PEM file") from error
    if isinstance(key, Ed25519PublicKey):
        return key
    raise ValueError("the public key is not of Ed25519")


def _tell(ending: Ending, error: Exception) -> Ending:
    sys.stderr.write(f"no receipt was made: {printable(str(error))}\n")
    return ending


if __name__ == "__main__":
    sys.exit(main())
