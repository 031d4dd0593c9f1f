"""The commands that show what is in the journal; they need its files and no running sidecar."""

import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from gateway.audit.index.both import Reader, open_reader
from gateway.audit.index.building import IndexBusy, rebuild
from gateway.audit.index.database import IndexUnusable, beside
from gateway.audit.index.grouping import DIMENSIONS
from gateway.audit.record import to_whole_json
from gateway.audit.search import Follower, Query, QueryError, printable, render
from gateway.audit.search.timeline import build_timeline
from gateway.audit.stepping import Faults
from gateway.cli.audit.options import journal_option

POLL_SECONDS = 0.25
_MOST_ROWS = 20
_LARGE_LAG_BYTES = 64 * 1024 * 1024
_UNREAD = "not searched, for they cannot be read: {lines} lines and {files} files; run `locum audit verify`"

_json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
_database_option = click.option(
    "--database", is_flag=True, help="All nodes' journals, as the shared database has them, and not this one's files."
)
_scan_option = click.option("--scan", is_flag=True, help="Read all files, and not the index.")
# A term may begin with a hyphen, so commands that have these settings have no options of one letter.
_QUERY_SETTINGS = {"ignore_unknown_options": True}


@click.command("tail")
@journal_option
@click.option("-f", "--follow", is_flag=True, help="Go on with what is being written.")
@click.option("-n", "--lines", type=click.IntRange(min=0), default=20, show_default=True, help="How many.")
@_json_option
@click.argument("query", nargs=-1, type=click.UNPROCESSED)
def tail_command(journal: Path, *, follow: bool, lines: int, as_json: bool, query: tuple[str, ...]) -> None:
    """Show the last records; with QUERY, the last for which all of its terms hold (see `search`).

    Before a term that begins with a hyphen, write `--`.
    """
    wanted = _parse(query)
    follower = Follower(journal, faults=Faults())
    for entry in deque(filter(wanted.matches, follower.poll()), maxlen=lines):
        _show(entry, as_json=as_json)
    while follow:
        sys.stdout.flush()
        time.sleep(POLL_SECONDS)
        for entry in filter(wanted.matches, follower.poll()):
            _show(entry, as_json=as_json)


@click.command("search", context_settings=_QUERY_SETTINGS)
@journal_option
@_json_option
@_scan_option
@_database_option
@click.option("--limit", type=click.IntRange(min=1), help="Only the newest so many.")
@click.argument("query", nargs=-1, type=click.UNPROCESSED)
def search_command(
    journal: Path, *, as_json: bool, scan: bool, database: bool, limit: int | None, query: tuple[str, ...]
) -> None:
    """Show the records for which all terms of QUERY hold.

    A term is free text or one of actor: account: agent: decision: reason: ip: sid: ticket: route: method: path: kind:
    client: origin: request: after: before: with a value. A hyphen before a term turns it round. Free text is whole
    words, one behind the other; a star at its end lets the last one go on.
    """
    wanted = _parse(query)
    with _reader(journal, scan=scan, database=database) as reader:
        for entry in reader.find(wanted) if limit is None else reader.newest(wanted, limit):
            _show(entry, as_json=as_json)


@click.command("show")
@journal_option
@_json_option
@_scan_option
@_database_option
@click.argument("sid", metavar="SID")
def show_command(journal: Path, *, as_json: bool, scan: bool, database: bool, sid: str) -> None:
    """Show one assumption: who, whom, why, until when, each request with its outcome, and how it ended."""
    with _reader(journal, scan=scan, database=database) as reader:
        timeline = build_timeline(reader.find(Query.of_assumption(sid)), sid)
    if timeline is None:
        raise click.ClickException(f"there is no record of the assumption `{printable(sid)}`")
    if as_json:
        click.echo(to_whole_json(timeline.document()).decode())
        return
    for line in timeline.lines():
        click.echo(line)


@click.command("stats", context_settings=_QUERY_SETTINGS)
@journal_option
@_json_option
@_scan_option
@_database_option
@click.option("--by", "dimensions", type=click.Choice(DIMENSIONS), multiple=True, help="May be given twice.")
@click.argument("query", nargs=-1, type=click.UNPROCESSED)
def stats_command(
    journal: Path, *, as_json: bool, scan: bool, database: bool, dimensions: tuple[str, ...], query: tuple[str, ...]
) -> None:
    """Count the records for which all terms of QUERY hold (see `search`)."""
    wanted = _parse(query)
    with _reader(journal, scan=scan, database=database) as reader:
        tally = reader.stats(wanted)
    counts = {name: tally.by.get(name, Counter()) for name in dimensions or DIMENSIONS}
    if as_json:
        document: dict[str, Any] = {
            "total": tally.total,
            **{name: dict(sorted(count.items())) for name, count in counts.items()},
        }
        click.echo(to_whole_json(document).decode())
        return
    click.echo(f"{tally.total} records")
    for name, count in counts.items():
        if count:
            _show_counts(name, count)


@click.command("reindex")
@journal_option
def reindex_command(journal: Path) -> None:
    """Make the index anew from the files; a running gateway keeps it, so stop that, or delete the index's file."""
    began = time.monotonic()
    try:
        lines = rebuild(journal, beside(journal))
    except IndexBusy as error:
        raise click.ClickException(
            "a running gateway keeps the index up to date; delete its file and it is made anew by itself"
        ) from error
    except (OSError, IndexUnusable) as error:
        raise click.ClickException(f"the index cannot be made: {error}") from error
    click.echo(f"{lines} lines in {time.monotonic() - began:.1f} s")


def _parse(query: tuple[str, ...]) -> Query:
    try:
        return Query.parse(" ".join(query))
    except QueryError as error:
        raise click.UsageError(printable(str(error))) from error


@contextmanager
def _reader(journal: Path, *, scan: bool, database: bool) -> Iterator[Reader]:
    if database:
        from gateway.cli.audit.database import DatabaseReader  # noqa: PLC0415 - it needs the configuration

        yield DatabaseReader(click.get_current_context().obj.config)
        return
    try:
        with open_reader(journal, None if scan else beside(journal)) as reader:
            lag = reader.lag
            if lag is not None and lag.bytes > _LARGE_LAG_BYTES:
                mib = lag.bytes / 2**20
                click.echo(f"the index is {mib:.0f} MiB behind: {lag.segments} files are read themselves", err=True)
            if lag is not None and any(lag.unread):
                lines, files = lag.unread
                click.echo(_UNREAD.format(lines=lines, files=files), err=True)
            yield reader
    except IndexUnusable as error:
        raise click.ClickException(f"{error}: use --scan, or `locum audit reindex`") from error


def _show(entry: Any, *, as_json: bool) -> None:
    click.echo(to_whole_json(entry).decode() if as_json else render(entry))


def _show_counts(name: str, count: Counter[str]) -> None:
    click.echo(f"\n{name}")
    rows = sorted(count.items()) if name == "day" else count.most_common(_MOST_ROWS)
    for value, times in rows:
        click.echo(f"{times:>10}  {printable(value)}")
    if (more := len(count) - len(rows)) > 0:
        click.echo(f"{'':>10}  and {more} more")
