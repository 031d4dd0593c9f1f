"""`locum staff`: locking a staff member out, and letting them back in."""

import click

from gateway.audit.record import Record, name_actor
from gateway.cli.context import Context, by_option, open_office, run_async
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
    _set(context, subject, locked=True, by=by)


@staff.command()
@click.argument("subject")
@by_option
@click.pass_obj
def unlock(context: Context, subject: str, *, by: str) -> None:
    """Lift the lock."""
    _set(context, subject, locked=False, by=by)


def _set(context: Context, subject: str, *, locked: bool, by: str) -> None:
    actor = ActorId(issuer=context.config.staff.issuer, subject=subject)
    done = "locked" if locked else "unlocked"

    async def work() -> None:
        async with open_office(context.config) as office:
            if await office.store.find_staff(actor) is None:
                raise click.ClickException(f"`{subject}` was never seen here: check the name")
            record = Record(kind="staff", reason=done, actor=name_actor(actor, None), by=by)
            await office.journal.append(record, durable=True)
            await office.store.disable_staff(actor, disabled=locked)
        click.echo(f"{subject}: {done}")

    run_async(work())
