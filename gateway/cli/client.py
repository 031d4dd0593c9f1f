"""`locum client`: the programs that may call our APIs."""

import re

import click

from gateway.audit.record import Record
from gateway.cli.context import Context, by_option, open_office, run_async
from gateway.clients import ROLES, digest_of, new_secret
from gateway.stores.store import Client
from policy.model import ClientId

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


@click.group()
def client() -> None:
    """Add API clients."""


@client.command()
@click.argument("name", metavar="CLIENT")
@click.option("--role", "roles", type=click.Choice(ROLES), multiple=True, required=True, help="May be given twice.")
@by_option
@click.pass_obj
def add(context: Context, name: str, *, roles: tuple[str, ...], by: str) -> None:
    """Add a client and print its secret, this once; what is stored of it cannot be turned back."""
    if _NAME.fullmatch(name) is None:
        raise click.UsageError("name a client with letters, digits, `.`, `_` and `-`")
    secret = new_secret()

    async def work() -> None:
        async with open_office(context.config) as office:
            if await office.store.find_client(ClientId(name)) is not None:
                raise click.ClickException(f"the client `{name}` is there already")
            entry = Client(id=ClientId(name), secret_digest=digest_of(secret), roles=frozenset(roles))
            await office.journal.append(Record(kind="client", reason="added", client_id=entry.id, by=by), durable=True)
            await office.store.add_client(entry)

    run_async(work())
    click.echo(secret)
