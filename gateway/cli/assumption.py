"""`locum assumption`: ending one from the operator's side."""

import click

from gateway.audit.record import Record, record_end
from gateway.cli.context import Context, by_option, run_async
from gateway.cli.taking import take_away
from gateway.clock import utc_now
from gateway.stores.store import Store
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

    async def take(store: Store) -> Record:
        found = await store.find_assumption(AssumptionId(sid))
        if found is None:
            raise click.ClickException(f"there is no assumption `{sid}`")
        if not await store.end_assumption(found.id, at=utc_now()):
            raise click.ClickException(f"the assumption `{sid}` has ended before")
        click.echo(f"{sid}: ended")
        return record_end(found, by=by)

    run_async(take_away(context.config, take))
