"""`locum audit export`: the records in another format, for somebody else's tools; on the record itself."""

import os
import re
import sys
from pathlib import Path

import click

from gateway.audit.formats.forms import FORMS
from gateway.audit.record import Record
from gateway.audit.search import Query, QueryError, read
from gateway.cli.audit.output import opened
from gateway.cli.context import Context, by_option, run_async
from gateway.cli.office import open_office

_NEGATED = re.compile(r"-[a-z]+:")


class _Export(click.Command):
    """Takes `-reason:x` for the term that it is, not for options of one letter each."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put such terms behind everything else."""
        end = args.index("--") if "--" in args else len(args)
        terms = [word for word in args[:end] if _NEGATED.match(word)]
        options = [word for word in args[:end] if not _NEGATED.match(word)]
        return super().parse_args(ctx, [*options, "--", *terms, *args[end + 1 :]])


@click.command("export", cls=_Export)
@click.option(
    "--format", "form", type=click.Choice(tuple(FORMS)), default="jsonl", show_default=True, help="Of a line."
)
@click.option("--after", metavar="TIME", help="Only from then on; as `after:` in a query.")
@click.option("--before", metavar="TIME", help="Only before that; as `before:`.")
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Not standard output."
)
@by_option
@click.argument("query", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def export_command(
    context: Context,
    *,
    form: str,
    after: str | None,
    before: str | None,
    output: Path | None,
    by: str,
    query: tuple[str, ...],
) -> None:
    """Write the records for which all terms of QUERY hold (see `search`), by time, one a line.

    Before free text that begins with a hyphen, write `--`.

    That somebody did, and which query, is on the record before the first byte leaves. A file is there whole or not at
    all, and only its owner may read it. Exits with 1 if the journal cannot be written, or the output not be finished.
    """
    terms = [*query, *(f"{name}:{value}" for name, value in (("after", after), ("before", before)) if value)]
    text = " ".join(terms)
    try:
        wanted = Query.parse(text)
    except QueryError as error:
        raise click.UsageError(str(error)) from error
    run_async(_record(context, form=form, query=text, by=by))
    chosen = FORMS[form]
    try:
        with opened(output) as file:
            if chosen.header:
                file.write(chosen.header + b"\n")
            for entry in filter(wanted.matches, read(context.journal_directory)):
                file.write(chosen.line(dict(entry)) + b"\n")
    except BrokenPipeError:
        # Whoever read it has seen enough; nothing more may be written at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.exceptions.Exit(1) from None
    except OSError as error:
        raise click.ClickException(f"the export is not finished: {error.strerror}") from error


async def _record(context: Context, *, form: str, query: str, by: str) -> None:
    """Put on the record what leaves; a query can name somebody, so it stands among the words that can be erased."""
    record = Record(kind="audit", reason="exported", by=by, stated_reason=f"{form}: {query or 'everything'}")
    async with open_office(context.config) as office:
        await office.journal.append(record, durable=True)
