"""Several requests on one connection: who is asked for a body, what is read after a refusal, and who is who."""

import asyncio
import base64
import json

import pytest
import pytest_asyncio

from tests.attack_world import open_attack, request
from tests.gateway_world import HOST
from tests.patience import PATIENCE_SECONDS
from tests.rawwire import cut_at

whole = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def attacker(tmp_path_factory):
    async with open_attack(tmp_path_factory.mktemp("gateway")) as attacker:
        yield attacker


# --- C10, C11: Expect, and early refusals ---

EXPECTATIONS = (b"100-continue", b"100-Continue", b"y 100-continue", b"100-continue, 100-continue", b"200-ok", b"")


@whole
@pytest.mark.parametrize("expectation", EXPECTATIONS)
async def test_nothing_is_asked_for_before_the_decision(attacker, expectation):
    """A request that is refused never hears `100 Continue`, so its body is never sent."""
    line = b"Expect: " + expectation
    for token, target, reason in (
        (attacker.token, "/tickets/1/reply", "insufficient_scope"),
        (attacker.token + "x", "/tickets/search", "token_invalid"),
    ):
        raw = request(token, line, b"Content-Length: 5", method="POST", target=target)
        outcome = await attacker.send(raw)
        assert (reason, 0, [reason]) == outcome.verdict[1:]
        assert b"100 Continue" not in outcome.answer


@whole
@pytest.mark.parametrize("staff", [True, False])
async def test_what_is_let_through_is_asked_for_once_it_is_on_the_record(attacker, staff):
    """`100 Continue` comes behind the record, the body behind it; the app never sees `Expect`."""
    before = len(attacker.world.records())
    raw = request(
        attacker.token if staff else None,
        b"Expect: 100-continue",
        b"Content-Length: 5",
        method="POST",
        target="/tickets/search",
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", attacker.world.port)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await attacker.world.note_sent(raw)
        writer.write(raw)
        assert b"HTTP/1.1 100 Continue\r\n\r\n" == await reader.readuntil(b"\r\n\r\n")
        assert staff == len(attacker.world.records()) - before
        writer.write(b"hello")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()
        await writer.wait_closed()
    seen = attacker.world.upstream.requests[-1]
    assert (b"hello", []) == (seen.body, seen.values(b"expect"))


@whole
async def test_after_a_refusal_nothing_more_of_the_connection_is_read(attacker):
    """Neither the rest of a body nor what was pipelined behind it becomes a request."""
    since = len(attacker.world.upstream.requests)
    behind = request(target="/tickets") * 3 + request(attacker.token) * 3
    for body in (b"", b"hello", request(target="/tickets")):
        raw = request(attacker.token, method="POST", target="/tickets/1/reply", body=body)
        # Without a body it is over with its head, and what is sent later is another request: see test_kept_refusals.
        later = [[raw, behind], cut_at(raw + behind, len(raw) - len(body) // 2)] if body else []
        for pieces in ([raw + behind], *later):
            outcome = await attacker.refused(pieces)
            assert (403, 1) == (outcome.status, outcome.answer.count(b"HTTP/1.1"))
    assert [] == await attacker.heard_late(since)


# --- C12: who is who on one connection ---


@whole
async def test_pipelined_requests_keep_their_own_identities(attacker):
    """A thousand requests of two accounts and of customers on one connection: each arrives as its own."""
    world = attacker.world
    await world.add_account("umbra")
    await world.choose("day", account="umbra")
    other = await world.token(account="umbra", subject_token="noor")
    senders = [
        (attacker.token, HOST, "maria"),
        (None, HOST, None),
        (other, "umbra.helpdesk.example", "noor"),
        (None, HOST, None),
    ]
    senders *= 250
    raw = b"".join(
        request(token, b"Cookie: theme=%d" % index, host=host, target="/tickets/1" if token else f"/{index}")
        for index, (token, host, _) in enumerate(senders)
    )
    before = len(world.upstream.requests)
    answer = await world.raw(raw, responses=len(senders))
    assert len(senders) == answer.count(b"HTTP/1.1 200 OK")
    seen = [(int(entry.values(b"cookie")[0][6:]), subject(entry)) for entry in world.upstream.requests[before:]]
    assert [(index, name) for index, (_, _, name) in enumerate(senders)] == seen


def subject(seen):
    """Return whom the app is told that it has before it; None: nobody said anything."""
    said = seen.values(b"X-Locum-Assertion")
    if not said:
        return None
    [assertion] = said
    payload = assertion.split(b".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + b"=="))["sub"]
