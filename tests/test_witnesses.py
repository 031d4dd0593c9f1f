"""What witnesses are shown, in which order, and what of their answers is an alarm."""

import asyncio
import logging

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from gateway.audit.evidence.checkpoint import open_note, split_notes
from gateway.audit.evidence.verify import verify
from gateway.audit.witnesses.cosignature import find_cosignature, parse_key
from gateway.config.section import Secret
from tests.gateway_world import open_world
from tests.journals import KEY
from tests.witness_world import NAME, VKEY, cosign, file_at, http_witness, note_of, put, showing, to, until


def _sizes(notes) -> list[int]:
    return [open_note(note, key=KEY.public_key()).size for note in notes]


async def test_a_witness_is_shown_the_newest_and_never_an_older_one(tmp_path):
    """It may miss some in between; what it is shown only grows, and ends with the newest."""
    async with http_witness() as witness, showing(tmp_path, to(witness.url)) as witnesses:
        for size in range(1, 30):
            put(tmp_path, note_of(size))
            await asyncio.sleep(0)
        await until(lambda: witness.shown and 29 == _sizes(witness.shown)[-1])
        sizes = _sizes(witness.shown)
        assert sorted(set(sizes)) == sizes
        await until(lambda: not witnesses.tallies["w"].waiting_since)
        assert (len(sizes), 0, 0) == (
            witnesses.tallies["w"].taken,
            witnesses.tallies["w"].failures,
            witnesses.tallies["w"].conflicts,
        )


async def test_what_is_shown_are_the_very_bytes(tmp_path):
    """The signature is checked by whoever keeps it, so nothing of the note may change on the way."""
    put(tmp_path, note_of(7))
    async with http_witness() as witness, showing(tmp_path, to(witness.url)):
        await witness.until(1)
    assert [note_of(7)] == witness.shown


async def test_a_witness_that_is_away_is_shown_it_until_it_takes_it(tmp_path):
    """A 503, a broken connection, a redirect: none of them counts as taken."""
    put(tmp_path, note_of(7))
    async with http_witness() as witness:

        def answer(_note):
            match len(witness.shown):
                case 0:
                    return web.Response(status=503)
                case 1:
                    return web.Response(status=302, headers={"Location": witness.url})
                case 2:
                    return web.Response(status=201)
                case _:
                    return web.Response()

        witness.answer = answer
        async with showing(tmp_path, to(witness.url)) as witnesses:
            await until(lambda: witnesses.tallies["w"].taken)
    assert [7] * 4 == _sizes(witness.shown)
    assert (3, 0) == (witnesses.tallies["w"].failures, witnesses.tallies["w"].conflicts)


async def test_one_that_hangs_keeps_no_other_waiting(tmp_path):
    """Each has its own turn; the lag of the one that hangs grows, and says so."""
    put(tmp_path, note_of(7))
    hang = asyncio.Event()
    async with http_witness() as slow, http_witness() as quick:

        async def never(_note):
            await hang.wait()
            return web.Response()

        slow.answer = never
        async with showing(tmp_path, to(slow.url, name="slow"), to(quick.url, name="quick")) as witnesses:
            await slow.until(1)
            for size in (8, 9):
                put(tmp_path, note_of(size))
                await until(lambda size=size: quick.shown and _sizes(quick.shown)[-1] == size)
            witnesses.ticks.now += 5
            assert 5 <= witnesses.tallies["slow"].lag_seconds(witnesses.ticks())
            hang.set()


async def test_what_was_taken_is_not_shown_again_after_a_restart(tmp_path):
    """It stands beside the journal; a witness is shown what is new."""
    put(tmp_path, note_of(7))
    async with http_witness() as witness:
        for size in (7, 8):
            put(tmp_path, note_of(size))
            async with showing(tmp_path, to(witness.url)) as witnesses:
                await until(lambda: witnesses.tallies["w"].taken)
    assert [7, 8] == _sizes(witness.shown)


async def test_every_origin_is_shown_also_those_that_nobody_writes_any_more(tmp_path):
    """A worker that has ended, and the command line, which is gone before anybody could ask."""
    for origin in ("cli", "gateway-0", "gateway-1"):
        put(tmp_path, note_of(3, origin=origin), origin=origin)
    async with http_witness() as witness, showing(tmp_path, to(witness.url)):
        await witness.until(3)
    assert ["cli", "gateway-0", "gateway-1"] == [note.split(b"\n")[0].decode() for note in witness.shown]


