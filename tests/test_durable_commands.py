"""What the command line changes waits for the disk, too; what only takes power away is done, and said to be unrecorded."""

import asyncio
import json
import re
import sys

import click
import pytest

from gateway.cli.root import cli
from gateway.grants.mark import RECOVERY_LEAP
from tests import started
from tests.patience import PATIENCE_SECONDS
from tests.test_cli import CONFIG, PROJECT

READY = [
    "account add acme",
    "account add gone",
    "account suspend gone",
    "account add tria --type trial",
    "account add umbra",
    "grant set acme year --as owner",
    "account add late",
    "grant set late year --as owner",
    "grant set umbra year --as owner",
    "client add old --role audit",
    "kill-switch on --reason leak",
    "staff lock dana --unseen",
    "audit hold umbra --reason suit",
]

# The command, what looks afterwards, and what that says if it has been done; where nothing looks, what it says itself.
GIVES = [
    ("account add zeta", "account show zeta", "zeta: paid"),
    ("account change acme --attribute region=eu", "account show acme", "region=eu"),
    ("account resume gone", "account show gone", "gone: paid; assumption"),
    ("audit hold acme --reason suit", "audit holds", "acme"),
    ("audit release umbra --reason over", "", "umbra: released"),
    ("audit erase --agent acme maria --reason asked", "audit search kind:erasure decision:allow", "erased"),
    ("audit evidence -o evidence.tar", "", "evidence.tar"),
    ("audit export", "", '"kind"'),
    ("client add new --role audit", "client list", "new: audit"),
    ("contacts set acme ann@acme.example", "contacts show acme", "ann@acme.example"),
    ("grant set acme always --as owner", "grant show acme", "always"),
    ("keys rotate", "keys list", "published"),
    ("kill-switch off", "kill-switch status", "kill-switch: off"),
    ("staff unlock dana", "", "dana: unlocked"),
]
TAKES = [
    ("account suspend acme", "account show acme", "suspended"),
    ("account convert tria", "account show tria", "tria: paid"),
    ("client remove old", "", "client: removed"),
    ("grant set umbra off --as owner", "grant show umbra", "assumption off"),
    ("kill-switch on --reason again", "kill-switch status", "again"),
    ("staff lock erin --unseen", "", "erin: locked"),
]
BOTH = [("recover", "", "trusted again")]
"""It takes away what was begun and allowed, and only then makes keys and has the store trusted."""
ELSEWHERE = {
    "audit receipt": "as `audit evidence`, by the same function",
    "audit retain": "tests/test_retention.py",
    "assumption end": "as `staff lock`, by the same function",
    "keys retire": "as `keys rotate`, by the same function",
}
NOTHING = {
    "account show", "assume begin", "assume end", "assume show", "audit check-receipt", "audit consistency",
    "audit fetch", "audit holds", "audit reindex", "audit search", "audit show", "audit stats", "audit tail",
    "audit verify", "client list", "config check", "config show", "contacts show", "db check", "db copy", "db migrate",
    "demo", "grant requests", "grant show", "keys list", "kill-switch status", "notices list", "notices retry", "policy explain", "policy list", "run",
    "selftest revocation",
}  # fmt: skip
"""Those that change nothing that accounts or staff depend on, or have a gateway do it, which records it."""


def _commands(command, *path):
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from _commands(command.get_command(context, name), *path, name)
    else:
        yield " ".join(path)


def _named(line):
    """Return the command that a line of words is one of."""
    return next(name for name in _commands(cli) if f"{line} ".startswith(f"{name} "))


def test_every_command_is_tried_or_named_here():
    """A new one is a new way to change something, or says here that it is none."""
    tried = {_named(line) for line, *_ in (*GIVES, *TAKES, *BOTH)}
    assert set(_commands(cli)) == tried | set(ELSEWHERE) | NOTHING


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What each command said with a disk that keeps nothing, and what whoever looked afterwards was told."""
    directory = tmp_path_factory.mktemp("commands")
    (directory / "config.toml").write_text(CONFIG % "http://127.0.0.1:9")
    acts = [line for act, look, _ in (*GIVES, *TAKES, *BOTH) for line in (act, look) if line]
    answers = asyncio.run(_run(directory, [line.split() for line in (*READY, "", *acts)]))
    ready, rest = answers[: len(READY)], iter(answers[len(READY) :])
    assert {0} == {code for code, *_ in ready}, ready
    found, former = {}, ready[-1][2]
    for act, look, _ in (*GIVES, *TAKES, *BOTH):
        code, said, there = next(rest)
        found[act] = (code, said, next(rest)[1] if look else said, set(former) ^ set(there))
        former = there
    return found


async def _run(directory, commands):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.failing_disk", cwd=directory, env=started.environment(PYTHONPATH=str(PROJECT)),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE_SECONDS):
        out, _ = await process.communicate(json.dumps(commands).encode())
    return json.loads(out)


@pytest.mark.parametrize(("act", "done"), [(act, done) for act, _, done in GIVES], ids=[act for act, *_ in GIVES])
def test_what_gives_something_is_not_done_without_the_disk(told, act, done):
    """The command fails, says that the disk is why, and nothing is different: no row, and no file beside the data."""
    code, said, seen, different = told[act]
    assert (1, True) == (code, "this disk keeps nothing" in said), said
    assert (False, set()) == (done in seen, different)


@pytest.mark.parametrize(("act", "done"), [(act, done) for act, _, done in TAKES], ids=[act for act, *_ in TAKES])
def test_what_takes_power_away_is_done_and_said_to_be_unrecorded(told, act, done):
    """The command fails as well, and says what was done."""
    code, said, seen, different = told[act]
    assert (1, True) == (code, "not on the record" in said), said
    assert (True, True) == (done in seen, different != set())


def test_recovery_takes_away_what_it_can_and_gives_nothing(told):
    """Grants are off, by their own rows alone: no key is made, none is ended, and the store is not trusted again."""
    code, said, _, different = told["recover"]
    assert (1, True) == (code, "this disk keeps nothing" in said), said
    tables = {row.split('"')[1] for row in different}
    assert {"accounts", "changes", "grant_events", "grants", "sqlite_sequence"} == tables
    positions = [int(position) for row in different for position in re.findall(r'"changes" VALUES\((\d+),', row)]
    assert max(positions) < RECOVERY_LEAP
