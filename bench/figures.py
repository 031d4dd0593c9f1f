"""From samples to medians and ratios, and how both are shown."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from statistics import median
from typing import Any

from bench.rows import LOCUM, Row, Versus

FIGURES = ("cpu_us", "rps", "p50_us", "p99_us")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One contender in one row in one round."""

    row: str
    contender: str
    round: int
    requests: int
    cpu_us: float
    """Processor time of all processes and threads of the contender, in microseconds a request."""
    rps: float
    p50_us: float
    p99_us: float
    errors: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Median:
    """The middle of a contender's samples in a row, each figure by itself."""

    row: str
    contender: str
    rounds: int
    requests: int
    cpu_us: float
    cpu_us_least: float
    cpu_us_most: float
    rps: float
    p50_us: float
    p99_us: float
    errors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """A bound for one of Locum's figures, or for a ratio, and what was measured."""

    row: str
    name: str
    figure: str
    sense: str
    """`at_most` or `at_least`."""
    bound: float
    value: float

    @property
    def met(self) -> bool:
        """Tell whether the value is where it should be; the bound itself is good enough."""
        return self.value <= self.bound if self.sense == "at_most" else self.value >= self.bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """Locum's figure divided by another's: the median of what each round gave."""

    row: str
    name: str
    figure: str
    against_contender: str
    against_row: str
    ratio: float
    aims: tuple[Aim, ...]


def medians(samples: Iterable[Sample]) -> list[Median]:
    """Return one entry per row and contender, in the order of first appearance."""
    by_pair: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        by_pair.setdefault((sample.row, sample.contender), []).append(sample)
    return [_median(row, contender, found) for (row, contender), found in by_pair.items()]


def _median(row: str, contender: str, samples: Sequence[Sample]) -> Median:
    costs = [sample.cpu_us for sample in samples]
    return Median(
        row=row,
        contender=contender,
        rounds=len(samples),
        requests=sum(sample.requests for sample in samples),
        cpu_us=median(costs),
        cpu_us_least=min(costs),
        cpu_us_most=max(costs),
        rps=median(sample.rps for sample in samples),
        p50_us=median(sample.p50_us for sample in samples),
        p99_us=median(sample.p99_us for sample in samples),
        errors=sum(sample.errors for sample in samples),
    )


def ratios(rows: Iterable[Row], samples: Sequence[Sample]) -> list[Ratio]:
    """Return every comparison that the rows ask for and that was measured.

    Both sides are taken from the same round, because a busy machine is slow for both.
    """
    at = {(sample.row, sample.contender, sample.round): sample for sample in samples}
    found = []
    for row in rows:
        ours = [sample for sample in samples if (sample.row, sample.contender) == (row.name, LOCUM)]
        for versus in row.versus:
            pairs = [(one, at.get((versus.row or row.name, versus.contender, one.round))) for one in ours]
            each = [_divide(one, other, versus.figure) for one, other in pairs if other is not None]
            if each:
                found.append(_ratio(row, versus, median(each)))
    return found


def _divide(ours: Sample, other: Sample, figure: str) -> float:
    mine: float = getattr(ours, figure)
    theirs: float = getattr(other, figure)
    return mine / theirs if theirs else float("inf")


def _ratio(row: Row, versus: Versus, ratio: float) -> Ratio:
    against = versus.row or row.name
    other = versus.contender if against == row.name else f"{versus.contender} {against}"
    name = f"{LOCUM} ÷ {other}" + ("" if versus.figure == "cpu_us" else f", {versus.figure}")
    bounds = {"at_most": versus.at_most, "at_least": versus.at_least}
    return Ratio(
        row=row.name,
        name=name,
        figure=versus.figure,
        against_contender=versus.contender,
        against_row=against,
        ratio=ratio,
        aims=tuple(
            Aim(row=row.name, name=name, figure=versus.figure, sense=sense, bound=bound, value=ratio)
            for sense, bound in bounds.items()
            if bound is not None
        ),
    )


def aims(rows: Sequence[Row], samples: Sequence[Sample]) -> list[Aim]:
    """Return all that is aimed at and was measured, row by row."""
    own = {entry.row: entry for entry in medians(samples) if entry.contender == LOCUM}
    compared = ratios(rows, samples)
    found: list[Aim] = []
    for row in rows:
        if row.at_most_us is not None and row.name in own:
            found.append(_own_aim(row, row.at_most_us, own[row.name]))
        found += [aim for ratio in compared if ratio.row == row.name for aim in ratio.aims]
    return found


def _own_aim(row: Row, bound: float, own: Median) -> Aim:
    return Aim(row=row.name, name=LOCUM, figure="cpu_us", sense="at_most", bound=bound, value=own.cpu_us)


def as_objects(rows: Sequence[Row], samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Return what is printed as JSON, one object a line: samples, medians, ratios, aims."""
    return [
        *({"kind": "sample", **_rounded(asdict(sample))} for sample in samples),
        *({"kind": "median", **_rounded(asdict(entry))} for entry in medians(samples)),
        *({"kind": "ratio", **_rounded(asdict(entry))} for entry in ratios(rows, samples)),
        *({"kind": "aim", **_rounded(asdict(aim)), "met": aim.met} for aim in aims(rows, samples)),
    ]


def as_table(rows: Sequence[Row], samples: Sequence[Sample]) -> str:
    """Return medians, ratios and aims for people, one block a row."""
    titles = {row.name: row.title for row in rows}
    compared, aimed = ratios(rows, samples), aims(rows, samples)
    lines: list[str] = []
    # The samples of a round come row by row, so the first round's order keeps each row together.
    for name, entries in groupby(medians(samples), key=lambda entry: entry.row):
        lines += [f"{name}: {titles[name]}", _HEAD]
        lines += [_line(entry) for entry in sorted(entries, key=lambda entry: entry.cpu_us)]
        lines += [_judged(aim.name, aim.value, [aim]) for aim in aimed if aim.row == name and aim.name == LOCUM]
        lines += [_judged(entry.name, entry.ratio, entry.aims) for entry in compared if entry.row == name]
        lines.append("")
    return "\n".join(lines)


_SIGNS = {"at_most": "≤", "at_least": "≥"}
_HEAD = (
    f"  {'':22}{'CPU µs/request':>15}{'(least–most)':>20}{'requests/s':>12}{'of a core':>11}{'p50 ms':>9}{'p99 ms':>9}"
)


def _line(entry: Median) -> str:
    span = f"({entry.cpu_us_least:.1f}–{entry.cpu_us_most:.1f})"
    # Below 100 % the load or the rest of the machine was the limit, so requests/s says little about the contender.
    busy = f"{entry.cpu_us * entry.rps / 1e4:.0f} %"
    broken = f"  {entry.errors} errors" if entry.errors else ""
    cost = f"  {entry.contender:22}{entry.cpu_us:>15.1f}{span:>20}"
    return f"{cost}{entry.rps:>12.0f}{busy:>11}{entry.p50_us / 1000:>9.2f}{entry.p99_us / 1000:>9.2f}{broken}"


def _judged(name: str, value: float, judged: Sequence[Aim]) -> str:
    said = [f"aim {_SIGNS[aim.sense]} {aim.bound:g}: {'met' if aim.met else 'missed'}" for aim in judged]
    return f"    {name}: {value:.2f}" + (f"  ({', '.join(said)})" if said else "")


def _rounded(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of one line; what is a list of its own has lines of its own."""
    plain = {name: value for name, value in fields.items() if not isinstance(value, tuple)}
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in plain.items()}