async def test_one_process_of_a_machine_shows_them(tmp_path):
    """Each other waits for its end, and goes on then."""
    put(tmp_path, note_of(7))
    async with http_witness() as witness:
        async with showing(tmp_path, to(witness.url)) as first:
            await until(lambda: first.tallies["w"].taken)
            async with showing(tmp_path, to(witness.url)) as second:
                put(tmp_path, note_of(8))
                await until(lambda: 2 == first.tallies["w"].taken)
                assert 0 == second.tallies["w"].taken
        async with showing(tmp_path, to(witness.url)) as third:
            put(tmp_path, note_of(9))
            await until(lambda: third.tallies["w"].taken)
    assert [7, 8, 9] == _sizes(witness.shown)


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (lambda: web.Response(body=note_of(7, mark=1)), "it knows another history of the 7 records of `gateway`"),
        (lambda: web.Response(body=note_of(8)), "it knows 8 records of `gateway`, and here are 7"),
        (lambda: web.Response(body=note_of(6)), "it has gone back to 6 records of `gateway`"),
        (lambda: web.Response(status=409, text="8\n"), "it has another history, or a newer one"),
    ],
)
async def test_a_witness_that_knows_another_history_is_an_alarm(tmp_path, caplog, answer, what):
    """In the log, each time, and in its own metric; and it does not count as taken."""
    put(tmp_path, note_of(7))
    async with http_witness() as witness:
        witness.answer = lambda _note: answer()
        with caplog.at_level(logging.ERROR):
            async with showing(tmp_path, to(witness.url)) as witnesses:
                await until(lambda: witnesses.tallies["w"].conflicts)
    assert 0 == witnesses.tallies["w"].taken
    assert f"the witness w: {what}: verify the journal" in caplog.messages


@pytest.mark.parametrize("older", [note_of(6), note_of(7, mark=1)])
async def test_a_journal_that_has_gone_back_is_an_alarm_and_not_shown(tmp_path, older):
    """Yesterday's copy put back, or made anew at the same size: what was taken tells, also after a restart."""
    put(tmp_path, note_of(7))
    async with http_witness() as witness:
        async with showing(tmp_path, to(witness.url)) as witnesses:
            await until(lambda: witnesses.tallies["w"].taken)
        put(tmp_path, older)
        async with showing(tmp_path, to(witness.url)) as witnesses:
            await until(lambda: witnesses.tallies["w"].conflicts)
    assert [note_of(7)] == witness.shown


async def test_an_answer_that_says_what_it_was_shown_is_none(tmp_path):
    """Witnesses may echo the note, or chat."""
    for size, answer in ((7, None), (8, b"thank you\n"), (9, b"\xff\x00"), (10, note_of(99, origin="other"))):
        put(tmp_path, note_of(size))
        async with http_witness() as witness:
            witness.answer = lambda note, answer=answer: web.Response(body=note if answer is None else answer)
            async with showing(tmp_path, to(witness.url)) as witnesses:
                await until(lambda: witnesses.tallies["w"].taken)
            assert 0 == witnesses.tallies["w"].conflicts


async def test_a_cosignature_is_kept_with_the_note(tmp_path):
    """Whoever has the witness's key sees that it was there, and when."""
    put(tmp_path, note_of(7))
    async with http_witness() as witness:
        witness.answer = lambda note: web.Response(text="\u2014 other AAAA\n" + cosign(note))
        async with showing(tmp_path, to(witness.url, key=parse_key(VKEY))) as witnesses:
            await until(lambda: witnesses.tallies["w"].taken)
    kept = (tmp_path / "witnesses" / "w" / "gateway").read_bytes()
    assert note_of(7) + cosign(note_of(7)).encode() == kept
    assert 7 == open_note(kept, key=KEY.public_key()).size


@pytest.mark.parametrize(
    "lines",
    [
        "",
        cosign(note_of(8)),
        cosign(note_of(7), key=Ed25519PrivateKey.generate()),
        cosign(note_of(7), name="somebody.else"),
        cosign(note_of(7)).replace("\u2014", "-"),
        cosign(note_of(7))[:-10] + "\n",
        f"\u2014 {NAME} \u00e9\n",
        note_of(7).decode(),
    ],
)
async def test_without_its_cosignature_it_has_not_taken_it(tmp_path, lines):
    """Once its key is known, anybody's 200 is nothing."""
    put(tmp_path, note_of(7))
    async with http_witness() as witness:
        witness.answer = lambda note: web.Response(text=lines)
        async with showing(tmp_path, to(witness.url, key=parse_key(VKEY))) as witnesses:
            await until(lambda: witnesses.tallies["w"].failures)
        assert 0 == witnesses.tallies["w"].taken


def test_no_bit_of_a_cosignature_can_change():
    """Its time is signed as well as the note."""
    key, line = parse_key(VKEY), cosign(note_of(7)).rstrip("\n")
    assert line == find_cosignature(line, note=note_of(7), key=key)
    for at in range(len(line) - 3):
        altered = line[:at] + chr(ord(line[at]) ^ 1) + line[at + 1 :]
        assert None is find_cosignature(altered, note=note_of(7), key=key), at


@pytest.mark.parametrize("text", ["", "w", "w+00000000+", VKEY[1:], VKEY.replace("+", "-"), VKEY[:-6], f" {VKEY}"])
def test_what_is_no_verifier_key_is_refused(text):
    """A slip in copying it is told at the start, not by silence later."""
    with pytest.raises(ValueError, match=r"it must be|its key id|its last part"):
        parse_key(text)


