"""Runs one sink on a thread of its own: reads, encodes, sends, and keeps the place once what was sent has arrived.

What failed is sent again from the place that is kept, later and later up to a minute. A record that the other side
does not take is given up if it takes something else instead: a notice of ours that says which record that was. Without
that test a wrong URL would empty the journal into nothing, and without giving up one record could hide all that follow.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from gateway.audit.formats.forms import Form
from gateway.audit.formats.text import microseconds, plain
from gateway.audit.pace import Pace
from gateway.audit.segment import Entry, list_segments
from gateway.audit.sinks.cursor import read_cursor, write_cursor
from gateway.audit.sinks.outlet import Encoded, Outlet, Refused, Sent, Unreachable
from gateway.audit.sinks.reading import Gap, Item, Position, behind, read_on
from gateway.audit.sinks.status import Status
from gateway.clock import Clock, Ticks
from gateway.locks import Lock
from gateway.pauses import Pauses
from gateway.rarely import Rarely

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How long a runner waits, in seconds."""

    poll: float = 0.5
    """For new records; within it a record is on its way."""
    turn: float = 1.0
    """For its turn, while another process runs the sink."""
    first_pause: float = 0.5
    longest_pause: float = 60.0
    saving: float = 0.5
    """Between two writings of the place: so much may be sent twice after a kill."""
    draining: float = 1.0
    """To send what is there when the gateway stops."""


TRIES_OF_ONE: Final = 10
"""So often a single record may fail for a reason that may pass, before it is tried to do without it."""
TRIES_BETWEEN: Final = 3
"""And then so often again, each time behind something of ours that gets through."""
WARY_TRIES_OF_ONE: Final = 1
"""As `TRIES_OF_ONE`, soon after another has been given up: what a receiver dislikes seldom comes alone."""
WARY_SECONDS: Final = 600.0
"""So soon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a runner is told."""

    name: str
    journal: Path
    cursor: Path
    lock: Path
    form: Form
    wants: Callable[[Entry], bool]
    most_records: int
    times: Times = field(default_factory=Times)
    gives_up: bool = True
    """Whether a record that alone fails for a reason that may pass is done without at last, so that the rest goes on.

    Not where the outlet takes a harmless record without asking anybody: that says nothing of whether the others fail.
    """


