"""The streams of open pages: whatever a page waits for, none is held beyond its time, and each place is given back."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientPayloadError, ClientSession, web

from gateway.console.streams import Streams
from tests.patience import PATIENCE_SECONDS
from tests.upstream_client import eventually


@asynccontextmanager
async def serving(streams, tell):
    """The address of a page's stream, and a client."""

    async def follow(request):
        return await streams.answer(request, request.query["who"], tell)

    application = web.Application()
    application.router.add_get("/", follow)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as http:
            yield http
    finally:
        await runner.cleanup()


async def _read(http, who="me"):
    async with asyncio.timeout(PATIENCE_SECONDS), http.get("/", params={"who": who}) as answer:
        return answer.status, await answer.text()


@pytest.mark.parametrize("ends", ["its time", "the gateway"])
async def test_a_stream_ends(ends):
    """With its time or with the gateway, at once; a browser is told when to come again."""
    leaving = asyncio.Event()
    seconds = 0.01 if ends == "its time" else 3600.0

    async def tell(stream):
        if ends == "the gateway":
            asyncio.get_running_loop().call_soon(leaving.set)
        assert await stream.rest(3600.0)
        await stream.send("over")

    async with serving(Streams(leaving=leaving, seconds=seconds, of_one=1, again_milliseconds=7), tell) as http:
        assert (200, "retry: 7\n\nevent: over\ndata: 1\n\n") == await _read(http)


async def test_what_is_waited_for_holds_no_stream():
    """What never answers is given up soon after the stream's time, and its place is free."""
    streams = Streams(leaving=asyncio.Event(), seconds=0.01, of_one=1, write_seconds=0.01)

    async def tell(_):
        await asyncio.Event().wait()

    async with serving(streams, tell) as http:
        assert [(200, "retry: 2000\n\n")] * 2 == [await _read(http), await _read(http)]
        await eventually(lambda: not streams.places.count)


async def test_places_are_counted_by_whose_they_are_and_for_all(caplog):
    """Nobody takes those of others, whoever comes too many is told to come again, and a fault gives its place back."""
    streams = Streams(leaving=asyncio.Event(), seconds=3600.0, of_one=1, of_all=2)

    async def fail(_):
        raise ValueError("a fault of ours")

    async with serving(streams, fail) as http:
        with streams.places.place("me") as mine:
            assert mine
            async with http.get("/", params={"who": "me"}) as answer:
                assert (503, "5", "no-store") == (
                    answer.status,
                    answer.headers["Retry-After"],
                    answer.headers["Cache-Control"],
                )
            with streams.places.place("you") as yours:
                assert yours
                assert 503 == (await _read(http, "them"))[0]
        with pytest.raises(ClientPayloadError):
            await _read(http)
        await eventually(lambda: not streams.places.count)
        assert ["a fault of ours"] == [str(one.exc_info[1]) for one in caplog.records if one.exc_info]
