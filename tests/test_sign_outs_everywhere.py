"""A sign-out that one worker hears of holds in all of them."""

import asyncio
from contextlib import AsyncExitStack
from urllib.parse import urlencode

from tests.patience import PATIENCE_SECONDS, within
from tests.process_world import open_process_world
from tests.rawwire import hold, response
from tests.sign_out_world import FORM, LOGOUT_URL, logout_token
from tests.test_workers import AT_ONCE, BOTH, FIRST, LAST, lines_to_both


async def test_a_sign_out_through_one_worker_holds_in_both(tmp_path):
    """That person's streams are cut in both within a second, another's in neither; a copy sent to the other does no harm."""
    gate = asyncio.Event()

    def script(request):
        slow = request.target.startswith(b"/attachments/")
        return hold(gate, before=FIRST, after=LAST) if slow else response()

    async with open_process_world(tmp_path, script=script) as world, world.running(workers=2):
        assert 200 == (await world.choose("day"))[0]
        dana = await world.token()
        erin = await world.token(actor_token=world.actor_token("erin"))
        async with (
            lines_to_both(world, dana) as lines,
            lines_to_both(world, dana) as streams,
            lines_to_both(world, erin) as others,
            AsyncExitStack() as doors,
        ):
            for token, some in ((dana, streams), (erin, others)):
                for stream in some.values():
                    stream.send(token, "/attachments/1")
                    assert 200 == (await stream.head())[0]
                    async with asyncio.timeout(PATIENCE_SECONDS):
                        await stream.reader.readuntil(b"first\r\n")
            raw = _request(world)
            told = await doors.enter_async_context(world.connection())
            told.writer.write(raw)
            assert 200 == (await told.head())[0]
            async with within(AT_ONCE):
                assert [b"", b""] == [await stream.rest() for stream in streams.values()]
                for line in lines.values():
                    assert 403 == (await line.get(dana))[0]
            world.clock.forward(seconds=1)
            fresh = await world.token()
            # Any worker may get a copy: one has forgotten nothing, the other has never known.
            answers = set()
            for _ in range(8):
                line = await doors.enter_async_context(world.connection())
                line.writer.write(raw)
                answers.add((await line.head())[0])
            assert answers <= {200, 400}
            async with lines_to_both(world, fresh) as again:
                assert BOTH == again.keys()
            gate.set()
            for stream in others.values():
                async with asyncio.timeout(PATIENCE_SECONDS):
                    assert (await stream.reader.readuntil(b"0\r\n\r\n")).endswith(LAST)


def _request(world):
    body = urlencode({"logout_token": logout_token(world)})
    head = f"POST {LOGOUT_URL} HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\nContent-Length: {len(body)}\r\n\r\n"
    return f"{head}{body}".encode()
