"""Reading a body of bounded length."""

from aiohttp import StreamReader


async def read_at_most(stream: StreamReader, most: int) -> bytes | None:
    """Return the whole body, or None once it proves longer than `most` bytes."""
    body = bytearray()
    while not stream.at_eof():
        body += await stream.read(most + 1 - len(body))
        if len(body) > most:
            return None
    return bytes(body)
