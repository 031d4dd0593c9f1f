"""A journal in one file: what was true of the files is true of it, and damage to it is told."""

import gzip
import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.audit.evidence.bundle import EvidenceError, EvidenceFile, write_evidence
from gateway.audit.evidence.verify import verify
from gateway.cli.audit import audit
from tests.journals import write_journal
from tests.receipt_world import PUBLIC, write


@pytest.fixture(scope="module")
def journal(tmp_path_factory) -> Path:
    """Two workers' records, in several segments; never written to by a test."""
    directory = tmp_path_factory.mktemp("evidence") / "journal"
    write(directory)
    write(directory)
    return directory


def _evidence(journal: Path, path: Path) -> Path:
    with path.open("wb") as file:
        write_evidence(journal, file)
    return path


def _packed(path: Path, members: list[tuple[str, bytes]], **more) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for key, value in more.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(content))
    return path


def _members(path: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(path) as archive:
        return [(member.name, archive.extractfile(member).read()) for member in archive]


def test_what_is_verified_of_the_file_is_what_is_verified_of_the_directory(journal, tmp_path):
    """The same origins, the same records, the same under a checkpoint."""
    evidence = EvidenceFile(_evidence(journal, tmp_path / "evidence"))
    report = verify(evidence, public_key=PUBLIC)
    assert report.ok, report.findings
    assert verify(journal, public_key=PUBLIC) == report
    assert verify(evidence, public_key=PUBLIC) == report


def test_the_file_holds_the_journals_own_files(journal, tmp_path):
    """Whoever does not believe the reader unpacks it with tar."""
    for name, content in _members(_evidence(journal, tmp_path / "evidence")):
        assert (journal / name.removeprefix("journal/")).read_bytes() == content
    held = {path.name for path in journal.glob("*.jsonl")} | {path.name for path in journal.glob("*.checkpoint*")}
    assert held == {name.removeprefix("journal/") for name, _ in _members(tmp_path / "evidence")}


def test_the_same_journal_gives_the_same_file(journal, tmp_path):
    """So its digest can be kept."""
    assert _evidence(journal, tmp_path / "a").read_bytes() == _evidence(journal, tmp_path / "b").read_bytes()


def test_no_record_can_be_taken_out_of_the_file(journal, tmp_path):
    """Nor a segment, nor a checkpoint, nor an end."""
    members = _members(_evidence(journal, tmp_path / "evidence"))
    for at in range(len(members)):
        packed = _packed(tmp_path / "altered", [*members[:at], *members[at + 1 :]])
        assert members[at][0].endswith(".checkpoints") or not verify(EvidenceFile(packed), public_key=PUBLIC).ok
        name, content = members[at]
        if name.endswith(".jsonl"):
            lines = content.splitlines(keepends=True)
            for cut in range(len(lines)):
                altered = b"".join([*lines[:cut], *lines[cut + 1 :]])
                packed = _packed(tmp_path / "altered", [*members[:at], (name, altered), *members[at + 1 :]])
                assert not verify(EvidenceFile(packed), public_key=PUBLIC).ok


def test_a_damaged_file_is_told_and_not_believed(journal, tmp_path):
    """Cut off anywhere, or altered: it is no such file, or something is found; it is never ok."""
    whole = _evidence(journal, tmp_path / "evidence").read_bytes()
    damaged = tmp_path / "damaged"
    for offset in range(0, len(whole), 17):
        for content in (whole[:offset], whole[:offset] + bytes([whole[offset] ^ 0x55]) + whole[offset + 1 :]):
            damaged.write_bytes(content)
            try:
                report = verify(EvidenceFile(damaged), public_key=PUBLIC)
            except EvidenceError:
                continue
            # The header of gzip holds bytes that mean nothing: the time, the system.
            assert not report.ok or gzip.decompress(content) == gzip.decompress(whole), offset


@pytest.mark.parametrize(
    "name",
    ["../node.checkpoint", "/journal/node.checkpoint", "journal/node", "journal/../node.checkpoint", "node.checkpoint"],
)
def test_a_file_with_other_things_in_it_is_refused(tmp_path, name):
    """Nothing is ever unpacked to the disk, and what is no journal's is not passed over."""
    with pytest.raises(EvidenceError, match="no file of a journal"):
        verify(EvidenceFile(_packed(tmp_path / "evidence", [(name, b"x")])))


def test_no_room_is_made_for_a_longest_line(journal, tmp_path):
    """Whatever is stuffed between two lines is not passed over, however its length fits the reader's."""
    copy = Path(shutil.copytree(journal, tmp_path / "journal"))
    path = min(copy.glob("*.jsonl"))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"X" * 16 * 1024 * 1024, *lines[2:]]))
    assert not verify(copy, public_key=PUBLIC).ok
    with pytest.raises(EvidenceError, match="longer than"):
        verify(EvidenceFile(_evidence(copy, tmp_path / "evidence.tgz")), public_key=PUBLIC)


def test_links_and_directories_are_refused(tmp_path):
    """A name is not what it points to."""
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE):
        packed = _packed(tmp_path / "evidence", [("journal/node.checkpoint", b"")], type=kind, linkname="/etc/passwd")
        with pytest.raises(EvidenceError, match="no file of a journal"):
            verify(EvidenceFile(packed))


def test_a_checkpoint_behind_its_records_is_refused(journal, tmp_path):
    """It could be left out of what is checked."""
    members = _members(_evidence(journal, tmp_path / "evidence"))
    with pytest.raises(EvidenceError, match="comes behind the records"):
        verify(EvidenceFile(_packed(tmp_path / "altered", [*members[1:4], members[0], *members[4:]])))


async def test_an_origin_cannot_stand_in_the_file_twice(tmp_path):
    """A second history under the same name is a finding, whichever is the better one."""
    await write_journal(tmp_path / "journal", 3)
    members = _members(_evidence(tmp_path / "journal", tmp_path / "evidence"))
    await write_journal(tmp_path / "other", 1, origin="other")
    others = _members(_evidence(tmp_path / "other", tmp_path / "others"))
    packed = _packed(tmp_path / "altered", [*members, *others, *members])
    with pytest.raises(EvidenceError, match="stands there twice"):
        verify(EvidenceFile(packed), public_key=PUBLIC)


def test_the_commands_write_it_and_judge_it(journal, tmp_path):
    """By a file of the key and the file alone; the exit code says what was found."""
    key = tmp_path / "key.pem"
    key.write_bytes(PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    path = tmp_path / "evidence"
    run = CliRunner().invoke
    assert 0 == run(audit, ["evidence", "--journal", str(journal), "-o", str(path)]).exit_code
    told = run(audit, ["verify", "--journal", str(path), "--public-key", str(key)])
    assert (0, "ok") == (told.exit_code, told.output.splitlines()[-1]), told.output
    path.write_bytes(path.read_bytes()[:-100])
    assert 1 == run(audit, ["verify", "--journal", str(path), "--public-key", str(key)]).exit_code


def test_it_goes_through_a_pipe(journal, tmp_path):
    """Nothing of it is sought back, so it can be sent as it is made."""
    script = (
        "import sys; from pathlib import Path; from gateway.audit.evidence.bundle import write_evidence;"
        "write_evidence(Path(sys.argv[1]), sys.stdout.buffer)"
    )
    sent = subprocess.run([sys.executable, "-c", script, str(journal)], check=True, capture_output=True, timeout=60)
    assert _evidence(journal, tmp_path / "evidence").read_bytes() == sent.stdout
