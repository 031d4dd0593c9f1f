"""`locum client`: the programs that may call our APIs."""

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import click

from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Record
from gateway.cli.context import Context, by_option, run_async
from gateway.cli.office import open_office, open_store
from gateway.clients import AUDIT_ROLE, DEVICE_ROLE, OPERATE_ROLE, ROLES, digest_of, is_public, new_secret
from gateway.config.model import ConfigError
from gateway.stores.store import Client, Store, StoreError
from gateway.tokens.client_keys import read_client_jwks
from gateway.tokens.signing import KeyRefused
from policy.model import AccountId, ClientId

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_MOST_JWKS_BYTES = 64 * 1024
_BY = {"secret": "a secret", "nothing": "public, without a secret"}


@click.group()
def client() -> None:
    """Add API clients, list them, or remove one."""


@client.command()
@click.argument("name", metavar="CLIENT")
@click.option("--role", "roles", type=click.Choice(ROLES), multiple=True, required=True, help="May be given twice.")
@click.option(
    "--jwks",
    "keys",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="It authenticates with these public keys (private_key_jwt), and has no secret.",
)
@click.option("--dpop", is_flag=True, help="Its tokens are for the holder of a key only (RFC 9449).")
@click.option(
    "--public",
    is_flag=True,
    help="It has no secret at all, as a program on other people's machines; goes with the role device.",
)
@click.option("--account", metavar="ACCOUNT", help="With --role audit: it reads this account's records only.")
@by_option
@click.pass_obj
def add(
    context: Context,
    name: str,
    *,
    roles: tuple[str, ...],
    keys: Path | None,
    dpop: bool,
    public: bool,
    account: str | None,
    by: str,
) -> None:
    """Add a client and print its secret, this once; what is stored of it cannot be turned back."""
    if _NAME.fullmatch(name) is None:
        raise click.UsageError("name a client with letters, digits, `.`, `_` and `-`")
    if account is not None and not account.strip():
        raise click.UsageError("--account needs the id of an account: without it, leave the option out")
    if account is not None and (AUDIT_ROLE not in roles or OPERATE_ROLE in roles):
        raise click.UsageError("--account goes with --role audit alone: it says whose records the client may read")
    if keys is not None and {"grants", "kill_switch", AUDIT_ROLE, OPERATE_ROLE} & set(roles):
        raise click.UsageError("the admin listener knows secrets only: add a client of its own for it, without --jwks")
    if public != (DEVICE_ROLE in roles) or (public and (keys is not None or set(roles) != {DEVICE_ROLE})):
        raise click.UsageError("--public goes with --role device and no other, and with no keys")
    secret = new_secret() if keys is None and not public else None
    entry = Client(
        id=ClientId(name),
        secret_digest=b"" if secret is None else digest_of(secret),
        roles=frozenset(roles),
        jwks=None if keys is None else _read_keys(keys),
        dpop=dpop,
        account=None if account is None else AccountId(account),
    )

    async def work() -> None:
        async with open_office(context.config) as office:
            if await office.store.find_client(entry.id) is not None:
                raise click.ClickException(f"the client `{name}` is there already")
            await office.journal.append(Record(kind="client", reason="added", client_id=entry.id, by=by), durable=True)
            await office.store.add_client(entry)

    run_async(work())
    if secret is not None:
        click.echo(secret)
    else:
        click.echo(f"{name}: added, {'without a secret' if public else f'with the keys of {keys}'}")


@client.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_obj
def list_clients(context: Context, *, as_json: bool) -> None:
    """Show each client: its roles, and by what it authenticates."""

    async def work() -> Sequence[Client]:
        async with open_store(context.config) as store:
            return await store.list_clients()

    for one in run_async(work()):
        roles, keys = [role for role in ROLES if role in one.roles], _key_ids(one)
        by = "nothing" if is_public(one) else "secret" if keys is None else "keys"
        if as_json:
            told = {"id": one.id, "roles": roles, "by": by, "keys": keys, "dpop": one.dpop, "account": one.account}
            click.echo(json.dumps(told))
        else:
            words = f"{by} {' '.join(key or '(unnamed)' for key in keys)}" if keys else _BY[by]
            only = f"; {one.account} only" if one.account is not None else ""
            click.echo(f"{one.id}: {' '.join(roles)}; {words}{'; DPoP only' if one.dpop else ''}{only}")


@client.command()
@click.argument("name", metavar="CLIENT")
@by_option
@click.pass_obj
def remove(context: Context, name: str, *, by: str) -> None:
    """Refuse a client from its next request on; what staff have begun through it goes on until it ends."""
    id_, config = ClientId(name), context.config

    async def work() -> None:
        async with open_office(config) as office:
            await _remove(office.store, id_, partial(_record, office.journal, id_, by))

    async def work_unrecorded() -> None:
        async with open_store(config) as store:
            await _remove(store, id_, _not_recorded)

    try:
        run_async(work())
    except (JournalError, ConfigError, OSError) as exc:
        # Taking power away does not wait for a record that cannot be written.
        run_async(work_unrecorded())
        raise click.ClickException(f"this is done (client: removed), but not on the record: {exc}") from exc
    click.echo(f"{name}: removed")


async def _remove(store: Store, client: ClientId, record: Callable[[str], Awaitable[None]]) -> None:
    """Remove a client, on the record first."""
    if await store.find_client(client) is None:
        raise click.ClickException(f"there is no client `{client}`: `locum client list` shows all")
    await record("removed")
    try:
        await store.remove_client(client)
    except StoreError:
        # Whoever reads the record of it must not take it for done.
        await record("failed")
        raise


async def _record(journal: AuditLog, client: ClientId, by: str, reason: str) -> None:
    await journal.append(Record(kind="client", reason=reason, client_id=client, by=by), durable=True)


async def _not_recorded(_reason: str) -> None:
    """The journal cannot be written."""


def _key_ids(client: Client) -> list[str | None] | None:
    """Return the ids of a client's keys; None if it has a secret, or nothing."""
    return None if client.jwks is None else [key.get("kid") for key in json.loads(client.jwks)["keys"]]


def _read_keys(path: Path) -> str:
    content = path.read_bytes()
    if len(content) > _MOST_JWKS_BYTES:
        raise click.ClickException(f"{path}: longer than {_MOST_JWKS_BYTES} bytes")
    try:
        return read_client_jwks(content.decode("utf-8"))
    except (UnicodeDecodeError, KeyRefused) as exc:
        raise click.ClickException(f"{path}: not a JWK set of public keys: {exc}") from exc
