"""`locum account`: which accounts there are."""

from typing import Any

import click

from gateway.audit.record import Record
from gateway.cli.contacts import describe_contacts
from gateway.cli.context import Context, by_option, run_async
from gateway.cli.office import open_office, open_store
from gateway.cli.show import describe_account, found, refuse_kept_by_app
from gateway.cli.taking import Unwritten, take_away
from gateway.clock import utc_now
from gateway.grants.service import GrantService
from gateway.proxy.triage import is_account_name
from gateway.stores.store import Store
from policy.grants import GrantRefusal
from policy.model import Account, AccountId, AccountType, Pairs
from policy.rules import is_attribute


class _Attribute(click.ParamType[tuple[str, str]]):
    """`NAME=VALUE`."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str] | Any:
        """Return the pair; nothing after the `=` stands for no such attribute."""
        if isinstance(value, tuple):
            return value
        name, is_pair, text = str(value).partition("=")
        if not is_pair or not is_attribute(name, text or "-"):
            self.fail("give a name and a value of one line, such as region=eu", param, ctx)
        return name, text


attribute_option = click.option(
    "--attribute",
    "attributes",
    type=_Attribute(),
    multiple=True,
    help="What the rules for staff may speak of, such as region=eu; with nothing behind the = it is taken away.",
)


@click.group()
def account() -> None:
    """Add, show, change and convert accounts."""


@account.command()
@click.argument("name", metavar="ACCOUNT")
@click.option("--type", "kind", type=click.Choice(["paid", "trial"]), default="paid", show_default=True)
@attribute_option
@by_option
@click.pass_obj
def add(context: Context, name: str, *, kind: str, attributes: tuple[tuple[str, str], ...], by: str) -> None:
    """Add an account; a paid one is not assumable until its administrator says so."""
    if not is_account_name(name):
        raise click.UsageError("an account's name is a host's label: lower-case letters, digits and hyphens")

    async def work() -> None:
        async with open_office(context.config) as office:
            entry = Account(id=AccountId(name), type=AccountType(kind), attributes=_with(frozenset(), attributes))
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
            told = {each.account: each for each in await store.list_contacts()}
        for record in records:
            contacts = describe_contacts(told.get(record.account.id), whole=False)
            end = "" if context.config.notices is None else f"; {contacts}"
            click.echo(f"{describe_account(record, now=utc_now())}{end}")

    run_async(work())


@account.command()
@click.argument("name", metavar="ACCOUNT")
@by_option
@click.pass_obj
def convert(context: Context, name: str, *, by: str) -> None:
    """Turn a trial into a paid account: assumption ends, and stays off until the customer chooses."""
    refuse_kept_by_app(context.config)

    async def take(store: Store) -> Record:
        found(await store.find_account(AccountId(name)), name)
        unwritten = Unwritten()
        grants = GrantService(store, unwritten, accepted_roles=frozenset(), clock=utc_now)
        if isinstance(await grants.convert(AccountId(name), by=by), GrantRefusal):
            raise click.ClickException(f"the account `{name}` is not a trial")
        click.echo(f"{name}: converted to paid; assumption is off until an administrator enables it")
        return unwritten.records[-1]

    run_async(take_away(context.config, take))


@account.command()
@click.argument("name", metavar="ACCOUNT")
@attribute_option
@by_option
@click.pass_obj
def change(context: Context, name: str, *, attributes: tuple[tuple[str, str], ...], by: str) -> None:
    """Set or take away attributes of an account; the rules for staff speak of them."""
    refuse_kept_by_app(context.config)
    if not attributes:
        raise click.UsageError("name at least one --attribute")

    async def work() -> None:
        async with open_office(context.config) as office:
            found(await office.store.find_account(AccountId(name)), name)
            after = await office.grants.describe(AccountId(name), lambda before: _with(before, attributes), by=by)
        shown = ", ".join(f"{key}={value}" for key, value in sorted(after))
        click.echo(f"{name}: {shown or 'no attributes'}")

    run_async(work())


@account.command()
@click.argument("name", metavar="ACCOUNT")
@by_option
@click.pass_obj
def suspend(context: Context, name: str, *, by: str) -> None:
    """Refuse all staff in an account, whatever its administrators chose, and cut what is open in it."""
    refuse_kept_by_app(context.config)

    async def take(store: Store) -> Record:
        found(await store.find_account(AccountId(name)), name)
        unwritten = Unwritten()
        grants = GrantService(store, unwritten, accepted_roles=frozenset(), clock=utc_now)
        if not await grants.suspend(AccountId(name), suspended=True, by=by):
            raise click.ClickException(f"the account `{name}` is suspended already")
        click.echo(f"{name}: suspended")
        # Before it there may be what another change overtook, and so never was.
        return unwritten.records[-1]

    run_async(take_away(context.config, take))


@account.command()
@click.argument("name", metavar="ACCOUNT")
@by_option
@click.pass_obj
def resume(context: Context, name: str, *, by: str) -> None:
    """Let the choice of a suspended account's administrators count again."""
    refuse_kept_by_app(context.config)

    async def work() -> None:
        async with open_office(context.config) as office:
            found(await office.store.find_account(AccountId(name)), name)
            if not await office.grants.suspend(AccountId(name), suspended=False, by=by):
                raise click.ClickException(f"the account `{name}` is not suspended")
        click.echo(f"{name}: resumed")

    run_async(work())


def _with(before: Pairs, changes: tuple[tuple[str, str], ...]) -> Pairs:
    return frozenset((name, value) for name, value in {**dict(before), **dict(changes)}.items() if value)
