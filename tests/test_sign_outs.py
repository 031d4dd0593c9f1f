"""Whoever the identity provider signs out is out: what is open is cut, tokens are worth nothing, and it is on the record."""

import asyncio

import pytest

from policy.events import SESSION_REVOKED
from policy.model import ActorId
from tests.forgery import DROP
from tests.gateway_world import open_world
from tests.live_world import download, holding_world
from tests.sign_out_world import (
    answer,
    event_claims,
    event_token,
    logout_claims,
    logout_token,
    person,
    push,
    tell,
)

CAEP = SESSION_REVOKED.removesuffix("session-revoked")
VERIFICATION = "https://schemas.openid.net/secevent/ssf/event-type/verification"
WAYS = {"logout": (tell, logout_token, 200), "event": (push, event_token, 202)}
both_ways = pytest.mark.parametrize(("send", "make", "good"), WAYS.values(), ids=WAYS)


@pytest.fixture
async def world(tmp_path):
    async with holding_world(tmp_path) as world:
        assert 200 == (await world.choose("week", ["read", "write"]))[0]
        yield world


@pytest.fixture
async def quick(tmp_path):
    """A world whose app answers at once."""
    async with open_world(tmp_path) as world:
        assert 200 == (await world.choose("week"))[0]
        yield world


async def refused(world, token):
    """Return why a request with a token is refused."""
    status, _, body = await world.get(token)
    assert 403 == status
    return answer((status, None, body))[1]["reason"]


@both_ways
async def test_all_that_a_person_has_open_is_cut(world, send, make, good):
    """In every account, before the provider has its answer; another person's streams and the customers' go on."""
    await world.add_account("beta")
    assert 200 == (await world.choose("week", account="beta"))[0]
    mine = [await world.token(), await world.token()]
    hers = await world.token(actor_token=world.actor_token("erin"))
    async with (
        download(world, mine[0]) as one,
        download(world, mine[1]) as two,
        download(world, hers) as other,
        download(world, None) as customer,
    ):
        status, headers, body = await send(world, make(world))
        assert (good, b"", "no-store") == (status, body, headers["cache-control"])
        assert (b"", b"") == (await one.is_cut(), await two.is_cut())
        assert ["assumption_ended"] * 2 == [await refused(world, token) for token in mine]
        assert (await other.finishes(world)).endswith(b"last\r\n0\r\n\r\n")
        assert (await customer.finishes(world)).endswith(b"last\r\n0\r\n\r\n")
    assert 200 == (await world.get(hers))[0]


@both_ways
async def test_it_is_on_the_record(quick, send, make, good):
    """Who was signed out, by whose word, with the notice's own id, and each assumption that ended."""
    await quick.token()
    sid = quick.records(kind="token", decision="allow")[-1]["assumption"]
    token = make(quick, jti="n-1")
    assert good == (await send(quick, token))[0]
    [told] = quick.records(kind="staff")
    assert ("dana", quick.issuer.issuer, "n-1", "127.0.0.1") == (
        told["actor"]["subject"],
        told["by"],
        told["token_id"],
        told["client_ip"],
    )
    assert told["reason"] == ("signed_out" if send is tell else "session_revoked")
    [ended] = quick.records(kind="assumption")
    assert (sid, "acme", "maria", "SUP-1", "ended", told["request_id"]) == tuple(
        ended[name] for name in ("assumption", "account", "subject", "ticket", "reason", "request_id")
    )
    assert token not in (quick.directory / "journal" / "gateway-000000000000.jsonl").read_text()


@both_ways
async def test_a_sign_in_from_before_starts_nothing_more(quick, send, make, good):
    """Neither its token nor one that is made anew for it, not of that very second; a sign-in from after it does."""
    before = quick.actor_token()
    quick.clock.forward(seconds=10)
    assert good == (await send(quick, make(quick)))[0]
    at_once = quick.actor_token()
    quick.clock.forward(seconds=1)
    anew = quick.actor_token(auth_time=quick.clock.now.replace(year=2020))
    for token in (before, at_once, anew):
        status, document = await quick.ask(actor_token=token)
        assert (400, "insufficient_user_authentication", "staff_signed_out") == (
            status,
            document["error"],
            document["reason"],
        )
    assert 200 == (await quick.ask(actor_token=quick.actor_token()))[0]
    assert 200 == (await quick.ask(actor_token=quick.actor_token("erin", now=quick.clock.start)))[0]


