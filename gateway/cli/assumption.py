"""`locum assumption`: ending one from the operator's side."""

import click

from gateway.audit.record import Record, name_actor
from gateway.cli.context import Context, by_option, open_office, run_async
from gateway.clock import utc_now
from policy.model import AssumptionId


@click.group()
def assumption() -> None:
    """End assumptions."""


@assumption.command()
@click.argument("sid", metavar="SID")
@by_option
@click.pass_obj
def end(context: Context, sid: str, *, by: str) -> None:
    """End one assumption now; its token is worth nothing any more."""

    async def work() -> None:
        async with open_office(context.config) as office:
            found = await office.store.find_assumption(AssumptionId(sid))
            if found is None:
                raise click.ClickException(f"there is no assumption `{sid}`")
            if found.ended_at is not None:
                raise click.ClickException(f"the assumption `{sid}` has ended before")
            record = Record(
                kind="assumption",
                reason="ended",
                assumption=found.id,
                account=found.account,
                subject=found.subject,
                actor=name_actor(found.actor, None),
                grant_id=found.grant_id,
                ticket=found.ticket,
                by=by,
            )
            await office.journal.append(record, durable=True)
            await office.store.end_assumption(found.id, at=utc_now())
        click.echo(f"{sid}: ended")

    run_async(work())
