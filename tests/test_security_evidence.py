"""The page "Evidence" of the security team's console: it says what is amiss, part by part."""

import asyncio
import base64
import re
import sqlite3
import threading

from msgspec.structs import replace

from gateway.app import open_gateway
from gateway.audit.evidence.verdict import DIRECTORY, Kept, Verdict, keep
from gateway.audit.hand import Hand
from gateway.console.security.heads import Heads
from gateway.state import Post
from gateway.stores.holding import Hold
from tests.patience import PATIENCE_SECONDS
from tests.security_world import PATH, open_guard, security

EVIDENCE = f"{PATH}/evidence"


def how(page, title):
    """What the page says of a part."""
    found = re.search(rf">{title} <span class=\"badge (\w+)\">", page.text)
    return found[1] if found else None


async def _page(guard):
    page = await guard.page(EVIDENCE)
    assert 200 == page.status, page.text
    return page


async def test_it_says_how_far_the_record_is_sealed(tmp_path):
    """The newest checkpoint of each origin with its size and root, checked against the journal's key."""
    async with open_guard(tmp_path, change=_seals_seldom) as guard:
        await guard.enter()
        await guard.world.gateway.journal.checkpoint()
        note = (tmp_path / "journal" / "gateway.checkpoint").read_text().split("\n")
        page = await _page(guard)
        assert "ok" == how(page, "Checkpoints")
        assert f'data-label="Records">{note[1]}<' in page.text
        assert base64.b64decode(note[2]).hex() in page.text
        for part in ("Store", "Journal", "Push", "Clock", "Keys", "Retention", "Workers", "Facts"):
            assert "ok" == how(page, part), part
        assert "off" == how(page, "Sinks")
        assert "degraded" == how(page, "Witnesses")


def _seals_seldom(document):
    security(document)
    document["audit"]["checkpoint_seconds"] = 3600


async def test_a_checkpoint_that_was_changed_does_not_count(tmp_path):
    """Whichever character of its text or signature is another, the page says so and does not fail."""
    async with open_guard(tmp_path, change=_seals_seldom) as guard:
        await guard.enter()
        await guard.world.gateway.journal.checkpoint()
        path = tmp_path / "journal" / "gateway.checkpoint"
        note = path.read_bytes()
        for place in range(0, len(note) - 1, 9):
            changed = bytearray(note)
            changed[place] ^= 0x01
            path.write_bytes(bytes(changed))
            page = await _page(guard)
            assert "failing" == how(page, "Checkpoints"), place
            assert "does not count" in page.text
        path.write_bytes(note)
        assert "ok" == how(await _page(guard), "Checkpoints")


async def test_it_says_what_fails(tmp_path):
    """A journal that cannot be written is failing, a clock that was set back is degraded; the first line names both."""
    async with open_guard(tmp_path) as guard:
        await guard.enter()
        await guard.world.gateway.journal.close()
        page = await _page(guard)
        assert "failing" == how(page, "Journal")
        assert re.search(r"<strong>Failing:</strong> look at [^.]*Journal", page.text)


async def test_a_store_that_is_partly_away_is_said(tmp_path):
    """Where the page cannot be made, nothing of it is shown as sound."""
    async with open_guard(tmp_path) as guard:
        await guard.enter()
        with sqlite3.connect(tmp_path / "locum.sqlite3", isolation_level=None) as connection:
            connection.execute("ALTER TABLE legal_holds RENAME TO elsewhere")
            page = await guard.page(EVIDENCE)
            connection.execute("ALTER TABLE elsewhere RENAME TO legal_holds")
        connection.close()
        assert 503 == page.status
        assert "as it should be" not in page.text
        assert 200 == (await guard.page(EVIDENCE)).status


