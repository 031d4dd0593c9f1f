"""A receipt by a vendor who has the key and writes odd things: both checkers refuse them alike, and neither breaks."""

import json

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from locum_verify import receipt as alone

from gateway.audit.evidence.checkpoint import Checkpoint, NoteSigner
from gateway.audit.evidence.receipt_check import check_receipt
from gateway.audit.evidence.receipt_summary import summarize
from gateway.audit.evidence.receipts import key_id
from gateway.audit.sealed import commit
from gateway.cli.audit import audit
from policy.merkle import leaf_hash
from tests.journals import KEY
from tests.receipt_world import PUBLIC

BASE = {
    "account": "acme",
    "assumption": "as_1",
    "at": "2026-11-23T12:00:00Z",
    "kind": "decision",
    "origin": "g",
    "seq": 0,
}


def _receipt(record, openings=None, summary=None):
    """A receipt over one record, with everything signed and canonical."""
    text = json.dumps(record)
    note = NoteSigner(KEY, name="g")(Checkpoint(origin="g", size=1, root=leaf_hash(text.encode())).text()).decode()
    document = {
        "assumption": "as_1",
        "key_id": key_id(PUBLIC),
        "parts": [
            {"checkpoint": note, "origin": "g", "records": [{"open": openings or {}, "proof": [], "record": text}]}
        ],
        "receipt": "locum-receipt/1",
        "summary": summarize([record]) if summary is None else summary,
    }
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def _refused_for(content, held=(), proofs=()):
    """What both say against it: the stand-alone checker its first finding, ours all of them; empty if it holds."""
    _, findings = check_receipt(content, key=PUBLIC, held=held)
    notes = [NoteSigner(KEY, name=one.origin)(one.text()).decode() for one in held]
    try:
        alone.check(content, PUBLIC, [alone.Checkpoint(note, PUBLIC) for note in notes], list(proofs))
    except alone.Broken as error:
        assert findings, f"only the one that stands alone refused it: {error}"
        return f"{error}; {findings[0]}"
    assert [] == findings, "only the one that stands alone took it"
    return ""


def test_what_is_as_it_should_be_holds():
    """The receipts of these tests are good but for what each of them changes."""
    assert "" == _refused_for(_receipt(BASE))


@pytest.mark.parametrize(
    "odd",
    [
        {"account": ["acme"]},
        {"account": None},
        {"subject": {"a": 1}},
        {"actor": "dana"},
        {"actor": {"issuer": [], "subject": "x"}},
        {"request_id": ["a"]},
        {"at": 5},
        {"expires_at": float("inf")},
        {"grant_id": 2**80},
        {"bytes_sent": "5"},
        {"bytes_sent": True},
        {"bytes_received": 1.0},
        {"completes": False},
    ],
    ids=str,
)
def test_what_is_of_another_kind_is_refused(odd):
    """Two readers could take it for two different things, and one of ours broke over it."""
    summary = {"records": 1}
    assert (
        "kind" in (said := _refused_for(_receipt({**BASE, **odd}, summary=summary)))
        or "receipt" in said
        or "read" in said
    )


@pytest.mark.parametrize("opening", ["[]", "5", "x", "", "null", "[" * 100_000 + "]" * 100_000])
def test_an_opening_that_is_no_table_is_refused(opening):
    """Its commitment is good; what it commits to is nothing."""
    record = {**BASE, "sealed": {"actor": commit(opening.encode())}}
    assert "cannot be read" in _refused_for(_receipt(record, {"actor": opening}))


@pytest.mark.parametrize("change", [{"records": 1.0}, {"records": True}, {"bytes_sent": False}, {"bytes_sent": 0.0}])
def test_a_summary_is_the_same_to_the_letter(change):
    """Python takes 1, 1.0 and true for equal, and a person does not."""
    assert "summary" in _refused_for(_receipt(BASE, summary={**summarize([BASE]), **change}))


def test_a_kept_checkpoint_of_another_origin_vouches_for_nothing():
    """Whoever gives one is not told "ok" over a comparison that never was."""
    other = Checkpoint(origin="elsewhere", size=5, root=bytes(32))
    same = Checkpoint(origin="g", size=1, root=leaf_hash(json.dumps(BASE).encode()))
    assert "none of the checkpoints" in _refused_for(_receipt(BASE), held=[other])
    assert "" == _refused_for(_receipt(BASE), held=[other, same])


@pytest.mark.parametrize("proof", [{}, {"proof": 5}, {"proof": [5]}, {"proof": None}, {"proof": ["x"]}])
def test_a_proof_that_is_none_is_told(proof):
    """By the checker that stands alone, which reads the file itself."""
    held = alone.Checkpoint(
        NoteSigner(KEY, name="g")(Checkpoint(origin="g", size=2, root=bytes(32)).text()).decode(), PUBLIC
    )
    with pytest.raises(alone.Broken):
        alone.check(_receipt(BASE), PUBLIC, [held], [{"origin": "g", "old": 1, "new": 2, **proof}])


def test_both_commands_say_what_was_compared_and_steer_no_terminal(tmp_path, capsys):
    """Which kept checkpoints counted, and which did not; what a stranger wrote stays in ASCII."""
    record = {**BASE, "ticket": "SUP-1\x9b31mRED\u202eevil"}
    held = [
        Checkpoint(origin="g", size=1, root=leaf_hash(json.dumps(record).encode())),
        Checkpoint(origin="elsewhere", size=5, root=bytes(32)),
    ]
    (tmp_path / "receipt").write_bytes(_receipt(record))
    (tmp_path / "key").write_bytes(PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    notes = [NoteSigner(KEY, name=one.origin)(one.text()) for one in held]
    (tmp_path / "kept").write_bytes(b"\n".join(notes))
    words = [str(tmp_path / "receipt"), "--public-key", str(tmp_path / "key"), "--checkpoint", str(tmp_path / "kept")]
    done = CliRunner().invoke(audit, ["check-receipt", *words])
    assert 0 == done.exit_code
    assert 0 == alone.main(["receipt", *words])
    for said in (done.output, "".join(capsys.readouterr())):
        assert "compared with the checkpoint of g at 1 records" in said
        assert "NOT compared, for it is of no origin in it: the checkpoint of elsewhere" in said
        assert said.isascii()
        assert "\nok\n" in said


def test_a_checkpoint_that_a_stranger_wrote_steers_no_terminal(tmp_path):
    """Its origin is any text, until somebody checks its signature."""
    (tmp_path / "journal").mkdir()
    (tmp_path / "evil").write_bytes(
        b"\x1b]0;owned\x07\x1b[31mx\n5\n" + b"A" * 43 + b"=\n\n" + "\u2014 x AAAA\n".encode()
    )
    words = ["verify", "--journal", str(tmp_path / "journal"), "--checkpoint", str(tmp_path / "evil")]
    done = CliRunner().invoke(audit, words)
    assert 1 == done.exit_code
    assert "owned" in done.output
    assert "\x1b" not in done.output
