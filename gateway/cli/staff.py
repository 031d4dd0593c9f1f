"""`locum staff`: locking a staff member out, and letting them back in."""

import click

from gateway.audit.record import Record, name_actor
from gateway.cli.context import Context, by_option, run_async
from gateway.cli.office import open_office
from gateway.cli.taking import take_away
from gateway.clock import utc_now
from gateway.staff.unseen import lock_unseen
from gateway.stores.store import Store
from policy.model import ActorId


@click.group()
def staff() -> None:
    """Lock staff members out, or let them back in."""


_console_option = click.option(
    "--console",
    is_flag=True,
    help="SUBJECT is of the identity provider of the security team's console, if that has another one than staff.",
)


@staff.command()
@click.argument("subject")
@_console_option
@click.option(
    "--unseen", is_flag=True, help="Also somebody who was never seen as staff, such as who only reads the log."
)
@by_option
@click.pass_obj
def lock(context: Context, subject: str, *, console: bool, unseen: bool, by: str) -> None:
    """Refuse somebody from now on, in every account and the console; SUBJECT is the `sub` of their tokens."""
    actor = _actor(context, subject, console=console)

    async def take(store: Store) -> Record:
        if not await store.disable_staff(actor, disabled=True):
            if not unseen:
                raise _never_seen(subject, ", or give --unseen")
            await lock_unseen(store, actor, at=utc_now())
        click.echo(f"{subject}: locked")
        return Record(kind="staff", reason="locked", actor=name_actor(actor, None), by=by)

    run_async(take_away(context.config, take))


@staff.command()
@click.argument("subject")
@_console_option
@by_option
@click.pass_obj
def unlock(context: Context, subject: str, *, console: bool, by: str) -> None:
    """Lift the lock."""
    actor = _actor(context, subject, console=console)

    async def work() -> None:
        async with open_office(context.config) as office:
            if await office.store.find_staff(actor) is None:
                raise _never_seen(subject)
            record = Record(kind="staff", reason="unlocked", actor=name_actor(actor, None), by=by)
            await office.journal.append(record, durable=True)
            await office.store.disable_staff(actor, disabled=False)
        click.echo(f"{subject}: unlocked")

    run_async(work())


def _actor(context: Context, subject: str, *, console: bool) -> ActorId:
    config = context.config
    section = config.console.security
    issuer = section.sign_in.issuer if console and section is not None and section.sign_in is not None else ""
    return ActorId(issuer=issuer or config.staff.issuer, subject=subject)


def _never_seen(subject: str, otherwise: str = "") -> click.ClickException:
    return click.ClickException(f"`{subject}` was never seen here: check the name{otherwise}")
