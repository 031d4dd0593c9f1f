"""The picture of the access log over time: bars to be drawn, and the table that says the same."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from gateway.audit.index.overview import HOUR

WIDTH: Final = 960
HEIGHT: Final = 160
"""In the units of the drawing, which is stretched to the page's width."""
_MOST_BARS: Final = 130
_GAP: Final = 0.2
_DAY: Final = 24 * HOUR
# So high a bar is at the least, so that one among thousands is seen.
_LEAST: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One step of time; each part is drawn above the one before it."""

    said: str
    """When it is, in words."""
    permitted: int
    refused: int
    other: int
    href: str
    """The same search in this time."""
    x: float
    width: float
    left: float
    """Where the whole step begins, as wide as `Chart.slot`: what can be clicked."""
    parts: tuple[tuple[str, float, float], ...]
    """The kind of each part that there is, the upper edge, and the height."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """What is drawn."""

    bars: tuple[Bar, ...]
    slot: float
    most: int
    """How many the highest bar stands for."""
    step: str
    """How long a step is, in words."""
    first: str
    last: str
    permitted: int
    refused: int
    other: int
    width: int = WIDTH
    height: int = HEIGHT

    @property
    def table(self) -> list[Bar]:
        """The steps in which there is anything, for whoever reads them."""
        return [bar for bar in self.bars if bar.parts]


def draw(
    over_time: Mapping[int, Counter[str]],
    *,
    step: int,
    since: int | None,
    until: int,
    link: Callable[[int, int], str],
) -> Chart | None:
    """Return the picture from `since`, or the first that there is, to `until`; None if there is nothing to draw.

    All times are in microseconds since 1970; `link` makes the address of the time between two of them.
    """
    begins = [at for at in over_time if at < until]
    if since is None and not begins:
        return None
    first = min(begins) if since is None else since // step * step
    if until <= first:
        return None
    # Of what is longer than was thought, several steps make one bar.
    wide = step * max(1, -(-(until - first) // (step * _MOST_BARS)))
    count = -(-(until - first) // wide)
    sums = [Counter[str]() for _ in range(count)]
    for at, counts in over_time.items():
        if 0 <= (place := (at - first) // wide) < count:
            sums[place].update(counts)
    most = max(one.total() for one in sums)
    slot = WIDTH / count
    bars = tuple(
        _bar(counts, place, first=first, wide=wide, slot=slot, most=most, link=link)
        for place, counts in enumerate(sums)
    )
    return Chart(
        bars=bars,
        slot=slot,
        most=most,
        step=_length(wide),
        first=_moment(first, wide),
        last=_moment(until, wide),
        permitted=sum(bar.permitted for bar in bars),
        refused=sum(bar.refused for bar in bars),
        other=sum(bar.other for bar in bars),
    )


def _bar(
    counts: Counter[str],
    place: int,
    *,
    first: int,
    wide: int,
    slot: float,
    most: int,
    link: Callable[[int, int], str],
) -> Bar:
    begin = first + place * wide
    refused, permitted = counts["deny"], counts["allow"]
    other = counts.total() - refused - permitted
    parts, top = [], float(HEIGHT)
    for kind, count in (("refused", refused), ("permitted", permitted), ("other", other)):
        if count:
            height = max(count / most * (HEIGHT - 3 * _LEAST), _LEAST)
            top -= height
            parts.append((kind, round(top, 2), round(height, 2)))
    return Bar(
        said=_moment(begin, wide),
        permitted=permitted,
        refused=refused,
        other=other,
        href=link(begin, begin + wide),
        x=round((place + _GAP / 2) * slot, 2),
        width=round(slot * (1 - _GAP), 2),
        left=round(place * slot, 2),
        parts=tuple(parts),
    )


def _moment(at: int, step: int) -> str:
    return datetime.fromtimestamp(at // 1_000_000, UTC).strftime("%Y-%m-%d" if step >= _DAY else "%Y-%m-%d %H:%M")


def _length(step: int) -> str:
    for unit, one, many in ((_DAY, "a day", "days"), (HOUR, "an hour", "hours"), (HOUR // 60, "a minute", "minutes")):
        if step % unit == 0:
            return one if step == unit else f"{step // unit} {many}"
    return f"{step // 1_000_000} seconds"
