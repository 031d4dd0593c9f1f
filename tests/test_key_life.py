"""The life of a signing key, over simulated time, on machines whose clocks are apart."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from policy import keys as life
from policy.claims import LONGEST_TOKEN
from policy.keys import (
    CLOCKS_APART,
    OVERLAP,
    PUBLISHED_FIRST,
    PUBLISHED_KEPT,
    Key,
    KeyRefusal,
    KeyState,
    Plan,
    Step,
    Wanted,
    state,
)
from tests.forgery import NOON

SECOND, TICK = timedelta(seconds=1), timedelta.resolution
APART = st.sampled_from([-29, -5, 0, 5, 29]).map(lambda seconds: timedelta(seconds=seconds))
ALGORITHMS = ("EdDSA", "ES256", "RS256")
NEEDS = st.sampled_from([frozenset({"EdDSA"}), frozenset({"ES256"}), frozenset({"EdDSA", "RS256"})])


def key(name="a", *, algorithm="EdDSA", at=NOON, **times):
    return Key(id=name, algorithm=algorithm, signs_from=at, **times)


def carried_out(keys, plan):
    """Do as a store does."""
    made = tuple(
        key(f"k{len(keys) + number}", algorithm=wanted.algorithm, at=wanted.signs_from)
        for number, wanted in enumerate(plan.make)
    )
    for wanted in plan.make:
        rivals = [each for each in keys if each.algorithm == wanted.algorithm]
        newest = max(rivals, key=lambda each: (each.signs_from, each.id), default=None)
        assert wanted.after == (newest and newest.id)
    start, retire, end = (dict(steps) for steps in (plan.start, plan.retire, plan.end))

    def changed(each):
        if each.ended_at is not None:
            return each
        return replace(
            each,
            signs_from=min(each.signs_from, start.get(each.id, each.signs_from)),
            retired_at=each.retired_at or retire.get(each.id),
            ended_at=end.get(each.id),
        )

    return tuple(changed(each) for each in (*keys, *made))


class KeyLife(RuleBasedStateMachine):
    """What operators do on some machines while others sign and verify, with clocks up to a minute apart."""

    @initialize(needs=NEEDS)
    def begin(self, needs):
        self.now, self.needs, self.keys = NOON, needs, ()
        self.tokens, self.ended, self.over = [], set(), set()
        self.created, self.hurried = {}, set()
        self.carry_out(life.missing(self.keys, needs, self.now))
        self.hurried |= set(self.created)

    def carry_out(self, plan):
        if isinstance(plan, Plan):
            known = {each.id for each in self.keys}
            self.keys = carried_out(self.keys, plan)
            self.created |= {each.id: self.now for each in self.keys if each.id not in known}
        return plan

    @rule(seconds=st.sampled_from([1, 59, 61, 240, 299, 300, 301, 899, 964, 965, 966, 4000]))
    def time_passes(self, seconds):
        self.now += seconds * SECOND

    @rule(apart=APART, lead=st.sampled_from([PUBLISHED_FIRST, 2 * PUBLISHED_FIRST]))
    def rotate(self, apart, lead):
        self.carry_out(life.rotation(self.keys, self.needs, self.now + apart, lead=lead))

    @rule(apart=APART, which=st.integers(0, 9))
    def retire(self, apart, which):
        chosen = self.keys[which % len(self.keys)]
        self.carry_out(life.retirement(self.keys, chosen.id, self.needs, self.now + apart))

    @rule(apart=APART, which=st.integers(0, 9))
    def end(self, apart, which):
        chosen, before = self.keys[which % len(self.keys)], set(self.created)
        plan = self.carry_out(life.ending(self.keys, chosen.id, self.needs, self.now + apart))
        if isinstance(plan, Plan):
            self.ended.add(chosen.id)
            self.hurried |= (set(self.created) - before) | {step.key for step in plan.start}

    @rule(needs=NEEDS, apart=APART)
    def configure(self, needs, apart):
        """Other algorithms are configured, and the next process that reads the keys makes what is missing."""
        self.needs = needs
        self.carry_out(life.missing(self.keys, needs, self.now + apart))

    @rule(apart=APART, algorithm=st.sampled_from(ALGORITHMS))
    def sign(self, apart, algorithm):
        """There is always a key to sign with, and whoever keeps published keys for a minute has it by then."""
        signer = life.signer(self.keys, algorithm, self.now + apart)
        assert signer.id not in self.ended
        assert KeyState.GONE is not state(signer, self.keys, self.now + apart)
        assert signer.id in self.hurried or self.created[signer.id] + PUBLISHED_KEPT < self.now
        self.tokens.append((signer.id, self.now + LONGEST_TOKEN))

    @invariant()
    @precondition(lambda self: self.tokens)
    def every_token_counts_as_promised(self):
        """Until it ends by itself, on every machine; but none of a key that was ended, on none."""
        self.tokens = [token for token in self.tokens if self.now < token[1]]
        known = {each.id: each for each in self.keys}
        for apart in (-29, 0, 29):
            now = self.now + apart * SECOND
            gone = {name for name, each in known.items() if state(each, self.keys, now) is KeyState.GONE}
            assert self.ended <= gone
            assert [] == [name for name, _ in self.tokens if name in gone - self.ended]

    @invariant()
    def nothing_comes_back(self):
        """What signs no more never signs again, and what is gone stays gone."""
        states = {each.id: state(each, self.keys, self.now) for each in self.keys}
        over = {name for name, each in states.items() if each in (KeyState.RETIRED, KeyState.GONE)}
        assert self.over <= over
        self.over = over

    @invariant()
    def of_each_algorithm_one_signs(self):
        """By the same clock never two."""
        for algorithm in ALGORITHMS:
            mine = [each for each in self.keys if each.algorithm == algorithm]
            assert 1 >= sum(state(each, self.keys, self.now) is KeyState.SIGNS for each in mine)


KeyLife.TestCase.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)
TestKeyLife = KeyLife.TestCase


def test_a_key_is_published_signs_retires_and_goes_at_its_moments():
    """One microsecond either side of each."""
    first, second = key("a"), key("b", at=NOON + PUBLISHED_FIRST)
    keys = (first, second)
    moments = {
        (first, second.signs_from): (KeyState.SIGNS, KeyState.RETIRED),
        (first, second.signs_from + OVERLAP): (KeyState.RETIRED, KeyState.GONE),
        (first, first.signs_from): (KeyState.PUBLISHED, KeyState.SIGNS),
        (second, second.signs_from): (KeyState.PUBLISHED, KeyState.SIGNS),
    }
    for (one, moment), (before, after) in moments.items():
        assert (before, after) == (state(one, keys, moment - TICK), state(one, keys, moment))
    assert None is life.counts_until(second, keys)
    assert OVERLAP >= LONGEST_TOKEN + CLOCKS_APART
    assert PUBLISHED_FIRST >= 2 * (PUBLISHED_KEPT + CLOCKS_APART)


def test_who_was_followed_signs_no_more_though_the_follower_has_ended():
    """The successor leaked: its predecessor does not come back, another key is made and signs at once."""
    now = NOON + timedelta(hours=1)
    keys = (key("a"), key("b", at=NOON + timedelta(minutes=50)))
    plan = life.ending(keys, "b", {"EdDSA"}, now)
    assert Plan(make=(Wanted(algorithm="EdDSA", signs_from=now, after="b"),), end=(Step("b", now),)) == plan
    after = carried_out(keys, plan)
    assert ["retired", "gone", "signs"] == [state(each, after, now) for each in after]


def test_a_waiting_key_steps_in_for_one_that_is_ended():
    """It has been published for a while, so it is the better one; a rotation that ends before it began leaves the old."""
    keys = (key("a"), key("b", at=NOON + PUBLISHED_FIRST))
    now = NOON + SECOND
    assert Plan(start=(Step("b", now),), end=(Step("a", now),)) == life.ending(keys, "a", {"EdDSA"}, now)
    cancelled = Plan(end=(Step("b", now),))
    assert cancelled == life.ending(keys, "b", {"EdDSA"}, now) == life.retirement(keys, "b", {"EdDSA"}, now)
    assert ["signs", "gone"] == [
        state(each, after, NOON + timedelta(hours=1)) for after in [carried_out(keys, cancelled)] for each in after
    ]


REFUSED = {
    "unknown": ("x", {"EdDSA"}, (key(),), KeyRefusal.UNKNOWN),
    "gone": ("a", {"EdDSA"}, (key(ended_at=NOON), key("b")), KeyRefusal.GONE),
    "signs no more": ("a", {"EdDSA"}, (key(), key("b", at=NOON + TICK)), KeyRefusal.RETIRED),
    "is being followed": ("a", {"EdDSA"}, (key(), key("b", at=NOON + 9 * PUBLISHED_FIRST)), KeyRefusal.ROTATING),
    "signs by somebody's clock": ("b", {"EdDSA"}, (key(), key("b", at=NOON + 61 * SECOND)), KeyRefusal.ROTATING),
    "stands in": ("a", {"ES256"}, (key(), key("b", algorithm="ES256", at=NOON + PUBLISHED_FIRST)), KeyRefusal.NEEDED),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_key_cannot_be_retired_when_it_must_not_be(case):
    """By name; and each refusal is reached."""
    key_id, needs, keys, refusal = REFUSED[case]
    assert refusal is life.retirement(keys, key_id, needs, NOON + SECOND)
    assert {refusal for *_, refusal in REFUSED.values()} == set(KeyRefusal)


def test_keys_of_an_algorithm_that_nobody_wants_are_retired_without_a_successor():
    """As with keys that the operator's own have replaced; what they signed still counts."""
    now = NOON + timedelta(days=1)
    keys = (key(), key("b", algorithm="ES256", at=NOON + SECOND))
    plan = life.retirement(keys, "a", {"ES256"}, now)
    assert Plan(retire=(Step("a", now),)) == plan == life.retirement(keys, "a", set(), now)
    [old, _] = carried_out(keys, plan)
    assert now + OVERLAP == life.counts_until(old, keys)