class Runner:
    """One sink; `run` is the body of its thread, everything else but `stop` is that thread's."""

    def __init__(self, terms: Terms, outlet: Outlet, status: Status, *, clock: Clock, ticks: Ticks) -> None:
        """Touch nothing yet."""
        self._terms = terms
        self._outlet = outlet
        self._status = status
        self._clock = clock
        self._ticks = ticks
        self._stop = threading.Event()
        self._pace = Pace()
        self._rarely = Rarely(log, ticks=ticks)
        self._kept: dict[str, Position] = {}
        """What the file says, or is to say."""
        self._at: dict[str, Position] = {}
        """How far was read and sent; ahead of `_kept` by what has not settled."""
        self._unsettled: deque[tuple[int, str, Position]] = deque()
        """Places, each with how many batches must have arrived before it can be kept."""
        self._sends = 0
        """Batches that were sent since the last failure."""
        self._arrived = 0
        """How many of them have arrived for certain."""
        self._saved: dict[str, Position] = {}
        self._saved_at = 0.0
        self._most = terms.most_records
        self._failed = 0
        self._wary_until = 0.0
        self._pauses = Pauses(terms.times.first_pause, terms.times.longest_pause)

    def stop(self) -> None:
        """Have the thread end soon: once it has sent what is there, or cannot."""
        self._stop.set()

    def run(self) -> None:
        """Run until stopped; nothing escapes."""
        lock = Lock(self._terms.lock)
        try:
            self._terms.lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            while not self._stop.is_set():
                if lock.take():
                    self._run()
                    return
                self._status.state = "elsewhere"
                self._stop.wait(self._terms.times.turn)
        except Exception:
            log.exception("the sink %s has ended", self._terms.name)
            self._status.state = "failing"
        finally:
            lock.release()
            self._status.runs = False

    def _run(self) -> None:
        self._status.runs = True
        self._kept = read_cursor(self._terms.cursor)
        self._saved, self._at = dict(self._kept), dict(self._kept)
        try:
            while not self._stop.is_set():
                self._stop.wait(self._try(self._turn))
            if not self._failed:
                self._try(self._drain)
        finally:
            self._save(now=True)
            self._outlet.close()

    def _try(self, work: Callable[[], bool]) -> float:
        """Do it and return how long to wait until the next time."""
        try:
            more = work()
            self._settle(self._outlet.settled())
        except Exception as error:  # noqa: BLE001 - whatever it is, the records are there still
            return self._fail(error)
        self._save(now=not more)
        return 0.0 if more else self._terms.times.poll

    def _turn(self) -> bool:
        """Send a batch of each origin; return whether there is more at once."""
        try:
            segments = list_segments(self._terms.journal)
        except FileNotFoundError:
            segments = {}
        self._measure(segments)
        more, oldest = False, None
        for origin, paths in segments.items():
            piece = read_on(origin, paths, self._at.get(origin), most=self._most, pace=self._pace)
            if piece.items:
                written = self._written(piece.items[0])
                oldest = written if oldest is None else min(oldest, written)
                self._status.waiting_since = self._status.waiting_since or written
                self._deliver(origin, piece.items)
            if piece.at is not None and piece.at != self._at.get(origin):
                self._pass(origin, piece.at)
            more |= piece.more
        self._measure(segments)
        self._status.waiting_since, self._status.state = oldest, "ok"
        if self._failed:
            log.info("the sink %s gets through again", self._terms.name)
        self._failed, self._most = 0, min(2 * self._most, self._terms.most_records)
        self._pauses.reset()
        return more

    def _measure(self, segments: dict[str, list[Path]]) -> None:
        self._status.bytes_behind = sum(behind(paths, self._at.get(origin)) for origin, paths in segments.items())

    def _drain(self) -> bool:
        until = self._ticks() + self._terms.times.draining
        while self._turn() and self._ticks() < until:
            continue
        self._settle(self._outlet.finish())
        return False

    def _deliver(self, origin: str, items: list[Item]) -> None:
        """Send what is wanted of the items; raises Unreachable once what was taken before it has been noted."""
        batch = [(item, one) for item in items if (one := self._encode(item)) is not None]
        while batch:
            taken = self._send(batch)
            if taken:
                self._pass(origin, batch[taken - 1][0].at)
            batch = batch[taken:]

    def _encode(self, item: Item) -> Encoded | None:
        self._pace.step()
        if isinstance(item.what, Gap):
            gap = item.what
            self._status.gaps += gap.last - gap.first + 1
            if gap.why == "replaced":
                log.error(
                    "the journal of %s is not the one that the sink %s has read up to record %d: all of it is sent",
                    gap.origin, self._terms.name, gap.first - 1,
                )  # fmt: skip
            else:
                log.warning(
                    "the sink %s cannot send the records %d to %d of %s: %s",
                    self._terms.name, gap.first, gap.last, gap.origin, gap.why,
                )  # fmt: skip
            return self._notice("gap", gap, gap.why, item.id)
        if not self._terms.wants(item.what):
            return None
        return Encoded(entry=item.what, id=item.id, line=self._terms.form.line(item.what))

    def _notice(self, reason: str, about: Gap, why: str, name: str, *, count: int = 0) -> Encoded:
        """Return a record of the sink's own, which no journal holds and which repeats nothing of any other."""
        entry: Entry = {
            "at": self._clock().isoformat().replace("+00:00", "Z"),
            "count": count or about.last - about.first + 1,
            "kind": "sink",
            "origin": about.origin,
            "reason": reason,
            "segment": self._terms.name,
            "seq": about.first,
            "through": about.last,
            "why": why,
        }
        return Encoded(entry=entry, id=name, line=self._terms.form.line(entry))

    def _send(self, batch: list[tuple[Item, Encoded]]) -> int:
        """Send a batch, or half of it where it is not taken as a whole; return how many of it are dealt with."""
        try:
            sent = self._hand_over([one for _, one in batch])
        except Refused as error:
            if len(batch) > 1:
                return self._send(batch[: len(batch) // 2])
            self._give_up([batch[0][1]], str(error))
            return 1
        except Unreachable:
            if len(batch) > 1 or not self._may_do_without():
                raise
            return self._do_without(batch[0][1])
        return self._note(sent, [one for _, one in batch])

    def _hand_over(self, batch: list[Encoded]) -> Sent:
        sent = self._outlet.send(batch)
        self._sends += 1
        return sent

    def _do_without(self, one: Encoded) -> int:
        """Give up a record that alone fails, while all else gets through; raises Unreachable if that is not so."""
        for _ in range(TRIES_BETWEEN):
            self._probe(one)
            try:
                return self._note(self._hand_over([one]), [one])
            except (Refused, Unreachable):
                continue
        self._give_up([one], "it fails again and again, and others do not")
        self._wary_until = self._ticks() + WARY_SECONDS
        return 1

    def _may_do_without(self) -> bool:
        tries = WARY_TRIES_OF_ONE if self._is_wary() else TRIES_OF_ONE
        return self._terms.gives_up and self._failed >= tries

    def _is_wary(self) -> bool:
        return self._ticks() < self._wary_until

    def _probe(self, one: Encoded) -> None:
        """Send something harmless; raises Unreachable if that does not get through either."""
        self._must_take([self._notice("probe", _alone(one), "failing", f"probe-{one.id}")])

    def _must_take(self, notices: list[Encoded]) -> None:
        try:
            sent = self._hand_over(notices)
        except Refused as error:
            raise Unreachable(f"it takes nothing, not even a notice of ours: {error}") from error
        if sent.refused or sent.taken < len(notices):
            raise Unreachable("it takes nothing, not even a notice of ours")

    def _note(self, sent: Sent, batch: list[Encoded]) -> int:
        if sent.refused:
            self._give_up([batch[index] for index in sent.refused], "it is refused")
        if sent.unnamed:
            self._tell_unnamed(sent.unnamed, batch[: sent.taken])
        self._status.sent += sent.taken - len(sent.refused) - sent.unnamed
        self._status.succeeded_at = self._clock().timestamp()
        return sent.taken

    def _tell_unnamed(self, count: int, batch: list[Encoded]) -> None:
        """Go on without so many of these, whichever they are; raises Unreachable if no notice of that is taken."""
        about = replace(_alone(batch[0]), last=_alone(batch[-1]).last)
        self._must_take([self._notice("refused", about, "refused", f"refused-{batch[0].id}", count=count)])
        self._status.refused += count
        self._rarely.error(
            "the sink %s: %d of the records %d to %d of %s are refused, and it is not said which",
            self._terms.name, count, about.first, about.last, about.origin,
        )  # fmt: skip

    def _give_up(self, refused: list[Encoded], why: str) -> None:
        """Go on without these, if a notice of that is taken in their place; raises Unreachable if nothing is."""
        own = [one for one in refused if one.entry.get("kind") != "sink"]
        notices = [self._notice("refused", _alone(one), "refused", f"refused-{one.id}") for one in own]
        if notices:
            self._must_take(notices)
        self._status.refused += len(refused)
        for one in refused:
            self._rarely.error(
                "the sink %s gives up record %s of %s, which stays in the journal: %s",
                self._terms.name, one.entry.get("seq"), one.entry.get("origin"), why,
            )  # fmt: skip

    def _pass(self, origin: str, at: Position) -> None:
        """Take note that everything of an origin up to there has been sent."""
        self._at[origin] = at
        self._unsettled.append((self._sends, origin, at))

    def _settle(self, count: int) -> None:
        """Keep the places behind which all has arrived, now that so many more batches have."""
        self._arrived += count
        while self._unsettled and self._unsettled[0][0] <= self._arrived:
            _, origin, at = self._unsettled.popleft()
            self._kept[origin] = at

    def _save(self, *, now: bool) -> None:
        ticks = self._ticks()
        if self._kept == self._saved or (not now and ticks - self._saved_at < self._terms.times.saving):
            return
        self._saved_at = ticks
        try:
            write_cursor(self._terms.cursor, self._kept)
        except OSError as error:
            self._status.failures += 1
            self._rarely.error(
                "the place of the sink %s cannot be written, so more may be sent twice: %s",
                self._terms.name, error.strerror,
            )  # fmt: skip
        else:
            self._saved = dict(self._kept)

    def _fail(self, error: Exception) -> float:
        """Go back to what has arrived; return how long to wait."""
        with suppress(Unreachable):
            self._settle(self._outlet.settled())
        self._outlet.close()
        self._at, self._sends, self._arrived = dict(self._kept), 0, 0
        self._unsettled.clear()
        self._save(now=False)
        self._failed += 1
        self._most = 1 if self._is_wary() else max(1, self._most // 2)
        self._status.failures += 1
        self._status.state = "failing"
        if isinstance(error, Unreachable):
            self._rarely.error("the sink %s does not get through, and tries again: %s", self._terms.name, error)
        elif isinstance(error, OSError):
            self._rarely.error("the sink %s cannot read the journal: %s", self._terms.name, error.strerror)
        else:
            log.error("the sink %s has an error of ours, and tries again", self._terms.name, exc_info=error)
        return self._pause(error)

    def _pause(self, error: Exception) -> float:
        asked = error.retry_after if isinstance(error, Unreachable) else None
        return max(self._pauses.next(), min(asked or 0.0, self._terms.times.longest_pause))

    def _written(self, item: Item) -> float:
        """Return when a record was written, in seconds since 1970."""
        if isinstance(item.what, Gap):
            return self._clock().timestamp()
        return microseconds(item.what.get("at")) / 1e6


def _alone(one: Encoded) -> Gap:
    """Return the one record that a notice is about."""
    seq = one.entry.get("seq")
    number = seq if isinstance(seq, int) else 0
    return Gap(origin=plain(one.entry.get("origin", "")), first=number, last=number, why="missing")
