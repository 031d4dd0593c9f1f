"""When something breaks, staff are kept out and customers notice nothing; and it mends by itself."""

import asyncio
import contextlib
import resource
import sqlite3

import pytest

from gateway.demo.issuer import Fault
from tests.attack_world import open_attack, request
from tests.live_world import caught_up
from tests.patience import PATIENCE_SECONDS, unless_it_stalls
from tests.rawwire import RecordingUpstream, hold, response, then_close, then_reset
from tests.test_metrics import scrape

# --- ourselves ---


async def expect_only_customers(attacker, reason):
    """Staff are refused with `reason` and told when to come back; a customer is served at once."""
    outcome = await attacker.refused(request(attacker.token))
    assert (503, reason, []) == (outcome.status, outcome.reason, outcome.heard)
    assert ("1", "no-store") == (outcome.headers["retry-after"], outcome.headers["cache-control"])
    assert (200, None, 1, []) == (await attacker.send(request(method="POST", body=b"hello"))).verdict


async def expect_everybody(attacker):
    assert (200, None, 1) == (await attacker.send(request(attacker.token))).verdict[:3]
    assert (200, None, 1) == (await attacker.send(request())).verdict[:3]


@pytest.fixture
async def attacker(tmp_path):
    async with open_attack(tmp_path) as attacker:
        await caught_up(attacker.world)
        await expect_everybody(attacker)
        yield attacker


async def test_a_closed_store_keeps_staff_out_as_soon_as_facts_are_old(attacker):
    """What was known counts for two seconds and is not renewed by being used; then nobody is let in any more."""
    await attacker.world.gateway.store.close()
    for _ in range(3):
        attacker.world.clock.forward(seconds=0.6)
        await expect_everybody(attacker)
    attacker.world.clock.forward(seconds=0.3)
    await expect_only_customers(attacker, "store_unavailable")
    assert (503, "store_unavailable") == _told(await attacker.world.ask(scope="tickets:read"))
    assert 503 == (await attacker.world.choose("year"))[0]


@pytest.mark.parametrize("table", ["accounts", "assumptions", "staff"])
async def test_a_damaged_store_keeps_staff_out_until_it_is_mended(attacker, table):
    """A table is gone, and comes back: nobody has to restart anything."""
    with contextlib.closing(sqlite3.connect(attacker.world.directory / "locum.sqlite3", isolation_level=None)) as other:
        other.execute("PRAGMA legacy_alter_table = ON")
        other.execute(f"ALTER TABLE {table} RENAME TO gone")
        attacker.world.clock.forward(seconds=3)
        await expect_only_customers(attacker, "store_unavailable")
        other.execute(f"ALTER TABLE gone RENAME TO {table}")
    attacker.world.clock.forward(seconds=3)
    await expect_everybody(attacker)


async def test_rows_without_a_meaning_are_no_permission(attacker):
    """What another version or hand wrote into the store is refused, not guessed at."""
    with contextlib.closing(sqlite3.connect(attacker.world.directory / "locum.sqlite3", isolation_level=None)) as other:
        other.execute("PRAGMA ignore_check_constraints = ON")
        other.execute("UPDATE grants SET permissions = 'everything'")
    attacker.world.clock.forward(seconds=3)
    await expect_only_customers(attacker, "store_unavailable")


