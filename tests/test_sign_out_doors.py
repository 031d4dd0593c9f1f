"""The two doors for notices: whatever is wrong is refused in its standard's words, and what is right is stored before it is
answered."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

import pytest
from aiohttp import web

from gateway.config.load import build
from gateway.config.model import ConfigError
from gateway.staff.events import EventReceiver
from gateway.staff.logout import LogoutEndpoint
from gateway.staff.sign_outs import SignOuts
from gateway.stores.store import StoreError
from policy.model import AccountId, ActorId, AgentId, Assumption, AssumptionId, GrantId
from tests.forgery import DROP, NOON
from tests.gateway_world import document, open_world, parse
from tests.memory_store import MemoryStore
from tests.notices import IDP, KINDS, forged, notices, person
from tests.rawwire import exchange
from tests.session_contract import SESSION
from tests.sign_out_world import EVENTS_URL, LOGOUT_URL, answer, event_token, logout_token, push, tell
from tests.store_examples import STAFF, begin
from tests.test_cuts import Moody

PUSH_TOKEN = "h480djs93hd8-of-at-least-32-letters"
GOOD = {"logout": 200, "event": 202}


def assumption(n, account="acme", subject="dana", started_at=NOON):
    return Assumption(
        id=AssumptionId(f"as_{n}"),
        account=AccountId(account),
        subject=AgentId("maria"),
        actor=ActorId(issuer=IDP, subject=subject),
        grant_id=GrantId("g"),
        ticket="T",
        reason="r",
        scopes=frozenset(),
        started_at=started_at,
        expires_at=started_at + timedelta(minutes=15),
    )


class Diary(Moody):
    """Says when it is told something."""

    def __init__(self):
        super().__init__()
        self.told = asyncio.Event()

    async def append(self, record, *, durable=False):
        number = await super().append(record, durable=durable)
        self.told.set()
        return number


class Failing(MemoryStore):
    """`fails_after`: so many calls more are answered."""

    fails_after = None

    async def _answer(self):
        await super()._answer()
        if self.fails_after is not None:
            self.fails_after -= 1
            if self.fails_after < 0:
                raise StoreError("away")


class Doors:
    """Both doors on a socket of their own, over a store and a journal that can be told to fail."""

    def __init__(self):
        self.store = Failing()
        self.journal = Diary()
        self.cut = []
        self.sign_outs = SignOuts(self.store, self.journal, issuer=IDP, clock=lambda: NOON, ended=self._ended)
        self.routes = [
            *LogoutEndpoint(notices("logout"), self.sign_outs).routes(),
            *EventReceiver(notices("event"), self.sign_outs, push_token=PUSH_TOKEN).routes(),
        ]

    def _ended(self, person, assumptions):
        self.cut += [one.id for one in assumptions]

    async def send(self, kind, text):
        target = LOGOUT_URL if kind == "logout" else EVENTS_URL
        form = "application/x-www-form-urlencoded" if kind == "logout" else "application/secevent+jwt"
        body = f"logout_token={text}" if kind == "logout" else text
        raw = (
            f"POST {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {PUSH_TOKEN}\r\n"
            f"Content-Type: {form}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        )
        return parse(await exchange("127.0.0.1", self.port, raw.encode()))


@pytest.fixture
async def doors():
    doors = Doors()
    application = web.Application()
    application.add_routes(doors.routes)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    doors.port = runner.addresses[0][1]
    yield doors
    await runner.cleanup()


@pytest.mark.parametrize("kind", KINDS)
async def test_it_is_answered_when_it_is_stored(doors, kind):
    """While the store is away the provider is told to come again, and then the same notice counts."""
    await begin(doors.store, assumption(1))
    doors.store.fail_with = StoreError("away")
    status, headers, body = await doors.send(kind, forged(kind))
    assert (503, "1", "no-store") == (status, headers["retry-after"], headers["cache-control"])
    assert "temporarily_unavailable" in body.decode()
    assert [] == doors.cut
    assert [None, "deny"] == [record.decision for record in doors.journal.records]
    doors.store.fail_with = None
    assert GOOD[kind] == (await doors.send(kind, forged(kind)))[0]
    assert ["as_1"] == doors.cut


async def test_a_session_alone_signs_out_whoever_came_with_it(doors):
    """By the session in which they signed in here; where nobody is known by it, the provider is told, and none ends."""
    await begin(doors.store, assumption(1))
    only = {"sub": DROP, "sid": "s1"}
    status, _, body = await doors.send("logout", forged("logout", **only))
    assert (400, True, []) == (status, "'sid'" in body.decode(), doors.cut)
    dana, before = ActorId(issuer=IDP, subject="dana"), NOON - timedelta(hours=1)
    session = replace(
        SESSION, actor=dana, claims=json.dumps({"sid": "s1"}), signed_in_at=before, ends_at=NOON + timedelta(hours=1)
    )
    await doors.store.begin_session(session, replace(STAFF, id=dana, signed_out_at=None), at=NOON)
    assert 400 == (await doors.send("logout", forged("logout", jti="j2", **only | {"sid": "s2"})))[0]
    assert [] == doors.cut
    assert 200 == (await doors.send("logout", forged("logout", **only)))[0]
    assert (["as_1"], None) == (doors.cut, await doors.store.find_session(SESSION.digest))


@pytest.mark.parametrize("kind", KINDS)
async def test_nothing_is_answered_before_it_is_stored(doors, kind):
    """Nor is a copy of the notice, which comes meanwhile: it is not known yet how the first comes out."""
    doors.store.hold = asyncio.Event()
    first = asyncio.ensure_future(doors.send(kind, forged(kind)))
    await doors.journal.told.wait()
    assert 503 == (await doors.send(kind, forged(kind)))[0]
    assert not first.done()
    doors.store.hold.set()
    assert GOOD[kind] == (await first)[0]


@pytest.mark.parametrize("kind", KINDS)
async def test_taking_away_never_waits_for_its_record(doors, kind):
    """With the journal broken all ends just the same, and is on the record, in order, as soon as it can be."""
    await begin(doors.store, assumption(1))
    await begin(doors.store, assumption(2, account="beta"))
    doors.journal.broken = True
    assert GOOD[kind] == (await doors.send(kind, forged(kind)))[0]
    assert ["as_1", "as_2"] == doors.cut
    assert [] == list(await doors.store.list_assumptions(at=NOON))
    doors.journal.broken = False
    await doors.sign_outs.debts.settle()
    assert [("staff", None), ("assumption", "as_1"), ("assumption", "as_2")] == [
        (record.kind, record.assumption) for record in doors.journal.records
    ]


async def test_a_store_that_fails_in_the_middle_leaves_a_part_on_the_record(doors):
    """What had ended by then is cut and recorded, the sign-out is not; sent again, the notice ends the rest."""
    for n in (1, 2):
        await begin(doors.store, assumption(n))
    subject = {"format": "complex", "user": person(), "tenant": {"format": "opaque", "id": "acme"}}
    notice = forged("event", sub_id=subject)
    doors.store.fails_after = 2
    assert 503 == (await doors.send("event", notice))[0]
    assert ["as_1"] == doors.cut
    assert [("staff", None), ("staff", "deny"), ("assumption", None)] == [
        (record.kind, record.decision) for record in doors.journal.records
    ]
    doors.store.fails_after = None
    assert 202 == (await doors.send("event", notice))[0]
    assert ["as_1", "as_2"] == [record.assumption for record in doors.journal.records if record.kind == "assumption"]


async def test_a_notice_about_one_account_ends_what_had_begun_there(doors):
    """That person's only, there only, and by the time of the notice; five seconds for clocks that differ."""
    await begin(doors.store, assumption(1))
    await begin(doors.store, assumption(2, account="beta"))
    await begin(doors.store, assumption(3, subject="erin"))
    await begin(doors.store, assumption(4, started_at=NOON + timedelta(seconds=5)))
    await begin(doors.store, assumption(5, started_at=NOON + timedelta(seconds=6)))
    subject = {"format": "complex", "user": person(), "tenant": {"format": "opaque", "id": "acme"}}
    assert 202 == (await doors.send("event", forged("event", sub_id=subject)))[0]
    assert ["as_1", "as_4"] == doors.cut
    assert None is (await doors.store.find_staff(ActorId(issuer=IDP, subject="dana"))).signed_out_at