async def test_the_credential_goes_to_the_witness_and_nowhere_else(tmp_path, caplog):
    """Not into the log, whatever the witness answers."""
    put(tmp_path, note_of(7))
    async with http_witness() as witness:
        witness.answer = lambda note: web.Response(status=500, text="c4n4ry")
        with caplog.at_level(logging.DEBUG):
            async with showing(tmp_path, to(witness.url, token=Secret("c4n4ry"))) as witnesses:
                await until(lambda: witnesses.tallies["w"].failures)
    assert "Bearer c4n4ry" == witness.tokens[0]
    assert "c4n4ry" not in caplog.text


async def test_a_file_elsewhere_holds_every_note_in_order(tmp_path):
    """It is a history as the journal's own; what was in it stays."""
    directory, file = tmp_path / "journal", tmp_path / "elsewhere"
    async with showing(directory, file_at(file)) as witnesses:
        for size in (3, 4, 5):
            put(directory, note_of(size))
            await until(lambda size=size: size - 2 == witnesses.tallies["f"].taken)
    put(directory, note_of(6))
    async with showing(directory, file_at(file)) as witnesses:
        await until(lambda: witnesses.tallies["f"].taken)
    assert [3, 4, 5, 6] == _sizes(split_notes(file.read_bytes()))


@pytest.mark.parametrize("known", [note_of(9), note_of(7, mark=1)])
async def test_a_file_that_knows_another_history_is_an_alarm(tmp_path, known):
    """Also if what stands beside the journal was put back with it, or thrown away."""
    directory, file = tmp_path / "journal", tmp_path / "elsewhere"
    file.write_bytes(note_of(2) + b"\n" + known + b"\n" + note_of(99, origin="other") + b"\n")
    before = file.read_bytes()
    put(directory, note_of(7))
    async with showing(directory, file_at(file)) as witnesses:
        await until(lambda: witnesses.tallies["f"].conflicts)
    assert before == file.read_bytes()


@pytest.mark.parametrize("cut", [*range(1, 30), 60, 90, len(note_of(7)), len(note_of(7)) + 1])
async def test_a_file_torn_by_a_full_disk_goes_on(tmp_path, cut):
    """Whatever part of a note is at its end, the next one can be read."""
    directory, file = tmp_path / "journal", tmp_path / "elsewhere"
    file.write_bytes((note_of(7) + b"\n")[:cut])
    put(directory, note_of(7))
    async with showing(directory, file_at(file)) as witnesses:
        await until(lambda: witnesses.tallies["f"].taken)
    assert file.read_bytes().endswith(b"\n\n" + note_of(7) + b"\n") or note_of(7) + b"\n" == file.read_bytes()[cut:]
    assert 0 == witnesses.tallies["f"].conflicts


async def test_a_file_that_cannot_be_written_is_a_failure(tmp_path):
    """And tried again."""
    directory, file = tmp_path / "journal", tmp_path / "away" / "elsewhere"
    put(directory, note_of(7))
    async with showing(directory, file_at(file)) as witnesses:
        await until(lambda: witnesses.tallies["f"].failures)
        assert 0 == witnesses.tallies["f"].taken


async def test_a_gateway_shows_its_checkpoints_to_whom_its_configuration_names(tmp_path):
    """A service and a file, without a request waiting for either; what comes of it is in the metrics."""
    async with http_witness() as witness:

        def change(document):
            told = {"name": "service", "kind": "http", "url": witness.url, "token": "t0ken", "every_seconds": 0.1}
            kept = {"name": "file", "kind": "file", "path": "kept", "every_seconds": 0.1}
            document["audit"] = {"checkpoint_seconds": 0.1, "witnesses": [told, kept]}

        async with open_world(tmp_path, change=change) as world:
            await world.choose()
            await until(lambda: witness.shown)
            await until(lambda: (tmp_path / "kept").is_file() and (tmp_path / "kept").read_bytes())
            tallies = world.gateway._state.witnesses.tallies
            await until(lambda: all(tally.taken for tally in tallies.values()))
            async with world.http.get(f"{world.gateway.admin_url}/metrics") as answer:
                metrics = await answer.text()
        key = load_pem_public_key((tmp_path / "journal-key.pem").read_bytes())
        shown = open_note(witness.shown[0], key=key)
        assert ("gateway", {"Bearer t0ken"}) == (shown.origin, set(witness.tokens))
        report = verify(tmp_path / "journal", public_key=key, held=[note.decode() for note in witness.shown])
        assert report.ok, report.findings
        assert 'locum_witness_checkpoints_total{witness="service",worker="gateway"}' in metrics
        assert 'locum_witness_conflicts_total{witness="file",worker="gateway"} 0.0' in metrics
        assert "t0ken" not in metrics
