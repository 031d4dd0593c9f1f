"""A rotation under traffic: several workers of one machine, and several machines; not one request fails, at no app."""

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

from gateway.app import open_gateway
from gateway.clock import utc_now
from gateway.config.load import build
from gateway.stores.sqlite import open_sqlite
from gateway.tokens.compact import read_compact
from gateway.tokens.stored import carry_out, make_all, times_of
from policy import keys as life
from policy.keys import OVERLAP, PUBLISHED_FIRST
from tests.gateway_world import document, open_world
from tests.patience import PATIENCE_SECONDS, within
from tests.process_world import open_process_world, until
from tests.rawwire import response
from tests.test_operators_end import FIRST, told

LEAD_SECONDS = 1.2
KEPT_SECONDS = 0.6
"""So long the apps here keep the published keys: a minute of five, as much shorter as the lead."""
NEEDS = {"EdDSA"}


def key_of(token):
    return read_compact(token).header["kid"]


@dataclass
class Traffic:
    """What staff, customers and an app do all the while, each on a connection of their own, and what came of it."""

    world: object
    tokens: list
    answers: list = field(default_factory=list)
    keys_seen: list = field(default_factory=list)
    """When an app fetched the keys, and which there were."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def flowing(self, *, lines=6):
        async with asyncio.TaskGroup() as group:
            for number in range(lines):
                group.create_task(self.ask(number))
            group.create_task(self.fetch())
            group.create_task(self.exchange())
            try:
                yield
            finally:
                self.ended.set()

    async def ask(self, number):
        while not self.ended.is_set():
            async with self.world.connection() as line:
                for turn in range(20):
                    token = self.tokens[(number + turn) % len(self.tokens)] if turn % 4 else None
                    status, _, _ = await line.get(token)
                    self.answers.append(status)
                    # Traffic enough, and processors left for those who serve it.
                    await asyncio.sleep(0.01)

    async def exchange(self):
        while not self.ended.is_set():
            # Somebody else each time, for nobody may begin so much at once.
            somebody = self.world.actor_token(f"u{len(self.tokens)}")
            self.tokens.append(await self.world.token(actor_token=somebody))
            await asyncio.sleep(0.1)

    async def fetch(self):
        while not self.ended.is_set():
            began = time.monotonic()
            async with self.world.http.get(f"{self.world.gateway.public_url}/.locum/jwks.json") as answer:
                document = await answer.json(content_type=None)
            self.keys_seen.append((began, {key["kid"] for key in document["keys"]}))
            await asyncio.sleep(KEPT_SECONDS / 4)

    def unknown_to_an_app(self, arrivals):
        """The assertions whose key an app did not know that had fetched the keys within the time that it keeps them."""
        return [
            key
            for at, key in arrivals
            for fetched, keys in self.keys_seen
            if at - KEPT_SECONDS <= fetched <= at and key not in keys
        ]


async def rotate(store, now):
    """Do what `locum keys rotate` does, with a shorter lead; return the old key's id and the new one's."""
    times = times_of(await store.list_keys())
    plan = life.rotation(times, NEEDS, now, lead=timedelta(seconds=LEAD_SECONDS))
    made = await make_all(plan, now=now)
    await carry_out(store, plan, made)
    return life.signer(times, "EdDSA", now).id, made[0].id


async def test_two_workers_change_their_keys_under_traffic(tmp_path):
    """Nobody is refused and no assertion surprises an app; a key that is ended then ends in both, and what it opened."""
    arrivals = []

    async def stream(connection):
        await connection.send(FIRST)
        await asyncio.Event().wait()

    def answer(request):
        arrivals.extend((time.monotonic(), key_of(each.decode())) for each in request.values(b"x-locum-assertion"))
        return stream if request.target == b"/events" else response()

    # Assertions of two seconds at the most, so that new ones are signed all the while.
    settings = {"workers": 2, "more": "[identity]\nassertion_seconds = 1\n"}
    async with open_process_world(tmp_path, script=answer) as world, world.running(**settings):
        assert 200 == (await world.choose("day"))[0]
        traffic = Traffic(world, [await world.token()])
        store = await open_sqlite(tmp_path / "data" / "locum.sqlite3")
        async with traffic.flowing():
            await until(lambda: len(traffic.answers) > 50)
            old, new = await rotate(store, utc_now())
            await until(lambda: key_of(traffic.tokens[-1]) == new)
            begun = len(traffic.answers)
            await until(lambda: len(traffic.answers) > begun + 100 and arrivals[-1][1] == new)
        await store.close()
        assert {200} == set(traffic.answers)
        assert {old, new} == {key for _, key in arrivals} == {key_of(token) for token in traffic.tokens}
        assert [] == traffic.unknown_to_an_app(arrivals)

        by_old = next(token for token in traffic.tokens if key_of(token) == old)
        async with AsyncExitStack() as stack:
            lines = [await stack.enter_async_context(world.connection()) for _ in range(8)]
            for line in lines:
                line.send(by_old, "/events")
                assert 200 == (await line.head())[0]
                await line.reader.readuntil(b"first\r\n")
            await told(world, "keys", "retire", old, "--now")
            async with within(1):
                assert {b""} == {await line.rest() for line in lines}
        assert {"gateway-0", "gateway-1"} == {
            record["origin"] for record in world.records(path="/events", decision="allow")
        }
        assert {401} == {(await world.get(by_old))[0] for _ in range(12)}
        assert {200} == {(await world.get(traffic.tokens[-1]))[0] for _ in range(12)}


async def test_two_machines_change_their_keys_together(postgres, database, tmp_path):
    """Each hears of it from the database; what one signs the other lets through, before, in between and after."""

    def shared(wanted):
        wanted["store"] = {"url": postgres.url(database)}

    directories = [tmp_path / "a", tmp_path / "b"]
    for directory in directories:
        directory.mkdir(mode=0o700)
    async with open_world(directories[0], change=shared) as one:
        there = document(directories[1], upstream=one.upstream.url, issuer=one.issuer.issuer)
        shared(there)
        config = build(there, {}, base=directories[1])
        async with open_gateway(
            config, clock=one.clock.utc, ticks=one.clock.ticks, patience_seconds=PATIENCE_SECONDS
        ) as gateway:
            nodes = (one, replace(one, gateway=gateway))
            assert 200 == (await one.choose())[0]
            tokens, old = [await node.token() for node in nodes], one.gateway.keys.signing.id
            answers = []
            plan = life.rotation(times_of(await gateway.store.list_keys()), NEEDS, one.clock.now)
            made = await make_all(plan, now=one.clock.now)
            await carry_out(gateway.store, plan, made)
            new = made[0].id
            await everywhere(nodes, lambda keys: keys.knows(new))
            for seconds in (0, PUBLISHED_FIRST.total_seconds() - 1, 1):
                one.clock.forward(seconds=seconds)
                tokens += [await node.token() for node in nodes]
                answers += [(await node.get(token))[0] for node in nodes for token in tokens]
            assert {200} == set(answers)
            assert [old] * 6 + [new] * 2 == [key_of(token) for token in tokens]
            ending = life.ending(times_of(await gateway.store.list_keys()), old, NEEDS, one.clock.now)
            await carry_out(gateway.store, ending, [])
            await everywhere(nodes, lambda keys: not keys.knows(old))
            assert [401] * 12 == [(await node.get(token))[0] for node in nodes for token in tokens[:6]]
            assert [200] * 4 == [(await node.get(token))[0] for node in nodes for token in tokens[6:]]
            one.clock.forward(seconds=OVERLAP.total_seconds())
            assert [[new], [new]] == [[key["kid"] for key in node.gateway.keys.jwks()["keys"]] for node in nodes]


async def everywhere(nodes, holds):
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not all(holds(node.gateway.keys) for node in nodes):  # noqa: ASYNC110 - as long as the push takes
            await asyncio.sleep(0.005)
