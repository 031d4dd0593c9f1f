"""The commands that make and check evidence, as their users run them: what they print, and how they end."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from locum_verify import receipt as alone

from gateway.audit.evidence.checkpoint import open_note
from gateway.audit.evidence.receipt_check import check_receipt
from gateway.cli.audit import audit
from gateway.cli.audit.trust import split_held
from gateway.cli.root import cli
from gateway.config.load import build
from gateway.config.model import ConfigError
from tests.gateway_world import document
from tests.receipt_world import PUBLIC, write
from tests.test_cli import CONFIG
from tests.witness_world import VKEY


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A journal, its key, and two of its checkpoints in one file, with what came after them."""
    directory = tmp_path_factory.mktemp("commands")
    write(directory / "journal")
    kept = [(directory / "journal" / f"gateway-{number}.checkpoint").read_bytes() for number in (0, 1)]
    (directory / "kept").write_bytes(b"\n".join(kept))
    write(directory / "journal")
    (directory / "key.pem").write_bytes(_pem(PUBLIC))
    return directory


def _pem(key) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _run(place: Path, *words: str):
    """Run a command; `@name` stands for a file of the place."""
    return CliRunner().invoke(audit, [str(place / word[1:]) if word.startswith("@") else word for word in words])


def _receipt(place: Path, *more: str) -> Path:
    path = place / "receipt.json"
    done = _run(place, "receipt", "--journal", "@journal", "--public-key", "@key.pem", "-o", "@receipt.json", *more)
    assert 0 == done.exit_code, done.output
    return path


def _check(place: Path, *more: str):
    return _run(place, "check-receipt", "@receipt.json", "--public-key", "@key.pem", *more)


def _alone(place: Path, *more: str) -> int:
    words = ["receipt", "@receipt.json", "--public-key", "@key.pem", *more]
    return alone.main([str(place / word[1:]) if word.startswith("@") else word for word in words])


def test_a_receipt_is_made_and_checked(place, capsys):
    """By our command and by the customer's; both say what is in it, and that it holds."""
    _receipt(place, "as_ours")
    told = _check(place)
    assert (0, "ok") == (told.exit_code, told.output.splitlines()[-1])
    assert 0 == _alone(place)
    lines = capsys.readouterr().out.splitlines()
    assert "ok" == lines[-1]
    assert json.loads("".join(lines[:-1])) == json.loads(told.output.removesuffix("ok\n"))


def test_a_receipt_that_does_not_hold_is_told_by_the_exit_code(place, capsys):
    """And by a line that cannot steer a terminal."""
    path = _receipt(place, "as_ours")
    document = json.loads(path.read_text())
    document["parts"][0]["origin"] = "\x1b[31m\u202e"
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    told = _check(place)
    assert 1 == told.exit_code
    assert 1 == _alone(place)
    for text in (told.output, capsys.readouterr().err):
        assert "\x1b" not in text
        assert "\u202e" not in text


def test_kept_checkpoints_need_the_proof_that_the_message_names(place, capsys):
    """The customer kept both; the vendor prints what leads from them to the receipt's."""
    _receipt(place, "as_ours")
    told = _check(place, "--checkpoint", "@kept")
    assert 1 == told.exit_code
    proofs = []
    for line in told.output.splitlines():
        words = line.partition("`locum audit ")[2].removesuffix("`").split(" ")
        name = f"proof-{words[1]}"
        assert 0 == _run(place, *words, "--journal", "@journal", "-o", f"@{name}").exit_code
        proofs += ["--consistency", f"@{name}"]
    assert 4 == len(proofs)
    assert 0 == _check(place, "--checkpoint", "@kept", *proofs).exit_code
    assert 0 == _alone(place, "--checkpoint", "@kept", *proofs)
    assert 1 == _alone(place, "--checkpoint", "@kept")
    assert "ask the vendor for" in capsys.readouterr().err


def test_an_auditor_with_the_journal_names_what_was_left_out(place):
    """A receipt made anew without a record holds in itself; beside the journal it does not."""
    path = _receipt(place, "as_ours")
    assert 0 == _check(place, "--journal", "@journal").exit_code
    document = json.loads(path.read_text())
    left_out = json.loads(document["parts"][0]["records"].pop(2)["record"])["seq"]
    document["summary"]["records"] -= 1
    for request in document["summary"]["requests"]:
        request["count"] -= request["decision"] == "deny"
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    assert 0 == _check(place).exit_code, "or the auditor would not be needed"
    told = _check(place, "--journal", "@journal")
    assert (1, f"gateway-0: record {left_out} is in the journal and not in the receipt") == (
        told.exit_code,
        told.output.strip(),
    )


