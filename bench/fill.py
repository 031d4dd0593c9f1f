"""Fills a store before a Locum opens it. `python -m bench.fill CONFIG ISSUER GRANTS LIVE TOKENS`.

A million grants through the front door would take an hour, so the rows go into the tables that the store itself has
made, and tokens are signed with the store's own key. Locum cannot tell them from its own.
"""

import asyncio
import sqlite3
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from bench.locum import AUDIENCE_OF, CALLERS, CLIENT, ISSUER, STAFF
from gateway.clock import utc_now
from gateway.config.load import load
from gateway.stores import rows
from gateway.stores.sqlite import open_sqlite
from gateway.tokens.keys import KeyRing, KeyTerms, open_keys
from policy.claims import LONGEST_TOKEN, TOKEN_TYPE, build_token
from policy.model import (
    Account,
    AccountId,
    AccountType,
    ActorId,
    AgentId,
    Assumption,
    AssumptionId,
    ClientId,
    Duration,
    Grant,
    GrantId,
    Permission,
    Staff,
    TokenId,
)
from policy.scopes import parse_scopes

_EPOCH = 1
GROUPS = frozenset({"support"})


async def main(config_file: Path, staff_issuer: str, *, grants: int, live: int, tokens: int) -> None:
    """Make the store with `grants` accounts and grants and `live` assumptions, and `tokens` for the first of them."""
    config = load(config_file)
    now = utc_now().replace(microsecond=0) - timedelta(seconds=1)
    actor = ActorId(issuer=staff_issuer, subject=STAFF)
    store = await open_sqlite(config.store_path)
    try:
        ring = await open_keys(store, KeyTerms(), now=now)
        permissions = frozenset({Permission.READ})
        await store.save_staff(Staff(id=actor, name=STAFF, permissions=permissions, groups=GROUPS), at=now)
    finally:
        await store.close()
    _insert(config.store_path, grants=grants, live=live, actor=actor, now=now)
    lines = _callers(ring, tokens, actor=actor, now=now)
    (config_file.parent / CALLERS).write_text("\n".join(lines), encoding="ascii")


def _insert(path: Path, *, grants: int, live: int, actor: ActorId, now: datetime) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO grants VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", _grants(grants, now))
    connection.executemany(
        "INSERT INTO accounts (id, type, suspended, epoch, attributes, grant_id) VALUES (?, ?, ?, ?, ?, ?)",
        _accounts(grants),
    )
    some = (rows.assumption_row(_assumption(number, actor, now)) for number in range(live))
    connection.executemany(
        f"INSERT INTO assumptions ({rows.ASSUMPTION}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", some
    )
    connection.execute("COMMIT")
    connection.close()


def _grants(count: int, now: datetime) -> Iterator[rows.Row]:
    pattern = Grant(
        id=_grant(0),
        account=_account(0),
        epoch=_EPOCH,
        duration=Duration.DAY,
        permissions=frozenset({Permission.READ}),
        not_before=now,
        expires_at=now + timedelta(days=1),
        given_by="owner",
    )
    rest = rows.grant_row(pattern)[1:]
    return ((_grant(number), _account(number), *rest) for number in range(count))


def _accounts(count: int) -> Iterator[rows.Row]:
    pattern = Account(id=_account(0), type=AccountType.PAID, epoch=_EPOCH)
    rest = rows.account_row(pattern)[1:]
    return ((_account(number), *rest, _grant(number)) for number in range(count))


def _assumption(number: int, actor: ActorId, now: datetime) -> Assumption:
    return Assumption(
        id=AssumptionId(f"as_{number:024x}"),
        account=_account(number),
        subject=AgentId("maria"),
        actor=actor,
        grant_id=_grant(number),
        ticket="SUP-1",
        reason="cannot reproduce",
        scopes=parse_scopes("tickets:read"),
        started_at=now,
        expires_at=now + LONGEST_TOKEN,
    )


def _callers(ring: KeyRing, count: int, *, actor: ActorId, now: datetime) -> Iterator[str]:
    """Return a host and a token of each assumption, as the token endpoint would have answered."""
    for number in range(count):
        host = AUDIENCE_OF.format(account=_account(number))
        claims = build_token(
            _assumption(number, actor, now),
            issuer=ISSUER,
            audience=host,
            client=ClientId(CLIENT),
            token_id=TokenId(f"{number:022x}"),
            grant_epoch=_EPOCH,
            authentication={"amr": ["hwk", "pin"], "acr": "phrh", "auth_time": int(now.timestamp())},
            now=now,
            expires_at=now + timedelta(seconds=900),
        )
        yield f"{host} {ring.signing.sign(claims, type_=TOKEN_TYPE)}"


def _account(number: int) -> AccountId:
    return AccountId(f"a{number:07}")


def _grant(number: int) -> GrantId:
    return GrantId(f"gr_{number:024x}")


if __name__ == "__main__":
    file, issuer, *numbers = sys.argv[1:]
    grants, live, tokens = (int(number) for number in numbers)
    asyncio.run(main(Path(file), issuer, grants=grants, live=live, tokens=tokens))