@pytest.fixture
async def world(tmp_path):
    def change(document):
        document["staff"]["events"] = {"push_token": PUSH_TOKEN, "audience": "https://receiver.example"}

    async with open_world(tmp_path, change=change) as world:
        await world.choose("week")
        yield world


async def test_whoever_pushes_shows_the_bearer_token(world):
    """None, a wrong one, a part, two, or one in another scheme: RFC 8935 section 2.4 calls it authentication_failed."""
    event = event_token(world, aud="https://receiver.example")
    right = ("Authorization", f"Bearer {PUSH_TOKEN}")
    wrong = [
        [],
        [("Authorization", f"Bearer {PUSH_TOKEN}x")],
        [("Authorization", f"Bearer {PUSH_TOKEN[:-1]}")],
        [("Authorization", "Bearer")],
        [("Authorization", "Bearer \xe9")],
        [("Authorization", PUSH_TOKEN)],
        [("Authorization", f"Basic {PUSH_TOKEN}")],
        [right, right],
        [("X-Authorization", right[1])],
    ]
    for headers in wrong:
        status, told = answer(await push(world, event, *headers))
        assert (400, "authentication_failed") == (status, told["err"])
        assert PUSH_TOKEN not in told["description"]
    assert [] == world.records(kind="staff")
    assert 202 == (await push(world, event, ("Authorization", f"bearer  {PUSH_TOKEN}")))[0]


