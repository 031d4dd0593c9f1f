"""A receipt holds what the journal has of an assumption, and nothing about it can change unseen, by either checker."""

import asyncio
import json
import shutil
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from locum_verify import receipt as alone

from gateway.audit.evidence.checkpoint import Checkpoint, NoteSigner, open_note, read_newest
from gateway.audit.evidence.proofs import (
    Consistency,
    NothingToProve,
    NotSignedYet,
    ProofError,
    find_source,
    prove_consistency,
)
from gateway.audit.evidence.receipt_check import check_receipt
from gateway.audit.evidence.receipts import build_receipt
from gateway.audit.evidence.sources import JournalFiles
from policy.merkle import leaf_hash
from tests.journals import KEY, open_journal
from tests.receipt_world import ORIGINS, OURS, PUBLIC, THEIRS, entry, receipt_of, write


@pytest.fixture(scope="module")
def journal(tmp_path_factory) -> Path:
    """Two workers' records; never written to by a test."""
    directory = tmp_path_factory.mktemp("receipts") / "journal"
    write(directory)
    return directory


@pytest.fixture(scope="module")
def whole(journal) -> bytes:
    """The receipt of the assumption that is looked at."""
    return receipt_of(journal).encode()


def _holds(content: bytes, key=PUBLIC, **more) -> bool:
    """Ask both checkers, which share no code; they must agree."""
    _, findings = check_receipt(content, key=key, **more)
    try:
        held = [alone.Checkpoint(_note(one), key) for one in more.get("held", ())]
        alone.check(content, key, held, [msgspec.to_builtins(one) for one in more.get("proofs", ())])
    except (alone.Broken, TypeError):
        assert findings, "only the one that stands alone refused it"
        return False
    assert [] == findings, "only the one that stands alone took it"
    return True


def _note(checkpoint: Checkpoint) -> str:
    return NoteSigner(KEY, name=checkpoint.origin)(checkpoint.text()).decode()


def _changed(content: bytes, change) -> bytes:
    """Change the decoded receipt, and write it in its canonical form again."""
    document = json.loads(content)
    change(document)
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def test_a_receipt_holds_for_both_checkers(whole):
    """The customer's own, which knows nothing of the gateway, says the same as ours."""
    assert _holds(whole)


def test_a_receipt_says_who_stood_in_for_whom_and_what_came_of_it(whole):
    """Its summary is in plain words, and counts every request by method, rule and decision."""
    summary = json.loads(whole)["summary"]
    assert ("acme", "maria", "SUP-1", "owner@acme.example") == tuple(
        summary[name] for name in ("account", "subject", "ticket", "granted_by")
    )
    assert "dana" == summary["actor"]["subject"]
    assert [
        {"method": "GET", "rule": "ticket-show", "decision": "allow", "reason": "", "count": 6},
        {"method": "POST", "rule": "ticket-change", "decision": "deny", "reason": "read_only", "count": 6},
    ] == summary["requests"]
    assert 2 == len(summary["ended_at"])


def test_the_same_journal_gives_the_same_bytes(journal, whole):
    """Nothing in a receipt depends on when, where or how often it is asked for."""
    assert whole == receipt_of(journal).encode()


def test_a_receipt_holds_nothing_of_another_assumption(whole):
    """What the vendor did for others is nobody's business."""
    assert b"as_theirs" not in whole
    assert b"globex" not in whole


def test_a_receipt_cannot_steer_a_terminal(whole):
    """It is plain ASCII, whatever its texts hold."""
    assert whole.isascii()
    assert b"\x1b" not in whole


async def test_no_byte_of_a_receipt_can_change_unseen(tmp_path):
    """Each byte of a small one is flipped, in one of three ways; every flip is refused by both."""
    journal = await open_journal(tmp_path)
    await asyncio.gather(journal.append(entry(THEIRS)), journal.append(entry()))
    await journal.close()
    whole = receipt_of(tmp_path).encode()
    assert _holds(whole)
    for offset in range(len(whole)):
        mask = (0x01, 0x02, 0x20)[offset % 3]
        assert not _holds(whole[:offset] + bytes([whole[offset] ^ mask]) + whole[offset + 1 :]), offset