def test_another_algorithm_takes_over_once_it_was_published():
    """Until then a key that everybody knows signs; of the very first keys each signs at once."""
    needs = {"EdDSA", "RS256"}
    first = carried_out((), life.missing((), needs, NOON))
    assert ["signs", "signs"] == [state(each, first, NOON) for each in first]
    other = carried_out(first, life.missing(first, {"ES256"}, NOON))
    *_, new = other
    assert "ES256" != life.signer(other, "ES256", NOON + PUBLISHED_FIRST - TICK).algorithm
    assert new == life.signer(other, "ES256", NOON + PUBLISHED_FIRST)
    assert Plan() == life.missing(other, {"ES256"}, NOON)


def test_after_a_recovery_no_key_of_before_counts():
    """Each algorithm has a new one at once; what is gone by the clock is forgotten by the next rotation."""
    now = NOON + timedelta(hours=1)
    keys = (key("a"), key("b", at=NOON + SECOND), key("c", at=NOON + 9 * PUBLISHED_FIRST, algorithm="ES256"))
    after = carried_out(keys, life.beginning_anew(keys, {"EdDSA", "ES256"}, now))
    assert ["gone"] * 3 + ["signs"] * 2 == [state(each, after, now) for each in after]
    assert (Step("a", now),) == life.rotation(keys[:2], {"EdDSA"}, now).end
