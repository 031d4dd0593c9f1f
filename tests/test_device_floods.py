"""Whoever may ask without proving anything: what they cannot use up, fill, or keep from being answered."""

import asyncio
import sqlite3
from contextlib import closing
from hashlib import sha256

import pytest
import pytest_asyncio
from joserfc.jwk import ECKey

from gateway.devices import authorization
from gateway.devices.authorization import MOST_FROM_ONE
from tests.device_world import GRANT, open_device, say
from tests.oauth_world import proof
from tests.token_endpoint_world import TOKEN_URL


@pytest_asyncio.fixture
async def world(tmp_path):
    async with open_device(tmp_path) as (device, browser):
        yield device, browser


@pytest.mark.parametrize("word", ["approve", "decline"])
async def test_an_answer_that_was_not_stored_is_on_the_record_as_failed(world, word):
    """The journal says that it was to be, and then that it is not so."""
    device, browser = world
    await device.ask()
    with closing(sqlite3.connect(device.world.gateway.config.store_path)) as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE UPDATE ON one_time_values WHEN NEW.payload LIKE '%user_code%'"
            " BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
        assert 503 == (await say(browser, word, device.codes["user_code"])).status
        connection.execute("DROP TRIGGER full")
    records = device.world.records(kind="assumption")
    assert [f"device_{word}d", "device_answer_failed"] == [record["reason"] for record in records[1:]]
    assert ("deny", "dana") == (records[-1]["decision"], records[-1]["actor"]["subject"])
    assert "authorization_pending" == await device.error()


@pytest.mark.parametrize("line", ["Origin: https://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site"])
async def test_a_page_uses_up_nobody_s_requests(world, line):
    """What a browser sends is refused, and is not counted against the network in which it stands."""
    device, _ = world
    fields = {"client_id": device.client}
    for _ in range(MOST_FROM_ONE + 1):
        status, _, document = await device.send(authorization.PATH, fields, line)
        assert (400, "invalid_request") == (status, document["error"])
    assert 200 == (await device.ask())[0]


async def test_nonsense_uses_up_nobody_else_s_requests(world):
    """What could be asked for, and what fills the journal with refusals, are counted apart."""
    device, _ = world
    assert 400 == (await device.ask(agent=None))[0]
    assert 200 == (await device.ask())[0]

    def spend(what, count):
        digest = sha256(f"tries\0{what}\0".encode()).digest()
        with closing(sqlite3.connect(device.world.gateway.config.store_path)) as connection, connection:
            sql = "UPDATE one_time_values SET payload = ? WHERE digest = ? AND payload = ?"
            assert 1 == connection.execute(sql, (str(count), digest, "1")).rowcount

    spend("refused device requests", authorization.MOST_OF_ALL)
    records = len(device.world.records())
    assert (429, 200) == ((await device.ask(agent=None))[0], (await device.ask())[0])
    assert records + 1 == len(device.world.records())
    with closing(sqlite3.connect(device.world.gateway.config.store_path)) as connection, connection:
        connection.execute("UPDATE one_time_values SET payload = '1' WHERE payload IN ('2', '2000')")
    spend("few device requests", authorization.MOST_OF_ALL)
    assert (400, 429) == ((await device.ask(agent=None))[0], (await device.ask())[0])


async def test_few_who_ask_all_the_time_keep_nobody_out_who_asks_now_and_then(world):
    """Beyond its first three a network shares with those who ask as often; the first three have a budget of their own."""
    device, _ = world
    assert [200] * 4 == [(await device.ask())[0] for _ in range(authorization.FEW_OF_ONE + 1)]
    rest, few = (sha256(f"tries\0{what}\0".encode()).digest() for what in ("device requests", "few device requests"))
    others = sha256(b"tries\0few device requests of\x00127.0.0.1").digest()
    with closing(sqlite3.connect(device.world.gateway.config.store_path)) as connection, connection:
        set_to = "UPDATE one_time_values SET payload = ? WHERE digest = ? AND payload = ?"
        assert 1 == connection.execute(set_to, (str(authorization.MOST_OF_ALL), rest, "1")).rowcount
        assert 1 == connection.execute(set_to, ("3", few, "3")).rowcount
    assert 429 == (await device.ask())[0]
    with closing(sqlite3.connect(device.world.gateway.config.store_path)) as connection, connection:
        # As if it were from a network that has not asked yet.
        assert 1 == connection.execute("DELETE FROM one_time_values WHERE digest = ?", (others,)).rowcount
    assert 200 == (await device.ask())[0]


async def test_asking_at_the_same_time_is_not_asking_too_often(world):
    """As many as may ask are answered, however many ask at once."""
    device, _ = world
    statuses = [status for status, *_ in await asyncio.gather(*(device.ask() for _ in range(MOST_FROM_ONE + 5)))]
    assert (MOST_FROM_ONE, 5) == (statuses.count(200), statuses.count(429))


async def test_a_stranger_s_proofs_are_not_kept(world):
    """Whatever key has signed them: only what comes with an approved request takes a row of the store."""
    device, browser = world
    key = ECKey.generate_key("P-256")

    async def fetch(code, **claims):
        form = {"grant_type": GRANT, "client_id": device.client, "device_code": code}
        return await device.send(TOKEN_URL, form, f"DPoP: {proof(device.world, key=key, **claims)}")

    def rows():
        with closing(sqlite3.connect(device.world.gateway.config.store_path)) as connection:
            return connection.execute("SELECT count(*) FROM one_time_values").fetchone()[0]

    await device.ask()
    await say(browser, "approve", device.codes["user_code"])
    _, headers, document = await fetch(device.codes["device_code"])
    assert "use_dpop_nonce" == document["error"]
    nonce = headers["dpop-nonce"]
    approved = device.codes["device_code"]
    await device.ask()
    before = rows()
    for code, error in (("x", "invalid_grant"), (device.codes["device_code"], "authorization_pending")):
        assert error == (await fetch(code, nonce=nonce))[2]["error"]
    assert before == rows()
    assert "DPoP" == (await fetch(approved, nonce=nonce))[2]["token_type"]
    # The request is gone, and its proof has come.
    assert before == rows()