def test_no_record_of_a_receipt_can_be_altered_and_hashed_anew(whole):
    """A forger who knows the format can make all hashes fit but those under the signature."""
    for part, item in [(part, item) for part in range(2) for item in range(8)]:

        def forge(document, part=part, item=item):
            record = document["parts"][part]["records"][item]
            record["record"] = record["record"].replace('"account":"acme"', '"account":"acne"')
            assert "acne" in record["record"]

        assert not _holds(_changed(whole, forge))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["parts"][0]["records"].reverse(),
        lambda d: d["parts"][0]["records"].append(d["parts"][0]["records"][-1]),
        lambda d: d["parts"].reverse(),
        lambda d: d["parts"].append(d["parts"][0]),
        lambda d: d["parts"][0].update(origin="gateway-1"),
        lambda d: d["parts"][0].update(checkpoint=d["parts"][1]["checkpoint"]),
        lambda d: d["parts"][0].update(records=d["parts"][1]["records"]),
        lambda d: d["parts"].clear(),
        lambda d: [part["records"].clear() for part in d["parts"]],
        lambda d: d.update(assumption="as_theirs"),
        lambda d: d.update(key_id="0" * 64),
        lambda d: d.update(receipt="locum-receipt/2"),
        lambda d: d.update(more=1),
        lambda d: d.pop("summary"),
        lambda d: d["summary"].update(account="globex"),
        lambda d: d["summary"].update(records=1),
        lambda d: d["summary"]["requests"].pop(),
        lambda d: d["parts"][0]["records"][0]["proof"].append(d["parts"][0]["records"][0]["proof"][0]),
        lambda d: d["parts"][0]["records"][0]["proof"].pop(),
        lambda d: d["parts"][0]["records"][0]["proof"].reverse(),
        lambda d: d["parts"][0]["records"][0].update(proof=d["parts"][0]["records"][1]["proof"]),
        lambda d: d["parts"][0]["records"][0].update(open={"actor": '{"actor":{"issuer":"x","subject":"y"}}'}),
        lambda d: d["parts"][0]["records"][0].update(record=1),
        lambda d: d["parts"][0]["records"][0].update(proof=[1]),
        lambda d: d.update(parts={}),
    ],
)
def test_no_change_by_somebody_who_knows_the_format_passes(whole, change):
    """Moved, doubled, exchanged, taken from elsewhere, added, left out."""
    assert not _holds(_changed(whole, change))


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"null", b"[" * 100_000, b'{"a":NaN}', b"\xff", b'"\\ud800"\n'])
def test_what_is_no_receipt_is_refused(content):
    """And nothing of the kind is an error of ours."""
    assert not _holds(content)


def test_another_key_is_told(whole):
    """A vendor who signs with a key of the day is not the one whose key the customer keeps."""
    assert not _holds(whole, key=Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key())


def test_a_record_left_out_is_missed_by_its_completion_or_by_the_summary(journal, whole):
    """A forger who takes a record out must count again: then the receipt holds, and only the journal shows it."""

    def leave_out(document):
        del document["parts"][0]["records"][1]

    assert not _holds(_changed(whole, leave_out)), "the summary counts it"


