"""The handler of staff's requests, cut off or broken at every place: the app hears nothing that is not on the record."""

import asyncio
import contextlib
import types

import pytest

from gateway.audit.log import JournalError
from gateway.config.model import Accounts, Identity
from gateway.counts import Counts
from gateway.profiles import load_profile
from gateway.proxy.assumed import AssumedTraffic
from gateway.proxy.challenges import Challenges
from gateway.proxy.forwarded import Forwarding
from gateway.proxy.identity import Assertions
from gateway.proxy.live import Live
from gateway.proxy.names import Names
from gateway.proxy.triage import AccountReader, Credential
from gateway.proxy.wire import RequestHead, ResponseHead, UpstreamFault
from gateway.stores.store import StoreError
from gateway.tokens.signing import TokenRefused, TokenVerifier
from policy.model import DenyReason
from tests.browser_rows import browsers_of
from tests.forgery import ISSUER, KEY, NOON, PRIVATE, Forger, ring
from tests.gateway_world import HOST
from tests.journals import Ticks
from tests.oauth_world import PLACES, held_keys
from tests.patience import PATIENCE_SECONDS
from tests.test_facts import Scene


class Caller:
    """An Inbound that waits at each call, and keeps what it was answered."""

    peer = "127.0.0.1"
    has_body = False
    is_alone = True
    received = 0
    sent = 0
    status = None
    is_stopping = False

    def __init__(self):
        self.head = RequestHead(method=b"GET", target=b"/tickets/1", headers=((b"Host", HOST.encode()),))
        self.answers = []
        self.aborted = False

    def body(self):
        raise AssertionError("there is no body to read")

    async def respond(self, head, body, **_options):
        await asyncio.sleep(0)
        self.status = head.status
        self.answers.append(head.status)
        if isinstance(body, bytes):
            return
        async for _ in body:
            await asyncio.sleep(0)

    async def delivered(self):
        await asyncio.sleep(0)

    def abort(self):
        self.aborted = True


class App:
    """An Upstream that keeps what it hears."""

    def __init__(self):
        self.heard = []
        self.head = ResponseHead(status=200, reason=b"OK", headers=())

    @property
    def body(self):
        return self._pieces()

    def trailers(self):
        return ()

    def at_hand(self):
        return None

    stream = None

    def where(self, head):
        return "http://app.internal"

    async def send(self, head, body, **_options):
        self.heard.append(head)
        await asyncio.sleep(0)
        return self

    async def close(self):
        await asyncio.sleep(0)

    async def _pieces(self):
        for _ in range(2):
            await asyncio.sleep(0)
            yield b"ok"


class Notebook:
    """An AuditLog on paper."""

    healthy = True

    def __init__(self):
        self.records = []
        self.notes = []

    async def append(self, record, *, durable=False, instead=None):
        await asyncio.sleep(0)
        record.seq = len(self.records)
        self.records.append(record)
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            if instead is not None:
                self.note(instead())
            raise
        return record.seq

    def note(self, note):
        self.notes.append(note)

    async def close(self):
        self.records.clear()


class Broken:
    """Stands before a collaborator, and fails in one of its methods."""

    def __init__(self, real, method, error):
        self._real, self._method, self._error = real, method, error

    def __getattr__(self, name):
        return self._fail if name == self._method else getattr(self._real, name)

    def _fail(self, *_arguments, **_named):
        raise self._error


class Rig:
    """An AssumedTraffic before an app, with a grant, an assumption and a token that let its request in."""

    def __init__(self, scene):
        profile, ticks = load_profile("demo-helpdesk"), Ticks()
        self.store = scene.store
        self.tasks = scene.tasks
        self.app, self.journal, self.caller = App(), Notebook(), Caller()
        self.parts = {
            "accounts": AccountReader(Accounts(host="{account}.helpdesk.example"), ()),
            "verifier": TokenVerifier(ring(KEY), issuer=ISSUER),
            "facts": scene.cache,
            "profile": profile,
            "journal": self.journal,
            "assertions": Assertions(ring(KEY), Identity(), issuer=ISSUER, audience="app", bind=False, ticks=ticks),
            "held_keys": held_keys(KEY, lambda: NOON, ticks),
            "challenges": Challenges(PLACES, acr=(), max_age_seconds=None),
            "browsers": browsers_of(scene.store, scene.cache, scene.tasks, lambda: NOON),
            "known": Names(),
            "forwarding": Forwarding(states=False, tls=False, trusts=lambda _peer: False),
            "trusts": lambda _peer: False,
            "live": Live(profile, lambda: NOON),
            "upstream": self.app,
            "control": self.app,
            "counts": Counts(),
            "clock": lambda: NOON,
        }
        forger = Forger(private=PRIVATE, key_id=KEY.id)
        details = [{"type": "account_assumption", "account": "acme", "identifier": "grant-acme", "grant_epoch": 1}]
        act = {"sub": "dana", "iss": "https://idp.example"}
        claims = forger.claims(sid="as-acme", act=act, authorization_details=details)
        self.credential = Credential(token=forger.token(claims))

    async def answer(self):
        await AssumedTraffic(**self.parts).answer(self.caller, 0, self.credential)


@contextlib.asynccontextmanager
async def open_rig():
    scene = Scene()
    await scene.furnish()
    try:
        yield Rig(scene)
    finally:
        await scene.tasks.close()


@types.coroutine
def cut_at(turn, work):
    """Run `work`, cancelled where it waits for the `turn`th time; return whether it came that far."""
    steps = work.__await__()
    waits = 0
    try:
        waiting = next(steps)
        while True:
            waits += 1
            if waits == turn:
                waiting = steps.throw(asyncio.CancelledError())
            yield waiting
            waiting = steps.send(None)
    except StopIteration:
        return False
    except asyncio.CancelledError:
        return True


