"""A store that goes back in time is not believed: not now, not after a restart, not account by account."""

import asyncio
import copy
import logging
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.grants.mark import Mark, Place, read_highest
from gateway.stores.store import StoreError
from tests.follow_scene import FollowScene, until
from tests.patience import PATIENCE_SECONDS
from tests.stuck_disk import StuckDisk

PROJECT = Path(__file__).parent.parent


class Backup:
    """What a store holds at one moment, to be put back later."""

    def __init__(self, store):
        self._rows = copy.deepcopy({name: value for name, value in vars(store).items() if name != "pushes"})

    def put_back(self, store):
        vars(store).update(copy.deepcopy(self._rows))


@pytest.fixture
async def scene(tmp_path):
    scene = FollowScene(tmp_path)
    await scene.furnish("acme", "beta")
    await scene.open_up()
    yield scene
    await scene.close()


async def test_an_older_copy_is_not_believed_however_many_changes_it_makes(scene, caplog):
    """The revoke is not in the copy. Everybody is kept out and cut, until the operator has acted."""
    backup = Backup(scene.store)
    stream = await scene.stream("beta")
    await scene.revoke("acme")
    await scene.step()
    assert "grant_revoked" == await scene.ask("acme")
    backup.put_back(scene.store)
    await scene.step()
    assert ("store_stale", "store_stale", "store_stale") == (
        stream.cut,
        await scene.ask("acme"),
        await scene.ask("beta"),
    )
    assert scene.follower.is_stale
    for _ in range(5):
        await scene.store.touch_account("other")
        await scene.step()
        assert "store_stale" == await scene.ask("beta")
    await scene.store.raise_position(scene.mark.highest + 1)
    await scene.step()
    assert ("permit", False) == (await scene.ask("beta"), scene.follower.is_stale)
    assert 1 == sum(record.levelno == logging.ERROR for record in caplog.records)
    assert "locum recover" in caplog.text


async def test_an_older_copy_is_not_believed_after_a_restart(tmp_path):
    """The highest count is kept on the disk, by each worker for all of them."""
    first = FollowScene(tmp_path, origin="gateway-1")
    await first.furnish("acme")
    backup = Backup(first.store)
    await first.revoke()
    await first.open_up()
    first.mark.write()
    await first.close()
    backup.put_back(first.store)
    for origin in ("gateway-0", "gateway-2"):
        # Each of them sees more changes than the one before, and the mark is no further away for the second.
        second = FollowScene(tmp_path, first.store, origin=origin)
        await second.open_up()
        assert ("store_stale", 500_000) == (await second.ask(), second.mark.highest - first.mark.highest)
        second.mark.write()
        for _ in range(5):
            await second.store.touch_account("other")
        await second.step()
        assert "store_stale" == await second.ask()
        if origin == "gateway-0":
            await second.close()
    await second.store.raise_position(second.mark.highest + 1)
    await second.step()
    assert "permit" == await second.ask(), "this is why the operator's command ends every grant first"
    await second.close()


@pytest.mark.parametrize("ahead", [0, 1, 50])
async def test_an_older_copy_that_has_gone_on_is_not_believed(scene, caplog, ahead):
    """It counts as many changes as were seen, or more, before anybody looks: its last one we know is another one."""
    backup = Backup(scene.store)
    stream = await scene.stream("beta")
    await scene.revoke("acme")
    await scene.step()
    backup.put_back(scene.store)
    for _ in range(1 + ahead):
        await scene.store.touch_account("other")
    await scene.step()
    assert ("store_stale", "store_stale") == (stream.cut, await scene.ask("acme"))
    for _ in range(5):
        await scene.store.touch_account("other")
        await scene.step()
        assert "store_stale" == await scene.ask("beta")
    await scene.store.raise_position(scene.mark.highest + 1)
    await scene.step()
    assert ("permit", False) == (await scene.ask("beta"), scene.follower.is_stale)
    await scene.store.touch_account("other")
    await scene.step()
    assert not scene.follower.is_stale
    assert 1 == sum(record.levelno == logging.ERROR for record in caplog.records)


