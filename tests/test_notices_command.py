"""`locum notices`: what waits and why is shown, nothing of what it says, and it is tried again when somebody says so."""

import json
from datetime import timedelta

import pytest

from gateway.clock import utc_now
from gateway.stores.outbox import Notice, Target
from gateway.stores.sqlite import open_sqlite
from tests.test_cli import Shell

MAIL = Target("mail", "ann@acme.example")
HOOK = Target("webhook", "https://hooks.acme.example/secret-path")
NOON = utc_now().replace(microsecond=0)
FAR = NOON + timedelta(days=1)


def a_notice(name, target=MAIL, *, account="acme", **more):
    fields = {"about": "ab" * 32, "event": "begun", "facts": '{"ticket": "hush"}', "happened_at": NOON}
    return Notice(id=name, target=target, account=account, **{**fields, **more})


@pytest.fixture
async def locum(tmp_path, monkeypatch):
    """A directory in whose store one mail waits for its time, one webhook was refused, and one was given up."""
    monkeypatch.chdir(tmp_path)
    shell = Shell(tmp_path)
    await shell("account", "add", "acme", "--type", "paid")
    store = await open_sqlite(tmp_path / "data" / "locum.sqlite3")
    try:
        notices = [
            a_notice("n1", happened_at=NOON - timedelta(hours=1)),
            a_notice("n2", HOOK, event="asked"),
            a_notice("n3", HOOK, account="", event="evidence"),
            a_notice("n4", HOOK, happened_at=NOON - timedelta(hours=2)),
        ]
        await store.add_notices(notices, now=NOON)
        for _ in range(2):
            claim = await store.claim_notices("x", now=NOON, until=FAR, most=9)
            is_mail = claim.target == MAIL
            if not is_mail:
                await store.settle_notices(["n4"], outcome="failed_refused")
            await store.finish_claim(
                claim,
                noted=[] if is_mail else ["n4"],
                not_before=FAR if is_mail else NOON,
                failures=3 if is_mail else 0,
                error="nobody answers there" if is_mail else "it answers 400",
                put_off={} if is_mail else {"n2": FAR},
            )
    finally:
        await store.close()
    return shell


async def listed(locum, *words):
    return [json.loads(line) for line in (await locum("notices", "list", "--json", *words)).splitlines()]


async def test_what_waits_is_shown_with_why(locum):
    """Since when, for whom, how often it was tried, when again, and the last error; nothing of what it says."""
    said = await locum("notices", "list")
    first, *others = said.splitlines()
    assert f"n1: begun of acme, {NOON - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}, by mail to ann@acme.example" in first
    assert f"tried again from {FAR:%Y-%m-%dT%H:%M:%SZ} on; failed there 3 times in a row" in first
    assert first.endswith("last: nobody answers there")
    assert ["n2", "n3"] == [line.partition(":")[0] for line in others]
    assert "was refused by itself 1 times; last: it answers 400" in others[0]
    assert "by webhook to https://hooks.acme.example: due" in others[1]
    assert not [word for word in ("hush", "secret-path", "n4") if word in said]


async def test_programs_and_one_account_have_theirs(locum):
    """The same as JSON, a line each; of one account only what is about it."""
    first, second = await listed(locum, "--account", "acme")
    assert {
        "id": "n1",
        "event": "begun",
        "account": "acme",
        "channel": "mail",
        "happened_at": f"{NOON - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}",
        "outcome": None,
        "recipient": "ann@acme.example",
        "failures": 3,
        "refused": 0,
        "not_before": f"{FAR:%Y-%m-%dT%H:%M:%SZ}",
        "last_error": "nobody answers there",
    } == first
    assert ("n2", 1, "https://hooks.acme.example") == (second["id"], second["refused"], second["recipient"])
    assert [] == await listed(locum, "--account", "beta")
    assert "nothing waits" in await locum("notices", "list", "--account", "beta")


async def test_what_was_given_up_is_shown_with_where_its_record_is(locum):
    """Whom it was for stands on the record alone."""
    said = await locum("notices", "list", "--given-up")
    assert "n4: begun of acme" in said
    assert f"failed_refused; the record has whom (kind notice, about {'ab' * 32})" in said
    assert 1 == len(said.splitlines())
    assert "ann@" not in said


async def test_what_waits_is_due_when_somebody_says_so(locum, tmp_path):
    """One by its id, or all; who names what waits no more hears that, and one of both has to be said."""
    assert "1 of those that wait is due now" in await locum("notices", "retry", "n2")
    waits = {one["id"]: one["not_before"] for one in await listed(locum)}
    now = f"{utc_now():%Y-%m-%dT%H:%M:%SZ}"
    assert (True, False) == (waits["n2"] <= now, waits["n1"] <= now)
    assert "1 of the ids are of none that waits" in await locum("notices", "retry", "n3", "n4", code=1)
    assert "3 of those that wait are due now" in await locum("notices", "retry", "--all")
    store = await open_sqlite(tmp_path / "data" / "locum.sqlite3")
    try:
        for _ in range(2):
            assert None is not await store.claim_notices("x", now=utc_now(), until=FAR, most=9)
    finally:
        await store.close()
    for words in ((), ("--all", "n1")):
        assert "or say --all" in await locum("notices", "retry", *words, code=2)
