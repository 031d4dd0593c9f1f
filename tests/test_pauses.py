"""Pauses grow while something fails, and begin anew once it works."""

from gateway.pauses import Pauses


def test_each_pause_is_twice_the_one_before():
    """Up to the longest, and from the first again when it has worked."""
    pauses = Pauses(1.0, 5.0, chance=lambda: 1.0)
    assert [1.0, 2.0, 4.0, 5.0, 5.0] == [pauses.next() for _ in range(5)]
    pauses.reset()
    assert [1.0, 2.0] == [pauses.next() for _ in range(2)]


def test_chance_takes_up_to_a_half():
    """Of one pause only: what follows does not depend on it."""
    chances = iter([0.0, 0.5, 1.0])
    pauses = Pauses(1.0, 60.0, chance=lambda: next(chances))
    assert [0.5, 1.5, 4.0] == [pauses.next() for _ in range(3)]
    assert 2 == len({Pauses(1.0, 60.0).next() for _ in range(2)})