def test_verify_takes_several_checkpoints_in_one_file(place):
    """As the public listener gives them."""
    words = ("verify", "--journal", "@journal", "--public-key", "@key.pem", "--checkpoint", "@kept")
    assert 0 == _run(place, *words).exit_code
    other = Ed25519PrivateKey.from_private_bytes(bytes(32))
    (place / "other.pem").write_bytes(_pem(other.public_key()))
    assert 1 == _run(place, *[word.replace("key.pem", "other.pem") for word in words]).exit_code


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (
            ("receipt", "as_nobody", "--journal", "@journal", "--public-key", "@key.pem"),
            4,
            "no record of the assumption `as_nobody` is there",
        ),
        (("receipt", "as_ours", "--journal", "@journal"), 2, "--public-key FILE"),
        (("receipt", "as_ours", "--journal", "@journal", "--public-key", "@kept"), 2, "no PEM file"),
        (("consistency", "nobody", "1", "2", "--journal", "@journal"), 1, "no origin `nobody`"),
        (("consistency", "gateway-0", "2", "1", "--journal", "@journal"), 1, "NEW not below it"),
        (("consistency", "gateway-0", "1", "999", "--journal", "@journal"), 1, "fewer than 999"),
        (("check-receipt", "@kept", "--public-key", "@key.pem"), 1, "not a receipt"),
        (("check-receipt", "@receipt.json", "--public-key", "@key.pem", "--checkpoint", "@key.pem"), 2, "key.pem"),
        (("check-receipt", "@receipt.json", "--public-key", "@key.pem", "--consistency", "@kept"), 2, "no proof of"),
    ],
)
def test_what_cannot_be_done_is_said(place, words, status, said):
    """In a line, with what to do about it, and never as a traceback."""
    _receipt(place, "as_ours")
    told = _run(place, *words)
    assert status == told.exit_code, told.output
    assert said in told.output.replace("\n", " ")


def test_what_cannot_be_finished_leaves_no_half_of_it(place, tmp_path):
    """A file that looks like evidence would be taken for all of it."""
    (tmp_path / "journal").mkdir()
    for path in (place / "journal").iterdir():
        (tmp_path / "journal" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "journal" / "zz-000000000000.jsonl").mkdir()
    before = set(tmp_path.iterdir())
    done = _run(place, "evidence", "--journal", str(tmp_path / "journal"), "-o", str(tmp_path / "evidence"))
    assert (1, "the file is not finished") == (done.exit_code, done.output.strip().split(": ")[1])
    assert before == set(tmp_path.iterdir())


