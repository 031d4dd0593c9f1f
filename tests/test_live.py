"""What is open ends when the customer, the vendor or the clock says so, and only then."""

import asyncio
import contextlib
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import jwt
import pytest

from gateway.config.model import Accounts, Identity
from gateway.counts import Counts
from gateway.grants.facts import FactCache
from gateway.profiles import load_profile
from gateway.proxy.assumed import AssumedTraffic
from gateway.proxy.identity import Assertions
from gateway.proxy.live import Live
from gateway.proxy.names import Names
from gateway.proxy.triage import AccountReader, Credential
from gateway.proxy.wire import RequestHead, ResponseHead
from gateway.stores.sqlite import open_sqlite
from gateway.tasks import Tasks
from gateway.tokens.signing import TokenVerifier
from policy.grants import convert
from policy.model import AccountType, ActorId, Permission
from tests.fact_scene import Scene, grant_of, turns
from tests.forgery import ISSUER, KEY, NOON, PRIVATE, Forger
from tests.gateway_world import HOST, open_world
from tests.journals import Ticks
from tests.memory_store import MemoryStore
from tests.rawwire import response

AT_ONCE = 1.0
"""Seconds within which what is open is cut: the promise is one."""
FIRST = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
LAST = b"4\r\nlast\r\n0\r\n\r\n"


class Open:
    """One request that is half way: the app has sent a first piece and holds the rest."""

    def __init__(self, reader, writer, app):
        self.reader = reader
        self.writer = writer
        self.app = app
        """The connection at the app."""

    async def is_cut(self):
        """Wait for the end on both sides; return what the client still got, which must be nothing."""
        async with asyncio.timeout(AT_ONCE):
            rest = b""
            with contextlib.suppress(ConnectionError):
                rest = await self.reader.read()
            await self.app.ended.wait()
        return rest

    async def finishes(self, world):
        """Let the app go on; return the rest of what the client gets."""
        world.gate.set()
        async with asyncio.timeout(AT_ONCE):
            return await self.reader.readuntil(b"0\r\n\r\n")


@contextlib.asynccontextmanager
async def download(world, token, target="/tickets/1", *, method="GET", body=None):
    """Open one; `body` is the announced length and the part of it that is sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    lines = [f"{method} {target} HTTP/1.1", f"Host: {HOST}"]
    lines += [f"Authorization: Bearer {token}"] if token else []
    lines += [f"Content-Length: {body[0]}"] if body else []
    heard = len(world.upstream.requests)
    try:
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + (body[1] if body else b""))
        async with asyncio.timeout(5):
            await reader.readuntil(b"first\r\n")
        yield Open(reader, writer, world.upstream.connections[world.upstream.requests[heard].connection_id])
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def holding_world(directory, **options):
    """A world whose app sends a first piece and then waits for `world.gate`."""
    gate = asyncio.Event()

    async def answer(connection):
        await connection.send(FIRST)
        await gate.wait()
        await connection.send(LAST)

    def script(request):
        return response() if request.target == b"/whoami" else answer

    async with open_world(directory, script=script, **options) as world:
        world.gate = gate
        # An upload is answered before it has all come.
        world.upstream._answer_at_head = True
        yield world


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
    assert 0 == len(world.gateway.live)
    await recorded(world, "grant_revoked", 2)


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
        assert 1 == len(world.gateway.live)
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
        async with download(world, await world.token()) as one:
            await world.gateway.store.close()
            world.clock.forward(seconds=1)
            # The timer runs on the machine's clock, which is a second behind the one in the test's hands.
            async with asyncio.timeout(2 * AT_ONCE):
                with contextlib.suppress(ConnectionError):
                    assert b"" == await one.reader.read()
                await one.app.ended.wait()
        await recorded(world, reason, 1)


async def test_what_has_expired_is_refused_from_warm_facts(world):
    """The grant's end needs no event: a moment before is before, with the store gone and the facts at hand."""
    world.gate.set()
    world.clock.forward(days=7, seconds=-1)
    token = await world.token()
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
    """Assert that the journal holds so many denials for this reason; the gateway is given the time to write them."""

    def found():
        return len(world.records(kind="decision", decision="deny", reason=reason))

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(AT_ONCE):
            await _turning_until(lambda: found() >= count)
    assert count == found()


