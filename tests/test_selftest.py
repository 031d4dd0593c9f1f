"""The self-test measures real processes, and nobody else gets behind its door."""

import asyncio
import re
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from gateway.audit.search import read
from gateway.profiles import load_profile
from gateway.selftest.door import PING, SCOPE, STREAM, with_door
from tests.gateway_world import open_world
from tests.process_world import open_process_world

FIGURES = re.compile(r"p50 +([0-9.]+) ms  p95 +([0-9.]+) ms  p99 +([0-9.]+) ms  max +([0-9.]+) ms")


@pytest.mark.parametrize("target", [PING, STREAM, f"{PING}?a=1", "/.locum/selftest/", "/.locum/selftest/x"])
async def test_nobody_without_a_token_gets_through_the_door(tmp_path, target):
    """For a stranger it is refused like everything of staff's, and for staff of the app it is no route."""
    async with open_world(tmp_path) as world:
        await world.choose("day")
        status, _, body = await world.get(None, target)
        assert (401, True) == (status, b"token_missing" in body)
        status, _, body = await world.get(await world.token(), target)
        assert 403 == status
        assert b"insufficient_scope" in body or b"no_route_rule" in body
        assert [] == world.strangers


@pytest.mark.parametrize(
    "path", ["%73elftest/ping", "selftes%74/stream", "selftest%2Fping", "SELFTEST/ping", "./selftest/ping"]
)
@pytest.mark.parametrize("staff", [False, True])
async def test_no_other_spelling_opens_the_door(tmp_path, path, staff):
    """What the front takes for something else of the control plane is something else there, too."""
    async with open_world(tmp_path) as world:
        await world.choose("day")
        status, _, _ = await world.get(await world.token() if staff else None, f"/.locum/{path}")
        assert status in (401, 403, 404)
        assert [] == world.strangers


async def test_nobody_is_given_the_scope_of_the_door(tmp_path):
    """A token for it cannot be had by asking."""
    async with open_world(tmp_path) as world:
        await world.choose("day")
        status, document = await world.ask(scope=str(SCOPE))
        assert (400, "invalid_scope") == (status, document["error"])


def test_the_door_changes_nothing_else():
    """The app's own rules answer as before, and no rule of the app opens the door."""
    own = load_profile("demo-helpdesk")
    both = with_door(own)
    assert (own.scopes, own.rules) == (both.scopes, both.rules[:-1])
    assert SCOPE not in own.scopes


async def test_it_measures_two_workers_from_the_outside(tmp_path):
    """The command says how long each revoke took, to the last request and to the cut, and that it was soon enough."""
    async with open_process_world(tmp_path) as world, world.running(workers=2):
        url = world.gateway.public_url
        # What it may take at most on a machine that has other things to do is not ours to say; half of them take less.
        bound = ("--bound", "20")
        code, said = await world.told("selftest", "revocation", "--rounds", "5", *bound, "--node", url, "--node", url)
        assert (0, True) == (code, "ok: nothing took longer than 20000 ms" in said), said
        assert 2 == said.count("5 revocations")
        assert 2 == said.count("bytes on it later than the bound 0")
        figures = [[float(figure) for figure in found] for found in FIGURES.findall(said)]
        assert 4 == len(figures)
        assert all(0 <= p50 <= p95 <= p99 <= most < 20_000 for p50, p95, p99, most in figures)
        assert all(p50 < 1000 for p50, *_ in figures)
        kinds = {(record["kind"], record["origin"]) for record in read(tmp_path / "data" / "journal")}
        assert ("grant", "selftest") in kinds  # its switching is on the record like anybody's


@asynccontextmanager
async def open_deaf_node():
    """Something that lets everybody in for ever, whatever is revoked."""

    async def ping(_request):
        return web.Response(status=204)

    async def stream(request):
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b".")
            await asyncio.sleep(0.005)

    application = web.Application()
    application.add_routes([web.get(PING, ping), web.get(STREAM, stream)])
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_customer_of_that_name_is_left_alone(tmp_path):
    """What somebody else has chosen for the account is not switched."""
    async with open_process_world(tmp_path) as world:
        world.configure()
        assert 0 == (await world.told("account", "add", "locum-selftest"))[0]
        assert 0 == (await world.told("grant", "set", "locum-selftest", "year", "--as", "owner"))[0]
        code, said = await world.told("selftest", "revocation", "--rounds", "1")
        assert (1, True) == (code, "the account `locum-selftest` is somebody's" in said), said
        _, said = await world.told("grant", "show", "locum-selftest")
        assert "year" in said


async def test_a_node_that_does_not_listen_fails_the_test(tmp_path):
    """It is said by how much, and how many bytes came too late; a node that is not there is named."""
    async with open_process_world(tmp_path) as world, open_deaf_node() as node:
        world.configure()
        code, said = await world.told("selftest", "revocation", "--rounds", "1", "--bound", "0.1", "--node", node)
        took = re.search(r"it took ([0-9]+) ms, and 100 ms are allowed", said)
        assert (1, True) == (code, took is not None), said
        assert 190 <= int(took[1]), "so long it was asked"
        assert re.search(r"bytes on it later than the bound [1-9]", said)
        code, said = await world.told("selftest", "revocation", "--rounds", "1", "--node", "http://127.0.0.1:9")
        assert (1, True) == (code, "http://127.0.0.1:9 cannot be asked" in said), said
