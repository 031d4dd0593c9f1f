"""`locum staff`: locking a staff member out, and letting them back in."""

import click

from gateway.audit.record import Record, name_actor
from gateway.cli.context import Context, by_option, open_office, run_async
from gateway.cli.taking import take_away
from gateway.stores.store import Store
from policy.model import ActorId


@click.group()
def staff() -> None:
    """Lock staff members out, or let them back in."""


@staff.command()
@click.argument("subject")
@by_option
@click.pass_obj
def lock(context: Context, subject: str, *, by: str) -> None:
    """Refuse a staff member from now on, in every account; SUBJECT is the `sub` of their tokens."""
    actor = ActorId(issuer=context.config.staff.issuer, subject=subject)

    async def take(store: Store) -> Record:
        if not await store.disable_staff(actor, disabled=True):
            raise _never_seen(subject)
        click.echo(f"{subject}: locked")
        return Record(kind="staff", reason="locked", actor=name_actor(actor, None), by=by)

    run_async(take_away(context.config, take))


@staff.command()
@click.argument("subject")
@by_option
@click.pass_obj
def unlock(context: Context, subject: str, *, by: str) -> None:
    """Lift the lock."""
    actor = ActorId(issuer=context.config.staff.issuer, subject=subject)

    async def work() -> None:
        async with open_office(context.config) as office:
            if await office.store.find_staff(actor) is None:
                raise _never_seen(subject)
            record = Record(kind="staff", reason="unlocked", actor=name_actor(actor, None), by=by)
            await office.journal.append(record, durable=True)
            await office.store.disable_staff(actor, disabled=False)
        click.echo(f"{subject}: unlocked")

    run_async(work())


def _never_seen(subject: str) -> click.ClickException:
    return click.ClickException(f"`{subject}` was never seen here: check the name")