def test_what_is_no_file_is_written_to_as_it_is(place, tmp_path):
    """Whoever reads a pipe gets the receipt, and the pipe is not replaced by a file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as reader:
        received = reader.submit(pipe.read_bytes)
        done = _run(place, "receipt", "as_ours", "--journal", "@journal", "--public-key", "@key.pem", "-o", str(pipe))
        assert 0 == done.exit_code, done.output
        assert check_receipt(received.result(), key=PUBLIC)[0] is not None
    assert [pipe] == list(tmp_path.iterdir())


def test_a_journal_that_was_altered_gives_no_receipt(place, tmp_path):
    """With an exit code of its own, which no other fault has."""
    words = ("receipt", "as_ours", "--journal", str(tmp_path), "--public-key", "@key.pem")
    for path in (place / "journal").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert 0 == _run(place, *words).exit_code
    path = next(tmp_path.glob("*.jsonl"))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[1], lines[0], *lines[2:]]))
    assert 5 == _run(place, *words).exit_code


def test_the_customers_checker_says_what_it_cannot_read(place, capsys):
    """A missing file, another kind of key: no traceback, and another exit code than a receipt that does not hold."""
    _receipt(place, "as_ours")
    for words in (("receipt", "@nothing", "--public-key", "@key.pem"), ("receipt", "@kept", "--public-key", "@kept")):
        assert 2 == alone.main([str(place / word[1:]) if word.startswith("@") else word for word in words])
    assert "cannot be read" in capsys.readouterr().err


def test_the_checker_that_stands_alone_imports_nothing_of_ours():
    """One file, Python and `cryptography`: a customer can read it before running it."""
    lines = Path(alone.__file__).read_text().splitlines()
    imported = [line for line in lines if line.startswith(("import ", "from "))]
    assert all("gateway" not in line and "policy" not in line and "locum" not in line for line in imported)
    assert 3 == sum(line.startswith("from cryptography") for line in imported)


GOOD = {"name": "customer", "kind": "http", "url": "https://witness.example/add"}
FILE = {"name": "elsewhere", "kind": "file", "path": "kept"}


def _config(tmp_path: Path, *witnesses: dict):
    given = document(tmp_path, upstream="http://127.0.0.1:1", issuer="https://idp.example")
    return build(given | {"audit": {"witnesses": [dict(one) for one in witnesses]}}, {}, base=tmp_path)


def test_witnesses_are_read_with_their_files(tmp_path):
    """A token from its file, and paths that count from the configuration."""
    (tmp_path / "token").write_text("c4n4ry\n")
    (tmp_path / "token").chmod(0o600)
    config = _config(tmp_path, GOOD | {"token_file": "token", "key": VKEY, "ca_file": "ca.pem"}, FILE)
    first, second = config.audit.witnesses
    assert ("c4n4ry", str(tmp_path / "ca.pem")) == (first.token.reveal(), first.ca_file)
    assert str(tmp_path / "kept") == second.path
    assert "c4n4ry" not in repr(config)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (GOOD | {"name": "../x"}, "name"),
        (GOOD | {"name": ""}, "name"),
        (GOOD | {"url": "http://witness.example/add"}, "https"),
        (GOOD | {"url": "ftp://witness.example"}, "url"),
        (GOOD | {"url": "https://user:secret@witness.example"}, "token"),
        (GOOD | {"url": "https://witness.example:99999"}, "url"),
        (GOOD | {"url": "https://witness.example/#x"}, "fragment"),
        (GOOD | {"url": "https://witness.example/ x"}, "url"),
        (GOOD | {"url": ""}, "url"),
        (GOOD | {"token": "a\nb"}, "token"),
        (GOOD | {"key": "witness.example+00000000+AAAA"}, "key"),
        (GOOD | {"path": "x"}, "path"),
        (GOOD | {"every_seconds": 0}, "every_seconds"),
        (GOOD | {"every_seconds": float("nan")}, "every_seconds"),
        (FILE | {"path": ""}, "path"),
        (FILE | {"url": "https://witness.example"}, "url"),
        (FILE | {"token": "x"}, "token"),
        (FILE | {"name": "first"}, "another one's"),
        (GOOD | {"kind": "mail"}, "kind"),
        (GOOD | {"more": 1}, "more"),
    ],
)
def test_a_witness_that_makes_no_sense_is_refused(tmp_path, change, said):
    """With the path of the key that is wrong, and what to write instead."""
    with pytest.raises(ConfigError, match=said) as error:
        _config(tmp_path, GOOD | {"name": "first"}, change)
    assert "secret" not in str(error.value)
    assert "audit.witnesses[1]" in str(error.value)


def test_a_kept_file_may_be_the_answer_of_the_listener_or_a_history(place):
    """With one empty line at its end, two, or none."""
    kept = (place / "kept").read_bytes()
    for content in (kept, kept + b"\n", kept.rstrip(b"\n")):
        assert [11, 11] == [open_note(note, key=PUBLIC).size for note in split_held(content)]


def test_taking_evidence_away_is_on_the_record(tmp_path):
    """Before the first byte leaves, and so in the evidence itself; the file is its owner's, and none is written over."""
    (tmp_path / "config.toml").write_text(CONFIG % "http://127.0.0.1:1")

    def run(*words: str):
        return CliRunner().invoke(cli, ["--config", str(tmp_path / "config.toml"), *words])

    file = tmp_path / "evidence"
    assert 0 == run("account", "add", "acme").exit_code
    done = run("audit", "evidence", "-o", str(file), "--as", "robin")
    assert 0 == done.exit_code, done.output
    assert 0o600 == file.stat().st_mode & 0o777
    [told] = run("audit", "search", "kind:audit").output.splitlines()
    assert "robin" in told
    verified = run("audit", "verify", "--journal", str(file)).output
    assert verified.splitlines()[0].startswith("cli: 2 records"), verified
    again = run("audit", "evidence", "-o", str(file))
    assert (1, "Error: the file is not finished: File exists") == (again.exit_code, again.output.strip())
