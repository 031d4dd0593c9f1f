"""`locum keys`: what an operator sees and does, each change on the record first."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ed25519

from gateway.audit.search import read
from gateway.cli.root import cli
from policy.keys import OVERLAP, PUBLISHED_FIRST
from tests.postgres_config import CONFIG
from tests.test_keys import pem


class Shell:
    """`locum keys …` with a configuration and a data directory of its own."""

    def __init__(self, directory):
        self.data = directory / "data"
        self.file = directory / "config.toml"
        self.configure()

    def configure(self, more=""):
        self.file.write_text(CONFIG.format(data=self.data, url="") + more)

    def __call__(self, *words, code=0):
        result = CliRunner().invoke(cli, ["--config", str(self.file), "keys", *words])
        assert code == result.exit_code, (result.output, result.exception)
        assert "PRIVATE" not in result.output
        return result.output

    def listed(self):
        return [json.loads(line) for line in self("list", "--json").splitlines()]

    def signing(self, use="tokens"):
        [key] = [key for key in self.listed() if use in key["signs"]]
        return key["id"]

    def wait(self, seconds):
        """Have the keys be older by some seconds."""
        with closing(sqlite3.connect(self.data / "locum.sqlite3", isolation_level=None)) as connection:
            microseconds = int(seconds * 1_000_000)
            for column in ("created_at", "signs_from", "retired_at", "ended_at"):
                connection.execute(f"UPDATE signing_keys SET {column} = {column} - {microseconds}")  # noqa: S608

    def records(self):
        return [
            (record["reason"], record["key_id"]) for record in read(self.data / "journal") if record["kind"] == "key"
        ]


@pytest.fixture
def keys(tmp_path):
    shell = Shell(tmp_path)
    shell("rotate", "--as", "robin")
    shell.wait(PUBLISHED_FIRST.total_seconds())
    return shell


def at(text):
    return datetime.fromisoformat(text)


def test_each_key_says_what_it_signs_and_until_when_it_counts(keys):
    """As a line and as JSON; the times are those that hold, in UTC."""
    by_state = {(key["state"], "journal" in key["signs"]): key for key in keys.listed()}
    new, old, journal = (by_state[which] for which in (("signs", False), ("retired", False), ("signs", True)))
    assert (["tokens", "assertions"], "EdDSA", "stored") == (new["signs"], new["algorithm"], new["source"])
    assert (None, None) == (new["signs_until"], new["counts_until"])
    assert new["signs_from"] == old["signs_until"]
    assert at(old["signs_until"]) + OVERLAP == at(old["counts_until"])
    assert timedelta() == at(old["signs_until"]).utcoffset()
    assert ([], ["journal"]) == (old["signs"], journal["signs"])
    lines = keys("list").splitlines()
    assert 3 == len(lines)
    [line] = [line for line in lines if line.startswith(old["id"])]
    assert f"counts until {at(old['counts_until']):%Y-%m-%d %H:%M:%S} UTC" in line
    keys.wait(OVERLAP.total_seconds())
    assert "gone" == next(key["state"] for key in keys.listed() if key["id"] == old["id"])


def test_a_rotation_publishes_first_and_happens_once(keys):
    """Who wants another before it has begun is told of the first; a longer lead is taken as given, a shorter one not."""
    old = keys.signing()
    said = keys("rotate", "--lead", "3600", "--as", "robin")
    [new] = [key for key in keys.listed() if key["state"] == "published"]
    assert said.startswith(f"{new['id']}: EdDSA, stored, published; made ")
    assert 3600 == (at(new["signs_from"]) - at(new["created_at"])).total_seconds()
    assert old == keys.signing()
    assert "a new key is published" in keys("rotate", code=1)
    assert "a new key is published" in keys("retire", old, code=1)
    keys("rotate", "--lead", "299", code=2)
    assert ("made", new["id"]) == keys.records()[-1]
    assert 2 == len(keys.records())


def test_a_key_that_signs_is_retired_by_making_its_successor(keys):
    """The last one cannot go without; one that signs nothing yet can, and then the rotation does not happen."""
    old = keys.signing()
    keys("retire", old)
    [new] = [key["id"] for key in keys.listed() if key["state"] == "published"]
    assert [("retired", old), ("made", new)] == keys.records()[-2:]
    assert "gone" in keys("retire", new)
    assert old == keys.signing()
    assert None is next(key["signs_until"] for key in keys.listed() if key["id"] == old)
    assert "is gone" in keys("retire", new, code=1)
    assert "is gone" in keys("retire", new, "--now", code=1)
    retired = next(key["id"] for key in keys.listed() if key["state"] == "retired")
    assert "signs nothing any more" in keys("retire", retired, code=1)
    assert "there is no key `locum-x`" in keys("retire", "locum-x", code=1)


def test_a_key_that_others_know_is_ended_at_once(keys):
    """Another signs in the same moment, the one that waits if there is one; of the key itself nothing is kept."""
    first = keys.signing()
    said = keys("retire", first, "--now", "--as", "robin")
    second = keys.signing()
    assert f"{first}: EdDSA, stored, gone" in said
    assert f"{second}: EdDSA, stored, signs tokens and assertions" in said
    assert [("ended", first), ("made", second)] == keys.records()[-2:]
    keys("rotate")
    [third] = [key["id"] for key in keys.listed() if key["state"] == "published"]
    keys("retire", second, "--now")
    assert third == keys.signing()
    assert [("ended", second), ("started", third)] == keys.records()[-2:]
    with closing(sqlite3.connect(keys.data / "locum.sqlite3")) as connection:
        kept = dict(connection.execute("SELECT id, length(private_pem) FROM signing_keys"))
    assert (0, 0) == (kept[first], kept[second])
    assert kept[third]


def test_ending_a_key_waits_for_no_record_and_says_so(keys):
    """A journal that cannot be written keeps nobody from taking power away, and keeps everything else from happening."""
    leaked = keys.signing()
    journal = keys.data / "journal"
    journal.rename(keys.data / "away")
    journal.write_text("in the way")
    keys("rotate", code=1)
    keys("retire", leaked, code=1)
    assert leaked == keys.signing()
    assert "this is done (key: ended), but not on the record" in keys("retire", leaked, "--now", code=1)
    assert leaked != keys.signing()


def test_the_journals_key_and_given_ones_are_not_changed_here(keys):
    """What to do instead is said; the stored ones can still go, and need no successor then."""
    stored, journal = keys.signing(), keys.signing("journal")
    for words in (("retire", journal), ("retire", journal, "--now")):
        assert "signs the journal's checkpoints" in keys(*words, code=1)
    (keys.file.parent / "key.pem").write_text(pem(ed25519.Ed25519PrivateKey.generate()))
    (keys.file.parent / "key.pem").chmod(0o600)
    keys.configure('[tokens]\nsigning_key_file = "key.pem"\n')
    given = keys.signing()
    assert (given, "given", None) == tuple(keys.listed()[0][name] for name in ("id", "source", "signs_from"))
    for words in (("rotate",), ("retire", given), ("retire", given, "--now")):
        assert "tokens.signing_key are changed in that file, with a SIGHUP" in keys(*words, code=1)
    assert "verifies" == next(key["state"] for key in keys.listed() if key["id"] == stored)
    assert f"{stored}: EdDSA, stored, retired" in keys("retire", stored)
    assert given == keys.signing()


def test_each_configured_algorithm_is_rotated(keys):
    """Tokens and assertions may have keys of different kinds; the first of a kind is published like any other."""
    keys.configure('[tokens]\nalgorithm = "ES256"\n[identity]\nalgorithm = "RS256"\n')
    assert "a new key is published" in keys("rotate", code=1)
    assert keys.signing("tokens") == keys.signing("assertions")
    keys.wait(PUBLISHED_FIRST.total_seconds())
    before = {keys.signing("tokens"), keys.signing("assertions")}
    keys("rotate")
    new = {key["id"]: key["algorithm"] for key in keys.listed() if key["state"] == "published"}
    assert {"ES256", "RS256"} == set(new.values())
    keys.wait(PUBLISHED_FIRST.total_seconds())
    assert set(new) == {keys.signing("tokens"), keys.signing("assertions")} != before


def test_after_a_recovery_no_key_of_before_counts(keys):
    """Nobody knows which of them had been ended since the copy was made."""
    before = {key["id"] for key in keys.listed() if "journal" not in key["signs"]}
    result = CliRunner().invoke(cli, ["--config", str(keys.file), "recover"])
    assert 0 == result.exit_code, result.output
    assert "2 signing keys ended, and new ones sign" in result.output
    assert before == {key["id"] for key in keys.listed() if key["state"] == "gone"}
    assert keys.signing() not in before
    assert {("ended", key) for key in before} | {("made", keys.signing())} == set(keys.records()[1:])
    assert datetime.now(UTC) - at(next(key["signs_from"] for key in keys.listed())) < timedelta(minutes=1)  # noqa: TID251
