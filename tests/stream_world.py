"""Event streams of open pages, read from a socket by hand."""

import asyncio
import functools
from contextlib import asynccontextmanager

from gateway.console.changed import STREAM_SECONDS
from tests.patience import PATIENCE_SECONDS


class Stream:
    """What answers somebody who asks for a stream."""

    def __init__(self, reader, head):
        self.reader = reader
        self.head = head
        self.status = int(head.split(b" ", 2)[1])

    @property
    def has_begun(self):
        """Whether it is one; if not, it has to be that the page is told to go on without."""
        if self.status == 200 and b"text/event-stream" in self.head:
            return True
        assert (503, True) == (self.status, b"\r\nRetry-After: 5\r\n" in self.head), self.head
        return False

    async def rest(self):
        """Return all that comes until it is over."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.reader.read()


@asynccontextmanager
async def asking(port, target, host, *lines):
    """Ask for a stream, and leave when the block ends; yields it once its first words are there."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = [f"GET {target} HTTP/1.1", f"Host: {host}", "Sec-Fetch-Site: same-origin", "Connection: close", *lines]
        writer.write("\r\n".join([*head, "", ""]).encode())
        async with asyncio.timeout(PATIENCE_SECONDS):
            found = Stream(reader, await reader.readuntil(b"\r\n\r\n"))
            if found.status == 200:
                await reader.readuntil(b"retry: ")
        yield found
    finally:
        writer.close()


def while_they_last(test):
    """Decorate a test of streams that are all open at once: it is tried anew where the first are over by their time.

    As they are on a machine that stands still for so long.
    """

    @functools.wraps(test)
    async def tried(*args, **fixtures):
        while True:
            began = asyncio.get_running_loop().time()
            try:
                return await test(*args, **fixtures)
            except AssertionError:
                if asyncio.get_running_loop().time() - began < STREAM_SECONDS:
                    raise

    return tried
