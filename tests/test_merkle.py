"""The Merkle tree's arithmetic, against the RFC's own definition."""

from hashlib import sha256

from policy.merkle import EMPTY_ROOT, Frontier, leaf_hash, node_hash


def _tree_head(records: list[bytes]) -> bytes:
    """MTH(D[n]) as RFC 6962 section 2.1 writes it down."""
    if not records:
        return sha256(b"").digest()
    if len(records) == 1:
        return sha256(b"\x00" + records[0]).digest()
    split = 1 << ((len(records) - 1).bit_length() - 1)
    return sha256(b"\x01" + _tree_head(records[:split]) + _tree_head(records[split:])).digest()


def test_the_frontier_has_the_root_of_the_definition_at_every_size():
    """From 0 to 200 records, growing one by one, the root is MTH of them all."""
    frontier, records = Frontier(), []
    assert EMPTY_ROOT == frontier.root()
    for number in range(200):
        records.append(f"record {number}".encode())
        frontier.append(leaf_hash(records[-1]))
        assert len(records) == frontier.size
        assert _tree_head(records) == frontier.root()


def test_asking_for_the_root_does_not_change_the_tree():
    """A checkpoint in between leaves no trace in the next one."""
    asked, unasked = Frontier(), Frontier()
    for number in range(37):
        for frontier in (asked, unasked):
            frontier.append(leaf_hash(bytes([number])))
        asked.root()
    assert unasked.root() == asked.root()


def test_an_inner_node_cannot_be_passed_off_as_a_record():
    """The prefixes keep a leaf over two hashes from being the node over them."""
    left, right = leaf_hash(b"left"), leaf_hash(b"right")
    assert node_hash(left, right) != leaf_hash(left + right)