async def test_legal_holds_retention_and_sinks_are_named(tmp_path):
    """With who set them and why, escaped; a sink with what it waits for."""

    def change(document):
        security(document)
        document["audit"]["retention"] = {"days": 400, "accounts": [{"account": "acme", "days": 30}]}
        document["audit"]["witnesses"] = [{"name": "vault", "kind": "file", "path": str(tmp_path / "vault")}]
        document["audit"]["sinks"] = [
            {"name": "shipped", "kind": "file", "path": str(tmp_path / "shipped.jsonl")},
            {"name": "siem", "kind": "http", "url": "http://127.0.0.1:9/take"},
        ]

    async with open_guard(tmp_path, change=change) as guard:
        hold = Hold(account="acme", by="counsel", reason="<b>suit 9</b>", at=guard.world.clock.now)
        await guard.world.gateway.store.add_hold(hold)
        await guard.enter()
        page = await _page(guard)
        assert b"<b>suit" not in page.body
        for said in ("400 days", "30 days", "Legal hold on acme", "<b>suit 9</b>", "vault", "shipped (file)"):
            assert said in page.text, said
        assert re.search(r"<dt><bdi>shipped \(file\)</bdi></dt><dd><bdi>\w+, [0-9]+ bytes behind", page.text)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while "these get nothing now: siem." not in (page := await _page(guard)).text:  # noqa: ASYNC110 - a thread
                await asyncio.sleep(0.02)
        assert "degraded" == how(page, "Sinks")


async def test_keys_nodes_and_the_last_verdict_are_shown(tmp_path):
    """What signs, that there is no other machine, and until where the journal was found to be as it was written."""
    async with open_guard(tmp_path) as guard:
        await guard.enter()
        page = await _page(guard)
        assert "degraded" == how(page, "Verified")
        assert "ok" == how(page, "Nodes")
        assert "This one only" in page.text
        assert re.search(r"<dt><bdi>tokens[^<]*</bdi></dt><dd><bdi>EdDSA [^<]* 0 days ago</bdi>", page.text)
        (tmp_path / DIRECTORY).mkdir(exist_ok=True)
        keep(tmp_path / DIRECTORY, Kept(at=guard.world.clock.now, verdict=Verdict(count=0, covered={"gateway": 41})))
        page = await _page(guard)
        assert "ok" == how(page, "Verified")
        assert "<dt><bdi>gateway</bdi></dt><dd><bdi>verified until record 41</bdi></dd>" in page.text


async def test_workers_that_do_not_answer_are_named(tmp_path):
    """A fellow whose socket is dead is said to be silent; it holds the page up for a second at the most."""
    (tmp_path / "a").mkdir()
    async with open_guard(tmp_path / "a") as guard:
        config = guard.world.gateway.config
        fellows = {"gateway-2": tmp_path / "two.sock", "gateway-3": tmp_path / "three.sock"}
        (tmp_path / "b").mkdir()
        server = replace(config.server, data_directory=str(tmp_path / "b"))
        post = Post(origin="gateway-2", fellows=fellows)
        clock = guard.world.clock
        async with open_gateway(
            replace(config, server=server), post=post, clock=clock.utc, ticks=clock.ticks,
            patience_seconds=PATIENCE_SECONDS,
        ) as second:  # fmt: skip
            guard.world.gateway = second
            await guard.enter()
            page = await _page(guard)
            assert "degraded" == how(page, "Workers")
            assert "No answer from gateway-3." in page.text
            assert "gateway-2 (answers you)" in page.text


async def test_a_disk_that_hangs_holds_nobody_up(tmp_path):
    """Whoever asks is told that it could not be read, and the disk is asked once for all of them."""
    go_on, hand = threading.Event(), Hand("test-heads")
    try:
        hand.run(go_on.wait)
        heads = Heads(tmp_path, tmp_path / "key.pem", (), hand=hand, patience_seconds=0.05)
        assert None is await heads.read()
        assert None is await heads.read()
        go_on.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (found := await heads.read()) is None:
                pass
        assert [] == found
    finally:
        go_on.set()
        hand.stop()
