"""`locum audit verify`: judge the journal by its files and a public key."""

from pathlib import Path
from typing import Any

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.audit.evidence.bundle import EvidenceError, EvidenceFile
from gateway.audit.evidence.checkpoint import CheckpointError
from gateway.audit.evidence.verify import Report, verify
from gateway.audit.search import printable
from gateway.cli.audit.options import default_journal
from gateway.cli.audit.trust import public_key_option, split_held


def _find_journal(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path:
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
    "--checkpoint",
    type=click.File("rb"),
    multiple=True,
    help="One kept elsewhere, or several in one file; give one for each origin.",
)
@public_key_option
def verify_command(journal: Path, *, checkpoint: tuple[Any, ...], public_key: Ed25519PublicKey | None) -> None:
    """Find what was changed, removed, moved, put in or cut off; exit with 1 if anything was."""
    held = [note for file in checkpoint for note in _read_held(file)]
    try:
        report = verify(EvidenceFile(journal) if journal.is_file() else journal, public_key=public_key, held=held)
    except EvidenceError as error:
        raise click.ClickException(printable(str(error))) from error
    _show(report, signed=public_key is not None)
    if not report.ok:
        raise click.exceptions.Exit(1)


def _show(report: Report, *, signed: bool) -> None:
    for finding in report.findings:
        lines = f"{finding.line}" if finding.line == finding.through else f"{finding.line}-{finding.through}"
        click.echo(printable(f"{finding.segment}:{lines} (byte {finding.offset}): {finding.what}"))
    vouched = "signed" if signed else "given, signatures not checked"
    for extent in report.extents:
        click.echo(
            f"{printable(extent.origin)}: {extent.records} records, {extent.covered} under a checkpoint ({vouched})"
        )
    click.echo("ok" if report.ok else f"{len(report.findings)} findings")


def _read_held(file: Any) -> list[str]:
    """Return the notes of a file; what is none is left to the judge, who finds it."""
    content = file.read()
    try:
        return [note.decode(errors="replace") for note in split_held(content)]
    except CheckpointError:
        return [content.decode(errors="replace")]