async def test_an_older_copy_that_has_gone_on_while_nobody_ran_is_not_believed(tmp_path):
    """The tag of the last change is kept on the disk too; the store itself, gone on likewise, is believed."""
    first = FollowScene(tmp_path)
    await first.furnish("acme")
    backup = Backup(first.store)
    await first.revoke()
    await first.open_up()
    first.mark.write()
    await first.close()
    for _ in range(3):
        await first.store.touch_account("other")
    itself = FollowScene(tmp_path, first.store)
    await itself.open_up()
    assert "grant_revoked" == await itself.ask()
    await itself.close()
    backup.put_back(first.store)
    for _ in range(9):
        await first.store.touch_account("other")
    copy_ = FollowScene(tmp_path, first.store)
    await copy_.open_up()
    assert ("store_stale", True) == (await copy_.ask(), copy_.follower.is_stale)
    await copy_.close()


async def test_a_position_whose_change_is_not_kept_any_more_is_compared_as_a_number(scene):
    """Ten thousand changes later nobody knows what stood there; so it is after the operator has acted, on every node."""
    for _ in range(2):
        await scene.store.raise_position(scene.mark.highest + 10_000)
        await scene.step()
        assert ("permit", False) == (await scene.ask(), scene.follower.is_stale)


async def test_what_took_over_while_the_channel_was_lost_is_asked_about_everything(scene):
    """Its count and last change are what was seen, and a change before them is not: all that was known is forgotten."""
    acme, beta = await scene.stream("acme"), await scene.stream("beta")
    scene.follow()
    await until(lambda: scene.store.pushes)
    known = {name: copy.copy(value) for name, value in vars(scene.store).items() if name in ("_changes", "_tags")}
    position = scene.store._position
    scene.store.deaf = True
    await scene.revoke("acme")
    vars(scene.store).update(known, _position=position)
    scene.store.lose_pushes()
    await until(lambda: scene.follower.is_lost)
    await until(lambda: acme.cut)
    assert ("grant_revoked", None, False) == (acme.cut, beta.cut, scene.follower.is_lost)


async def test_after_the_operator_has_acted_accounts_are_believed_anew(scene):
    """Also those of which more was seen before than the copy holds; they would be refused for ever otherwise."""
    backup = Backup(scene.store)
    for _ in range(3):
        await scene.change("acme")
    await scene.step()
    assert "permit" == await scene.ask()
    backup.put_back(scene.store)
    await scene.step()
    await scene.revoke("acme")
    await scene.store.raise_position(scene.mark.highest + 1)
    await scene.step()
    assert ("grant_revoked", "permit") == (await scene.ask("acme"), await scene.ask("beta"))


async def test_an_older_truth_about_one_account_is_never_used(scene):
    """The count goes up, the account's own epoch goes down, as on a copy that lags: nobody is let in on that."""
    older = scene.store._accounts["acme"]
    await scene.revoke("acme")
    await scene.step()
    assert "grant_revoked" == await scene.ask()
    scene.store._accounts["acme"] = older
    scene.facts.forget_account("acme")
    with pytest.raises(StoreError, match="older copy"):
        await scene.ask()
    assert "permit" == await scene.ask("beta")


async def test_a_change_made_here_is_not_undone_by_an_older_read(scene):
    """What this process has stored itself counts as seen."""
    record = scene.store._accounts["acme"]
    scene.facts.saw(replace(record, account=replace(record.account, epoch=record.account.epoch + 1)))
    with pytest.raises(StoreError):
        await scene.ask()


async def test_nothing_is_believed_before_the_first_look(tmp_path):
    """Between opening the store and reading where it is, nobody is let in."""
    scene = FollowScene(tmp_path)
    await scene.furnish("acme")
    assert "store_unavailable" == await scene.ask()
    await scene.open_up()
    assert "permit" == await scene.ask()
    await scene.close()


# --- the file ---


def test_the_mark_is_the_highest_of_all_workers(tmp_path):
    """Each writes its own file, and none can lower another's."""
    for origin, position in (("gateway-0", 7), ("gateway-1", 12), ("gateway-2", 3)):
        mark = Mark.open(tmp_path, origin)
        mark.raise_to(position)
        mark.write()
    assert 12 == read_highest(tmp_path)
    again = Mark.open(tmp_path, "gateway-2")
    again.raise_to(11)
    again.write()
    assert (12, 12) == (again.highest, read_highest(tmp_path))


