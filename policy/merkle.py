"""The journal's Merkle tree: its hashes and its proofs (RFC 6962 section 2.1, checked as in RFC 9162 section 2.1)."""

import hashlib
from collections.abc import Iterable, Sequence

_sha256 = hashlib.sha256
EMPTY_ROOT = _sha256(b"").digest()


def leaf_hash(record: bytes) -> bytes:
    """Return SHA-256(0x00 || record): the prefix keeps a record from being passed off as an inner node."""
    return _sha256(b"\x00" + record).digest()


def leaf_hashes(records: Iterable[bytes]) -> list[bytes]:
    """Return the `leaf_hash` of each."""
    return [_sha256(b"\x00" + record).digest() for record in records]


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return SHA-256(0x01 || left || right)."""
    return _sha256(b"\x01" + left + right).digest()


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
        peaks, added = self._peaks, self.size
        for leaf in leaves:
            node, size = leaf, added
            while size & 1:
                # A `node_hash`, written out because this is done for every record on the way to the app.
                node = _sha256(b"\x01" + peaks.pop() + node).digest()
                size >>= 1
            peaks.append(node)
            added += 1
        self.size = added

    def root(self) -> bytes:
        """Return the tree head over all leaves: MTH(D[n]) of the RFC."""
        return _fold(self._peaks) if self._peaks else EMPTY_ROOT


class Prover:
    """A tree that passes by leaf by leaf, and proves what was marked on the way.

    It holds the tree's right edge and O(log n) hashes for each mark, never the tree. The proofs are those of
    RFC 6962 sections 2.1.1 and 2.1.2, about the tree of all leaves so far.
    """

    __slots__ = ("_marked", "_old", "_old_size", "_peaks", "_within", "size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        """Begin empty, or behind a tree as `Frontier` does; raises ValueError likewise."""
        self._peaks = list(Frontier(size, peaks).peaks)
        self._within: list[list[list[bytes]]] = [[] for _ in self._peaks]
        """For each peak, the proofs that begin in it: the siblings met on the way up to it, lowest first."""
        self._marked: dict[int, list[bytes]] = {}
        self._old: list[bytes] = []
        self._old_size = 0
        self.size = size

    def append(self, leaf: bytes, *, mark: bool = False) -> None:
        """Add one leaf hash; with `mark`, `inclusion` can prove that it is there."""
        node, size, proofs = leaf, self.size, []
        if mark:
            proofs.append(self._marked.setdefault(size, []))
        while size & 1:
            left, theirs = self._peaks.pop(), self._within.pop()
            for proof in theirs:
                proof.append(node)
            for proof in proofs:
                proof.append(left)
            proofs = theirs + proofs if theirs else proofs
            node = node_hash(left, node)
            size >>= 1
        self._peaks.append(node)
        self._within.append(proofs)
        self.size += 1

    def mark_old(self) -> None:
        """Let `consistency` prove that whatever comes begins with the tree as it is; raises ValueError if empty."""
        if not self._peaks:
            raise ValueError("of an empty tree there is nothing to prove")
        # The proof climbs from the last complete subtree, and names it unless that is the whole old tree.
        self._old, self._old_size = self._peaks[-1:] if len(self._peaks) > 1 else [], self.size
        self._within[-1].append(self._old)

    def inclusion(self, index: int) -> list[bytes]:
        """Return PATH(index, D[n]); raises KeyError if that leaf was not marked."""
        return self._finish(self._marked[index], index)

    def consistency(self) -> list[bytes]:
        """Return PROOF(m, D[n]); raises ValueError if no older tree was marked."""
        if not self._old_size:
            raise ValueError("no older tree was marked")
        return self._finish(self._old, self._old_size - 1) if self._old_size < self.size else []

    def root(self) -> bytes:
        """Return the tree head over all leaves."""
        return _fold(self._peaks) if self._peaks else EMPTY_ROOT

    def _finish(self, proof: list[bytes], index: int) -> list[bytes]:
        """Lead a proof from the peak that holds a leaf up to the root."""
        at, end = 0, 1 << (self.size.bit_length() - 1)
        while end <= index:
            at += 1
            end += 1 << ((self.size - end).bit_length() - 1)
        right = self._peaks[at + 1 :]
        # To the right of its peak there is one node of the tree, to the left one for each peak.
        return [*proof, *([_fold(right)] if right else []), *reversed(self._peaks[:at])]


def is_included(leaf: bytes, *, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Tell whether `proof` shows that leaf number `index` of the tree is this (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    at, last, node = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            node = node_hash(sibling, node)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        at, last = at >> 1, last >> 1
    return last == 0 and node == root


def is_consistent(old_size: int, old_root: bytes, size: int, root: bytes, *, proof: Sequence[bytes]) -> bool:
    """Tell whether `proof` shows that a tree begins with an older one (RFC 9162 section 2.1.4.2).

    Two trees of one size are consistent if they are the same, and every tree is with the empty one; both need no proof.
    """
    if old_size in (size, 0):
        return not proof and old_root == (root if old_size else EMPTY_ROOT) and 0 <= old_size <= size
    if not 0 < old_size < size or not proof:
        return False
    path = [old_root, *proof] if old_size.bit_count() == 1 else list(proof)
    at, last = old_size - 1, size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old_node = node = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            old_node, node = node_hash(sibling, old_node), node_hash(sibling, node)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        at, last = at >> 1, last >> 1
    return last == 0 and old_node == old_root and node == root


def _fold(peaks: Sequence[bytes]) -> bytes:
    """Return the node over complete subtrees that stand side by side, largest first."""
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = node_hash(peak, root)
    return root