async def test_a_caller_who_goes_away_at_any_moment_leaves_no_unrecorded_request():
    """Cancelled at each await in turn: before the record the app hears nothing, and nothing stays open."""
    heard, turn = [], 0
    while True:
        turn += 1
        async with open_rig() as rig:
            was_cut = await cut_at(turn, rig.answer())
            if rig.app.heard:
                assert "allow" == rig.journal.records[0].decision
            # Whatever was recorded has an end on the record, too.
            ends = [(note.completes, note.ended) for note in rig.journal.notes]
            assert [(0, ends[0][1])] * len(rig.journal.records) == ends if rig.journal.records else not ends
            assert {ended for _, ended in ends} <= {"complete", "client_gone"}
            assert 0 == len(rig.parts["live"])
        if not was_cut:
            break
        heard.append(len(rig.app.heard))
    assert [200] == rig.caller.answers
    assert heard == sorted(heard), "the app hears it once, from one moment on"
    assert (True, True) == (heard.count(0) >= 3, heard.count(1) >= 3)


async def test_a_flood_of_refusals_that_cannot_be_recorded_does_not_fill_the_log(caplog):
    """One line a second at the most, without a traceback: refusals can be had by the thousand, by anybody."""
    async with open_rig() as rig:
        rig.parts["journal"] = Broken(rig.journal, "append", JournalError("the disk hangs"))
        rig.credential = DenyReason.TOKEN_INVALID
        ticks = Ticks()
        traffic = AssumedTraffic(**rig.parts, ticks=ticks)
        for second in range(2):
            ticks.now = float(second)
            for _ in range(50):
                await traffic.answer(rig.caller, 0, rig.credential)
    assert 100 == rig.parts["counts"].refusals[DenyReason.JOURNAL_UNAVAILABLE]
    first, second = caplog.records
    assert [None, None] == [first.exc_info, second.exc_info]
    assert first.getMessage().endswith("token_invalid: the disk hangs")
    assert second.getMessage().endswith("token_invalid: the disk hangs (and 49 more since the last such line)")


METHODS = [
    ("accounts", "read"), ("verifier", "verify"), ("facts", "of_request"), ("profile", "match"),
    ("profile", "overrides_method"), ("journal", "append"), ("assertions", "lines"),
    ("live", "open"),
]  # fmt: skip
ERRORS = [ZeroDivisionError("a bug"), KeyError("x"), OSError("x"), TimeoutError(), UnicodeError(), AssertionError(), StoreError("x"),
          JournalError("x"), RecursionError()]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(("part", "method"), METHODS)
async def test_an_error_anywhere_is_not_a_way_in(part, method, error):
    """Whatever fails with whatever error, the app hears nothing and nobody is told that all is well."""
    async with open_rig() as rig:
        rig.parts[part] = Broken(rig.parts[part], method, error)
        with contextlib.suppress(type(error)):
            await rig.answer()
        assert ([], False) == (rig.app.heard, 200 in rig.caller.answers)
        assert 0 == (len(rig.parts["live"]) if part != "live" else 0)


async def test_a_clock_that_fails_is_not_a_way_in():
    """Without the time there is no decision."""
    async with open_rig() as rig:
        rig.parts["clock"] = lambda: NOON.replace(year=0)
        with pytest.raises(ValueError, match="year"):
            await rig.answer()
        assert ([], []) == (rig.app.heard, rig.caller.answers)


@pytest.mark.parametrize("error", [JournalError("x"), StoreError("x"), UpstreamFault("x")])
async def test_an_expected_fault_is_answered(error):
    """Faults that happen in a good installation are answered in words, not by a broken connection."""
    places = {
        JournalError: ("journal", "append", 503),
        StoreError: ("facts", "of_request", 503),
        UpstreamFault: ("upstream", "send", 502),
    }
    part, method, status = places[type(error)]
    async with open_rig() as rig:
        rig.parts[part] = Broken(rig.parts[part], method, error)
        await rig.answer()
        assert [status] == rig.caller.answers


async def test_a_store_that_does_not_answer_is_not_waited_for():
    """Staff are refused within the second that a look at the facts may take; the answer, once there, serves the next."""
    async with open_rig() as rig:
        rig.store.hold = asyncio.Event()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await rig.answer()
        assert ([], [503]) == (rig.app.heard, rig.caller.answers)
        assert [DenyReason.STORE_UNAVAILABLE] == [record.reason for record in rig.journal.records]
        rig.store.hold.set()
        await rig.answer()
        assert (1, [503, 200]) == (len(rig.app.heard), rig.caller.answers)


def test_one_token_in_all_its_damaged_forms_is_refused():
    """Of every token that differs in one character, in length or in case, exactly the one that was issued counts."""
    token = Forger(private=PRIVATE, key_id=KEY.id).token()
    verifier = TokenVerifier(ring(KEY), issuer=ISSUER)
    damaged = {
        token[:at] + mark + token[at + 1 :] for at in range(len(token)) for mark in ("A", "_", "", token[at] * 2)
    }
    damaged |= {
        token.upper(),
        token.lower(),
        token + "=",
        token + ".",
        "." + token,
        token + " ",
        " " + token,
        token * 2,
    }
    accepted = {text for text in damaged | {token} if _is_accepted(verifier, text)}
    assert {token} == accepted
    assert len(damaged) > 1500


def _is_accepted(verifier, text):
    try:
        verifier.verify(text)
    except TokenRefused:
        return False
    return True
