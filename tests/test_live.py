"""What is open ends when the customer, the vendor or the clock says so, and only then."""

import contextlib
from contextlib import asynccontextmanager

import pytest

from gateway.stores.sqlite import open_sqlite
from policy.grants import convert
from policy.model import AccountType, ActorId
from tests.live_world import AT_ONCE, caught_up, download, holding_world
from tests.patience import within
from tests.upstream_client import eventually


@pytest.fixture
async def world(tmp_path):
    async with holding_world(tmp_path) as world:
        assert 200 == (await world.choose("week", ["read", "write"]))[0]
        yield world


async def test_switching_off_cuts_what_is_open(world):
    """Client and app see the end at once, no byte follows, and the record says why."""
    token = await world.token()
    async with download(world, token) as one, download(world, token) as two:
        assert 2 == len(world.gateway.live)
        assert 200 == (await world.choose("off"))[0]
        assert (b"", b"") == (await one.is_cut(), await two.is_cut())
    await recorded(world, "grant_revoked", 2)
    await eventually(lambda: 0 == len(world.gateway.live))


async def test_a_customer_s_own_download_is_never_cut(world):
    """Ordinary traffic has nothing to do with the setting."""
    async with download(world, None) as own:
        assert 0 == len(world.gateway.live)
        await world.choose("off")
        assert (await own.finishes(world)).endswith(b"last\r\n0\r\n\r\n")


async def test_taking_a_permission_back_cuts_what_needs_it(world):
    """A request that writes ends, one that reads goes on."""
    token = await world.token("tickets:read tickets:write")
    async with download(world, token) as reading, download(world, token, "/tickets/1/hold") as writing:
        _, document = await world.choose("week", ["read"])
        assert "permissions_changed" == document["change"]
        assert b"" == await writing.is_cut()
        # It counts as open until its cut is on the record.
        await eventually(lambda: 1 == len(world.gateway.live))
        assert (await reading.finishes(world)).endswith(b"last\r\n0\r\n\r\n")
    await recorded(world, "permission_not_granted", 1)


@pytest.mark.parametrize(("before", "after", "change"), [("week", "month", "extended"), ("month", "day", "reduced")])
async def test_what_is_still_allowed_goes_on(tmp_path, before, after, change):
    """Neither an extension nor a reduction that leaves time cuts anything."""
    async with holding_world(tmp_path) as world:
        await world.choose(before)
        token = await world.token()
        async with download(world, token) as one:
            assert change == (await world.choose(after))[1]["change"]
            assert 1 == len(world.gateway.live)
            assert (await one.finishes(world)).endswith(b"last\r\n0\r\n\r\n")
            assert [] == world.records(kind="decision", decision="deny")


async def test_another_account_s_change_cuts_nothing(world):
    """Accounts do not know each other."""
    await world.add_account("beta")
    await world.choose("week", account="beta")
    async with download(world, await world.token()) as one:
        await world.choose("off", account="beta")
        assert 1 == len(world.gateway.live)
        assert (await one.finishes(world)).endswith(b"last\r\n0\r\n\r\n")


async def test_an_upload_is_cut(world):
    """The app gets no further byte of it, and no end that would make it look whole."""
    token = await world.token("tickets:read tickets:write")
    async with download(world, token, "/tickets/1/reply", method="POST", body=(1000, b"half")) as one:
        await world.choose("off")
        assert b"" == await one.is_cut()
        [upload] = [request for request in world.upstream.requests if request.method == b"POST"]
        assert b"half" == bytes(upload.body)
        assert not upload.complete.is_set()
    await recorded(world, "grant_revoked", 1)


@asynccontextmanager
async def elsewhere(world):
    """The same store, opened as another process would."""
    store = await open_sqlite(world.directory / "locum.sqlite3")
    try:
        yield store
    finally:
        await store.close()


async def test_conversion_cuts_what_the_trial_had_open(tmp_path):
    """The implicit grant of a trial ends when the customer pays; told by the store alone, by another process."""
    async with holding_world(tmp_path, account=None) as world:
        await world.add_account(kind=AccountType.TRIAL)
        token = await world.token()
        async with download(world, token) as one:
            async with elsewhere(world) as store:
                record = await store.find_account("acme")
                change = convert(record.account, record.grant, now=world.clock.now)
                await store.save_change(change, by="billing", at=world.clock.now)
            assert b"" == await one.is_cut()
        assert 403 == (await world.get(token))[0]
        await recorded(world, "grant_revoked", 2)


@pytest.mark.parametrize("what", ["staff_disabled", "assumption_ended"])
async def test_the_vendor_can_cut_too(world, what):
    """Locking a staff member out, or ending an assumption, ends what is open; told by the store alone."""
    token = await world.token()
    dana = ActorId(issuer=world.issuer.issuer, subject="dana")
    sid = world.records(kind="token", decision="allow")[-1]["assumption"]
    async with download(world, token) as one:
        async with elsewhere(world) as store:
            if what == "staff_disabled":
                assert await store.disable_staff(dana, disabled=True)
            else:
                assert await store.end_assumption(sid, at=world.clock.now)
        assert b"" == await one.is_cut()
    await recorded(world, what, 1)


@pytest.mark.parametrize(("lifetime", "left", "reason"), [(1, 3600, "token_expired"), (900, 1, "token_expired")])
async def test_expiry_cuts_with_the_store_down(tmp_path, lifetime, left, reason):
    """The end of the token, which is never past the grant's, comes by the clock alone."""

    def change(document):
        document["tokens"] = {"lifetime_seconds": lifetime}

    async with holding_world(tmp_path, change=change) as world:
        await world.choose("day")
        world.clock.forward(seconds=86400 - left)
        token = await world.token()
        await caught_up(world)
        async with download(world, token) as one:
            await world.gateway.store.close()
            world.clock.forward(seconds=1)
            # The timer runs on the machine's clock, which is a second behind the one in the test's hands.
            async with within(2 * AT_ONCE):
                with contextlib.suppress(ConnectionError):
                    assert b"" == await one.reader.read()
                await one.app.ended.wait()
        await recorded(world, reason, 1)


async def test_what_has_expired_is_refused_from_warm_facts(world):
    """The grant's end needs no event: a moment before is before, with the store gone and the facts at hand."""
    world.gate.set()
    world.clock.forward(days=7, seconds=-1)
    token = await world.token()
    await caught_up(world)
    assert 200 == (await world.get(token))[0]
    await world.gateway.store.close()
    assert 200 == (await world.get(token))[0]
    world.clock.forward(seconds=1)
    assert 401 == (await world.get(token))[0]


async def test_a_shortened_grant_ends_live_tokens(world):
    """From a year to a day: yesterday's token of a quarter of an hour is worth nothing after the day."""
    world.gate.set()
    await world.choose("always")
    token = await world.token()
    assert "reduced" == (await world.choose("day"))[1]["change"]
    assert 200 == (await world.get(token))[0]
    world.clock.forward(days=1)
    assert 401 == (await world.get(token))[0]
    status, document = await world.ask()
    assert (400, "grant_expired") == (status, document["reason"])


async def recorded(world, reason, count):
    """Assert that the journal holds so many denials for this reason, or cuts, which are written behind the cut."""

    def found():
        return len(world.records(kind="decision", decision="deny", reason=reason) + world.ends(reason=reason))

    await eventually(lambda: found() >= count)
    assert count == found()