async def test_a_completion_without_its_decision_is_told(tmp_path):
    """So a decision cannot be left out alone; the two of them can."""
    journal = await open_journal(tmp_path, origin="gateway")
    await journal.append(entry(request_id="req_1"))
    await journal.append(msgspec.structs.replace(entry(request_id="req_1"), decision=None))
    await journal.close()
    path = next(tmp_path.glob("*.jsonl"))
    first, second = path.read_bytes().splitlines(keepends=True)
    record = json.loads(second)["record"]
    record |= {"kind": "completion", "completes": 0, "ended": "complete"}
    exact = json.dumps(record, separators=(",", ":"), sort_keys=True).encode()
    leaf = leaf_hash(exact).hex()
    opened = b',"open":' + second.split(b',"open":')[1] if b',"open":' in second else b"}\n"
    path.write_bytes(first + f'{{"leaf":"{leaf}","record":'.encode() + exact + opened)
    leaves = [json.loads(line)["leaf"] for line in path.read_bytes().splitlines()]
    root = alone._node(*(bytes.fromhex(one) for one in leaves))
    note = NoteSigner(KEY, name="gateway")(Checkpoint(origin="gateway", size=2, root=root).text())
    (tmp_path / "gateway.checkpoint").write_bytes(note)
    receipt = receipt_of(tmp_path).encode()
    assert _holds(receipt)

    def leave_out(document):
        del document["parts"][0]["records"][0]

    _, findings = check_receipt(_changed(receipt, leave_out), key=PUBLIC)
    assert "gateway: record 1 completes 0, which is not here" == findings[0]
    with pytest.raises(alone.Broken, match="completes 0"):
        alone.check(_changed(receipt, leave_out), PUBLIC)


def test_a_held_checkpoint_of_the_same_size_must_be_the_same(journal, whole):
    """Two histories, both signed: whoever kept a checkpoint of the other one sees it."""
    held = open_note(read_newest(journal, origin=ORIGINS[0]), key=PUBLIC)
    assert _holds(whole, held=[held])
    assert not _holds(whole, held=[Checkpoint(origin=held.origin, size=held.size, root=bytes(32))])


def test_a_held_checkpoint_of_another_size_needs_a_proof(tmp_path, journal, whole):
    """A larger one and a smaller one, each with the proof that leads there, and none with another's."""
    later = Path(shutil.copytree(journal, tmp_path / "journal"))
    earlier = open_note(read_newest(later, origin=ORIGINS[0]), key=PUBLIC)
    write(later)
    newest = open_note(read_newest(later, origin=ORIGINS[0]), key=PUBLIC)
    proof = prove_consistency(find_source(JournalFiles(later), ORIGINS[0]), earlier.size, newest.size)
    grown = receipt_of(later).encode()
    assert not _holds(whole, held=[newest])
    assert not _holds(grown, held=[earlier])
    assert _holds(whole, held=[newest], proofs=[proof])
    assert _holds(grown, held=[earlier], proofs=[proof])
    other = Checkpoint(origin=earlier.origin, size=earlier.size, root=bytes(32))
    assert not _holds(grown, held=[other], proofs=[proof])
    for at, node in enumerate(proof.proof):
        altered = ("A" if node[0] != "A" else "B") + node[1:]
        nodes = (*proof.proof[:at], altered, *proof.proof[at + 1 :])
        damaged = Consistency(origin=proof.origin, old=proof.old, new=proof.new, proof=nodes)
        assert not _holds(grown, held=[earlier], proofs=[damaged])


def test_a_receipt_is_of_one_account_where_that_is_asked(journal):
    """Whoever may read one account's log gets no receipt of another's, and is not told that there is one."""
    source = JournalFiles(journal)
    receipt, _ = build_receipt(source, THEIRS, key=PUBLIC, account="globex")
    assert "globex" == receipt.summary["account"]
    refused = []
    for assumption in (THEIRS, "as_nobody"):
        with pytest.raises(ProofError) as error:
            build_receipt(source, assumption, key=PUBLIC, account="acme")
        refused.append(str(error.value).replace(assumption, ""))
    assert refused[0] == refused[1]


def test_a_journal_that_was_altered_gives_no_receipt(tmp_path, journal):
    """Not even of records that nobody has touched: what lies under no good checkpoint proves nothing."""
    altered = Path(shutil.copytree(journal, tmp_path / "journal"))
    path = next(altered.glob("gateway-0*.jsonl"))
    lines = path.read_bytes().splitlines(keepends=True)
    for at in range(len(lines)):
        path.write_bytes(b"".join([*lines[:at], *lines[at + 1 :]]))
        with pytest.raises(ProofError, match="verify the journal"):
            build_receipt(JournalFiles(altered), OURS, key=PUBLIC)
    for at in (1, 2):
        forged = lines[at].replace(b'"account":"', b'"account":"x', 1)
        path.write_bytes(b"".join([*lines[:at], forged, *lines[at + 1 :]]))
        if OURS.encode() in forged:
            with pytest.raises(ProofError, match="not the one that was hashed"):
                build_receipt(JournalFiles(altered), OURS, key=PUBLIC)


