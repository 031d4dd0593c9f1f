"""Raw bytes against a whole gateway, and everything that came of them: the answer, the upstream, the journal."""

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.audit.segment import read_entry, read_lines
from tests.every_byte import check_every_cut
from tests.gateway_world import HOST, World, open_world, parse
from tests.oracle import RecordedRequest
from tests.rawwire import cut_at, each_byte
from tests.tally import TALLY

_BEHIND = b"TRACE /behind HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\n\r\n"
"""A message whose answer tells that it was read as itself, and which is never passed on."""
_ANSWER_BEHIND = b"HTTP/1.1 405 "


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one attack left behind."""

    answer: bytes
    heard: list[RecordedRequest]
    """What the upstream got meanwhile."""
    records: list[dict]
    """What the journal got meanwhile."""

    @property
    def status(self):
        return parse(self.answer)[0]

    @property
    def headers(self):
        return parse(self.answer)[1]

    @property
    def reason(self):
        """The deny reason that the client is told, None where there is none."""
        body = parse(self.answer)[2]
        return json.loads(body).get("reason") if body.startswith(b"{") else None

    @property
    def verdict(self):
        """Status, reason, how many requests went upstream, and how each record came out."""
        return self.status, self.reason, len(self.heard), [record.get("reason") for record in self.records]


class Attacker:
    """Sends to one gateway; its attacks must not overlap."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.token = ""
        self._read: dict[Path, int] = {}
        self._cuts = 0

    async def send(self, raw, *, responses: int | None = 1, **options) -> Outcome:
        """Send on a new connection, see `exchange`; with `responses` None, wait until the gateway closes it."""
        before = len(self.world.upstream.requests)
        self._tail()
        answer = await self.world.raw(raw, responses=responses, **options)
        return Outcome(answer=answer, heard=self.world.upstream.requests[before:], records=self._tail())

    async def refused(self, raw) -> Outcome:
        """Send what must be refused, with nothing of it left to be read as a request.

        The connection ends with the refusal, or the one message behind it is read as itself: a gateway that does
        neither fails the test by its patience.
        Bytes are sent in one piece and in two, and each time at another place, and now and then byte by byte: what comes
        of them must be the same.
        """
        to_head = isinstance(raw, bytes) and raw.startswith(b"HEAD ")
        outcome = await self._refused(raw, to_head=to_head)
        if isinstance(raw, bytes):
            await check_every_cut(raw)
            self._cuts += 1
            at = 1 + self._cuts * 31 % (len(raw) - 1)
            for pieces in (cut_at(raw, at), *([each_byte(raw)] if self._cuts % 16 == 0 else [])):
                cut = await self._refused(pieces, to_head=to_head)
                assert outcome.verdict == cut.verdict, f"cut at {at}"
        return outcome

    async def _refused(self, raw, *, to_head: bool) -> Outcome:
        outcome = await self.send(raw, then=_BEHIND, to_head=to_head)
        if b"\r\nConnection: close\r\n" in outcome.answer.partition(b"\r\n\r\n")[0] + b"\r\n":
            return outcome
        answer, kept, behind = outcome.answer.rpartition(_ANSWER_BEHIND)
        assert kept
        assert b"HTTP/1." not in behind
        return replace(outcome, answer=answer)

    async def heard_late(self, since: int) -> list[bytes]:
        """Return what has reached the upstream since it had heard `since` requests, a last ordinary one apart."""
        await self.send(request(target="/last"))
        *late, last = self.world.upstream.requests[since:]
        assert b"/last" == last.target
        return [entry.first_line for entry in late]

    def _tail(self):
        """Return what was decided meanwhile; how it ended comes when nobody waits for it."""
        found = []
        for path in sorted((self.world.directory / "journal").glob("*.jsonl")):
            lines = [line for _, line in read_lines(path, start=self._read.get(path, 0))]
            self._read[path] = self._read.get(path, 0) + sum(map(len, lines))
            found += [entry for line in lines if (entry := read_entry(line)) and entry["kind"] != "completion"]
        return found


@asynccontextmanager
async def open_attack(directory, *, scope="tickets:read", permissions=("read",), token=True, **options):
    """Run a gateway whose account allows `permissions`, and an attacker, by default with a token for `scope`.

    At its end, whatever the upstream has heard must have been sent, as a request, by the oracle's reading.
    """
    async with open_world(directory, **options) as world:
        attacker = Attacker(world)
        assert 200 == (await world.choose("week", permissions))[0]
        attacker.token = await world.token(scope) if token else ""
        yield attacker
    TALLY.strangers += len(world.strangers)
    assert [] == world.strangers


def request(token=None, *lines: bytes, method="GET", target="/tickets/1", host=HOST, body=b"") -> bytes:
    """One request; `lines` are header lines as they are."""
    head = [f"{method} {target} HTTP/1.1".encode("latin-1"), b"Host: " + host.encode("latin-1"), *lines]
    if token is not None:
        head.append(b"Authorization: Bearer " + token.encode())
    if body:
        head.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(head) + b"\r\n\r\n" + body
