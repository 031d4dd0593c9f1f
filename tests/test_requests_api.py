"""The grants API about what staff ask for: what the app's back end sees, what it answers, and what it cannot."""

import asyncio
import json
from datetime import timedelta

import pytest

from gateway.clients import digest_of
from gateway.stores.request_room import Room
from gateway.stores.store import Client
from policy.asking import MOST_WAITING, GrantRequest, GrantRequestId, RequestState
from policy.model import AccountId, ActorId, ClientId, Duration, Permission
from tests.gateway_world import open_world
from tests.live_world import caught_up, download, holding_world

ROOM = Room(per_staff_and_account=50, per_account=50, per_staff=50)
READ, TESTING, WRITE = Permission.READ, Permission.TEST_TICKETS, Permission.WRITE
OWNER = {"id": "owner", "roles": {"support": "admin"}}
YES = {"administrator": OWNER, "assumption_duration": "day", "permissions": ["read", "write"]}
NO = {"administrator": OWNER}


@pytest.fixture
async def world(tmp_path):
    async with open_world(tmp_path) as world:
        await world.add_account("globex")
        yield world


async def asks(world, number=1, account="acme"):
    now = world.clock.now
    request = GrantRequest(
        id=GrantRequestId(f"ask_{number}"),
        account=AccountId(account),
        actor=ActorId("https://id.vendor.example", "dana"),
        name="Dana",
        permissions=frozenset({READ, TESTING}),
        duration=Duration.WEEK,
        ticket="SUP-7",
        reason="the export is empty",
        asked_at=now,
        expires_at=now + MOST_WAITING,
    )
    assert None is await world.gateway.store.add_grant_request(request, room=ROOM)
    return request


