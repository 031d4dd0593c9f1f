"""`locum grant`: what an account allows, for installations where the operator records it."""

from collections.abc import Sequence

import click

from gateway.audit.record import Record
from gateway.audit.search import printable
from gateway.cli.context import Context, run_async
from gateway.cli.office import open_office, open_store
from gateway.cli.show import describe_account, found, refuse_kept_by_app
from gateway.cli.taking import Unwritten, take_away
from gateway.clock import utc_now
from gateway.config.model import Config
from gateway.grants.service import ChangeRequest, GrantService
from gateway.stores.store import AccountRecord, Store
from policy.asking import GrantRequest
from policy.grants import Administrator, GrantChange, GrantRefusal
from policy.model import AccountId, Duration, Permission

_REFUSED = {
    GrantRefusal.NOT_ADMINISTRATOR: "only an administrator may change this: see --role and grants.administrator_roles",
    GrantRefusal.TRIAL_ACCOUNT: "a trial account is always assumable and has no setting until it is converted",
}


@click.group()
def grant() -> None:
    """Show and set what an account allows."""


@grant.command()
@click.argument("name", metavar="ACCOUNT")
@click.option("--history", is_flag=True, help="Every change, newest first.")
@click.pass_obj
def show(context: Context, name: str, *, history: bool) -> None:
    """Show an account's setting."""

    async def work() -> None:
        async with open_store(context.config) as store:
            record = found(await store.find_account(AccountId(name)), name)
            events = await store.list_changes(AccountId(name)) if history else ()
        click.echo(describe_account(record, now=utc_now()))
        if context.config.grants.kept_by_app:
            click.echo("  as the app said when it was asked last: it keeps this setting")
        for event in events:
            duration = event.grant.duration if event.grant else "-"
            click.echo(f"  {event.at:%Y-%m-%d %H:%M:%S} UTC  {event.change}  {duration}  by {printable(event.by)}")

    run_async(work())


@grant.command()
@click.argument("name", metavar="ACCOUNT")
@click.pass_obj
def requests(context: Context, name: str) -> None:
    """List what staff ask an account for and its administrators have not answered yet, oldest first."""

    async def work() -> Sequence[GrantRequest]:
        async with open_store(context.config) as store:
            found(await store.find_account(AccountId(name)), name)
            return await store.list_waiting(AccountId(name), at=utc_now())

    for asked in run_async(work()):
        permissions = " ".join(sorted(asked.permissions))
        click.echo(
            f"{asked.id}  {printable(asked.name)} ({printable(asked.actor.subject)}): {permissions}, {asked.duration};"
            f" ticket {printable(asked.ticket) or '-'}; waits until {asked.expires_at:%Y-%m-%d %H:%M:%S} UTC;"
            f" {printable(asked.reason) or '-'}"
        )


@grant.command(name="set")
@click.argument("name", metavar="ACCOUNT")
@click.argument("duration", type=click.Choice([each.value for each in Duration]))
@click.option("--allow", default="read", show_default=True, help="Permissions, with commas: read,test_tickets,write.")
@click.option("--as", "who", required=True, metavar="ADMIN", help="The administrator who made the choice.")
@click.option("--role", default="admin", show_default=True, help="Their role in a product of the account.")
@click.pass_obj
def set_(context: Context, name: str, duration: str, *, allow: str, who: str, role: str) -> None:
    """Record an administrator's choice; a running gateway acts on it at once."""
    refuse_kept_by_app(context.config)
    unknown = sorted(set(allow.split(",")) - set(Permission))
    if unknown:
        raise click.UsageError(f"`{unknown[0]}` is no permission: use {', '.join(Permission)}")
    request = ChangeRequest(
        account=AccountId(name),
        duration=Duration(duration),
        permissions=frozenset(Permission(item) for item in allow.split(",")),
        administrator=Administrator(id=who, roles={"account": role}),
    )

    async def work() -> GrantChange | GrantRefusal:
        if request.duration is Duration.OFF:
            return await _end(context.config, request)
        async with open_office(context.config) as office:
            found(await office.store.find_account(request.account), name)
            return await office.grants.choose(request)

    outcome = run_async(work())
    if isinstance(outcome, GrantRefusal):
        raise click.ClickException(_REFUSED.get(outcome, str(outcome)))
    record = AccountRecord(account=outcome.account, grant=outcome.grant)
    click.echo(f"{outcome.change}; {describe_account(record, now=utc_now())}")


async def _end(config: Config, request: ChangeRequest) -> GrantChange | GrantRefusal:
    """Turn assumption off, also where that cannot be recorded, which is said then."""
    outcomes: list[GrantChange | GrantRefusal] = []

    async def take(store: Store) -> Record:
        found(await store.find_account(request.account), request.account)
        unwritten = Unwritten()
        roles = frozenset(config.grants.administrator_roles)
        outcomes.append(await GrantService(store, unwritten, accepted_roles=roles, clock=utc_now).choose(request))
        # Before it there may be what another change overtook, and so never was.
        return unwritten.records[-1]

    await take_away(config, take)
    return outcomes[-1]
