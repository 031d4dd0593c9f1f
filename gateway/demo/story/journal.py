"""The last chapter of every story: the journal is whole, and whoever alters it is found out."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.audit.evidence.checkpoint import open_note, read_newest
from gateway.audit.evidence.verify import Report, verify
from gateway.audit.search import Entry, read, render
from gateway.audit.segment import build_line, list_segments, parse_line
from gateway.demo.story.play import Chapter, Got, Step
from gateway.demo.story.scene import Scene

ORIGIN = "gateway"
HELD = "held.checkpoint"
_TRUE, _FALSE = b'"account":"acme"', b'"account":"acne"'
_SHOWN = 6
_PATIENCE_SECONDS = 10.0
_POLL_SECONDS = 0.05


async def check_whole(scene: Scene[Any]) -> Got:
    """Keep the newest checkpoint elsewhere once it is over every record, then verify with it.

    While something is still being put on the record, such as that somebody was told, the next one is waited for.
    """
    journal = scene.config.journal_directory
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while True:
            if _hold_newest(journal, scene.folder / HELD):
                report = _verify(scene, journal)
                records = sum(extent.records for extent in report.extents)
                covered = sum(extent.covered for extent in report.extents)
                if not report.ok:
                    return Got(text=_first(report))
                if covered == records > 0:
                    return Got(text="ok, every record under a checkpoint", note=f"{records} records")
            await asyncio.sleep(_POLL_SECONDS)


async def check_refusals(scene: Scene[Any]) -> Got:
    """Compare the refusals that people of the story met with those on the record."""
    # What was under way when the grant ended, and cut before a byte of its answer, its client has asked for again.
    denied = [
        entry
        for entry in read(scene.config.journal_directory)
        if entry.get("decision") == "deny"
        or entry.get("ended") == "refused"
        or (entry.get("ended") == "cut" and entry["bytes_sent"] != 0)
    ]
    met = scene.refused + scene.cut
    text = "each of them is there" if met == len(denied) else f"{met} were met, {len(denied)} are there"
    lines = tuple(render(entry) for entry in denied[-_SHOWN:])
    note = f"{scene.refused} refusals and {scene.cut} cuts, the last {len(lines)} of them:"
    return Got(text=text, note=note, lines=lines)


async def alter_byte(scene: Scene[Any]) -> Got:
    """Change one byte of a record in a copy of the journal."""
    copy = scene.folder / "journal-with-one-byte-changed"
    altered = _alter(scene.config.journal_directory, copy, rehash=False)
    report = _verify(scene, copy)
    named = bool(report.findings) and report.findings[0].line == altered
    return Got(text="found, and the record is named" if named else _first(report), note=_first(report))


async def alter_and_rehash(scene: Scene[Any]) -> Got:
    """Do the same as who can also compute a hash would."""
    copy = scene.folder / "journal-with-one-record-rewritten"
    _alter(scene.config.journal_directory, copy, rehash=True)
    for path in copy.glob(f"{ORIGIN}.checkpoint*"):
        path.unlink()
    report = _verify(scene, copy)
    found = [finding.what for finding in report.findings if finding.what.endswith("the checkpoint held elsewhere")]
    return Got(text="found by the checkpoint held elsewhere" if found else _first(report), note="; ".join(found))


JOURNAL: Chapter[Any] = Chapter(
    "Every step is on the record",
    (
        Step("refusals-recorded", "everything that was refused is looked up in the journal",
             "each of them is there", check_refusals),
        Step("journal-whole", "the journal is verified offline, with a checkpoint held elsewhere",
             "ok, every record under a checkpoint", check_whole),
        Step("journal-byte", "in a copy, one byte of one record is changed",
             "found, and the record is named", alter_byte),
        Step("journal-rewritten", "in a copy, its hash as well, and the journal's own checkpoints are removed",
             "found by the checkpoint held elsewhere", alter_and_rehash),
    ),
)  # fmt: skip


def entries(scene: Scene[Any], **wanted: str) -> list[Entry]:
    """Return the journal's records that have all of `wanted`."""
    every = read(scene.config.journal_directory)
    return [entry for entry in every if all(entry.get(name) == value for name, value in wanted.items())]


def _hold_newest(journal: Path, held: Path) -> bool:
    """Copy the newest checkpoint; tell whether it is over all records that are there now."""
    note = read_newest(journal, origin=ORIGIN)
    if note is None:
        return False
    held.write_bytes(note)
    return open_note(note, key=None).size == sum(1 for entry in read(journal) if entry["origin"] == ORIGIN)


def _verify(scene: Scene[Any], journal: Path) -> Report:
    key: Ed25519PublicKey = scene.gateway.keys.journal.public
    return verify(journal, public_key=key, held=[(scene.folder / HELD).read_text(encoding="utf-8")])


def _alter(journal: Path, copy: Path, *, rehash: bool) -> int:
    """Copy the journal with one letter of one record changed; return its line."""
    shutil.copytree(journal, copy)
    path = list_segments(copy)[ORIGIN][0]
    lines = path.read_bytes().splitlines(keepends=True)
    fitting = [index for index, line in enumerate(lines) if _TRUE in line]
    number = fitting[len(fitting) // 2]
    lines[number] = lines[number].replace(_TRUE, _FALSE)
    parts = parse_line(lines[number])
    if rehash and parts is not None:
        _, lines[number] = build_line(parts.record, parts.openings)
    path.write_bytes(b"".join(lines))
    return number + 1


def _first(report: Report) -> str:
    if report.ok:
        return "nothing was found"
    finding = report.findings[0]
    return f"{finding.segment}:{finding.line}: {finding.what}"
