"""A gateway to exchange tokens at, and requests for them made by hand."""

import json
import sqlite3
from contextlib import asynccontextmanager

from gateway.clients import digest_of
from gateway.stores.store import Client
from policy.model import AccountType, ClientId
from tests.gateway_world import AGENT_TYPE, HOST, ID_TOKEN, open_world, parse

TOKEN_URL = "/.locum/oauth/token"


@asynccontextmanager
async def open_endpoint(directory):
    """A gateway with an account of each kind, and two clients beside the usual one."""
    async with open_world(directory) as world:
        for account in ("closed", "other"):
            await world.add_account(account)
        await world.add_account("locked", suspended=True)
        await world.add_account("newcomer", kind=AccountType.TRIAL)
        assert 200 == (await world.choose("week", ["read", "test_tickets"]))[0]
        assert 200 == (await world.choose("week", account="other"))[0]
        assert 200 == (await world.choose("week", account="locked"))[0]
        for name, secret, roles in (
            ("reader", "plain", {"grants"}),
            ("odd name", "p:ss word+%", {"token"}),
        ):
            await world.gateway.store.add_client(
                Client(id=ClientId(name), secret_digest=digest_of(secret), roles=frozenset(roles))
            )
        yield world


def issued(world):
    """Count the assumptions that the store holds, past the gateway."""
    with sqlite3.connect(world.directory / "locum.sqlite3") as database:
        [count] = database.execute("SELECT count(*) FROM assumptions").fetchone()
    database.close()
    return count


async def post(world, body, *, method="POST", target=TOKEN_URL, headers=(), kind="application/x-www-form-urlencoded"):
    """Send a request by hand; return (status, headers, document)."""
    body = body if isinstance(body, bytes) else body.encode()
    lines = [f"{method} {target} HTTP/1.1", f"Host: {HOST}", "Connection: close", f"Content-Length: {len(body)}"]
    lines += [f"Content-Type: {kind}"] if kind else []
    lines += list(headers) or [f"Authorization: {world.basic()}"]
    status, found, content = parse(await world.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + body))
    return status, found, json.loads(content) if "json" in found.get("content-type", "") else content


def form(world, **changes):
    """Return the fields of a flawless request; None drops one."""
    details = [{"type": "account_assumption", "account": "acme", "ticket": "SUP-1", "reason": "cannot reproduce"}]
    fields = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": "maria",
        "subject_token_type": AGENT_TYPE,
        "actor_token": world.actor_token(),
        "actor_token_type": ID_TOKEN,
        "audience": HOST,
        "authorization_details": json.dumps(details),
    } | changes
    return {name: value for name, value in fields.items() if value is not None}
