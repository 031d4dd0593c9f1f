"""Everybody may read the checkpoints and the key; a receipt is for who may read the log, and of their account only."""

import asyncio
import base64
import json

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from locum_verify import receipt as alone

from gateway.audit.api.checkpoints import LogDoor
from gateway.audit.evidence.checkpoint import open_note, split_notes
from gateway.audit.evidence.receipt_check import check_receipt
from gateway.audit.hand import Hand
from gateway.clients import digest_of
from gateway.stores.store import Client
from policy.model import AccountId, ClientId
from tests.gateway_world import HOST, open_world
from tests.journals import KEY, Ticks, write_journal
from tests.patience import PATIENCE_SECONDS
from tests.witness_world import until

SECRET = "a secret of the tests"


async def _get(world, path: str, headers=()):
    """Ask the public listener, as anybody does who knows its address."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {HOST}", "Connection: close", *headers]
    raw = await world.raw("\r\n".join(lines).encode() + b"\r\n\r\n")
    head, _, body = raw.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), head.decode().lower(), body


async def _reader(world, *, account: str | None = None, roles=("audit",), name="reader") -> str:
    only = None if account is None else AccountId(account)
    client = Client(id=ClientId(name), secret_digest=digest_of(SECRET), roles=frozenset(roles), account=only)
    await world.gateway.store.add_client(client)
    return _basic(name)


def _basic(name: str, secret: str = SECRET) -> str:
    return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()


async def _receipt(world, assumption: str, auth):
    url = f"{world.gateway.admin_url}/.locum/log/receipts/{assumption}"
    async with world.http.get(url, headers={"Authorization": auth} if auth else {}) as answer:
        return answer.status, await answer.read()


async def _stand_in(world, *, signed=True) -> str:
    """Let a staff member look at a ticket; return the assumption, once it is under a checkpoint if it is to be."""
    await world.choose()
    token = await world.token()
    status, _, _ = await world.get(token)
    assert 200 == status
    await until(lambda: world.records(kind="completion"))
    [record] = world.records(kind="decision", decision="allow", account="acme")
    if signed:
        await world.gateway.journal.checkpoint()
    return record["assumption"]


async def test_the_checkpoint_that_is_served_is_the_one_in_the_files(tmp_path):
    """Signed by the key that is served beside it, for everybody, without a credential."""
    async with open_world(tmp_path) as world:
        await _stand_in(world)
        status, head, body = await _get(world, "/.locum/log/checkpoint/gateway")
        assert (200, (tmp_path / "journal" / "gateway.checkpoint").read_bytes()) == (status, body)
        _, _, pem = await _get(world, "/.locum/log/key")
        assert 0 < open_note(body, key=load_pem_public_key(pem)).size
        assert "cache-control: public, max-age=1" in head
        assert "content-type: text/plain; charset=utf-8" in head
        tag = next(line for line in head.split("\r\n") if line.startswith("etag: ")).removeprefix("etag: ")
        again = await _get(world, "/.locum/log/checkpoint/gateway", [f"If-None-Match: {tag}"])
        assert (304, b"") == (again[0], again[2])


async def test_the_checkpoints_of_all_origins_come_in_one_answer(tmp_path):
    """Also the command line's, and those of workers that have ended; `verify --checkpoint` takes it as it is."""
    for origin in ("cli", "gateway-7"):
        await write_journal(tmp_path / "journal", 3, origin=origin)
    async with open_world(tmp_path) as world:
        await _stand_in(world)
        _, _, body = await _get(world, "/.locum/log/checkpoint")
        notes = split_notes(body + b"\n")
        assert ["cli", "gateway", "gateway-7"] == [note.split(b"\n")[0].decode() for note in notes]
        assert 3 == open_note(notes[0], key=KEY.public_key()).size


async def test_no_path_leads_to_another_file(tmp_path):
    """An origin is looked up among those that there are, and never in the file system."""
    async with open_world(tmp_path) as world:
        await _stand_in(world)
        for name in ("nobody", "gateway.place", "..%2f..%2flocum.sqlite3", "..", "gateway%00", ".", "gateway%2f"):
            status, _, body = await _get(world, f"/.locum/log/checkpoint/{name}")
            assert status in (400, 404), name
            assert b"SQLite" not in body


async def test_they_can_be_kept_to_oneself(tmp_path):
    """Then there is nothing to see, as if there were none."""

    def change(document):
        document["audit"] = {"publish_checkpoints": False}

    async with open_world(tmp_path, change=change) as world:
        await _stand_in(world)
        for path in ("checkpoint", "checkpoint/gateway", "key"):
            assert 404 == (await _get(world, f"/.locum/log/{path}"))[0]


async def test_a_disk_that_hangs_keeps_nobody_waiting(tmp_path):
    """The first waits a moment and gets a 503, or what was there; whoever comes after gets that at once."""
    go = asyncio.Event()
    loop = asyncio.get_running_loop()
    hand, hangs = Hand("hangs"), asyncio.Event()
    try:
        ticks = Ticks()
        door = LogDoor(tmp_path, tmp_path / "key", hand=hand, ticks=ticks, patience_seconds=0.1)

        def hang():
            loop.call_soon_threadsafe(hangs.set)
            asyncio.run_coroutine_threadsafe(go.wait(), loop).result()

        hanging = hand.run(hang)
        await asyncio.wait_for(hangs.wait(), PATIENCE_SECONDS)
        assert None is await door._look()
        go.set()
        await hanging
        await write_journal(tmp_path, 3)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (shown := await door._look()) is None or {"node"} != set(shown.notes):
                # What was asked for while the disk hung may have been read before there was a journal.
                ticks.now += 5
                await asyncio.sleep(0)
        go.clear()
        hangs.clear()
        ticks.now += 5
        hanging = hand.run(hang)
        await asyncio.wait_for(hangs.wait(), PATIENCE_SECONDS)
        assert {"node"} == set((await door._look()).notes)
        with pytest.raises(StopIteration) as done:
            door._look().send(None)
        assert {"node"} == set(done.value.value.notes), "it is known to hang by now"
        go.set()
        await hanging
    finally:
        go.set()
        hand.stop()


