"""What the command line changes waits for the disk, too; what only takes power away is done, and said to be unrecorded."""

import asyncio
import json
import sys

import click
import pytest

from gateway.cli.root import cli
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
    "grant set umbra year --as owner",
    "client add old --role audit",
    "kill-switch on --reason leak",
    "staff lock dana --unseen",
    "audit hold umbra --reason suit",
]

# The command, what looks afterwards, and what that says if it has been done.
GIVES = [
    ("account add zeta", "account show zeta", "zeta: paid"),
    ("account change acme --attribute region=eu", "account show acme", "region=eu"),
    ("account resume gone", "account show gone", "gone: paid; assumption"),
    ("audit hold acme --reason suit", "audit holds", "acme"),
    ("audit release umbra --reason over", "audit holds", None),
    ("audit erase --agent acme maria --reason asked", "audit search kind:erasure decision:allow", "erased"),
    ("audit evidence -o evidence.tar", "config check", None),
    ("audit export", "config check", None),
    ("client add new --role audit", "client list", "new: audit"),
    ("contacts set acme ann@acme.example", "contacts show acme", "ann@acme.example"),
    ("grant set acme always --as owner", "grant show acme", "always"),
    ("keys rotate", "keys list", "published"),
    ("kill-switch off", "kill-switch status", "kill-switch: off"),
    ("staff unlock dana", "config check", None),
    ("recover", "config check", None),
]
TAKES = [
    ("account suspend acme", "account show acme", "suspended"),
    ("account convert tria", "account show tria", "tria: paid"),
    ("client remove old", "client list", ""),
    ("grant set umbra off --as owner", "grant show umbra", "assumption off"),
    ("kill-switch on --reason again", "kill-switch status", "again"),
    ("staff lock erin --unseen", "config check", None),
]
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
    tried = {_named(line) for line, *_ in (*GIVES, *TAKES)}
    assert set(_commands(cli)) == tried | set(ELSEWHERE) | NOTHING


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What each command said with a disk that keeps nothing, and what whoever looked afterwards was told."""
    directory = tmp_path_factory.mktemp("commands")
    (directory / "config.toml").write_text(CONFIG % "http://127.0.0.1:9")
    lines = [*READY, "", *(line for act, look, _ in (*GIVES, *TAKES) for line in (act, look))]
    answers = asyncio.run(_run(directory, [line.split() for line in lines]))
    ready, rest = answers[: len(READY)], answers[len(READY) :]
    assert {0} == {code for code, _ in ready}, ready
    acts = [act for act, *_ in (*GIVES, *TAKES)]
    return dict(zip(acts, zip(rest[::2], rest[1::2], strict=True), strict=True))


async def _run(directory, commands):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.failing_disk", cwd=directory, env=started.environment(PYTHONPATH=str(PROJECT)),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE_SECONDS):
        out, _ = await process.communicate(json.dumps(commands).encode())
    return json.loads(out)


@pytest.mark.parametrize(("act", "look", "done"), GIVES, ids=[act for act, *_ in GIVES])
def test_what_gives_something_is_not_done_without_the_disk(told, act, look, done):
    """The command fails, says that the disk is why, and nothing is different."""
    (code, said), (_, seen) = told[act]
    assert (1, True) == (code, "this disk keeps nothing" in said), said
    assert done is None or done not in seen


@pytest.mark.parametrize(("act", "look", "done"), TAKES, ids=[act for act, *_ in TAKES])
def test_what_takes_power_away_is_done_and_said_to_be_unrecorded(told, act, look, done):
    """The command fails as well, and says what was done."""
    (code, said), (_, seen) = told[act]
    assert (1, True) == (code, "not on the record" in said), said
    assert done is None or done in seen
    assert look != "client list" or "old" not in seen
