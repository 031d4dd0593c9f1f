"""The app's setting as the source of grants: whatever the app does but answer well keeps staff out, and nobody else."""

import asyncio

import pytest
import pytest_asyncio

from tests.app_world import answer, on, open_app_world, renew
from tests.certificates import Authority
from tests.live_world import caught_up
from tests.patience import PATIENCE_SECONDS, within
from tests.rawwire import chunked_response, hold, response, then_close, then_reset

shared = pytest.mark.asyncio(loop_scope="module")
GOOD_TYPE = [(b"Content-Type", b"application/json")]


def typed(body, content_type=b"application/json", *more, status=b"200 OK"):
    return response(body, status=status, headers=[(b"Content-Type", content_type), *more])


def good(world):
    return answer(on(world.clock))


def never():
    return hold(asyncio.Event())


FAULTS = {
    "500": lambda w: typed(b'{"error": "x"}', status=b"500 Internal Server Error"),
    "500 with a good body": lambda w: good(w).replace(b"200 OK", b"500 Oops"),
    "401": lambda w: typed(b"{}", status=b"401 Unauthorized"),
    "403": lambda w: typed(b"{}", status=b"403 Forbidden"),
    "429": lambda w: typed(b"{}", b"application/json", (b"Retry-After", b"60"), status=b"429 Too Many Requests"),
    "another success": lambda w: good(w).replace(b"200 OK", b"203 Somebody Else's"),
    "204": lambda w: b"HTTP/1.1 204 No Content\r\n\r\n",
    "HTML": lambda w: typed(b"<h1>Sign in</h1>", b"text/html"),
    "HTML that says it is JSON": lambda w: typed(b"<h1>Sign in</h1>"),
    "an empty object": lambda w: typed(b"{}"),
    "null": lambda w: typed(b"null"),
    "nothing": lambda w: typed(b""),
    "truncated JSON": lambda w: typed(good(w).partition(b"\r\n\r\n")[2][:-2]),
    "members twice": lambda w: typed(good(w).partition(b"\r\n\r\n")[2].replace(b'"assumable"', b'"assumable": true, "assumable"', 1)),
    "another type": lambda w: good(w).replace(b"application/json", b"application/problem+json"),
    "no type": lambda w: response(good(w).partition(b"\r\n\r\n")[2]),
    "packed": lambda w: typed(good(w).partition(b"\r\n\r\n")[2], b"application/json", (b"Content-Encoding", b"gzip")),
    "oversized": lambda w: typed(good(w).partition(b"\r\n\r\n")[2][:-1] + b', "pad": "' + b"x" * 65536 + b'"}'),
    "endless": lambda w: chunked_response(*[b" " * 4096] * 17, good(w).partition(b"\r\n\r\n")[2], headers=GOOD_TYPE),
    "a redirect to itself": lambda w: typed(b"", b"text/html", (b"Location", b"/accounts/acme/settings"), status=b"302 Found"),
    "a permanent redirect": lambda w: typed(b"", b"text/html", (b"Location", b"/"), status=b"308 Permanent Redirect"),
    "silence": lambda w: never(),
    "silence behind the head": lambda w: hold(asyncio.Event(), before=good(w).partition(b"{")[0]),
    "a slow drip": lambda w: trickle(good(w)),
    "a reset in the body": lambda w: then_reset(good(w)[:-20]),
    "a close in the body": lambda w: then_close(good(w)[:-20]),
    "a close at once": lambda w: then_close(b""),
    "no HTTP": lambda w: then_close(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "an unknown duration": lambda w: answer(on(w.clock, "decade")),
    "a week without an end": lambda w: answer(on(w.clock, ends=None)),
}  # fmt: skip
SLOW = {"silence", "silence behind the head", "a slow drip"}
SOON = 0.25
"""Seconds that an app of these has to answer."""


def trickle(raw):
    """Each byte is in time, and the whole never is."""

    async def send(connection):
        for index in range(len(raw)):
            await connection.send(raw[index : index + 1])
            await asyncio.sleep(0.02)

    return send


async def kept_out(world, token):
    """Staff are refused in time and told when to come back; a customer is served as ever."""
    seen = len(world.upstream.requests)
    async with within(0.5):
        status, headers, body = await world.get(token)
    assert (503, "1") == (status, headers["retry-after"])
    assert b"store_unavailable" in body
    assert seen == len(world.upstream.requests)
    assert (200, b"ok") == (await world.get(None))[0::2]


async def let_in(world, token):
    """Staff are let in: at once, or once the app has come to answer in the little time that it may have."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (status := (await world.get(token))[0]) == 503:
            pass
    assert 200 == status


async def token_in_time(world):
    """Return a token, likewise."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await world.ask())[0] == 503:
            pass
    return await world.token()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_world(tmp_path_factory):
    """One gateway for every fault that passes."""
    async with open_app_world(tmp_path_factory.mktemp("faults")) as world:
        yield world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hurried_world(tmp_path_factory):
    """One whose app has little time to answer, for those that are nothing but slow."""
    async with open_app_world(tmp_path_factory.mktemp("slow"), answer_seconds=SOON) as world:
        yield world


@shared
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_of_the_app_keeps_staff_out_and_nobody_else(shared_world, hurried_world, fault):
    """Warm and fresh, what was known counts; warm and stale, or cold, nobody is let in; then it mends by itself."""
    world, answer_seconds = (hurried_world, SOON) if fault in SLOW else (shared_world, PATIENCE_SECONDS)
    token = await token_in_time(world)
    # Or what the first answer changed may be heard of when everything is fresh, and make it old.
    await caught_up(world)
    await let_in(world, token)
    epoch = (await world.gateway.store.find_account("acme")).account.epoch
    try:
        world.app.script = lambda _request: FAULTS[fault](world)
        await let_in(world, token)
        world.clock.forward(seconds=3)
        await kept_out(world, token)
        await renew(world, answer_seconds=answer_seconds)
        await kept_out(world, token)
        status, document = await world.ask()
        assert (503, "store_unavailable") == (status, document["reason"])
    finally:
        world.app.script = None
    await let_in(world, token)
    # Nothing was learned from it either.
    assert epoch == (await world.gateway.store.find_account("acme")).account.epoch


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(tmp_path, status):
    """Though the place that it names would have answered well."""
    async with open_app_world(tmp_path) as world:
        token = await world.token()
        places = []

        def lead_away(request):
            places.append(request.target)
            if request.target == b"/elsewhere/acme":
                return good(world)
            return typed(b"", b"text/html", (b"Location", b"/elsewhere/acme"), status=b"%d Moved" % status)

        world.app.script = lead_away
        world.clock.forward(seconds=3)
        await kept_out(world, token)
        assert {b"/accounts/acme/settings"} == set(places)


async def test_an_app_that_is_gone_keeps_staff_out(tmp_path):
    """Its port is closed: what was known counts as long as facts do, and not a moment longer."""
    async with open_app_world(tmp_path) as world:
        token = await world.token()
        await caught_up(world)
        await let_in(world, token)
        await world.app.stop()
        world.clock.forward(seconds=1.9)
        await let_in(world, token)
        world.clock.forward(seconds=0.1)
        await kept_out(world, token)
        await renew(world)
        await kept_out(world, token)


async def test_a_name_that_cannot_be_found_keeps_staff_out(tmp_path):
    """Which `.invalid` never can (RFC 6761 section 6.4)."""
    async with open_app_world(tmp_path) as world:
        token = await world.token()
        elsewhere = {"url": "https://{account}.desk.invalid/settings"}
        await renew(world, lambda grants: grants["http"].update(elsewhere), answer_seconds=SOON)
        await kept_out(world, token)
        world.clock.forward(seconds=3)
        await kept_out(world, token)


@pytest.mark.parametrize("wrong", ["authority", "name"])
async def test_an_app_that_cannot_show_itself_keeps_staff_out(tmp_path, wrong):
    """A certificate of somebody else's authority, or for somebody else, is no app's; the right one is."""
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    shown = theirs.issue("localhost") if wrong == "authority" else ours.issue("app.example")

    def trust(grants, name):
        grants["http"]["tls"] = {"ca": str((theirs if wrong == "authority" else ours).file), "server_name": name}

    right = "localhost" if wrong == "authority" else "app.example"
    async with open_app_world(tmp_path, tls=shown.as_server(), change=lambda grants: trust(grants, right)) as world:
        token = await world.token()
        await let_in(world, token)

        def mistrust(grants):
            grants["http"]["tls"] = {"ca": str(ours.file)}

        await renew(world, mistrust)
        await kept_out(world, token)
        world.clock.forward(seconds=3)
        await kept_out(world, token)
        await renew(world, lambda grants: trust(grants, right))
        await let_in(world, token)


async def test_the_answer_for_another_account_opens_none(tmp_path):
    """Where the answers name their account, one that names another, or none, is no answer."""

    def named(grants):
        grants["http"]["fields"] = {"account": "/account"}

    async with open_app_world(tmp_path, change=named) as world:
        world.app.script = lambda _request: answer(on(world.clock), account="acme")
        token = await world.token()
        await let_in(world, token)
        for more in ({"account": "other"}, {"account": None}, {}):
            world.app.script = lambda _request, more=more: answer(on(world.clock), **more)
            world.clock.forward(seconds=3)
            await kept_out(world, token)


async def test_the_question_is_what_was_configured_and_nothing_else(tmp_path):
    """One GET with the credential; no cookie that the app set comes back, and nothing of staff's request is in it."""

    def more(grants):
        grants["http"] |= {"headers": {"X-Api-Version": "2"}, "credential_header": "X-Api-Key"}

    async with open_app_world(tmp_path, change=more) as world:
        inner = good(world).replace(b"\r\n", b"\r\nSet-Cookie: session=1; Path=/\r\n", 1)
        world.app.script = lambda _request: inner
        token = await world.token()
        for _ in range(3):
            world.clock.forward(seconds=3)
            assert 200 == (await world.get(token, headers=[("Cookie", "mine=1")]))[0]
        questions = world.app.upstream.requests
        assert {b"GET /accounts/acme/settings HTTP/1.1"} == {request.first_line for request in questions}
        for request in questions:
            assert [b"Bearer what-the-app-expects"] == request.values(b"x-api-key")
            assert [b"2"] == request.values(b"x-api-version")
            assert [b"identity"] == request.values(b"accept-encoding")
            assert [] == [
                *request.values(b"cookie"),
                *request.values(b"authorization"),
                *request.values(b"content-length"),
            ]
        assert len(questions) == len(world.app.upstream.connections), "no connection is used twice"


async def test_many_who_wait_make_one_question(tmp_path):
    """Fifty requests at once for an account that is not known ask the app once."""
    async with open_app_world(tmp_path) as world:
        token = await world.token()
        await caught_up(world)
        world.clock.forward(seconds=3)
        asked = len(world.app.upstream.requests)
        gate = asyncio.Event()
        world.app.script = lambda _request: hold(gate, after=good(world))
        requests = [asyncio.ensure_future(world.get(token)) for _ in range(50)]
        await world.app.upstream.until(lambda: len(world.app.upstream.requests) > asked)
        gate.set()
        assert {200} == {(await request)[0] for request in requests}
        assert asked + 1 == len(world.app.upstream.requests)


async def test_an_account_that_no_host_can_name_is_not_asked_about(tmp_path):
    """What is put into the URL is an account's name, never a way to another place."""
    async with open_app_world(tmp_path) as world:
        world.app.asked.clear()
        for account in ("../admin", "acme/../x", "a.b", "acme?x=1", "", "a" * 64, "ACME"):
            status, document = await world.ask(account=account)
            assert 400 == status, account
            assert "access_token" not in document
        assert 0 == world.app.asked.total()
