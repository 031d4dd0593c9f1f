"""What strangers had refused, and how long that is kept: no flood of theirs pushes out evidence, or stays for ever."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta

from gateway.audit.evidence.verify import verify
from gateway.audit.record import Record
from gateway.audit.removal.retention import Keeping, Terms
from gateway.audit.search import read
from policy.model import AccountId, ClientId, TokenId
from tests.journals import KEY, NOON, SecondHand, open_journal
from tests.kept_journal import Office, write_days

KIB = 1024


def a_refusal(account="acme", **known):
    """Return one of somebody whose token is none; what is `known` of them makes them no stranger."""
    return Record(
        kind="decision",
        decision="deny",
        reason="token_invalid",
        account=AccountId(account),
        client_ip="203.0.113.9",
        host=f"{account}.helpdesk.example",
        path="/" + "x" * 200,
        user_agent="u" * 200,
        **known,
    )


async def write(directory, records, *, hours):
    """Write a segment of records, so many hours after NOON."""
    journal = await open_journal(directory, origin="gateway", clock=SecondHand(NOON + timedelta(hours=hours)))
    await asyncio.gather(*(journal.append(record) for record in records))
    await journal.close()


def left(directory):
    """Return how many records of each account are there, strangers' and others apart."""
    return {
        who: dict(Counter(entry["account"] for entry in read(directory) if entry["kind"] == "decision" and test(entry)))
        for who, test in (("strangers", is_strangers), ("others", lambda entry: not is_strangers(entry)))
    }


def is_strangers(entry):
    return entry["decision"] == "deny" and not {"token_id", "client_id"} & entry.keys()


def lettings(directory):
    return [entry for entry in read(directory) if entry["kind"] == "retention"]


def check(directory):
    assert verify(directory, public_key=KEY.public_key()).ok


async def test_a_flood_of_refusals_pushes_out_none_of_an_accounts_evidence(tmp_path):
    """Of its own strangers the oldest go; who had a token that was good, or is a client, is no stranger."""
    await write_days(tmp_path, [0])
    refused = [a_refusal(token_id=TokenId("t")), a_refusal(client_id=ClientId("app"))]
    await write(tmp_path, refused, hours=1)
    for hour in (2, 3, 4):
        await write(tmp_path, [a_refusal() for _ in range(100)], hours=hour)
    for terms in ({"acme": Keeping(bytes=100 * KIB)}, {"size": 100 * KIB}):
        async with Office(tmp_path, day=0) as office:
            await office.retain(**terms)
        assert {"strangers": {"acme": 100}, "others": {"acme": 6, "beta": 4}} == left(tmp_path)
    check(tmp_path)


async def test_any_number_of_accounts_that_strangers_name_costs_one_record(tmp_path):
    """They make them up; nothing of that is kept for ever, and nothing is counted for each."""
    await write(tmp_path, [a_refusal(f"a{number}") for number in range(500)], hours=0)
    async with Office(tmp_path) as office:
        [gone] = await office.retain(days=1)
        assert (None, 500) == (gone.part.account, gone.part.lines)
    [letting] = lettings(tmp_path)
    assert (500, "age") == (letting["count"], letting["reason"])
    assert "account" not in letting
    check(tmp_path)


async def test_an_account_with_terms_of_its_own_has_them_for_its_strangers_too(tmp_path):
    """Whoever chose a week has nobody's address for longer, and who chose for ever keeps all."""
    await write(tmp_path, [a_refusal(account) for account in ("acme", "beta", "gamma")], hours=0)
    async with Office(tmp_path, day=9) as office:
        await office.retain(days=30, acme=Keeping(days=7), beta=Keeping())
        assert {"beta": 1, "gamma": 1} == left(tmp_path)["strangers"]
        await office.retain(days=1, beta=Keeping())
        assert {"beta": 1} == left(tmp_path)["strangers"]
    check(tmp_path)


async def test_what_was_refused_at_an_account_under_hold_stays(tmp_path):
    """Though it is counted together with what goes; after the release that goes, too."""
    await write(tmp_path, [a_refusal(account) for account in ("acme", "beta", "gamma")], hours=0)
    async with Office(tmp_path) as office:
        office.held = {"acme"}
        await office.retain(days=1)
        assert {"acme": 1} == left(tmp_path)["strangers"]
        check(tmp_path)
        office.held = set()
        await office.retain(days=1)
    assert {} == left(tmp_path)["strangers"]
    check(tmp_path)


async def test_a_hold_that_comes_while_they_go_keeps_all_that_is_counted_together(tmp_path):
    """Their one record speaks of all of them, so none goes now, and the rest the next time."""
    await write(tmp_path, [a_refusal(account) for account in ("acme", "beta")], hours=0)

    class Placing:
        """Somebody places a hold while the record that lets content go is being signed."""

        def __init__(self, office):
            self.append = office.journal.append
            self._office = office

        async def checkpoint(self):
            self._office.held = {"acme"}
            await self._office.journal.checkpoint()

    async with Office(tmp_path) as office:
        retention = replace(office.retention(Terms(usual=Keeping(days=1))), recorder=Placing(office))
        assert [] == await retention.retain(now=office.now)
        assert {"acme": 1, "beta": 1} == left(tmp_path)["strangers"]
        check(tmp_path)
        await office.retain(days=1)
        assert {"acme": 1} == left(tmp_path)["strangers"]
    check(tmp_path)
