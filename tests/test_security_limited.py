"""What a client that is limited to one account can tell of the others from the page "Now": nothing at all."""

import asyncio
import re
from itertools import pairwise

from policy.model import AccountType
from tests.live_world import caught_up
from tests.patience import PATIENCE_SECONDS
from tests.security_world import PATH, open_guard

CHANGED = b"event: changed\ndata: 1\n\n"


async def mark_of(guard):
    """Return what a page says to its stream that it has seen."""
    return re.search(r"seen=([0-9a-f]+)", (await guard.page()).text)[1]


async def stream(guard, seen):
    """Open a page's stream; returns its reader and writer, behind the head."""
    reader, writer = await asyncio.open_connection("127.0.0.1", guard.port)
    head = f"GET {PATH}/live?seen={seen} HTTP/1.1\r\nHost: {guard.host}\r\nConnection: close\r\n"
    writer.write(f"{head}Cookie: {guard.cookie_name}={guard.cookie}\r\n\r\n".encode())
    await reader.readuntil(b"retry: 2000\n\n")
    return reader, writer


async def test_what_changes_elsewhere_is_silent(tmp_path):
    """Neither the page's mark nor its stream tells that anything has happened to another account, or how often."""
    async with open_guard(tmp_path) as guard:
        world = guard.world
        await world.add_account("globex")
        await guard.enter("acmes", "audit", account="acme")
        before = await mark_of(guard)
        own, first = await stream(guard, before)
        assert 200 == (await world.choose("day"))[0]
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert (await own.readuntil(CHANGED)).endswith(CHANGED), "what happens to their own is told"
        seen = await mark_of(guard)
        assert before != seen

        await world.choose("day", account="globex")
        await world.token(account="globex")
        await world.add_account("tria", AccountType.TRIAL)
        await caught_up(world)

        assert seen == await mark_of(guard)
        # The first look of a stream is at once. Of one that comes behind this one it is seen, for it may tell of it.
        others, second = await stream(guard, seen)
        everything, third = await stream(await guard.another().enter("boss", "operate"), "0")
        async with asyncio.timeout(PATIENCE_SECONDS):
            await everything.readuntil(CHANGED)
        await world.gateway.close_doors()
        assert b"changed" not in await others.read()
        for writer in (first, second, third):
            writer.close()
            await writer.wait_closed()


async def test_whatever_the_page_shows_of_the_account_changes_the_mark(tmp_path):
    """After each step it is another one, and nobody who is limited is told the store's position."""
    async with open_guard(tmp_path) as guard:
        world = guard.world
        await guard.enter("acmes", "audit", account="acme")
        boss = await guard.another().enter("boss", "operate")
        steps = [
            lambda: world.choose("day"),
            lambda: world.choose("day", ("read", "write")),
            world.token,
            lambda: world.choose("off"),
            lambda: boss.do("kill-switch", set="on", reason="incident 7", confirm="yes"),
        ]
        marks = [await mark_of(guard)]
        for step in steps:
            await step()
            await caught_up(world)
            marks.append(await mark_of(guard))
        assert all(earlier != later for earlier, later in pairwise(marks)), marks
        assert {32} == {len(mark) for mark in marks}