async def test_a_flood_reads_the_files_once(tmp_path):
    """However many ask within a second."""
    await write_journal(tmp_path, 3)
    hand, reads = Hand("counted"), 0
    try:
        door = LogDoor(tmp_path, tmp_path / "key", hand=hand, ticks=Ticks(), patience_seconds=PATIENCE_SECONDS)
        read = door._read

        def counted():
            nonlocal reads
            reads += 1
            return read()

        door._read = counted
        assert 1 == len({id(one) for one in await asyncio.gather(*(door._look() for _ in range(1000)))})
        assert 1 == reads
    finally:
        hand.stop()


async def test_an_auditor_gets_a_receipt_that_the_customer_can_check(tmp_path):
    """With the public key and the stand-alone checker; that it was asked for is on the record."""
    async with open_world(tmp_path) as world:
        assumption = await _stand_in(world)
        status, receipt = await _receipt(world, assumption, await _reader(world))
        assert 200 == status, receipt
        key = load_pem_public_key((tmp_path / "journal-key.pem").read_bytes())
        summary = alone.check(receipt, key)
        assert ("acme", "maria", "SUP-1") == (summary["account"], summary["subject"], summary["ticket"])
        assert [1] == [request["count"] for request in summary["requests"]]
        assert [] == check_receipt(receipt, key=key)[1]
        [asked] = world.records(kind="audit")
        assert ("receipt", "reader", assumption) == (asked["reason"], asked["client_id"], asked["assumption"])
        # It was read by another process, and the record of that is not in it.
        await world.gateway.journal.checkpoint()
        _, again = await _receipt(world, assumption, _basic("reader"))
        assert summary == json.loads(again)["summary"]


async def test_a_client_of_one_account_gets_no_receipt_of_another(tmp_path):
    """And the same answer as for one that there never was."""
    async with open_world(tmp_path) as world:
        assumption = await _stand_in(world)
        stranger = await _reader(world, account="globex", name="stranger")
        assert await _receipt(world, "as_nobody", stranger) == (theirs := await _receipt(world, assumption, stranger))
        assert 404 == theirs[0]
        assert 200 == (await _receipt(world, assumption, await _reader(world, account="acme")))[0]


async def test_nobody_else_gets_a_receipt(tmp_path):
    """No credential, a wrong one, a client without the role; and no path that is more than a name."""
    async with open_world(tmp_path) as world:
        assumption = await _stand_in(world)
        other = await _reader(world, roles=("grants", "token", "introspect", "kill_switch"), name="other")
        auditor = await _reader(world)
        for auth in (None, other, _basic("reader", "wrong"), _basic("nobody")):
            assert 401 == (await _receipt(world, assumption, auth))[0]
        for name in ("--help", "-o", "..", "a%2fb", "a%00", "a%20b", "x" * 200):
            assert 404 == (await _receipt(world, name, auditor))[0], name
        assert [] == world.records(kind="audit")
        status, _, body = await _get(world, f"/.locum/log/receipts/{assumption}")
        assert 404 == status
        assert b"summary" not in body


async def test_a_journal_that_was_altered_gives_no_receipt(tmp_path):
    """The auditor is told to verify it."""
    async with open_world(tmp_path) as world:
        assumption = await _stand_in(world)
        path = next((tmp_path / "journal").glob("gateway-*.jsonl"))
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([lines[1], lines[0], *lines[2:]]))
        status, body = await _receipt(world, assumption, await _reader(world))
        assert (500, "journal_altered") == (status, json.loads(body)["reason"])


async def test_what_is_not_signed_yet_is_not_said_to_be_missing(tmp_path):
    """Whoever asks before the checkpoint that is due is told to come again; of another account's, nothing."""

    def rarely(wanted):
        wanted["audit"] |= {"checkpoint_seconds": 3600}

    async with open_world(tmp_path, change=rarely) as world:
        assumption = await _stand_in(world, signed=False)
        status, body = await _receipt(world, assumption, await _reader(world))
        assert (503, "not_signed_yet") == (status, json.loads(body)["reason"])
        other = await _reader(world, account="globex", name="other")
        assert 404 == (await _receipt(world, assumption, other))[0]
        await world.gateway.journal.checkpoint()
        assert 200 == (await _receipt(world, assumption, _basic("reader")))[0]


@pytest.mark.parametrize("fault", ["missing", "no key"])
async def test_what_cannot_be_made_says_nothing_about_the_journal(tmp_path, fault, capfd):
    """Nobody is told that it was altered for a key's file that is gone or another; the log says what it is."""
    async with open_world(tmp_path) as world:
        assumption = await _stand_in(world)
        [key] = (path for path in tmp_path.rglob("*.pem") if b"PUBLIC" in path.read_bytes())
        content = key.read_bytes()
        key.unlink()
        if fault == "no key":
            key.write_bytes(b"nothing")
        auditor = await _reader(world)
        status, body = await _receipt(world, assumption, auditor)
        assert (503, "not_made") == (status, json.loads(body)["reason"])
        assert "no receipt was made: " in capfd.readouterr().err
        key.write_bytes(content)
        assert 200 == (await _receipt(world, assumption, auditor))[0]