def test_what_is_not_under_a_checkpoint_yet_is_counted_and_left_out(tmp_path, journal):
    """A receipt is never longer than what was signed for."""
    growing = Path(shutil.copytree(journal, tmp_path / "journal"))

    async def grow() -> None:
        writer = await open_journal(growing, origin="gateway-0", signed=False)
        await asyncio.gather(*(writer.append(entry()) for _ in range(3)))
        await writer.close()

    asyncio.run(grow())
    receipt, later = build_receipt(JournalFiles(growing), OURS, key=PUBLIC)
    assert 3 == later
    assert receipt == receipt_of(journal)


def test_what_is_under_no_checkpoint_at_all_is_not_said_to_be_missing(tmp_path, journal):
    """But only of the account that asks: of another's nothing is told, as of none."""
    unsigned = Path(shutil.copytree(journal, tmp_path / "journal"))
    for checkpoint in unsigned.glob("*.checkpoint"):
        checkpoint.unlink()
    for account in (None, "globex"):
        with pytest.raises(NotSignedYet, match="try again in a moment"):
            build_receipt(JournalFiles(unsigned), THEIRS, key=PUBLIC, account=account)
    with pytest.raises(NothingToProve):
        build_receipt(JournalFiles(unsigned), THEIRS, key=PUBLIC, account="acme")


def test_what_was_erased_is_named_and_the_rest_still_holds(journal, whole):
    """Openings can be taken out of a receipt as out of the journal: nothing else of it changes."""

    def erase(document):
        for part in document["parts"]:
            for item in part["records"]:
                del item["open"]["actor"], item["open"]["words"]
        for name in ("actor", "ticket", "stated_reason"):
            del document["summary"][name]
        document["summary"]["erased"] = ["actor", "words"]

    erased = _changed(whole, erase)
    assert _holds(erased)
    for secret in (b"dana", b"192.0.2.1", b"SUP-1", b"cannot reproduce"):
        assert secret in whole
        assert secret not in erased


def test_no_other_opening_passes(whole):
    """Not even one of the same values under another salt, nor another group's, nor one for which nothing was sealed."""

    def salt_anew(document):
        openings = document["parts"][0]["records"][0]["open"]
        opened = json.loads(openings["agent"])
        openings["agent"] = json.dumps(opened | {"salt": "A" * 22}, separators=(",", ":"))

    def rename(document):
        openings = document["parts"][0]["records"][0]["open"]
        openings["agent"] = openings["giver"]

    def invent(document):
        document["parts"][0]["records"][0]["open"]["more"] = "{}"

    for change in (salt_anew, rename, invent):
        assert not _holds(_changed(whole, change))


async def test_a_receipt_names_no_other_account(tmp_path):
    """That its token was refused at another account's host is in the log, and in no receipt: it would say whose."""
    journal = await open_journal(tmp_path, origin="gateway")
    await journal.append(entry(request_id="req_1"))
    elsewhere = {"asked_account": "globex", "host": "globex.helpdesk.example", "path": "/tickets/815"}
    await journal.append(entry(decision="deny", reason="wrong_account", **elsewhere))
    await journal.append(entry(THEIRS, decision="deny", reason="wrong_account", **elsewhere))
    await journal.append(entry(request_id="req_2"))
    await journal.close()
    for account in (None, "acme"):
        receipt, later = build_receipt(JournalFiles(tmp_path), OURS, key=PUBLIC, account=account)
        assert (0, 2) == (later, receipt.summary["records"])
        assert b"globex" not in receipt.encode()
        assert _holds(receipt.encode())
    with pytest.raises(NothingToProve):
        build_receipt(JournalFiles(tmp_path), THEIRS, key=PUBLIC)
