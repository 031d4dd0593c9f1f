"""Revocation ends the assumption, for the client that the token was issued to and for nobody else (RFC 7009)."""

import asyncio
import sqlite3
from contextlib import closing
from urllib.parse import urlencode

import pytest

from tests.forgery import Forger
from tests.oauth_world import REVOKE, basic, introspect, open_oauth, payload_of, revoke
from tests.patience import PATIENCE_SECONDS
from tests.rawwire import hold
from tests.token_endpoint_world import post
from tests.upstream_client import eventually


@pytest.fixture
async def world(tmp_path):
    async with open_oauth(tmp_path) as world:
        yield world


async def test_a_revoked_token_counts_nowhere_at_once(world):
    """Not at the data plane and not at introspection, without waiting for anything; nor does its sibling."""
    token = await world.token()
    assert 200 == (await world.get(token))[0]
    status, headers, _ = await revoke(world, token)
    assert (200, "no-store") == (status, headers["cache-control"])
    status, _, body = await world.get(token)
    assert (403, True) == (status, b"assumption_ended" in body)
    assert {"active": False} == (await introspect(world, token))[2]
    stored = await world.gateway.store.find_assumption(payload_of(token)["sid"])
    assert stored.ended_at == world.clock.now


async def test_the_end_is_on_the_record_with_who_wanted_it(world):
    """Once, however often it is asked for."""
    token = await world.token()
    for _ in range(3):
        assert 200 == (await revoke(world, token))[0]
    [record] = world.records(kind="assumption", reason="ended")
    said = payload_of(token)
    assert (said["sid"], "acme", "maria", "app", "app") == tuple(
        record[name] for name in ("assumption", "account", "subject", "client_id", "by")
    )
    assert {"dana"} == {record["actor"]["subject"]}


async def test_what_is_open_is_cut(tmp_path):
    """An exchange that waits for the app ends with the token."""
    async with open_oauth(tmp_path, script=lambda _request: hold(asyncio.Event())) as world:
        token = await world.token()
        waiting = asyncio.ensure_future(world.get(token, "/tickets/1"))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await world.upstream.until(lambda: len(world.upstream.requests) == 1)
            assert 200 == (await revoke(world, token))[0]
            status, _, body = await waiting
        assert 200 != status
        assert b"" == body
        await eventually(lambda: world.records(kind="completion"))
        [cut] = world.records(kind="completion")
        assert ("cut", "assumption_ended") == (cut["ended"], cut["reason"])


async def test_what_is_no_token_is_revoked_already(world):
    """RFC 7009 section 2.2: 200 for what is unknown, damaged, foreign or dead, and nothing is ended."""
    good = await world.token()
    forger = Forger(private=world.gateway.keys.signing.private, key_id=world.gateway.keys.signing.id)
    unknown = forger.token(forger.claims(sid="as_unknown"))
    for token in ("x", "a.b.c", good[:-1], good + "=", world.actor_token(), unknown, "é"):
        assert 200 == (await revoke(world, token))[0], token
    assert [] == world.records(kind="assumption")
    assert 200 == (await world.get(good))[0]


async def test_an_expired_token_still_ends_its_assumption(world):
    """The client wants it over; that the token is over already is no reason to leave the assumption open."""
    token = await world.token()
    world.clock.forward(seconds=901)
    assert 200 == (await revoke(world, token))[0]
    assert (await world.gateway.store.find_assumption(payload_of(token)["sid"])).ended_at is not None


async def test_another_client_takes_nothing_back(world):
    """RFC 7009 section 2.1: only whom it was issued to; the other is told, and nothing has happened."""
    token = await world.token()
    status, _, document = await revoke(world, token, by="other")
    assert (400, "invalid_grant") == (status, document["error"])
    assert 200 == (await world.get(token))[0]
    assert [] == world.records(kind="assumption")


@pytest.mark.parametrize("by", ["api", "desk", "nobody"])
async def test_only_a_client_that_gets_tokens_may(world, by):
    """Whoever may only ask about tokens, or only change grants, ends nothing."""
    token = await world.token()
    status, headers, document = await revoke(world, token, by=by)
    assert (401, "invalid_client") == (status, document["error"])
    assert "www-authenticate" in headers
    assert 200 == (await world.get(token))[0]


async def test_the_request_is_one_form_with_one_token(world):
    """Twice, in JSON, in the query, without one, by GET: refused, and nothing is ended."""
    token = await world.token()
    line = [f"Authorization: {world.basic()}"]
    for body, kind in (
        ("", "application/x-www-form-urlencoded"),
        (f"token={token}&token={token}", "application/x-www-form-urlencoded"),
        (f"token={token}&client_secret={world.secret}", "application/x-www-form-urlencoded"),
        (f"token={token}&client_id=other", "application/x-www-form-urlencoded"),
        (f'{{"token": "{token}"}}', "application/json"),
    ):
        status, _, document = await post(world, body, target=REVOKE, headers=line, kind=kind)
        assert (400, "invalid_request") == (status, document["error"]), (body[:20], kind)
    assert 400 == (await post(world, "token=x", target=f"{REVOKE}?token={token}", headers=line))[0]
    assert 405 == (await post(world, "", method="GET", target=REVOKE, headers=line, kind=None))[0]
    assert 200 == (await world.get(token))[0]
    assert 200 == (await revoke(world, token, token_type_hint="refresh_token"))[0]
    assert 403 == (await world.get(token))[0]


async def test_a_store_that_cannot_end_it_says_so(world):
    """RFC 7009 section 2.2.1: 503, so that the client must assume that the token still counts, and tries again."""
    token = await world.token()
    with closing(sqlite3.connect(world.directory / "locum.sqlite3", isolation_level=None)) as other:
        other.execute("CREATE TRIGGER full BEFORE UPDATE ON assumptions BEGIN SELECT RAISE(ABORT, 'no room'); END")
        status, headers, document = await revoke(world, token)
        assert (503, "temporarily_unavailable", "1") == (status, document["error"], headers["retry-after"])
        ended, not_stored = world.records(kind="assumption")
        assert ("ended", None) == (ended["reason"], ended.get("decision"))
        assert ("store_unavailable", "deny") == (not_stored["reason"], not_stored["decision"])
        other.execute("DROP TRIGGER full")
    assert 200 == (await revoke(world, token))[0]
    assert 403 == (await world.get(token))[0]


async def test_it_is_taken_back_although_it_cannot_be_recorded(world):
    """What only takes power away is done in any case; the record is owed."""
    token = await world.token()
    await world.gateway.journal.close()
    assert 200 == (await revoke(world, token))[0]
    assert (await world.gateway.store.find_assumption(payload_of(token)["sid"])).ended_at is not None
    assert {"active": False} == (await introspect(world, token))[2]


async def test_a_hundred_at_a_time_end_it_once(world):
    """However many ask at once, it has one end, and all of them are told that it is over."""
    token = await world.token()
    body = urlencode({"token": token})
    line = [f"Authorization: {world.basic()}"]
    answers = await asyncio.gather(*(post(world, body, target=REVOKE, headers=line) for _ in range(50)))
    assert {200} == {status for status, _, _ in answers}
    stored = await world.gateway.store.find_assumption(payload_of(token)["sid"])
    assert stored.ended_at is not None
    assert basic("api") != line[0]