def test_a_mark_of_before_there_were_tags_is_a_number(tmp_path):
    """It still counts, and whatever stands at that position is believed; one that knows the tag knows more."""
    (tmp_path / "position-gateway-0").write_text("12\n")
    mark = Mark.open(tmp_path, "gateway-1")
    assert (12, Place(12)) == (mark.highest, mark.place)
    assert not mark.place.is_of_another_history("any")
    mark.raise_to(12, "known")
    mark.write()
    assert "12 known\n" == (tmp_path / "position-gateway-1").read_text()
    place = Mark.open(tmp_path, "gateway-2").place
    assert Place(12, "known") == place
    assert [False, False, True] == [place.is_of_another_history(tag) for tag in ("known", None, "any")]


@pytest.mark.parametrize("content", [b"", b"many\n", b"\xff\xfe"])
def test_a_mark_that_cannot_be_read_is_said(tmp_path, caplog, content):
    """It is no reason not to start, and the others still count."""
    (tmp_path / "position-gateway-0").write_bytes(content)
    (tmp_path / "position-gateway-1").write_text("9\n")
    (tmp_path / "position-gateway-1.new").write_text("99999")
    assert 9 == read_highest(tmp_path)
    assert "position-gateway-0" in caplog.text


def test_a_mark_that_cannot_be_written_is_tried_again(tmp_path, caplog):
    """The log says so once; nothing else fails."""
    directory = tmp_path / "gone"
    mark = Mark.open(directory, "gateway")
    mark.raise_to(5)
    mark.write()
    mark.write()
    assert (False, 1) == (mark.is_written, caplog.text.count("cannot be written"))
    directory.mkdir()
    mark.write()
    assert (True, 5) == (mark.is_written, read_highest(directory))
    assert 0o600 == (directory / "position-gateway").stat().st_mode & 0o777


async def test_a_disk_that_hangs_keeps_nobody_from_stopping(tmp_path, caplog):
    """The last mark is waited for so long, and the log says that it is not written; what hangs ends by itself."""
    disk, before = StuckDisk(), set(threading.enumerate())
    mark = Mark.open(tmp_path, "gateway", fsync=disk.fsync)
    mark.raise_to(5)
    await mark.keep()
    mark.raise_to(6)
    disk.hang("fsync")
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await mark.close(seconds=0.01)
        assert 5 == read_highest(tmp_path)
        assert "could not be written for the last time: the disk hangs" in caplog.text
    finally:
        disk.let_go()
        for thread in set(threading.enumerate()) - before:
            thread.join()
        disk.close()
    assert 6 == read_highest(tmp_path)


HANGING = """
import asyncio, sys, threading
from pathlib import Path
from gateway.grants.mark import Mark

hangs = threading.Event()

def fsync(_handle):
    hangs.set()
    threading.Event().wait()

async def main():
    mark = Mark.open(Path(sys.argv[1]), "gateway", fsync=fsync)
    mark.raise_to(5)
    keeping = asyncio.create_task(mark.keep())
    await asyncio.to_thread(hangs.wait)
    await mark.close(seconds=0.01)
    keeping.cancel()

asyncio.run(main())
"""


def test_a_disk_that_hangs_keeps_no_process_from_ending(tmp_path):
    """Neither the loop's end nor the interpreter's waits for the thread that it holds."""
    words = [sys.executable, "-c", HANGING, str(tmp_path)]
    done = subprocess.run(words, timeout=PATIENCE_SECONDS, cwd=PROJECT, check=False, capture_output=True)
    assert 0 == done.returncode, done.stderr


def test_a_link_in_the_mark_s_place_is_not_followed(tmp_path):
    """What it leads to stays as it was."""
    precious = tmp_path / "precious"
    precious.write_text("mine")
    for name in ("position-gateway", "position-gateway.new"):
        (tmp_path / name).symlink_to(precious)
    mark = Mark.open(tmp_path, "gateway")
    mark.raise_to(5)
    mark.write()
    assert ("mine", "5\n") == (precious.read_text(), (tmp_path / "position-gateway").read_text())
