"""`locum db`: the database's shape, its condition, and the way from the embedded store to a shared one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import click

from gateway.cli.context import Context, run_async
from gateway.config.model import Config
from gateway.stores import opening, snapshot
from gateway.stores.condition import examine
from gateway.stores.postgres.address import Address, parse_url
from gateway.stores.tables import Reading


@click.group()
def db() -> None:
    """Bring the store to this version's shape, check it, or copy it to PostgreSQL."""


@db.command()
@click.pass_obj
def migrate(context: Context) -> None:
    """Bring the store to this version's shape; a gateway's start does it too, unless `store.migrate` is false."""
    config = context.config

    async def work() -> None:
        address = config.store.address
        if address is None:
            # The embedded store is migrated by whoever opens it.
            await (await opening.open_store(config)).close()
            click.echo("ok: the embedded store is of this version's shape")
            return
        with opening.needs_asyncpg():
            from gateway.stores.postgres import moving  # noqa: PLC0415

        taken = await moving.migrate_database(address, config.store.terms)
        click.echo(f"ok: the database is of this version's shape ({taken} steps taken)")

    run_async(work())


@db.command()
@click.pass_obj
def check(context: Context) -> None:
    """Read every row of the store, and say what does not fit together; exit with 1 if anything does not.

    A gateway may run meanwhile.
    """

    async def work() -> bool:
        async with _reading(context.config) as reading:
            condition = await examine(reading)
        for name, count in condition.counts.items():
            click.echo(f"{name}: {count}")
        click.echo(f"position: {condition.position}")
        for fault in condition.faults:
            click.echo(ascii(fault)[1:-1])
        click.echo("ok" if not condition.faults else f"{len(condition.faults)} faults")
        return not condition.faults

    if not run_async(work()):
        raise click.exceptions.Exit(1)


@db.command()
@click.option(
    "--to",
    "url",
    metavar="URL",
    help="The empty database; by default that of `store.url`. A password in it shows in the list of processes.",
)
@click.pass_obj
def copy(context: Context, *, url: str | None) -> None:
    """Copy the embedded store, all of it, into an empty PostgreSQL database.

    Stop every gateway that uses either of the two first. Nothing of the embedded store is changed; when the copy is
    done and compared, set `store.url` and start the gateways again.
    """
    config = context.config
    address = config.store.address if url is None else _address(url)
    if address is None:
        raise click.UsageError("say where to: `store.url` in the configuration, or `--to URL`")

    with opening.needs_asyncpg():
        from gateway.stores.postgres import moving  # noqa: PLC0415

    async def work() -> None:
        with snapshot.take(config.store_path, alone=True) as source:
            position = await moving.copy_into(address, config.store.terms, source, _tell)
        click.echo(f"ok: all copied and compared, at position {position}")

    run_async(work())


def _tell(table: str, count: int) -> None:
    click.echo(f"{table}: {count}")


def _address(url: str) -> Address:
    try:
        return parse_url(url)
    except ValueError as exc:
        raise click.UsageError(f"--to: {exc}") from None


@asynccontextmanager
async def _reading(config: Config) -> AsyncIterator[Reading]:
    address = config.store.address
    if address is None:
        with snapshot.take(config.store_path, alone=False) as taken:
            yield taken
    else:
        with opening.needs_asyncpg():
            from gateway.stores.postgres import moving  # noqa: PLC0415

        async with moving.read_database(address, config.store.terms) as reading:
            yield reading
