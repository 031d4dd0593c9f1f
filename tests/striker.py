"""Raw messages struck at a gateway many at a time, each followed by another one, and judged by what the app heard."""

import asyncio
import re
from dataclasses import dataclass

from gateway.proxy.names import fold
from tests.attack_world import request
from tests.gateway_world import HOST
from tests.rawwire import exchange

NONCE = b"n0nce"
"""Stands in each case for what tells its requests at the upstream from those of others."""
HOST_LINE = b"Host: " + HOST.encode() + b"\r\n"
SMUGGLED = b"GET /smuggled/" + NONCE + b" HTTP/1.1\r\n" + HOST_LINE + b"\r\n"
LAST = b"GET /last/" + NONCE + b" HTTP/1.1\r\n" + HOST_LINE + b"Connection: close\r\n\r\n"
"""Follows every case, so that the connection always comes to an end."""
REFUSED = None
_FRAMING = (b"content-length", b"transfer-encoding")
_NO_TRAILERS = re.compile(rb"content-(?!digest).*|transfer-encoding|host|authorization|cookie|connection|x-locum-.*")


def message(*lines: bytes, method=b"POST", version=b"HTTP/1.1", host=HOST_LINE, body=b"") -> bytes:
    head = method + b" /case/" + NONCE + b" " + version + b"\r\n" + host
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


@dataclass
class Result:
    """What came of one case."""

    nonce: bytes
    answer: bytes
    heard: list

    @property
    def status(self) -> int:
        return int(self.answer[9:12])

    @property
    def bodies(self) -> list[bytes]:
        """Those of the requests at the upstream that are complete."""
        return [bytes(seen.body).replace(self.nonce, NONCE) for seen in self.heard if seen.complete.is_set()]

    @property
    def fault(self) -> str:
        """What of it must never be, whatever was sent; empty if nothing."""
        targets = [seen.target.split(b"/")[1] for seen in self.heard]
        if targets not in ([], [b"case"], [b"case", b"last"], [b"last"]):
            return f"heard {targets}"
        for seen in self.heard:
            framing = [name.lower() for name, _ in seen.headers if fold(name) in _FRAMING]
            if framing not in ([], [b"content-length"], [b"transfer-encoding"]) or any(
                b"sum" not in name.lower() for name, _ in seen.trailers
            ):
                return f"framed by {framing}, trailers {seen.trailers}"
        return ""


class Striker:
    """Sends cases to one gateway, many at a time."""

    def __init__(self, attacker):
        self.attacker = attacker
        self._count = 0
        self._turn = asyncio.Semaphore(24)

    async def strike(self, raw: bytes, split=lambda raw: [raw], *, last=LAST) -> Result:
        self._count += 1
        nonce = b"n%04d" % self._count
        async with self._turn:
            world = self.attacker.world
            pieces = split((raw + last).replace(NONCE, nonce))
            answer = await exchange("127.0.0.1", world.port, pieces, responses=None)
        heard = [seen for seen in world.upstream.requests if nonce in seen.target]
        return Result(nonce=nonce, answer=answer, heard=heard)

    async def judge(self, cases: dict, split=lambda raw: [raw]) -> list[str]:
        """Return what was wrong, case by case; an expectation is REFUSED or the body of the one request."""
        results = await asyncio.gather(*(self.strike(raw, split) for raw, _ in cases.values()))
        await self.attacker.send(request(target="/flush"))
        return [
            f"{name}: {fault}"
            for (name, (_, expected)), result in zip(cases.items(), results, strict=True)
            if (fault := result.fault or difference(expected, result))
        ]


def difference(expected, result: Result) -> str:
    """Say how a result differs from REFUSED or from the body of the one request; empty if it does not."""
    if expected is REFUSED:
        alone = len(re.findall(rb"HTTP/1\.[01] [0-9]{3} ", result.answer)) == 1
        told = alone and result.status in (400, 414, 431, 505) and result.nonce not in result.answer
        return "" if told and not result.heard else f"not refused: {result.answer[:40]!r} {result.heard}"
    return "" if (200, [expected, b""]) == (result.status, result.bodies) else f"not passed on: {result}"


def named(cases) -> dict:
    return {f"{index}: {raw[:70]!r}": (raw, expected) for index, (raw, expected) in enumerate(cases)}
