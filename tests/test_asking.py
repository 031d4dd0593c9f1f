"""What Locum itself asks: no answer is taken for that to another question, and a DNS that hangs holds up nobody else."""

import asyncio
import socket
import threading

import pytest

from gateway.asking import open_asker
from gateway.resolving import OwnThreads
from gateway.tokens.compact import read_compact
from policy.model import AccountId
from tests.app_world import OFF, answer, on, open_app_world
from tests.patience import PATIENCE_SECONDS
from tests.scripted_idp import id_token, idp

BOTH_LOOPS = True
"""On asyncio's own loop all lookups of the process are in Python, where a test can have them hang."""
SLOW = "slow.example"


class HangingDns:
    """Has `socket.getaddrinfo` hang for the names below `slow.example` until it is let go."""

    def __init__(self, monkeypatch):
        self.hanging = threading.Semaphore(0)
        self._go = threading.Event()
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def let_go(self):
        self._go.set()

    def _look_up(self, host, *args, **options):
        if str(host).endswith(SLOW):
            self.hanging.release()
            self._go.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "not now")
        return self._real(host, *args, **options)


@pytest.fixture
def dns(monkeypatch):
    dns = HangingDns(monkeypatch)
    yield dns
    dns.let_go()


async def test_a_stray_answer_is_nobodys(tmp_path):
    """One answer too many does not become the setting of the account that is asked about next."""
    async with open_app_world(tmp_path) as world:
        settings = {"acme": on(world.clock, "always", ends=None), "other": OFF}
        strays = [asyncio.Event()]

        def script(request):
            one = answer(settings[request.target.split(b"/")[2].decode()])
            sent = strays.pop() if strays else None

            async def send(connection):
                await connection.send(one)
                if sent is not None:
                    await asyncio.sleep(0)
                    await connection.send(one)
                    sent.set()

            return send

        [stray] = strays
        world.app.script = script
        assert 200 == (await world.ask())[0]
        await stray.wait()
        for _ in range(4):
            status, document = await world.ask(account="other")
            assert (400, "grant_off") == (status, document["reason"])
            assert 200 == (await world.ask())[0]
            world.clock.forward(seconds=3)
        assert [] == list(await world.gateway.store.list_changes(AccountId("other")))


async def test_the_issuers_keys_are_asked_for_on_a_connection_of_their_own():
    """So that nothing that was sent behind its discovery document is taken for its keys."""
    async with idp() as (upstream, issuer):
        await issuer.keys_for(read_compact(id_token()))
        assert 2 == len(upstream.requests) == len(upstream.connections)


async def test_lookups_that_hang_keep_their_own_threads_only(dns):
    """While all of them hang, the next fails at once, and the event loop looks names up as ever; then it mends."""
    resolver, loop = OwnThreads(3), asyncio.get_running_loop()
    hanging = [asyncio.ensure_future(resolver.resolve(f"a{n}.{SLOW}")) for n in range(3)]
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(OSError, match="waits for the DNS"):
            await resolver.resolve("localhost")
        assert await loop.getaddrinfo("localhost", 80)
        dns.let_go()
        for lookup in hanging:
            with pytest.raises(socket.gaierror):
                await lookup
        found = await resolver.resolve("localhost", 80, socket.AF_INET)
    assert [("localhost", "127.0.0.1", 80, socket.AF_INET)] == [
        (one["hostname"], one["host"], one["port"], one["family"]) for one in found
    ]


async def test_a_lookup_that_nobody_waits_for_keeps_its_thread(dns):
    """Whoever asked may have given up: however often that happens, there are no more threads."""
    resolver = OwnThreads(2)
    for n in range(2):
        lookup = asyncio.ensure_future(resolver.resolve(f"a{n}.{SLOW}"))
        await asyncio.sleep(0)
        lookup.cancel()
    for _ in range(2):
        dns.hanging.acquire()
    with pytest.raises(OSError, match="waits for the DNS"):
        await resolver.resolve("localhost")


async def test_a_name_that_is_none_is_refused():
    """One that is too long for the DNS raises what is caught wherever something is asked."""
    with pytest.raises((OSError, ValueError)):
        await OwnThreads(1).resolve("a" * 300)
    async with open_asker(most=1) as http:
        with pytest.raises((OSError, ValueError)):
            await http.get("http://" + "a" * 300)


async def test_customers_do_not_notice_a_dns_that_hangs(tmp_path, dns):
    """It keeps staff out, who are told so in time, and no lookup of the app itself waits behind it."""

    def rename(document):
        document["upstream"]["url"] = document["upstream"]["url"].replace("127.0.0.1", "localhost")

    def slow(grants):
        grants["http"]["url"] = f"https://{{account}}.{SLOW}/settings"

    opening = open_app_world(tmp_path, change=slow, server=rename, answer_seconds=0.25)
    async with opening as world, asyncio.timeout(PATIENCE_SECONDS):
        for batch in ("a", "b"):
            asked = [world.ask(account=f"{batch}{n}") for n in range(16)]
            for status, document in await asyncio.gather(*asked):
                assert (503, "store_unavailable") == (status, document["reason"])
        assert {200} == {found[0] for found in await asyncio.gather(*(world.get(None) for _ in range(8)))}