async def _turning_until(condition):
    while not condition():  # noqa: ASYNC110 - a file is written by the gateway, which tells nobody
        await asyncio.sleep(0)


# --- between the decision and the first byte ---


class HeldJournal:
    """An audit log that takes its time: implements AuditLog."""

    healthy = True

    def __init__(self):
        self.records = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.appending = asyncio.Event()

    async def append(self, record, *, durable=False):
        self.records.append(record)
        self.appending.set()
        await self.gate.wait()
        return len(self.records)

    async def close(self):
        self.gate.set()


class QuietApp:
    """An upstream that keeps what it is sent: implements Upstream and UpstreamResponse."""

    head = ResponseHead(status=200, reason=b"OK", headers=())
    stream = None

    def __init__(self):
        self.heard = []

    def at_hand(self):
        return None

    def trailers(self):
        return ()

    async def send(self, head, body, **_options):
        self.heard.append(head)
        return self

    @property
    def body(self):
        return _nothing()

    async def close(self):
        pass


async def _nothing():
    return
    yield b""


class Caller:
    """One request of a client: implements Inbound."""

    peer = "127.0.0.1"
    has_body = False
    received = 0
    sent = 0

    def __init__(self):
        self.head = RequestHead(method=b"GET", target=b"/tickets/1", headers=((b"Host", HOST.encode()),))
        self.answered = None
        self.aborted = False

    def body(self):
        return _nothing()

    async def respond(self, head, body, **_options):
        self.answered = head.status

    async def delivered(self):
        await asyncio.sleep(0)

    def abort(self):
        self.aborted = True


class Bench:
    """The assumed traffic's handler between fakes that can be stopped at every await."""

    def __init__(self, store):
        self.store = store
        self.tasks = Tasks()
        self.ticks = Ticks()
        self.journal = HeldJournal()
        self.app = QuietApp()
        self.profile = load_profile("demo-helpdesk")
        self.live = Live(self.profile, lambda: NOON)
        self.facts = FactCache(
            store,
            ttl_seconds=2,
            absent_ttl_seconds=1,
            trial_permissions=frozenset({Permission.READ}),
            ticks=self.ticks,
            tasks=self.tasks,
        )
        identity = Identity()
        self.handler = AssumedTraffic(
            accounts=AccountReader(Accounts(host="{account}.helpdesk.example"), ()),
            verifier=TokenVerifier([KEY], issuer=ISSUER),
            facts=self.facts,
            profile=self.profile,
            journal=self.journal,
            assertions=Assertions(KEY, identity, issuer=ISSUER, audience="app", bind=False, ticks=self.ticks),
            known=Names(identity=(identity.header,)),
            live=self.live,
            upstream=self.app,
            control=self.app,
            counts=Counts(),
            clock=lambda: NOON,
        )
        forger = Forger(private=PRIVATE, key_id=KEY.id)
        # The forger's flawless claims, with the ids of the facts in the store.
        details = [{"type": "account_assumption", "account": "acme", "identifier": "grant-acme", "grant_epoch": 1}]
        act = {"sub": "dana", "iss": "https://idp.example"}
        self.credential = Credential(
            token=forger.token(forger.claims(sid="as-acme", act=act, authorization_details=details))
        )

    async def answer(self, caller):
        await self.handler.answer(caller, 0, self.credential)

    async def revoke(self):
        """Take the grant back as the grants API does: store it, forget it, cut."""
        stored = await MemoryStore.find_account(self.store, "acme")
        account = replace(stored.account, epoch=stored.account.epoch + 1)
        grant = replace(grant_of("acme"), revoked_at=NOON)
        self.store._accounts["acme"] = replace(stored, account=account, grant=grant)
        self.facts.forget_account("acme")
        return self.live.account_changed("acme", account, grant)