async def test_events_may_have_an_audience_of_their_own(world):
    """Which is the only one then; logout tokens are for the audience of ID tokens, as ever."""
    shown = ("Authorization", f"Bearer {PUSH_TOKEN}")
    for audience, expected in (("locum", 400), ("https://receiver.example", 202)):
        status, told = answer(await push(world, event_token(world, aud=audience), shown))
        assert expected == status
        assert told is None or told["err"] == "invalid_audience"
    assert 400 == (await tell(world, logout_token(world, aud="https://receiver.example")))[0]
    assert 200 == (await tell(world, logout_token(world)))[0]


async def test_errors_are_told_in_the_words_of_each_standard(world):
    """BCL 2.8: `error` and `error_description`, not to be stored. RFC 8935 2.3: `err` and `description`, with a language."""
    status, headers, body = await tell(world, logout_token(world, iss="https://other.example"))
    assert (400, "application/json", "no-store") == (status, headers["content-type"], headers["cache-control"])
    assert {"error", "error_description"} == set(json.loads(body))
    shown = ("Authorization", f"Bearer {PUSH_TOKEN}")
    for changes, err in (
        ({"iss": "https://other.example"}, "invalid_issuer"),
        ({"aud": "x"}, "invalid_audience"),
        ({"aud": "https://receiver.example", "sub": "dana"}, "invalid_request"),
    ):
        status, headers, body = await push(world, event_token(world, **changes), shown)
        assert (400, "application/json", "en") == (status, headers["content-type"], headers["content-language"])
        assert {"err": err, "description": json.loads(body)["description"]} == json.loads(body)
        assert json.loads(body)["description"]