async def call(world, rest="", body=None, *, account="acme", authorization=None, raw=None):
    url = f"{world.gateway.admin_url}/api/v1/accounts/{account}/assumption/requests{rest}"
    method = "GET" if body is None and raw is None else "POST"
    headers = {"Authorization": authorization or world.basic()}
    async with world.http.request(method, url, data=raw or (body and json.dumps(body)), headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


async def grant(world, account="acme"):
    return (await world.gateway.store.find_account(AccountId(account))).grant


async def test_what_waits_is_listed(world):
    """Who, what for, how long, why, and until when it waits; of that account, until it is answered."""
    assert (200, {"account": "acme", "epoch": 0, "requests": []}) == await call(world)
    asked = await asks(world)
    status, document = await call(world)
    assert 200 == status
    [one] = document["requests"]
    written = asked.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert {
        "id": asked.id, "permissions": ["read", "test_tickets"], "assumption_duration": "week", "ticket": "SUP-7",
        "reason": "the export is empty", "expires_at": written, "asked_at": one["asked_at"],
        "locked_out": False,
        "actor": {"issuer": "https://id.vendor.example", "subject": "dana", "name": "Dana"},
    } == one  # fmt: skip
    assert [] == (await call(world, account="globex"))[1]["requests"]
    assert 404 == (await call(world, account="nobody"))[0]
    world.clock.forward(days=4)
    assert [] == (await call(world))[1]["requests"]


async def test_an_approval_gives_what_it_says(world):
    """Whatever was asked for; once."""
    asked = await asks(world)
    status, document = await call(world, f"/{asked.id}/approve", YES)
    assert (200, {"id": asked.id, "answer": "approved", "change": "enabled", "epoch": 1}) == (status, document)
    given = await grant(world)
    assert ({READ, WRITE}, world.clock.now + timedelta(days=1)) == (given.permissions, given.expires_at)
    [record] = world.records(kind="grant", grant_request=asked.id)
    assert ("enabled", "app", "owner") == (record["reason"], record["client_id"], record["granted_by"])
    for rest, body in (("approve", YES), ("decline", NO)):
        status, problem = await call(world, f"/{asked.id}/{rest}", body)
        assert (409, "request_approved") == (status, problem["reason"])


async def test_a_refusal_gives_nothing(world):
    """And is on the record under the administrator's name."""
    asked = await asks(world)
    assert (200, {"id": asked.id, "answer": "declined"}) == await call(world, f"/{asked.id}/decline", NO)
    assert None is await grant(world)
    [record] = world.records(kind="grant_request", reason="declined")
    assert ("owner", "app", asked.id) == (record["by"], record["client_id"], record["grant_request"])


async def test_a_longer_grant_is_shortened_only_if_that_is_said(world):
    """`keep` leaves its end where it is."""
    await world.choose("year", ["read"])
    year = (await grant(world)).expires_at
    first, second = await asks(world), await asks(world, 2)
    status, problem = await call(world, f"/{first.id}/approve", YES)
    assert (409, "would_shorten") == (status, problem["reason"])
    status, document = await call(world, f"/{first.id}/approve", YES | {"assumption_duration": "keep"})
    assert (200, "permissions_changed", year) == (status, document["change"], (await grant(world)).expires_at)
    status, document = await call(world, f"/{second.id}/approve", YES | {"shorten": True})
    assert (200, "reduced") == (status, document["change"])


async def test_an_epoch_that_moved_is_overtaken(world):
    """What the administrator decided on is not so any more."""
    asked = await asks(world)
    await world.choose("week", ["read"])
    status, problem = await call(world, f"/{asked.id}/approve", YES | {"epoch": 0, "shorten": True})
    assert (409, "overtaken") == (status, problem["reason"])
    assert Duration.WEEK is (await grant(world)).duration
    assert 200 == (await call(world, f"/{asked.id}/approve", YES | {"epoch": 1, "shorten": True}))[0]


WRONG = {
    "no administrator": ("approve", YES | {"administrator": {"id": "ben", "roles": {"support": "agent"}}}, 403),
    "an administrator stood in for": ("approve", YES | {"administrator": OWNER | {"assumed": True}}, 403),
    "no administrator says no": ("decline", {"administrator": {"id": "ben", "roles": {}}}, 403),
    "somebody stood in for says no": ("decline", {"administrator": OWNER | {"assumed": True}}, 403),
    "nobody": ("approve", YES | {"administrator": OWNER | {"id": ""}}, 400),
    "no permissions": ("approve", {key: YES[key] for key in ("administrator", "assumption_duration")}, 400),
    "no duration": ("approve", {key: YES[key] for key in ("administrator", "permissions")}, 400),
    "off": ("approve", YES | {"assumption_duration": "off"}, 422),
    "a fortnight": ("approve", YES | {"assumption_duration": "fortnight"}, 422),
    "an unknown permission": ("approve", YES | {"permissions": ["root"]}, 422),
    "nothing permitted": ("approve", YES | {"permissions": []}, 422),
    "an unknown member": ("decline", NO | {"force": True}, 400),
    "keeping what is not on": ("approve", YES | {"assumption_duration": "keep"}, 409),
}


async def test_what_is_wrong_gives_nothing(world):
    """Of whatever is wrong with an answer the caller is told, and the request waits on."""
    asked = await asks(world)
    for what, (rest, body, expected) in WRONG.items():
        assert (what, expected) == (what, (await call(world, f"/{asked.id}/{rest}", body))[0])
    for raw, expected in ((b'{"administrator":', 400), (b"[]", 400), (b" " * 20_000, 413)):
        assert expected == (await call(world, f"/{asked.id}/approve", raw=raw))[0]
    twice = json.dumps(YES)[:-1] + ', "assumption_duration": "always"}'
    assert 400 == (await call(world, f"/{asked.id}/approve", raw=twice.encode()))[0]
    assert (None, 1) == (await grant(world), len((await call(world))[1]["requests"]))


async def test_only_a_client_with_the_role_asks_or_answers(world):
    """A wrong secret, another role, nothing at all."""
    asked = await asks(world)
    other = Client(id=ClientId("app2"), secret_digest=digest_of(world.secret), roles=frozenset({"audit", "token"}))
    await world.gateway.store.add_client(other)
    basic = world.basic().partition(" ")[2]
    for authorization in ("Basic YXBwMjp4", f"Bearer {basic}", "Basic " + "x" * 20):
        for rest, body in (("", None), (f"/{asked.id}/approve", YES), (f"/{asked.id}/decline", NO)):
            status, problem = await call(world, rest, body, authorization=authorization)
            assert (401, "unauthenticated") == (status, problem["reason"])
    assert (None, RequestState.WAITING) == (
        await grant(world), (await world.gateway.store.find_grant_request(asked.id)).answer
    )  # fmt: skip


async def test_another_accounts_request_is_unknown(world):
    """By its very id, at the other account's address."""
    asked = await asks(world)
    for rest, body in (("approve", YES), ("decline", NO)):
        status, problem = await call(world, f"/{asked.id}/{rest}", body, account="globex")
        assert (404, "request_unknown") == (status, problem["reason"])
    assert (None, None) == (await grant(world), await grant(world, "globex"))


async def test_of_answers_at_once_one_counts(world):
    """Approvals and refusals together."""
    asked = await asks(world)
    calls = [call(world, f"/{asked.id}/{rest}", body) for rest, body in (("approve", YES), ("decline", NO)) * 4]
    statuses = [status for status, _ in await asyncio.gather(*calls)]
    assert [200] + [409] * 7 == sorted(statuses)


async def test_asking_and_a_no_cut_nothing_that_is_open(tmp_path):
    """Every process hears of them, looks at what is open in the account, and lets it go on."""
    async with holding_world(tmp_path) as world:
        await world.choose("week")
        async with download(world, await world.token()) as one:
            asked = await asks(world)
            await caught_up(world)
            assert 200 == (await call(world, f"/{asked.id}/decline", NO))[0]
            await caught_up(world)
            assert b"last" in await one.finishes(world)


async def test_without_the_journal_only_a_no_counts(world):
    """And without the store nothing."""
    first, second = await asks(world), await asks(world, 2)
    await world.gateway._state.journal.close()
    status, problem = await call(world, f"/{first.id}/approve", YES)
    assert (503, "journal_unavailable", None) == (status, problem["reason"], await grant(world))
    assert 200 == (await call(world, f"/{second.id}/decline", NO))[0]
    await world.gateway.store.close()
    for rest, body in (("", None), (f"/{first.id}/decline", NO)):
        status, problem = await call(world, rest, body)
        assert (503, "store_unavailable") == (status, problem["reason"])