@both_ways
async def test_somebody_who_was_never_here_is_kept_out_too(quick, send, make, good):
    """Who signs out before they come here for the first time does not come in by the old sign-in."""
    before = quick.actor_token("frank")
    assert good == (await send(quick, make(quick, "frank")))[0]
    assert "staff_signed_out" == (await quick.ask(actor_token=before))[1]["reason"]
    quick.clock.forward(seconds=1)
    assert 200 == (await quick.ask(actor_token=quick.actor_token("frank")))[0]


async def test_a_sign_out_while_an_assumption_begins_ends_it(tmp_path):
    """The app takes its time to say whether the agent exists; by then the person is out, and there is no token."""
    gate, asked = asyncio.Event(), asyncio.Event()

    async def probe(connection):
        asked.set()
        await gate.wait()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def change(document):
        document["upstream"]["profile"] = "demo-helpdesk"

    async with open_world(tmp_path, script=lambda _request: probe, change=change) as world:
        await world.choose("week")
        asking = asyncio.ensure_future(world.ask())
        await asked.wait()
        assert 200 == (await tell(world, logout_token(world)))[0]
        gate.set()
        assert "staff_signed_out" == (await asking)[1]["reason"]
        assert [] == list(await world.gateway.store.list_assumptions(at=world.clock.now))


async def test_a_logout_token_is_used_once(quick):
    """Of two hundred at a time one ends something; an event that is pushed again is answered as before (RFC 8935 2)."""
    token, event = logout_token(quick), event_token(quick)
    assert 200 == (await tell(quick, logout_token(quick, "erin")))[0], "so that the provider's keys are known"
    told = [reply[0] for reply in await asyncio.gather(*(tell(quick, token) for _ in range(200)))]
    assert 1 == told.count(200)
    assert set(told) <= {200, 400, 503}, "503 is the answer while it is not known yet how the first comes out"
    status, error = answer(await tell(quick, token))
    assert (400, "invalid_request", "the logout token was used before") == (
        status,
        error["error"],
        error["error_description"],
    )
    pushed = {reply[0] for reply in await asyncio.gather(*(push(quick, event) for _ in range(200)))}
    assert {202} <= pushed <= {202, 503}
    assert 202 == (await push(quick, event))[0]
    assert ["erin", "dana", "dana"] == [one["actor"]["subject"] for one in quick.records(kind="staff")]


@both_ways
async def test_a_copy_that_another_process_takes_ends_nothing_new(quick, send, make, good):
    """Whoever has no memory of a notice believes it, and it is still about what was before it only."""
    token = make(quick)
    assert good == (await send(quick, token))[0]
    quick.clock.forward(seconds=2)
    fresh = await quick.token()
    await quick.gateway.renew(quick.gateway.config)
    assert good == (await send(quick, token))[0]
    assert 200 == (await quick.get(fresh))[0]
    assert 1 == len(await quick.gateway.store.list_assumptions(at=quick.clock.now))


async def test_a_tenant_is_an_account_of_ours(quick):
    """A session that is revoked in one account goes on in the others, and a copy of the event ends nothing new."""
    await quick.add_account("beta")
    assert 200 == (await quick.choose("week", account="beta"))[0]
    acme, hers = await quick.token(), await quick.token(actor_token=quick.actor_token("erin"))
    await quick.token(account="beta")
    subject = {"format": "complex", "user": person(quick), "tenant": {"format": "opaque", "id": "acme"}}
    event = event_token(quick, sub_id=subject)
    assert 202 == (await push(quick, event))[0]
    assert "assumption_ended" == await refused(quick, acme)
    assert 200 == (await quick.get(hers))[0]
    assert {("acme", "erin"), ("beta", "dana")} == {
        (one.account, one.actor.subject) for one in await quick.gateway.store.list_assumptions(at=quick.clock.now)
    }
    quick.clock.forward(seconds=6)
    fresh = await quick.token()
    await quick.gateway.renew(quick.gateway.config)
    assert 202 == (await push(quick, event))[0]
    assert 200 == (await quick.get(fresh))[0]


