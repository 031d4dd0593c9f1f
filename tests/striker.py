"""Raw messages struck at a gateway many at a time, cut in every way, each followed by another one.

They are judged by what the app heard: a verdict must not depend on where the network cuts.
"""

import asyncio
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from zlib import crc32

from gateway.proxy.names import fold
from tests.attack_world import request
from tests.gateway_world import HOST
from tests.oracle import parse_requests
from tests.rawwire import cut_at, each_byte, exchange

NONCE = b"n0nce"
"""Stands in each case for what tells its requests at the upstream from those of others."""
HOST_LINE = b"Host: " + HOST.encode() + b"\r\n"
SMUGGLED = b"GET /smuggled/" + NONCE + b" HTTP/1.1\r\n" + HOST_LINE + b"\r\n"
LAST = b"GET /last/" + NONCE + b" HTTP/1.1\r\n" + HOST_LINE + b"Connection: close\r\n\r\n"
"""Follows every case, so that the connection always comes to an end."""

MOST_CUTS = 64
"""How many of the places where a long message can be cut in two are tried, with each message others."""


class Verdict(Enum):
    """What becomes of a message that is not passed on."""

    REFUSED = auto()
    """Nothing of it reaches the app, nor anything behind it, and the client is told why, once."""
    BROKEN = auto()
    """As REFUSED; but where the head came alone, the app may have heard it, and then never hears the end."""


REFUSED, BROKEN = Verdict.REFUSED, Verdict.BROKEN
Expected = Verdict | bytes
"""A verdict, or the body of the one request that is passed on."""
Split = Callable[[bytes], list[bytes]]

_FRAMING = (b"content-length", b"transfer-encoding")
_NO_TRAILERS = re.compile(rb"content-(?!digest).*|transfer-encoding|host|authorization|cookie|connection|x-locum-.*")
_SHARED = re.compile(rb"[A-Z]+ /case/n0nce HTTP/1.1\r\n" + re.escape(HOST_LINE))
_STRUCTURE = re.compile(rb"[\r\n:;, \t\x00]")


def message(*lines: bytes, method=b"POST", version=b"HTTP/1.1", host=HOST_LINE, body=b"") -> bytes:
    head = method + b" /case/" + NONCE + b" " + version + b"\r\n" + host
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def in_one(raw: bytes) -> list[bytes]:
    return [raw]


def in_two(at: int) -> Split:
    return lambda raw: cut_at(raw, at)


def splits_of(raw: bytes, *, everywhere: bool = False) -> Iterator[Split]:
    """In one segment, byte by byte, and in two at every place of the case's own part.

    In a long one some of those around the bytes that frame it; `everywhere`, also in what the cases have in common.
    """
    yield in_one
    yield each_byte
    shared = _SHARED.match(raw)
    start = shared.end() - 2 if shared and not everywhere else 1
    end = len(raw.removesuffix(SMUGGLED)) + 1
    places = set(range(start, min(end, len(raw))))
    if len(places) > MOST_CUTS and not everywhere:
        near = {found.start() + step for found in _STRUCTURE.finditer(raw) for step in (0, 1, 2)}
        places &= near
        ranked = sorted(places)
        step = -(-len(ranked) // MOST_CUTS)
        places = set(ranked[crc32(raw) % step :: step])
    yield from map(in_two, sorted(places))


@dataclass
class Result:
    """What came of one case."""

    nonce: bytes
    answer: bytes
    heard: list

    @property
    def status(self) -> int:
        return int(self.answer[9:12] or 0)

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
            if framing not in ([], [b"content-length"], [b"transfer-encoding"]):
                return f"framed by {framing}"
            if any(_NO_TRAILERS.fullmatch(fold(name)) for name, _ in seen.trailers):
                return f"trailers {seen.trailers}"
        return ""

    def difference(self, expected: Expected) -> str:
        """Say how it differs from what was expected; empty if it does not."""
        if isinstance(expected, bytes):
            return "" if (200, [expected, b""]) == (self.status, self.bodies) else f"not passed on: {self}"
        alone = len(re.findall(rb"HTTP/1\.[01] [0-9]{3} ", self.answer)) == 1
        told = alone and self.status in (400, 414, 431, 505) and self.nonce not in self.answer
        if not told and not (expected is BROKEN and self.heard and not self.answer):
            return f"not refused: {self.answer[:80]!r}"
        if expected is BROKEN:
            return f"passed on: {self.bodies}" if self.bodies else ""
        return f"heard: {self.heard}" if self.heard else ""


class Striker:
    """Sends cases to one gateway, many at a time."""

    def __init__(self, attacker, *, at_a_time=24):
        self.attacker = attacker
        self._count = 0
        self._turn = asyncio.Semaphore(at_a_time)
        self._door = asyncio.Lock()
        self._read = 0
        self._requests: dict[bytes, list[tuple[bytes, bytes]]] = {}
        self._heard = defaultdict(list)

    async def strike(self, raw: bytes, split: Split = in_one, *, last=LAST) -> Result:
        """Send one case with `last` behind it, and return what came of it so far."""
        self._count += 1
        nonce = b"n%04x" % self._count
        assert len(nonce) == len(NONCE)
        async with self._turn:
            pieces = split((raw + last).replace(NONCE, nonce))
            await self._note_sent(raw + last, nonce)
            answer = await exchange("127.0.0.1", self.attacker.world.port, pieces, responses=None, door=self._door)
        return Result(nonce=nonce, answer=answer, heard=self._heard_of(nonce))

    async def _note_sent(self, raw: bytes, nonce: bytes) -> None:
        """Count the requests in some bytes; what they are is read once for all the ways to cut them."""
        if raw not in self._requests:
            self._requests[raw] = [(one.method, one.target) for one in await parse_requests(raw)]
        for method, target in self._requests[raw]:
            self.attacker.world.sent[method.replace(NONCE, nonce), target.replace(NONCE, nonce)] += 1

    async def judge(self, cases: dict[str, tuple[bytes, Expected]], splits=splits_of) -> list[str]:
        """Strike with each case, cut in every way, and return what was wrong with which."""
        strikes = [(name, raw, split) for name, (raw, _) in cases.items() for split in splits(raw)]
        results = await asyncio.gather(*(self.strike(raw, split) for _, raw, split in strikes))
        # Whoever is passed on a connection behind this one has heard all of it.
        await self.attacker.send(request(target="/flush"))
        self._heard_of(b"")
        return [
            f"{name}, in pieces of {[len(piece) for piece in split(raw)][:4]}: {fault}"
            for (name, raw, split), result in zip(strikes, results, strict=True)
            if (fault := result.fault or _expect(result, cases[name][1], split))
        ]

    def _heard_of(self, nonce: bytes) -> list:
        """The requests of one case; the list grows when more of them come."""
        requests = self.attacker.world.upstream.requests
        for seen in requests[self._read :]:
            self._heard[seen.target.split(b"/")[2][: len(NONCE)] if seen.target.count(b"/") > 1 else b""].append(seen)
        self._read = len(requests)
        return self._heard[nonce]


def _expect(result: Result, expected: Expected, split: Split) -> str:
    return result.difference(REFUSED if expected is BROKEN and split is in_one else expected)


def named(cases: Iterable[tuple[bytes, Expected]]) -> dict[str, tuple[bytes, Expected]]:
    return {f"{index}: {raw[:70]!r}": (raw, expected) for index, (raw, expected) in enumerate(cases)}
