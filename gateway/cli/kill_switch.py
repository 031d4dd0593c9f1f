"""`locum kill-switch`: stopping all assumption at once, whatever any account allows."""

import click

from gateway.audit.record import Record
from gateway.cli.context import Context, by_option, open_office, open_store, run_async
from gateway.cli.taking import take_away
from gateway.clock import utc_now
from gateway.stores.store import KillSwitch, Store, StoreError


@click.group(name="kill-switch")
def kill_switch() -> None:
    """Stop all assumption in every account and on every node, or let it go on."""


@kill_switch.command()
@click.option("--reason", required=True, metavar="TEXT", help="Why, for the record and for whoever finds it on.")
@by_option
@click.pass_obj
def on(context: Context, *, reason: str, by: str) -> None:
    """Refuse all staff from now on, and cut everything that they have open; customers do not notice."""

    async def take(store: Store) -> Record:
        await store.set_kill_switch(KillSwitch(on=True, by=by, reason=reason, at=utc_now()))
        click.echo("kill-switch: on")
        return _record("on", by, reason)

    run_async(take_away(context.config, take))


@kill_switch.command()
@click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")
@by_option
@click.pass_obj
def off(context: Context, *, reason: str, by: str) -> None:
    """Let in again whom the accounts let in; each needs a token that is still good, or a new one."""

    async def work() -> None:
        async with open_office(context.config) as office:
            if not (await office.store.find_kill_switch()).on:
                raise click.ClickException("the kill-switch is off already")
            await office.journal.append(_record("off", by, reason), durable=True)
            try:
                await office.store.set_kill_switch(KillSwitch(on=False, by=by, reason=reason, at=utc_now()))
            except StoreError:
                # Whoever reads the record of it must not take it for done.
                await office.journal.append(_record("off_failed", by, reason), durable=True)
                raise
        click.echo("kill-switch: off")

    run_async(work())


@kill_switch.command()
@click.pass_obj
def status(context: Context) -> None:
    """Show whether it is on, since when, by whom and why."""

    async def work() -> KillSwitch:
        async with open_store(context.config) as store:
            return await store.find_kill_switch()

    click.echo(describe(run_async(work())))


def describe(switch: KillSwitch) -> str:
    """Return one line on it."""
    since = f" since {switch.at:%Y-%m-%d %H:%M:%S} UTC, by {switch.by}" if switch.at else ""
    return f"kill-switch: {'on' if switch.on else 'off'}{since}{f': {switch.reason}' if switch.reason else ''}"


def _record(done: str, by: str, reason: str) -> Record:
    return Record(kind="kill_switch", reason=done, by=by, stated_reason=reason or None)
