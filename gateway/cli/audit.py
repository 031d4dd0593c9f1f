"""The commands that read and judge the journal; they need its files and no running sidecar."""

import time
from collections import deque
from pathlib import Path
from typing import Any

import click
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from gateway.audit.record import to_json
from gateway.audit.search import Follower, Query, QueryError, printable, read, render
from gateway.audit.verify import Report, verify
from gateway.config.model import ConfigError

POLL_SECONDS = 0.25


def _default_journal(context: click.Context, _parameter: click.Parameter, value: Path | None) -> Path:
    """Take the directory from the configuration where the root command has read one."""
    directory = value or getattr(context.obj, "journal_directory", None)
    if directory is None:
        raise click.UsageError("say where the journal is: `--journal DIR`")
    if not Path(directory).is_dir():
        raise click.UsageError(f"`{directory}` is no directory")
    return Path(directory)


def _configured_key() -> str | None:
    """Return the key beside the configured store; whoever does not trust this machine brings their own copy."""
    context = click.get_current_context()
    try:
        configured = getattr(context.obj, "journal_directory", None)
    except ConfigError:
        return None
    if configured is None or context.params.get("journal") != configured:
        return None
    key: Path = context.obj.journal_key
    return str(key) if key.is_file() else None


_journal_option = click.option(
    "--journal",
    metavar="DIR",
    type=click.Path(path_type=Path),
    callback=_default_journal,
    help="The journal's directory; by default the configured one.",
)


@click.group()
def audit() -> None:
    """Follow, search and verify the journal."""


@audit.command()
@_journal_option
@click.option("-f", "--follow", is_flag=True, help="Go on with what is being written.")
@click.option("-n", "--lines", type=click.IntRange(min=0), default=20, show_default=True, help="How many.")
def tail(journal: Path, *, follow: bool, lines: int) -> None:
    """Show the last records."""
    follower = Follower(journal)
    for entry in deque(follower.poll(), maxlen=lines):
        click.echo(render(entry))
    while follow:
        time.sleep(POLL_SECONDS)
        for entry in follower.poll():
            click.echo(render(entry))


@audit.command(context_settings={"ignore_unknown_options": True})
@_journal_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.argument("query", nargs=-1, type=click.UNPROCESSED)
def search(journal: Path, *, as_json: bool, query: tuple[str, ...]) -> None:
    """Show the records for which all terms of QUERY hold.

    A term is free text or one of actor: account: agent: decision: reason: ticket: sid: kind: method: path: with a
    value. A hyphen before a term turns it round.
    """
    try:
        wanted = Query.parse(" ".join(query))
    except QueryError as error:
        raise click.UsageError(str(error)) from error
    for entry in read(journal):
        if wanted.matches(entry):
            click.echo(to_json(entry).decode() if as_json else render(entry))


@audit.command("verify")
@_journal_option
@click.option("--checkpoint", type=click.File(), multiple=True, help="One kept elsewhere; give one for each origin.")
@click.option(
    "--public-key",
    type=click.File("rb"),
    default=_configured_key,
    help="The key that signs the checkpoints, in PEM; by default this installation's own.",
)
def verify_command(journal: Path, *, checkpoint: Any, public_key: Any) -> None:
    """Find what was changed, removed, moved, put in or cut off; exit with 1 if anything was."""
    key = None if public_key is None else _read_key(public_key.read())
    report = verify(journal, public_key=key, held=[note.read() for note in checkpoint])
    _show(report, signed=key is not None)
    if not report.ok:
        raise click.exceptions.Exit(1)


def _show(report: Report, *, signed: bool) -> None:
    for finding in report.findings:
        lines = f"{finding.line}" if finding.line == finding.through else f"{finding.line}-{finding.through}"
        click.echo(f"{finding.segment}:{lines} (byte {finding.offset}): {printable(finding.what)}")
    vouched = "signed" if signed else "given, signatures not checked"
    for extent in report.extents:
        click.echo(f"{extent.origin}: {extent.records} records, {extent.covered} under a checkpoint ({vouched})")
    click.echo("ok" if report.ok else f"{len(report.findings)} findings")


def _read_key(pem: bytes) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise click.UsageError("the public key is no PEM file") from error
    if not isinstance(key, Ed25519PublicKey):
        raise click.UsageError("the public key is not of Ed25519")
    return key
