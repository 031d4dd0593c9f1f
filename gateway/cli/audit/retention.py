"""`locum audit retain`, `hold`, `release` and `holds`: how long the content of the journal is kept."""

import asyncio
from contextlib import suppress
from pathlib import Path

import click

from gateway.audit.hand import Hand
from gateway.audit.record import Record
from gateway.audit.removal.keeping import held_accounts, read_retention
from gateway.audit.removal.retention import KEPT_KINDS, Removal, Retention
from gateway.audit.removal.rewriting import is_removing
from gateway.audit.removal.rotating import have_rotated
from gateway.audit.search import printable, read
from gateway.cli.context import Context, by_option, run_async
from gateway.cli.office import ORIGIN, open_office, open_store
from gateway.clock import boot_seconds, utc_now
from gateway.stores.holding import Hold
from gateway.stores.store import StoreConflict
from policy.model import AccountId

_WAIT_SECONDS = 10.0
_REWRITE_SECONDS = 120.0
"""Longer than a file takes to be rewritten, by a gateway that has customers to serve."""
_POLL_SECONDS = 0.02


@click.command("retain")
@click.option("--dry-run", is_flag=True, help="Show what would go, and change nothing.")
@click.pass_obj
def retain_command(context: Context, *, dry_run: bool) -> None:
    """Let go, at once, what the section [audit.retention] says is not to be kept; a running gateway does it hourly."""
    terms = read_retention(context.config.audit.retention)
    directory = context.journal_directory

    async def work() -> list[Removal]:
        async with open_office(context.config) as office:
            hand = Hand("retain")
            try:
                retention = Retention(
                    directory=directory,
                    terms=terms,
                    origin=ORIGIN,
                    recorder=office.journal,
                    held=lambda: held_accounts(office.store),
                    run=hand.run,
                )
                if dry_run:
                    return await retention.preview(now=utc_now())
                if overdue := await retention.overdue(now=utc_now()):
                    await have_rotated(directory, office.journal, overdue, own=ORIGIN, seconds=_WAIT_SECONDS)
                return await retention.retain(now=utc_now())
            finally:
                hand.stop()

    removals = run_async(work())
    for removal in removals:
        part = removal.part
        account = printable(part.account) if part.account else "(no account)"
        when = f"{part.oldest} to {part.newest}"
        click.echo(f"{removal.path.name}: {account}: {part.lines} records, {when}, {removal.reason}")
    lines, size = sum(removal.part.lines for removal in removals), sum(removal.part.bytes for removal in removals)
    click.echo(f"{lines} records, {size / 1024 / 1024:.1f} MiB {'would go' if dry_run else 'are gone'}")


@click.command("hold")
@click.argument("account", metavar="ACCOUNT")
@click.option("--reason", required=True, metavar="TEXT", help="Why, for the record.")
@by_option
@click.pass_obj
def hold_command(context: Context, account: str, *, reason: str, by: str) -> None:
    """Keep everything that there is of an account, until it is released; nothing of it can be erased either.

    When this says so, nothing of it goes any more in the journal of this machine.
    """
    directory = context.journal_directory

    async def work() -> None:
        async with open_office(context.config) as office:
            hold = Hold(account=AccountId(account), by=by, reason=reason, at=utc_now())
            if hold.account in await held_accounts(office.store):
                raise click.ClickException(f"the account `{account}` is under hold already")
            is_known = await office.store.find_account(hold.account) is not None or _is_in(directory, account)
            await office.journal.append(_record(hold.account, "held", by=by, why=reason), durable=True)
            with suppress(StoreConflict):  # somebody else was quicker, and it is held
                await office.store.add_hold(hold)
            await _outlast(directory, account)
        if not is_known:
            click.echo(
                f"neither the store nor this machine's journal knows `{printable(account)}`: typed right?", err=True
            )
        click.echo(f"{printable(account)}: under hold")

    run_async(work())


def _is_in(directory: Path, account: str) -> bool:
    return any(entry.get("account") == account and entry.get("kind") not in KEPT_KINDS for entry in read(directory))


async def _outlast(directory: Path, account: str) -> None:
    """Return once nothing is being taken away by anybody who asked for the holds before this one was there."""
    give_up = boot_seconds() + _REWRITE_SECONDS
    while is_removing(directory):
        if boot_seconds() > give_up:
            raise click.ClickException(
                f"the account `{account}` is under hold from now on, but a file is still being rewritten by someone "
                "who asked before: what had begun to go may go"
            )
        await asyncio.sleep(_POLL_SECONDS)


@click.command("release")
@click.argument("account", metavar="ACCOUNT")
@click.option("--reason", required=True, metavar="TEXT", help="Why, for the record.")
@by_option
@click.pass_obj
def release_command(context: Context, account: str, *, reason: str, by: str) -> None:
    """End the hold of an account."""

    async def work() -> None:
        async with open_office(context.config) as office:
            if AccountId(account) not in await held_accounts(office.store):
                raise click.ClickException(f"the account `{account}` is not under hold")
            await office.journal.append(_record(AccountId(account), "released", by=by, why=reason), durable=True)
            await office.store.remove_hold(AccountId(account))
        click.echo(f"{account}: released")

    run_async(work())


@click.command("holds")
@click.pass_obj
def holds_command(context: Context) -> None:
    """Show the accounts under hold."""

    async def work() -> None:
        async with open_store(context.config) as store:
            for hold in await store.list_holds():
                since = f"{hold.at:%Y-%m-%d %H:%M}"
                click.echo(printable(f"{hold.account}: since {since}, by {hold.by}: {hold.reason}"))

    run_async(work())


def _record(account: AccountId, what: str, *, by: str, why: str) -> Record:
    return Record(kind="retention", reason=what, account=account, by=by, stated_reason=why)
