"""A program for crash tests: changes one account's grant without end and prints each epoch that was acknowledged."""

import asyncio
import sys
from pathlib import Path

from gateway.clock import utc_now
from gateway.stores.sqlite import open_sqlite
from policy.grants import Administrator, choose
from policy.model import Duration, GrantId, Permission
from tests.store_examples import ACME

ADMINISTRATOR = Administrator(id="admin-7", roles={"support": "admin"})
ROLES = frozenset({"admin"})


async def write_without_end(path: Path) -> None:
    store = await open_sqlite(path)
    await store.add_account(ACME)
    while True:
        now = utc_now()
        record = await store.find_account(ACME.id)
        change = choose(
            record.account,
            record.grant,
            duration=Duration.OFF if record.account.epoch % 3 == 2 else Duration.DAY,
            permissions=frozenset({Permission.READ}),
            administrator=ADMINISTRATOR,
            accepted_roles=ROLES,
            new_id=GrantId(f"g{record.account.epoch}"),
            now=now,
        )
        await store.save_change(change, by=ADMINISTRATOR.id, at=now)
        print(change.account.epoch, flush=True)  # noqa: T201 - read by the test


if __name__ == "__main__":
    asyncio.run(write_without_end(Path(sys.argv[1])))
