"""`locum audit receipt`, `check-receipt`, `consistency`, `evidence`: for somebody who need not trust us."""

import json
import sys
from pathlib import Path

import click
import msgspec
from click.core import ParameterSource
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.audit.evidence.bundle import write_evidence
from gateway.audit.evidence.checkpoint import Checkpoint, CheckpointError, open_note
from gateway.audit.evidence.making import ending_of
from gateway.audit.evidence.proofs import Consistency, ProofError, find_source, prove_consistency
from gateway.audit.evidence.receipt_check import check_receipt, compared
from gateway.audit.evidence.receipts import Receipt, build_receipt
from gateway.audit.evidence.sources import JournalFiles
from gateway.audit.record import Record
from gateway.audit.search import printable
from gateway.cli.audit.options import journal_option
from gateway.cli.audit.output import opened
from gateway.cli.audit.trust import public_key_option, split_held
from gateway.cli.context import by_option, run_async
from gateway.cli.office import open_office

_READ_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
output_option = click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="A file; by default it is printed."
)


@click.command("receipt")
@journal_option
@public_key_option
@output_option
@click.option("--account", help="Only if the assumption was in this account.")
@by_option
@click.argument("assumption", metavar="SID")
def receipt_command(
    journal: Path,
    *,
    public_key: Ed25519PublicKey | None,
    output: Path | None,
    account: str | None,
    by: str,
    assumption: str,
) -> None:
    """Put every record of one assumption, with its proofs, into one file that the customer can check.

    That somebody did is on the record before, unless --journal names the directory: then it may be anybody's copy.
    Exits with 4 if there is no such record, with 5 if the journal does not bear it out, and with 6 if no such record is
    under a checkpoint yet.
    """
    if public_key is None:
        raise click.UsageError("say by which key it can be checked: `--public-key FILE`")
    _put_on_record("receipt", assumption, by=by)
    try:
        receipt, later = build_receipt(JournalFiles(journal), assumption, key=public_key, account=account)
    except ProofError as error:
        click.echo(f"Error: {printable(str(error))}", err=True)
        raise click.exceptions.Exit(ending_of(error)) from error
    with opened(output) as file:
        file.write(receipt.encode())
    if later:
        click.echo(f"{later} newer records are not in it yet: ask again in a moment", err=True)


@click.command("evidence")
@journal_option
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="A new file; or it is printed.")
@by_option
def evidence_command(journal: Path, output: Path | None, by: str) -> None:
    """Put the whole journal into one file, for `locum audit verify --journal FILE` elsewhere.

    That somebody did is on the record before, unless --journal names the directory: then it may be anybody's copy.
    """
    if output is None and sys.stdout.isatty():
        raise click.UsageError("this is no text: write it to a file with `-o FILE`")
    _put_on_record("exported", "evidence: everything", by=by)
    try:
        with opened(output, new=True) as file:
            write_evidence(journal, file)
    except OSError as error:
        raise click.ClickException(f"the file is not finished: {error.strerror}") from error


@click.command("check-receipt")
@click.option("--checkpoint", type=_READ_FILE, multiple=True, help="Checkpoints kept elsewhere.")
@click.option("--consistency", type=_READ_FILE, multiple=True, help="From `locum audit consistency`.")
@click.option("--journal", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Is it complete, too?")
@public_key_option
@click.argument("receipt", type=_READ_FILE)
def check_receipt_command(
    receipt: Path,
    *,
    public_key: Ed25519PublicKey | None,
    checkpoint: tuple[Path, ...],
    consistency: tuple[Path, ...],
    journal: Path | None,
) -> None:
    """Check a receipt; exit with 1 unless it holds."""
    if public_key is None:
        raise click.UsageError("say with which key: `--public-key FILE`")
    held = [note for path in checkpoint for note in _read_notes(path, public_key)]
    proofs = [_read_consistency(path) for path in consistency]
    found, findings = check_receipt(receipt.read_bytes(), key=public_key, held=held, proofs=proofs)
    if journal is not None and found is not None and not findings:
        findings = _compare_with(journal, found, public_key)
    for finding in findings:
        click.echo(printable(finding))
    if found is None or findings:
        raise click.exceptions.Exit(1)
    for one in held:
        what = "compared with" if one in compared(found, held) else "NOT compared, for it is of no origin in it:"
        click.echo(f"{what} the checkpoint of {printable(one.origin)} at {one.size} records", err=True)
    # In ASCII: what a stranger has written can neither steer a terminal nor turn its neighbours round.
    click.echo(json.dumps(found.summary, indent=2))
    click.echo("ok")


@click.command("consistency")
@journal_option
@output_option
@click.argument("origin")
@click.argument("old", type=click.IntRange(1))
@click.argument("new", type=click.IntRange(1))
def consistency_command(journal: Path, origin: str, output: Path | None, old: int, new: int) -> None:
    """Prove that the journal of ORIGIN with NEW records begins with the one that had OLD."""
    try:
        proof = prove_consistency(find_source(JournalFiles(journal), origin), old, new)
    except ProofError as error:
        raise click.ClickException(printable(str(error))) from error
    with opened(output) as file:
        file.write(msgspec.json.format(msgspec.json.encode(proof)) + b"\n")


def _put_on_record(reason: str, what: str, *, by: str) -> None:
    """Record that somebody took something away; raises JournalError, and then nothing is given."""
    context = click.get_current_context()
    if context.get_parameter_source("journal") is ParameterSource.COMMANDLINE:
        return

    async def put() -> None:
        async with open_office(context.obj.config) as office:
            record = Record(kind="audit", reason=reason, by=by, stated_reason=what)
            await office.journal.append(record, durable=True)

    run_async(put())


def _compare_with(journal: Path, found: Receipt, key: Ed25519PublicKey) -> list[str]:
    """Return which records the journal has of the assumption, under the receipt's checkpoints, that it does not."""
    try:
        whole, _ = build_receipt(JournalFiles(journal), found.assumption, key=key)
    except ProofError as error:
        return [str(error)]
    shown = {item.record for part in found.parts for item in part.records}
    sizes = {part.origin: open_note(part.checkpoint.encode(), key=key).size for part in found.parts}
    missing = []
    for part in whole.parts:
        for item in part.records:
            number = msgspec.json.decode(item.record)["seq"]
            if item.record not in shown and number < sizes.get(part.origin, number + 1):
                missing.append(f"{part.origin}: record {number} is in the journal and not in the receipt")
    return missing


def _read_notes(path: Path, key: Ed25519PublicKey) -> list[Checkpoint]:
    try:
        return [open_note(note, key=key) for note in split_held(path.read_bytes())]
    except CheckpointError as error:
        raise click.UsageError(f"`{path}`: {error}") from error


def _read_consistency(path: Path) -> Consistency:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Consistency)
    except msgspec.DecodeError as error:
        raise click.UsageError(f"`{path}`: this is no proof of consistency: {error}") from error
