"""Keys change under a running gateway: with every token that counts let through, and with none of a key that was ended."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from aiohttp.test_utils import make_mocked_request

from gateway.config.load import build
from gateway.stores.store import StoreError
from gateway.tokens.compact import read_compact
from gateway.tokens.jwks import JwksEndpoint
from gateway.tokens.keys import KeyRing, KeyTerms, open_keys
from gateway.tokens.stored import StoredKeys, carry_out, make_all, times_of
from policy import keys as life
from policy.keys import OVERLAP, PUBLISHED_FIRST
from tests.forgery import NOON
from tests.gateway_world import document, open_world
from tests.memory_store import MemoryStore
from tests.patience import PATIENCE_SECONDS, within
from tests.process_world import Line
from tests.rawwire import hold, response
from tests.upstream_client import eventually

FIRST = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
JWKS = "/.locum/jwks.json"


@pytest.fixture
async def world(tmp_path):
    """A gateway whose app never ends `/events`, with an account that may be assumed."""
    never = asyncio.Event()

    def answer(request):
        return hold(never, before=FIRST, after=b"") if request.target == b"/events" else response()

    async with open_world(tmp_path, script=answer) as world:
        assert 200 == (await world.choose("day"))[0]
        yield world


async def change(world, plan_of, **options):
    """Do with the keys as a command does, at the world's time; return the new keys' ids once the gateway knows."""
    store, now = world.gateway.store, world.clock.now
    before = world.gateway.follower.position
    plan = plan_of(times_of(await store.list_keys()), needs={"EdDSA"}, now=now, **options)
    made = await make_all(plan, now=now)
    await carry_out(store, plan, made)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while world.gateway.follower.position < (await store.read_changes(before)).position:  # noqa: ASYNC110 - as long as it takes
            await asyncio.sleep(0)
    return [key.id for key in made]


async def published(world, **headers):
    async with world.http.get(f"{world.gateway.public_url}{JWKS}", headers=headers) as answer:
        document = await answer.json(content_type=None) if answer.status == 200 else {"keys": []}
        return answer.status, answer.headers, [key["kid"] for key in document["keys"]]


@asynccontextmanager
async def line_to(world):
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()


def assertions(world):
    """The assertions that the app got, in their order."""
    return [value for request in world.upstream.requests for value in request.values(b"x-locum-assertion")]


def signed_by(assertion):
    """The id of the key that an assertion names."""
    return read_compact(assertion.decode()).header["kid"]


async def test_a_rotation_fails_nobody(world):
    """What was issued, what is open and what is remembered goes on; the new key signs once all may know it."""
    token, old = await world.token(), world.gateway.keys.signing.id
    async with line_to(world) as kept, line_to(world) as events:
        assert 200 == (await kept.get(token))[0]
        events.send(token, "/events")
        assert 200 == (await events.head())[0]
        [new] = await change(world, life.rotation)
        assert {old, new} == set((await published(world))[2])
        assert [200, 200] == [(await kept.get(token))[0], (await world.get(token))[0]]
        # The very same assertion: nothing that still counts was thrown away.
        assert (4, 1) == (len(assertions(world)), len(set(assertions(world))))
        world.clock.forward(seconds=PUBLISHED_FIRST.total_seconds() - 1)
        assert old == world.gateway.keys.signing.id
        world.clock.forward(seconds=1)
        after = await world.token()
        assert new == world.gateway.keys.signing.id == world.gateway.keys.assertions.id
        assert [200] * 4 == [
            (await kept.get(token))[0],
            (await world.get(token))[0],
            (await kept.get(after))[0],
            (await world.get(after))[0],
        ]
        assert 1 == len(world.gateway.live)
        world.clock.forward(seconds=OVERLAP.total_seconds())
        assert [new] == (await published(world))[2]
        assert 200 == (await world.get(await world.token()))[0]


async def test_a_key_that_is_ended_counts_no_more_at_all(world):
    """For a connection that is open, for a new one, for a stream: cut, refused, on the record; a new one goes on at once."""
    token, old = await world.token(), world.gateway.keys.signing.id
    async with line_to(world) as kept, line_to(world) as events, line_to(world) as customer:
        assert [200, 200] == [(await kept.get(token))[0], (await customer.get())[0]]
        events.send(token, "/events")
        assert 200 == (await events.head())[0]
        await events.reader.readuntil(b"first\r\n")
        [new] = await change(world, life.ending, key_id=old)
        async with within(1):
            assert b"" == await events.rest()
        assert [401, 401, 200] == [(await kept.get(token))[0], (await world.get(token))[0], (await customer.get())[0]]
        assert 2 == len(world.records(decision="deny", reason="token_invalid"))
        await eventually(lambda: world.records(kind="completion", ended="cut", reason="token_invalid"))
        assert [new] == (await published(world))[2]
        after = await world.token()
        assert [200, 200] == [(await customer.get(after))[0], (await world.get(after))[0]]
        assert [old, old, new, new] == [signed_by(each) for each in assertions(world)]


async def test_a_key_ends_while_its_request_waits_for_facts(world):
    """The token was good when it was read; by the time there is an answer it is not, and nothing goes to the app."""
    token, old = await world.token(), world.gateway.keys.signing.id
    assert 200 == (await world.get(token))[0]
    heard = len(world.upstream.requests)
    facts = world.gateway._state.facts
    loading, of_request = asyncio.Event(), facts.of_request

    async def slow(account, claims):
        loading.set()
        while world.gateway.keys.knows(old):  # noqa: ASYNC110 - until the gateway has heard
            await asyncio.sleep(0)
        return await of_request(account, claims)

    facts.of_request = slow
    facts.forget_all()
    waiting = asyncio.ensure_future(world.get(token))
    await loading.wait()
    await change(world, life.ending, key_id=old)
    assert 401 == (await waiting)[0]
    assert heard == len(world.upstream.requests)


async def test_a_given_key_that_is_taken_out_ends_what_it_has_begun(world):
    """By a reload; what its token has open is cut, too."""
    from tests.test_reload import new_key, renew, with_key  # noqa: PLC0415 - it brings its own fixtures

    given = new_key()
    await renew(world, with_key(given))
    token = await world.token()
    async with line_to(world) as events:
        events.send(token, "/events")
        assert 200 == (await events.head())[0]
        await events.reader.readuntil(b"first\r\n")
        await renew(world, with_key(new_key(), given))
        assert 1 == len(world.gateway.live)
        await renew(world, with_key(new_key()))
        async with within(1):
            assert b"" == await events.rest()
    assert 401 == (await world.get(token))[0]


async def test_another_algorithm_takes_over_as_a_rotation_does(world):
    """Configured by a reload, published at once, signing once all may know it; no token is refused in between."""
    token = await world.token()
    wanted = document(world.directory, upstream=world.upstream.url, issuer=world.issuer.issuer)
    wanted["identity"] = {"algorithm": "ES256"}
    await world.gateway.renew(build(wanted, {}, base=world.directory))
    keys = world.gateway.keys
    assert (2, "EdDSA") == (len((await published(world))[2]), keys.assertions.algorithm)
    world.clock.forward(seconds=PUBLISHED_FIRST.total_seconds())
    assert ("EdDSA", "ES256") == (keys.signing.algorithm, keys.assertions.algorithm)
    assert [200, 200] == [(await world.get(each))[0] for each in (token, await world.token())]


async def test_whoever_has_the_keys_hears_that_they_are_the_same(world):
    """304 for a known tag, in a list and weak too; a changed key is another tag; nobody keeps them for over a minute."""
    status, headers, [key] = await published(world)
    assert (200, "max-age=60", "application/jwk-set+json") == (
        status,
        headers["Cache-Control"],
        headers["Content-Type"],
    )
    tag = headers["ETag"]
    for known in (tag, f'"x", {tag}', f"W/{tag}", "*"):
        again = await published(world, **{"If-None-Match": known})
        assert (304, tag, "max-age=60") == (again[0], again[1]["ETag"], again[1]["Cache-Control"])
    assert 200 == (await published(world, **{"If-None-Match": '"x"'}))[0]
    async with world.http.head(f"{world.gateway.public_url}{JWKS}") as answer:
        assert (200, tag) == (answer.status, answer.headers["ETag"])
    [new] = await change(world, life.rotation)
    status, headers, keys = await published(world, **{"If-None-Match": tag})
    assert (200, {key, new}) == (status, set(keys))
    assert tag != headers["ETag"]
    # What the app has at its well-known place stays the app's.
    assert 200 == (await world.get(target="/.well-known/jwks.json"))[0]
    assert b"/.well-known/jwks.json" == world.upstream.requests[-1].target


@pytest.mark.parametrize(
    ("lost", "stale", "said"),
    [(False, False, (200, "max-age=60")), (True, False, (200, "no-cache")), (True, True, (503, "no-store"))],
)
async def test_nobody_keeps_keys_of_which_it_is_not_known_whether_they_are_all(lost, stale, said):
    """While changes are not heard of they are shown without leave to keep them, and not at all by an older store."""
    keys = await open_keys(MemoryStore(), KeyTerms(), now=NOON)
    endpoint = JwksEndpoint(keys, is_lost=lambda: lost, is_stale=lambda: stale)
    answer = await endpoint.show(make_mocked_request("GET", JWKS))
    assert said == (answer.status, answer.headers["Cache-Control"])
    empty = JwksEndpoint(KeyRing(KeyTerms(), StoredKeys(MemoryStore(), lambda: NOON)), is_lost=bool, is_stale=bool)
    answer = await empty.show(make_mocked_request("GET", JWKS))
    assert (503, "no-store", "1") == (answer.status, answer.headers["Cache-Control"], answer.headers["Retry-After"])


async def test_while_the_keys_cannot_be_read_nobody_is_let_in(world, monkeypatch):
    """Something has changed, and it is not known which tokens count; once it is, all is as before."""
    token, store = await world.token(), world.gateway.store
    assert 200 == (await world.get(token))[0]
    tries = []

    async def fail():
        tries.append(1)
        raise StoreError("away")

    monkeypatch.setattr(store, "list_keys", fail)
    await store.raise_position(0)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not tries:  # noqa: ASYNC110 - until the gateway has heard
            await asyncio.sleep(0)
    assert [503, 200] == [(await world.get(each))[0] for each in (token, None)]
    monkeypatch.undo()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while 200 != (await world.get(token))[0]:  # noqa: ASYNC110 - as a client would find out
            await asyncio.sleep(0.01)


async def test_the_age_of_the_keys_shows(world):
    """By what they sign; it is the new key's once that signs."""
    made = world.clock.now.timestamp()
    assert {"tokens": made, "assertions": made, "journal": made} == await ages(world)
    world.clock.forward(hours=1)
    await change(world, life.rotation)
    assert made == (await ages(world))["tokens"]
    rotated = world.clock.now
    world.clock.forward(seconds=PUBLISHED_FIRST.total_seconds())
    assert {"tokens": rotated.timestamp(), "assertions": rotated.timestamp(), "journal": made} == await ages(world)


async def ages(world):
    async with world.http.get(f"{world.gateway.admin_url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    found = [line for line in lines if line.startswith("locum_key_created_timestamp_seconds{")]
    return {line.split('use="')[1].partition('"')[0]: float(line.rpartition(" ")[2]) for line in found}
