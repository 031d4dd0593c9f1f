"""When something breaks, staff are kept out and customers notice nothing; and it mends by itself."""

import asyncio
import contextlib
import resource
import sqlite3
import types
from pathlib import Path

import pytest

from gateway.audit.log import JournalError
from gateway.config.model import Accounts, Identity
from gateway.demo.issuer import Fault
from gateway.profiles import load_profile
from gateway.proxy.assumed import AssumedTraffic
from gateway.proxy.headers import Reserved
from gateway.proxy.identity import Assertions
from gateway.proxy.live import Live
from gateway.proxy.triage import AccountReader, Credential
from gateway.proxy.wire import RequestHead, ResponseHead, UpstreamFault
from gateway.stores.store import StoreError
from gateway.tokens.signing import TokenRefused, TokenVerifier
from policy.model import DenyReason
from tests.attack_world import open_attack, request
from tests.forgery import ISSUER, NOON, Forger
from tests.gateway_world import HOST
from tests.journals import Ticks
from tests.rawwire import RecordingUpstream, hold, response, then_close, then_reset
from tests.test_assumption_tokens import KEY, PRIVATE
from tests.test_facts import Scene

# --- the whole gateway ---


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
        async with RecordingUpstream(unix_path=path) as back:
            for token in (attacker.token, None):
                assert 200 == (await attacker.send(request(token))).status
            assert 2 == len(back.requests)


# --- one handler, and everything that it calls ---


class Caller:
    """An Inbound that waits at each call, and keeps what it was answered."""

    peer = "127.0.0.1"
    has_body = False

    def __init__(self):
        self.head = RequestHead(method=b"GET", target=b"/tickets/1", headers=((b"Host", HOST.encode()),))
        self.answers = []
        self.aborted = False

    def body(self):
        raise AssertionError("there is no body to read")

    async def respond(self, head, body, *, close=False):
        await asyncio.sleep(0)
        self.answers.append(head.status)
        async for _ in body:
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

    async def send(self, head, body):
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

    async def append(self, record, *, durable=False):
        await asyncio.sleep(0)
        self.records.append(record)
        await asyncio.sleep(0)
        return len(self.records)

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
        profile, ticks = load_profile("demo-helpdesk", base=Path()), Ticks()
        self.store = scene.store
        self.tasks = scene.tasks
        self.app, self.journal, self.caller = App(), Notebook(), Caller()
        self.parts = {
            "accounts": AccountReader(Accounts(host="{account}.helpdesk.example"), ()),
            "verifier": TokenVerifier([KEY], issuer=ISSUER),
            "facts": scene.cache,
            "profile": profile,
            "journal": self.journal,
            "assertions": Assertions(KEY, Identity(), issuer=ISSUER, audience="app", bind=False, ticks=ticks),
            "reserved": Reserved.of(()),
            "live": Live(profile, lambda: NOON),
            "upstream": self.app,
            "clock": lambda: NOON,
        }
        forger = Forger(private=PRIVATE, key_id=KEY.id)
        details = [{"type": "account_assumption", "account": "acme", "identifier": "grant-acme", "grant_epoch": 1}]
        act = {"sub": "dana", "iss": "https://idp.example"}
        claims = forger.claims(sid="as-acme", act=act, authorization_details=details)
        self.credential = Credential(token=forger.token(claims))

    async def answer(self):
        await AssumedTraffic(**self.parts).answer(self.caller, self.credential)


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
            assert 0 == len(rig.parts["live"])
        if not was_cut:
            break
        heard.append(len(rig.app.heard))
    assert [200] == rig.caller.answers
    assert heard == sorted(heard), "the app hears it once, from one moment on"
    assert (True, True) == (heard.count(0) >= 5, heard.count(1) >= 3)


METHODS = [
    ("accounts", "read"), ("verifier", "verify"), ("facts", "of_request"), ("profile", "match"),
    ("profile", "overrides_method"), ("journal", "append"), ("assertions", "is_identity"), ("assertions", "lines"),
    ("live", "opened"),
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
        async with asyncio.timeout(5):
            await rig.answer()
        assert ([], [503]) == (rig.app.heard, rig.caller.answers)
        assert [DenyReason.STORE_UNAVAILABLE] == [record.reason for record in rig.journal.records]
        rig.store.hold.set()
        await rig.answer()
        assert (1, [503, 200]) == (len(rig.app.heard), rig.caller.answers)


def test_one_token_in_all_its_damaged_forms_is_refused():
    """Of every token that differs in one character, in length or in case, exactly the one that was issued counts."""
    token = Forger(private=PRIVATE, key_id=KEY.id).token()
    verifier = TokenVerifier([KEY], issuer=ISSUER)
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
