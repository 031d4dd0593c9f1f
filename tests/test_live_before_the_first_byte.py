"""A change between the decision and the first byte to the app: nothing starts on what was true before."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import jwt
import pytest

from gateway.config.model import Accounts, Identity
from gateway.counts import Counts
from gateway.grants.facts import FactCache
from gateway.profiles import load_profile
from gateway.proxy.assumed import AssumedTraffic
from gateway.proxy.challenges import Challenges
from gateway.proxy.forwarded import Forwarding
from gateway.proxy.identity import Assertions
from gateway.proxy.live import Live
from gateway.proxy.names import Names
from gateway.proxy.triage import AccountReader, Credential
from gateway.proxy.wire import RequestHead, ResponseHead
from gateway.tasks import Tasks
from gateway.tokens.signing import TokenVerifier
from policy.model import Permission
from tests.browser_rows import browsers_of
from tests.fact_scene import Scene, grant_of, turns
from tests.forgery import ISSUER, KEY, NOON, PRIVATE, Forger, ring
from tests.gateway_world import HOST
from tests.journals import Ticks
from tests.lenient_rules import AS_LAST_SEEN
from tests.memory_store import MemoryStore
from tests.oauth_world import PLACES, held_keys
from tests.patience import PATIENCE_SECONDS


class HeldJournal:
    """An audit log that takes its time: implements AuditLog."""

    healthy = True

    def __init__(self):
        self.records = []
        self.notes = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.appending = asyncio.Event()

    async def append(self, record, *, durable=False, instead=None):
        self.records.append(record)
        self.appending.set()
        await self.gate.wait()
        return len(self.records)

    def note(self, note):
        self.notes.append(note)

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

    def where(self, head):
        return "http://app.internal"

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
    is_alone = True
    received = 0
    sent = 0
    status = None
    is_stopping = False

    def __init__(self):
        self.head = RequestHead(method=b"GET", target=b"/tickets/1", headers=((b"Host", HOST.encode()),))
        self.answered = None
        self.aborted = False

    def body(self):
        return _nothing()

    async def respond(self, head, body, **_options):
        self.status = self.answered = head.status

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
            rules=AS_LAST_SEEN,
            ticks=self.ticks,
            tasks=self.tasks,
        )
        identity = Identity()
        self.handler = AssumedTraffic(
            accounts=AccountReader(Accounts(host="{account}.helpdesk.example"), ()),
            verifier=TokenVerifier(ring(KEY), issuer=ISSUER),
            facts=self.facts,
            profile=self.profile,
            journal=self.journal,
            assertions=Assertions(ring(KEY), identity, issuer=ISSUER, audience="app", bind=False, ticks=self.ticks),
            held_keys=held_keys(KEY, lambda: NOON, self.ticks),
            challenges=Challenges(PLACES, acr=(), max_age_seconds=None),
            browsers=browsers_of(store, self.facts, self.tasks, lambda: NOON),
            known=Names(identity=(identity.header,)),
            forwarding=Forwarding(states=False, tls=False, trusts=lambda _peer: False),
            trusts=lambda _peer: False,
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
    async with asyncio.timeout(PATIENCE_SECONDS):
        await bench.journal.appending.wait()
        assert 1 == await bench.revoke()
        bench.journal.gate.set()
        await answering
    assert [] == bench.app.heard
    assert (False, 403) == (caller.aborted, caller.answered)
    assert ["allow"] == [record.decision for record in bench.journal.records]
    assert [("refused", "grant_revoked", 403)] == [
        (note.ended, note.reason, note.status) for note in bench.journal.notes
    ]
    assert 0 == len(bench.live)


async def test_a_reduction_while_the_permit_is_recorded_counts_for_what_is_sent(bench):
    """It may go on, but the identity that the app is told ends with what is left of the grant."""
    soon = NOON + timedelta(seconds=30)
    caller = Caller()
    bench.journal.gate.clear()
    answering = asyncio.ensure_future(bench.answer(caller))
    async with asyncio.timeout(PATIENCE_SECONDS):
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
    async with asyncio.timeout(PATIENCE_SECONDS):
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
        async with asyncio.timeout(PATIENCE_SECONDS):
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
