"""Time only goes on: setting the clock back makes nothing last longer, setting it forward ends things at once."""

import time
import timeit
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import SteadyClock, boot_seconds, utc_now

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


class Machine:
    """A machine's two clocks, of which one can be set."""

    def __init__(self):
        self.wall_seconds = NOON.timestamp()
        self.since_boot = 1000.0
        self.clock = SteadyClock(wall=lambda: self.wall_seconds, boot=lambda: self.since_boot)

    def passes(self, seconds):
        self.wall_seconds += seconds
        self.since_boot += seconds

    def is_set(self, seconds):
        self.wall_seconds += seconds

    def now(self):
        return round((self.clock.now() - NOON).total_seconds(), 3)


def test_it_tells_the_time():
    """Untouched it is the wall clock."""
    assert abs(SteadyClock().now() - utc_now()) < timedelta(seconds=1)
    machine = Machine()
    machine.passes(10)
    assert (10, 0) == (machine.now(), machine.clock.seconds_set_back())


def test_a_step_forward_counts_at_once():
    """What ends by then has ended."""
    machine = Machine()
    machine.is_set(3600)
    assert 3600 == machine.now()
    machine.passes(5)
    assert 3605 == machine.now()


def test_a_step_back_is_not_followed(caplog):
    """It goes on as if nothing had been set; that is logged once and shown, until the wall clock has caught up."""
    machine = Machine()
    machine.is_set(-3600)
    assert (0, 3600) == (machine.now(), machine.clock.seconds_set_back())
    machine.passes(60)
    assert (60, 3600) == (machine.now(), machine.clock.seconds_set_back())
    assert 1 == caplog.text.count("the clock was set back by 3600 s")
    machine.is_set(3601)
    assert (61, 0) == (machine.now(), machine.clock.seconds_set_back())
    machine.is_set(-10)
    machine.now()
    assert 1 == caplog.text.count("the clock was set back by 10 s"), "another time is said again"


def test_a_step_back_while_nobody_asks_is_not_followed():
    """An hour passes unasked, the clock is set back by half of it: still an hour has passed."""
    machine = Machine()
    machine.now()
    machine.passes(3600)
    machine.is_set(-1800)
    assert 3600 == machine.now()


def test_time_asleep_counts():
    """Suspended for an hour, and the wall clock had stopped as well: an hour has passed."""
    machine = Machine()
    machine.since_boot += 3600
    assert 3600 == machine.now()


def test_small_corrections_are_nobodys_business(caplog):
    """Below two seconds it is neither followed back nor said."""
    machine = Machine()
    machine.is_set(-1.9)
    assert (0, 0, "") == (machine.now(), machine.clock.seconds_set_back(), caplog.text)


def test_a_pause_between_its_two_readings_makes_no_time():
    """Stopped right there for an hour, it does not stay an hour ahead."""
    wall, boot, pause = NOON.timestamp(), 1000.0, 0.0

    def read_boot():
        nonlocal boot, wall
        wall, boot = wall + pause, boot + pause
        return boot

    clock = SteadyClock(wall=lambda: wall, boot=read_boot)
    pause = 3600.0
    assert NOON + timedelta(hours=1) == clock.now()
    pause = 0.0
    assert NOON + timedelta(hours=1) == clock.now()


@given(st.lists(st.tuples(st.floats(0, 1e5), st.floats(-1e6, 1e6), st.booleans()), max_size=40))
def test_it_never_goes_back_and_nothing_lasts_longer(steps):
    """Whatever is done to the wall clock: time told never sinks, and advances at least as the machine's own does."""
    machine = Machine()
    told, since = machine.clock.now(), machine.since_boot
    for seconds, step, asked in steps:
        machine.passes(seconds)
        machine.is_set(step)
        if asked:
            now = machine.clock.now()
            assert now >= told
            assert (now - told).total_seconds() >= machine.since_boot - since - 1e-3
            assert now.timestamp() >= machine.wall_seconds - 1e-3
            told, since = now, machine.since_boot


def test_it_costs_little():
    """It is asked more than once for each request. The bound is loose, because machines that test are busy."""
    clock, times = SteadyClock(), 2000
    steady, plain = (min(timeit.repeat(ask, number=times, repeat=20)) / times for ask in (clock.now, utc_now))
    assert steady - plain < 2e-6


def test_ticks_count_time_asleep():
    """Where the system has such a clock, it is the one."""
    assert abs(boot_seconds() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 1
