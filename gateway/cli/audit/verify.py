"""`locum audit verify`: judge the journal by its files, or as the database has it, and a public key."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.audit.evidence.bundle import EvidenceError, EvidenceFile
from gateway.audit.evidence.checkpoint import CheckpointError
from gateway.audit.evidence.sources import Source
from gateway.audit.evidence.verify import Report, verify
from gateway.audit.search import printable
from gateway.cli.audit.options import default_journal
from gateway.cli.audit.trust import CONFIGURED, public_key_option, split_held
from gateway.config.model import ConfigError
from gateway.stores.postgres.address import Address, parse_url
from gateway.stores.postgres.terms import StoreTerms


def _find_journal(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    if context.params.get("database") is not None:
        if value is not None:
            raise click.UsageError("give either `--journal` or `--database`")
        return None
    return value if value is not None and value.is_file() else default_journal(context, parameter, value)


@click.command("verify")
@click.option(
    "--journal",
    metavar="DIR|FILE",
    type=click.Path(path_type=Path),
    callback=_find_journal,
    help="Its directory, by default the configured one, or a file from `locum audit evidence`.",
)
@click.option(
    "--database",
    metavar="[URL]",
    is_flag=False,
    flag_value=CONFIGURED,
    is_eager=True,
    help="All nodes' journals as a database has them, by default that of `store.url`. A password in it shows in the"
    " list of processes: PGPASSWORD and PGPASSFILE count, too.",
)
@click.option("--node", metavar="NODE", help="With --database: that node's journal only.")
@click.option(
    "--checkpoint",
    type=click.File("rb"),
    multiple=True,
    help="One kept elsewhere, or several in one file; give one for each origin.",
)
@public_key_option
@click.pass_context
def verify_command(
    context: click.Context,
    *,
    journal: Path | None,
    database: str | None,
    node: str | None,
    checkpoint: tuple[Any, ...],
    public_key: Ed25519PublicKey | None,
) -> None:
    """Find what was changed, removed, moved, put in or cut off; exit with 1 if anything was."""
    held = [note for file in checkpoint for note in _read_held(file)]
    if node is not None and database is None:
        raise click.UsageError("`--node` goes with `--database`")
    if journal is not None:
        reports = {"": _judge_files(journal, public_key=public_key, held=held)}
    else:
        reports = _judge_database(context, database or CONFIGURED, node, public_key=public_key, held=held)
    for name, report in reports.items():
        if name:
            click.echo(f"node {printable(name)}:")
        _show(report, signed=public_key is not None)
    findings = sum(len(report.findings) for report in reports.values())
    click.echo(f"{findings} findings" if findings else "ok")
    if findings:
        raise click.exceptions.Exit(1)


def _judge_files(journal: Path, *, public_key: Ed25519PublicKey | None, held: list[str]) -> Report:
    try:
        return verify(EvidenceFile(journal) if journal.is_file() else journal, public_key=public_key, held=held)
    except EvidenceError as error:
        raise click.ClickException(printable(str(error))) from error


def _judge_database(
    context: click.Context, url: str, node: str | None, *, public_key: Ed25519PublicKey | None, held: list[str]
) -> dict[str, Report]:
    """Return what was found of each node; one that is not there, or none at all, is never found to be good."""
    from gateway.cli.audit.database import open_journals  # noqa: PLC0415 - the most need no database

    with open_journals(*_find_database(context, url)) as journals:
        chosen = {name: journal for name, journal in journals.items() if node in (None, name)}
        if not chosen:
            raise click.ClickException(f"the database holds no journal{f' of a node `{node}`' if node else ''}")
        notes = _share_out(held, chosen)
        return {
            name: verify(journal, public_key=public_key, held=notes[name]) for name, journal in sorted(chosen.items())
        }


def _find_database(context: click.Context, url: str) -> tuple[Address, StoreTerms]:
    if url != CONFIGURED:
        try:
            return parse_url(url), StoreTerms()
        except ValueError as error:
            raise click.UsageError(f"--database: {error}") from None
    store = context.obj.config.store
    if store.address is None:
        raise ConfigError("store.url: there is no database that several machines share: or say `--database URL`")
    return store.address, store.terms


def _share_out(held: list[str], journals: Mapping[str, Source]) -> dict[str, list[str]]:
    """Return which checkpoints are for which node: whose origin they are of; the first's if they are nobody's."""
    notes: dict[str, list[str]] = {name: [] for name in journals}
    if len(journals) == 1 or not held:
        return dict.fromkeys(journals, held)
    origins = {name: {source.origin for source in journal.origins()} for name, journal in journals.items()}
    for note in held:
        origin = note.partition("\n")[0]
        whose = [name for name, own in origins.items() if origin in own]
        if len(whose) > 1:
            raise click.UsageError(f"several nodes have an origin `{printable(origin)}`: say whose with `--node NODE`")
        notes[whose[0] if whose else min(journals)].append(note)
    return notes


def _show(report: Report, *, signed: bool) -> None:
    for finding in report.findings:
        lines = f"{finding.line}" if finding.line == finding.through else f"{finding.line}-{finding.through}"
        click.echo(printable(f"{finding.segment}:{lines} (byte {finding.offset}): {finding.what}"))
    vouched = "signed" if signed else "given, signatures not checked"
    for extent in report.extents:
        click.echo(
            f"{printable(extent.origin)}: {extent.records} records, {extent.covered} under a checkpoint ({vouched})"
        )


def _read_held(file: Any) -> list[str]:
    """Return the notes of a file; what is none is left to the judge, who finds it."""
    content = file.read()
    try:
        return [note.decode(errors="replace") for note in split_held(content)]
    except CheckpointError:
        return [content.decode(errors="replace")]
