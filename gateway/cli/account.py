"""`locum account`: which accounts there are."""

import click

from gateway.audit.record import Record
from gateway.cli.context import Context, by_option, open_office, open_store, run_async
from gateway.cli.show import describe_account, found, refuse_kept_by_app
from gateway.clock import utc_now
from gateway.proxy.triage import is_account_name
from policy.grants import GrantRefusal
from policy.model import Account, AccountId, AccountType


@click.group()
def account() -> None:
    """Add, show and convert accounts."""


@account.command()
@click.argument("name", metavar="ACCOUNT")
@click.option("--type", "kind", type=click.Choice(["paid", "trial"]), default="paid", show_default=True)
@by_option
@click.pass_obj
def add(context: Context, name: str, *, kind: str, by: str) -> None:
    """Add an account; a paid one is not assumable until its administrator says so."""
    if not is_account_name(name):
        raise click.UsageError("an account's name is a host's label: lower-case letters, digits and hyphens")

    async def work() -> None:
        async with open_office(context.config) as office:
            entry = Account(id=AccountId(name), type=AccountType(kind))
            if await office.store.find_account(entry.id) is not None:
                raise click.ClickException(f"the account `{name}` is there already")
            await office.journal.append(
                Record(kind="account", reason=f"added_{kind}", account=entry.id, by=by), durable=True
            )
            await office.store.add_account(entry)
        click.echo(f"{name}: added, {kind}")

    run_async(work())


@account.command()
@click.argument("name", metavar="ACCOUNT", required=False)
@click.pass_obj
def show(context: Context, name: str | None) -> None:
    """Show one account, or all of them."""

    async def work() -> None:
        async with open_store(context.config) as store:
            records = [found(await store.find_account(AccountId(name)), name)] if name else await store.list_accounts()
        for record in records:
            click.echo(describe_account(record, now=utc_now()))

    run_async(work())


@account.command()
@click.argument("name", metavar="ACCOUNT")
@by_option
@click.pass_obj
def convert(context: Context, name: str, *, by: str) -> None:
    """Turn a trial into a paid account: assumption ends, and stays off until the customer chooses."""
    refuse_kept_by_app(context.config)

    async def work() -> None:
        async with open_office(context.config) as office:
            found(await office.store.find_account(AccountId(name)), name)
            outcome = await office.grants.convert(AccountId(name), by=by)
        if isinstance(outcome, GrantRefusal):
            raise click.ClickException(f"the account `{name}` is not a trial")
        click.echo(f"{name}: converted to paid; assumption is off until an administrator enables it")

    run_async(work())
