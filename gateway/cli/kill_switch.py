"""`locum kill-switch`: stopping all assumption at once, whatever any account allows."""

import click

from gateway.audit.record import Record
from gateway.audit.search import printable
from gateway.cli.context import Context, by_option, run_async
from gateway.cli.office import open_office, open_store
from gateway.cli.taking import take_away
from gateway.clock import utc_now
from gateway.grants.switch import Overtaken, Switch, record_switch
from gateway.stores.store import KillSwitch, Store


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
        return record_switch("on", by=by, reason=reason)

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
            try:
                await Switch(office.store, office.journal, clock=utc_now).turn_off(by=by, reason=reason)
            except Overtaken as exc:
                raise click.ClickException(
                    "somebody has set the kill-switch meanwhile: look at it with `locum kill-switch status`"
                ) from exc
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
    """Return one line on it, in which nothing can steer a terminal."""
    since = f" since {switch.at:%Y-%m-%d %H:%M:%S} UTC, by {switch.by}" if switch.at else ""
    line = f"kill-switch: {'on' if switch.on else 'off'}{since}{f': {switch.reason}' if switch.reason else ''}"
    return printable(line)