async def test_a_group_that_is_gone_at_the_provider_ends_what_it_allowed_at_once(quick):
    """CAEP `token-claims-change`: the token counts no more, and the next sign-in brings the claims as they are now."""
    token = await quick.token()
    change = {f"{CAEP}token-claims-change": {"claims": {"groups": ["support"]}}}
    assert 202 == (await push(quick, event_token(quick, events=change)))[0]
    assert "assumption_ended" == await refused(quick, token)
    assert "staff_signed_out" == (await quick.ask())[1]["reason"]
    assert "token_claims_change" == quick.records(kind="staff")[-1]["reason"]
    quick.clock.forward(seconds=1)
    assert "staff_not_allowed" == (await quick.ask(actor_token=quick.actor_token(groups=["sales"])))[1]["reason"]
    assert 200 == (await quick.ask(actor_token=quick.actor_token("erin")))[0]


async def test_what_ends_nothing_is_taken_and_ends_nothing(quick):
    """A verification of the stream, which is about the stream itself, and events of other kinds."""
    token = await quick.token()
    kinds = [VERIFICATION, f"{CAEP}risk-level-change", "https://example.com/x"]
    for kind in kinds:
        event = event_token(quick, events={kind: {"state": "x"}}, sub_id={"format": "opaque", "id": "stream"})
        assert (202, b"") == (await push(quick, event))[::2]
    assert 200 == (await quick.get(token))[0]
    assert [] == quick.records(kind="staff")


async def test_no_kind_of_token_counts_as_another(quick):
    """An ID token signs nobody out, a notice signs nobody in, and neither notice counts as the other."""
    token = await quick.token()
    for claims in (logout_claims(quick), logout_claims(quick, nonce="n"), logout_claims(quick, events=DROP)):
        status, error = answer(await push(quick, quick.issuer.signed(claims, type_="JWT")))
        assert (400, "invalid_request") == (status, error["err"])
    for claims in (event_claims(quick), logout_claims(quick, events=DROP)):
        assert 400 == (await tell(quick, quick.issuer.signed(claims, type_="JWT")))[0]
    assert 400 == (await tell(quick, quick.actor_token()))[0]
    assert 200 == (await quick.get(token))[0]
    notices = [
        quick.issuer.signed(logout_claims(quick, groups=["support"]), type_="JWT"),
        quick.issuer.signed(logout_claims(quick, groups=["support"], events=DROP), type_="logout+jwt"),
        quick.issuer.signed(logout_claims(quick, groups=["support"], events=DROP), type_="application/SecEvent+jwt"),
    ]
    for notice in notices:
        status, document = await quick.ask(actor_token=notice)
        assert (400, "token_invalid") == (status, document["reason"])


async def test_a_sign_out_is_about_one_person_of_one_issuer(quick):
    """The same name in capitals, or at another issuer, is somebody else."""
    token = await quick.token()
    for subject in ("Dana", "dana ", "dan", "dana@vendor.example"):
        assert 200 == (await tell(quick, logout_token(quick, subject)))[0]
    assert 200 == (await quick.get(token))[0]
    other = ActorId(issuer="https://other.example", subject="dana")
    assert None is await quick.gateway.store.find_staff(other)


async def test_a_notice_that_comes_late_ends_what_was_begun_before_it(quick):
    """Of minutes ago, for a session of then: a newer sign-in's work goes on, and the older one's ends."""
    before = await quick.token()
    late = logout_token(quick, exp=int(quick.clock.now.timestamp()) + 3000)
    sign_in = quick.actor_token()
    quick.clock.forward(minutes=4)
    of_then = await quick.token(actor_token=sign_in)
    since = await quick.token()
    assert 200 == (await tell(quick, late))[0]
    assert "assumption_ended" == await refused(quick, before) == await refused(quick, of_then)
    assert 200 == (await quick.get(since))[0]