@pytest.fixture
async def bench():
    scene = Scene()
    await scene.furnish()
    bench = Bench(scene.store)
    yield bench
    await bench.tasks.close()
    await scene.tasks.close()


async def test_the_bench_lets_a_good_request_through(bench):
    """What is refused below is refused for the revoke."""
    caller = Caller()
    await bench.answer(caller)
    assert (200, 1) == (caller.answered, len(bench.app.heard))


async def test_a_revoke_while_the_permit_is_recorded_sends_nothing(bench):
    """The decision was yes, the record is being written, the customer says no: the app hears nothing."""
    caller = Caller()
    bench.journal.gate.clear()
    answering = asyncio.ensure_future(bench.answer(caller))
    async with asyncio.timeout(1):
        await bench.journal.appending.wait()
        assert 1 == await bench.revoke()
        bench.journal.gate.set()
        await answering
    assert [] == bench.app.heard
    assert (False, 403) == (caller.aborted, caller.answered)
    assert ["allow", "deny"] == [record.decision for record in bench.journal.records]
    assert "grant_revoked" == bench.journal.records[-1].reason
    assert 0 == len(bench.live)


async def test_a_reduction_while_the_permit_is_recorded_counts_for_what_is_sent(bench):
    """It may go on, but the identity that the app is told ends with what is left of the grant."""
    soon = NOON + timedelta(seconds=30)
    caller = Caller()
    bench.journal.gate.clear()
    answering = asyncio.ensure_future(bench.answer(caller))
    async with asyncio.timeout(1):
        await bench.journal.appending.wait()
        stored = await MemoryStore.find_account(bench.store, "acme")
        assert 0 == bench.live.account_changed("acme", stored.account, grant_of("acme", expires_at=soon))
        bench.journal.gate.set()
        await answering
    [head] = bench.app.heard
    [assertion] = [value for name, value in head.headers if name == b"X-Locum-Assertion"]
    assert soon.timestamp() == jwt.decode(assertion, options={"verify_signature": False})["exp"]


@pytest.mark.parametrize("held", ["hold_accounts", "hold_assumptions"])
async def test_a_revoke_while_facts_are_loaded_sends_nothing(bench, held):
    """Nothing is open yet that could be cut, and still no request goes out on what was true before."""
    caller = Caller()
    setattr(bench.store, held, asyncio.Event())
    answering = asyncio.ensure_future(bench.answer(caller))
    await turns()
    assert 0 == await bench.revoke()
    getattr(bench.store, held).set()
    async with asyncio.timeout(1):
        await answering
    assert [] == bench.app.heard
    assert 403 == caller.answered
    assert "grant_revoked" == bench.journal.records[-1].reason


async def test_a_revoke_at_any_turn_sends_nothing_afterwards(bench):
    """Wherever between the first fetch and the first byte the revoke falls: what starts, started before it."""
    for count in range(40):
        stored = bench.store._accounts["acme"]
        bench.store._accounts["acme"] = replace(stored, grant=grant_of("acme"))
        bench.facts.forget_all()
        caller, before = Caller(), len(bench.app.heard)
        answering = asyncio.ensure_future(bench.answer(caller))
        await turns(count)
        sent = len(bench.app.heard) - before
        await bench.revoke()
        async with asyncio.timeout(1):
            await answering
        assert sent == len(bench.app.heard) - before, count
    assert sent == 1, "the last one was through before the revoke"


async def test_a_change_does_not_reach_what_has_ended(bench):
    """A connection may serve another request by then: only what is still open is decided anew."""
    caller = Caller()
    gate = asyncio.Event()

    async def slow_facts(request):
        await gate.wait()
        return replace(facts, grant=None)

    bench.journal.gate.clear()
    answering = asyncio.ensure_future(bench.answer(caller))
    await turns(20)
    assert 1 == len(bench.live)
    facts = await bench.facts.of_request("acme", bench.handler._verifier.verify(bench.credential.token))
    changing = asyncio.ensure_future(bench.live.anything_changed(slow_facts))
    await turns()
    bench.journal.gate.set()
    await answering
    assert 200 == caller.answered
    gate.set()
    await changing
    assert not caller.aborted
