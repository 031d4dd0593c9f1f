"""The hashes of the journal's Merkle tree (RFC 6962 section 2.1)."""

import hashlib
from collections.abc import Iterable, Sequence

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(record: bytes) -> bytes:
    """Return SHA-256(0x00 || record): the prefix keeps a record from being passed off as an inner node."""
    return hashlib.sha256(b"\x00" + record).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a growing tree: appends in O(log n) and knows the root of all leaves so far.

    Holds one hash for each complete subtree, largest first: the binary digits of the size.
    """

    __slots__ = ("_peaks", "size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        """Begin empty, or go on with the `peaks` of a tree of `size`; raises ValueError if it cannot have these."""
        if size < 0 or len(peaks) != size.bit_count() or any(len(peak) != len(EMPTY_ROOT) for peak in peaks):
            raise ValueError("a tree has one peak of 32 bytes for each binary digit of its size that is 1")
        self.size = size
        self._peaks = list(peaks)

    @property
    def peaks(self) -> tuple[bytes, ...]:
        """The hashes it holds."""
        return tuple(self._peaks)

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        self.extend((leaf,))

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaf hashes, the oldest first."""
        peaks = self._peaks
        for leaf in leaves:
            node, size = leaf, self.size
            while size & 1:
                node = node_hash(peaks.pop(), node)
                size >>= 1
            peaks.append(node)
            self.size += 1

    def root(self) -> bytes:
        """Return the tree head over all leaves: MTH(D[n]) of the RFC."""
        if not self._peaks:
            return EMPTY_ROOT
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = node_hash(peak, root)
        return root