@contextlib.contextmanager
def full_disk():
    """No file of this process can grow, as on a disk without room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_keeps_staff_out_until_there_is_room(attacker):
    """What cannot be recorded does not happen: no request, no token, no change; then it goes on, with a mark."""
    world = attacker.world
    before = (await scrape(world)).value("locum_journal_failures_total")
    with full_disk():
        await expect_only_customers(attacker, "journal_unavailable")
        # Refusals too need their record, and are refusals without it.
        for raw in (
            request(attacker.token, b"X-Locum-A: b"),
            request(attacker.token + "x"),
            request(attacker.token, target="/no"),
        ):
            outcome = await attacker.refused(raw)
            assert (503, "journal_unavailable", []) == (outcome.status, outcome.reason, outcome.heard)
        assert (503, "journal_unavailable") == _told(await world.ask(scope="tickets:read"))
        assert (503, "journal_unavailable") == _told(await world.choose("year"))
    assert before < (await scrape(world)).value("locum_journal_failures_total"), "so that somebody is woken"
    world.clock.forward(seconds=1)
    await expect_everybody(attacker)
    assert 1 == len(world.records(kind="journal", reason="recovered"))


async def test_a_closed_journal_keeps_staff_out(attacker):
    """There is no way on without a record."""
    await attacker.world.gateway.journal.close()
    await expect_only_customers(attacker, "journal_unavailable")


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.ABORTING, Fault.GARBAGE, Fault.FOREIGN])
async def test_an_issuer_that_fails_means_no_token_until_it_is_back(tmp_path, fault):
    """Without the issuer's keys nobody can show who they are; whoever has a token goes on, and so do customers."""
    async with open_attack(tmp_path) as attacker:
        world = attacker.world
        world.issuer.rotate(overlap=False)
        world.issuer.down(fault)
        world.clock.forward(seconds=61)
        assert (400, "token_invalid") == _told(await world.ask(scope="tickets:read"))
        await expect_everybody(attacker)
        world.issuer.up()
        world.clock.forward(seconds=61)
        assert 200 == (await world.ask(scope="tickets:read"))[0]


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.ABORTING, Fault.GARBAGE, Fault.FOREIGN])
async def test_an_issuer_that_was_never_there_is_said_to_be_away(tmp_path, fault):
    """The caller learns that it is not their token, and when to come back."""
    async with open_attack(tmp_path, token=False) as attacker:
        world = attacker.world
        world.issuer.down(fault)
        assert (503, "issuer_unavailable") == _told(await world.ask(scope="tickets:read"))
        assert ["issuer_unavailable"] == [record.get("reason") for record in world.records(kind="token")]
        world.issuer.up()
        assert 200 == (await world.ask(scope="tickets:read"))[0]


def _told(answer):
    status, document = answer
    return status, document["reason"]


# --- the app ---

BROKEN = {
    "garbage": (b"SSH-2.0-x\r\n", 502),
    "silence": (hold(asyncio.Event()), 504),
    "half": (then_close(b"HTTP/1.1 200 OK\r\nContent-"), 502),
    "nothing": (then_close(b""), 502),
    "reset": (then_reset(b"HTTP/1.1 2"), 502),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!", 502),
}


@pytest.mark.parametrize("how", BROKEN)
@unless_it_stalls
async def test_an_app_that_fails_is_nobodys_way_in(tmp_path, how):
    """Staff and customers are told that the app failed, and not where it is; the next request is a new one."""
    answer, status = BROKEN[how]

    def script(seen):
        return answer if b"broken" in seen.target else response()

    def change(document):
        document["upstream"]["response_timeout_seconds"] = 0.2

    async with open_attack(tmp_path, script=script, change=change) as attacker:
        for token in (attacker.token, None):
            outcome = await attacker.refused(request(token, target="/tickets/1?broken"))
            assert (status, "application/problem+json") == (outcome.status, outcome.headers["content-type"])
            assert str(attacker.world.upstream.port).encode() not in outcome.answer
        await expect_everybody(attacker)


async def test_an_app_that_is_down_is_found_again(tmp_path):
    """Nobody can connect, then everybody can."""
    path = str(tmp_path / "app.sock")

    def change(document):
        document["upstream"] |= {"url": f"unix:{path}", "profile": "demo-helpdesk"}

    async with contextlib.AsyncExitStack() as stack:
        async with RecordingUpstream(unix_path=path):
            attacker = await stack.enter_async_context(open_attack(tmp_path, change=change))
        for token in (attacker.token, None):
            outcome = await attacker.refused(request(token))
            assert (502, False) == (outcome.status, path.encode() in outcome.answer)
        assert (503, "app_unavailable") == _told(await attacker.world.ask(scope="tickets:read"))
        async with RecordingUpstream(unix_path=path) as back, asyncio.timeout(PATIENCE_SECONDS):
            # For a moment after a failure nobody tries to connect; then it is found without anybody's help.
            while 200 != (await attacker.send(request())).status:
                pass
            assert 200 == (await attacker.send(request(attacker.token))).status
            assert 2 == len(back.requests)
