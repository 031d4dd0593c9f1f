"""Proofs about the Merkle tree, against RFC 6962's own recursive definitions, whole and damaged."""

from hashlib import sha256

import pytest

from policy.merkle import EMPTY_ROOT, Frontier, Prover, is_consistent, is_included, leaf_hash

SIZES = range(1, 41)
RECORDS = [f"record {number}".encode() for number in range(max(SIZES))]
LEAVES = [leaf_hash(record) for record in RECORDS]


def _split(count: int) -> int:
    return 1 << ((count - 1).bit_length() - 1)


def _mth(records: list[bytes]) -> bytes:
    """MTH(D[n]), section 2.1."""
    if not records:
        return sha256(b"").digest()
    if len(records) == 1:
        return sha256(b"\x00" + records[0]).digest()
    at = _split(len(records))
    return sha256(b"\x01" + _mth(records[:at]) + _mth(records[at:])).digest()


def _path(index: int, records: list[bytes]) -> list[bytes]:
    """PATH(m, D[n]), section 2.1.1."""
    if len(records) == 1:
        return []
    at = _split(len(records))
    if index < at:
        return [*_path(index, records[:at]), _mth(records[at:])]
    return [*_path(index - at, records[at:]), _mth(records[:at])]


def _proof(old: int, records: list[bytes], *, known: bool = True) -> list[bytes]:
    """SUBPROOF(m, D[n], b), section 2.1.2; with b = true it is PROOF(m, D[n])."""
    if old == len(records):
        return [] if known else [_mth(records)]
    at = _split(len(records))
    if old <= at:
        return [*_proof(old, records[:at], known=known), _mth(records[at:])]
    return [*_proof(old - at, records[at:], known=False), _mth(records[:at])]


def _prover(size: int, *, old: int = 0) -> Prover:
    prover = Prover()
    for number, leaf in enumerate(LEAVES[:size], start=1):
        prover.append(leaf, mark=True)
        if number == old:
            prover.mark_old()
    return prover


def _damaged(proof: list[bytes]) -> list[list[bytes]]:
    """Each hash altered, left out, doubled and moved, and one too many at either end."""
    other = sha256(b"another").digest()
    damaged = [[other, *proof], [*proof, other], [*proof, EMPTY_ROOT]]
    for at, node in enumerate(proof):
        damaged.append([*proof[:at], bytes([node[0] ^ 1]) + node[1:], *proof[at + 1 :]])
        damaged.append([*proof[:at], node[:31], *proof[at + 1 :]])
        damaged.append([*proof[:at], *proof[at + 1 :]])
        damaged.append([*proof[:at], node, *proof[at:]])
        if at and proof[at - 1] != node:
            damaged.append([*proof[: at - 1], node, proof[at - 1], *proof[at + 1 :]])
    return damaged


@pytest.mark.parametrize("size", SIZES)
def test_every_inclusion_proof_is_that_of_the_definition_and_holds(size):
    """PATH(m, D[n]) for every m below every n, and the root is MTH(D[n])."""
    prover, root = _prover(size), _mth(RECORDS[:size])
    assert root == prover.root()
    for index in range(size):
        proof = prover.inclusion(index)
        assert _path(index, RECORDS[:size]) == proof
        assert is_included(LEAVES[index], index=index, size=size, proof=proof, root=root)


@pytest.mark.parametrize("size", SIZES)
def test_every_consistency_proof_is_that_of_the_definition_and_holds(size):
    """PROOF(m, D[n]) for every m up to every n."""
    root = _mth(RECORDS[:size])
    for old in range(1, size + 1):
        proof = _prover(size, old=old).consistency()
        assert _proof(old, RECORDS[:size]) == proof
        assert is_consistent(old, _mth(RECORDS[:old]), size, root, proof=proof)


@pytest.mark.parametrize("size", [1, 2, 3, 6, 7, 8, 13, 21])
def test_no_damaged_inclusion_proof_holds(size):
    """Nor does a whole one hold for another leaf, another index, another size that shapes it otherwise, another root."""
    prover, root = _prover(size), _mth(RECORDS[:size])
    for index in range(size):
        proof = prover.inclusion(index)
        for damaged in _damaged(proof):
            assert not is_included(LEAVES[index], index=index, size=size, proof=damaged, root=root)
        for other in {*range(-1, size + 2)} - {index}:
            assert not is_included(LEAVES[index], index=other, size=size, proof=proof, root=root)
        assert not is_included(leaf_hash(b"another"), index=index, size=size, proof=proof, root=root)
        assert not is_included(LEAVES[index], index=index, size=size, proof=proof, root=EMPTY_ROOT)
        for other in (0, -size, index):
            assert not is_included(LEAVES[index], index=index, size=other, proof=proof, root=root)


@pytest.mark.parametrize("size", [2, 3, 6, 7, 8, 13, 21])
def test_no_damaged_consistency_proof_holds(size):
    """Nor does a whole one hold for another old tree, or the other way round."""
    root = _mth(RECORDS[:size])
    for old in range(1, size):
        proof, old_root = _proof(old, RECORDS[:size]), _mth(RECORDS[:old])
        for damaged in _damaged(proof):
            assert not is_consistent(old, old_root, size, root, proof=damaged)
        for wrong in (EMPTY_ROOT, root, leaf_hash(b"another")):
            assert not is_consistent(old, wrong, size, root, proof=proof)
            assert wrong == root or not is_consistent(old, old_root, size, wrong, proof=proof)
        assert not is_consistent(size, root, old, old_root, proof=proof)
        for other in {*range(size + 1)} - {old}:
            assert not is_consistent(other, old_root, size, root, proof=proof)


def test_trees_of_one_size_are_consistent_if_they_are_the_same():
    """Then there is nothing to prove, and a proof of it is refused."""
    one, other = _mth(RECORDS[:5]), _mth(RECORDS[1:6])
    assert is_consistent(5, one, 5, one, proof=[])
    assert not is_consistent(5, one, 5, other, proof=[])
    assert not is_consistent(5, one, 5, one, proof=[one])


def test_every_tree_begins_with_the_empty_one():
    """And with no other that calls itself empty; less than nothing is no size."""
    root = _mth(RECORDS[:5])
    assert is_consistent(0, EMPTY_ROOT, 5, root, proof=[])
    assert is_consistent(0, EMPTY_ROOT, 0, EMPTY_ROOT, proof=[])
    assert not is_consistent(0, root, 5, root, proof=[])
    assert not is_consistent(0, EMPTY_ROOT, 5, root, proof=[root])
    assert not is_consistent(0, EMPTY_ROOT, -5, root, proof=[])
    assert not is_consistent(-5, root, -5, root, proof=[])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 12, 31])
def test_a_prover_may_begin_behind_an_old_tree(size):
    """Of the leaves before, the peaks are enough, for the older tree itself and for what came after it."""
    frontier = Frontier()
    frontier.extend(LEAVES[:size])
    prover = Prover(frontier.size, frontier.peaks)
    prover.mark_old()
    for leaf in LEAVES[size:]:
        prover.append(leaf, mark=True)
        assert _proof(size, RECORDS[: prover.size]) == prover.consistency()
    for index in range(size, len(RECORDS)):
        assert _path(index, RECORDS) == prover.inclusion(index)


def test_what_was_not_marked_cannot_be_proved():
    """A proof is never made up."""
    prover = Prover()
    with pytest.raises(ValueError, match="empty tree"):
        prover.mark_old()
    prover.append(LEAVES[0])
    with pytest.raises(KeyError):
        prover.inclusion(0)
    with pytest.raises(ValueError, match="no older tree"):
        prover.consistency()