async def test_what_is_not_sent_as_the_standard_says_is_refused(world):
    """Another method, type or place, too much of it, twice, or nothing; and no part of it is believed."""
    token = logout_token(world)
    form = f"logout_token={token}".encode()
    shown = ("Authorization", f"Bearer {PUSH_TOKEN}")
    event = event_token(world, aud="https://receiver.example")
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        assert 405 == (await tell(world, token, method=method))[0]
        assert 405 == (await push(world, event, shown, method=method))[0]
    for options in (
        {"kind": "application/json", "body": json.dumps({"logout_token": token}).encode()},
        {"kind": "text/plain"},
        {"body": b""},
        {"body": b"x=1"},
        {"body": b"logout_token="},
        {"body": form + b"&" + form},
        {"body": form + b"&logout_token="},
        {"body": form + b"&x=" + b"x" * 17_000},
        {"body": token.encode()},
        {"target": f"{LOGOUT_URL}?logout_token={token}", "body": b""},
        {"target": f"{LOGOUT_URL}?x=1"},
    ):
        status, told = answer(await tell(world, token, **options))
        assert (400, "invalid_request") == (status, told["error"])
    for options in (
        {"kind": "application/jwt"},
        {"kind": "application/x-www-form-urlencoded"},
        {"body": b""},
        {"body": event.encode() + b"\n"},
        {"body": b" " + event.encode()},
        {"body": f"{event}\r\n{event}".encode()},
        {"body": event.encode() + b"A" * 8192},
        {"body": b"\xff" + event.encode()},
    ):
        status, told = answer(await push(world, event, shown, **options))
        assert (400, "invalid_request") == (status, told["err"])
    assert [] == world.records(kind="staff")
    assert 200 == (await tell(world, token, body=form + b"&x=1"))[0]
    assert 202 == (await push(world, event, shown, kind="Application/SecEvent+JWT; charset=utf-8"))[0]


async def test_without_a_bearer_token_the_signature_is_what_counts(tmp_path):
    """A provider that shows one all the same is not refused for it."""
    async with open_world(tmp_path) as world:
        assert 202 == (await push(world, event_token(world)))[0]
        assert 202 == (await push(world, event_token(world, algorithm="ES256"), ("Authorization", "Bearer x")))[0]


async def test_a_notice_that_cannot_be_judged_now_is_asked_for_again(tmp_path):
    """Neither refused for good nor believed: the issuer is away, or its new key may not be asked for yet."""
    async with open_world(tmp_path) as world:
        world.issuer.down()
        token = logout_token(world)
        for kind, reply in (("error", await tell(world, token)), ("err", await push(world, event_token(world)))):
            status, headers, body = reply
            assert (503, "10", "temporarily_unavailable") == (status, headers["retry-after"], json.loads(body)[kind])
        world.issuer.up()
        world.clock.forward(seconds=10)
        assert 200 == (await tell(world, token))[0]
        assert 1 == len(world.records(kind="staff"))


async def test_a_token_of_another_issuer_has_nobody_asked(tmp_path):
    """It says itself that it does not count here."""
    async with open_world(tmp_path) as world:
        assert 400 == (await tell(world, logout_token(world, iss="https://other.example")))[0]
        assert 400 == (await push(world, event_token(world, iss=world.issuer.issuer + "/")))[0]
        assert 0 == world.issuer.discovery_fetches


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ({"push_token": "too-short"}, "staff.events.push_token: must have at least 32"),
        ({"push_token": "x" * 31 + " "}, "staff.events.push_token"),
        ({"push_token": "x" * 32 + "\n"}, "staff.events.push_token"),
        ({"max_age_seconds": 0}, "staff.events.max_age_seconds: must be above 0"),
        ({"max_age_seconds": 86401}, "staff.events.max_age_seconds: must be above 0 and at most 86400"),
        ({"issuer": "https://other.example"}, "staff.events"),
    ],
)
def test_a_slip_in_the_configuration_is_told(tmp_path, events, words):
    """By its key, and without the secret."""
    wanted = document(tmp_path, upstream="http://127.0.0.1:1", issuer=IDP)
    wanted["staff"]["events"] = events
    with pytest.raises(ConfigError, match=words) as error:
        build(wanted, {}, base=tmp_path)
    assert "too-short" not in str(error.value)
