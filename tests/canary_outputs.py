"""What lies on the disk behind a gateway, and what the command line says of it, for tests that look for secrets there."""

import copy
import json
import sqlite3
from contextlib import closing

from click.testing import CliRunner

from gateway.audit.index.building import Builder
from gateway.audit.index.database import NAME
from gateway.cli.root import cli

STORE = ("locum.sqlite3", "locum.sqlite3-wal")
KEY = "journal-key.pem"
INDEX = NAME
COMMANDS = (
    ("account", "show"),
    ("audit", "export", "--format", "csv"),
    ("audit", "export", "--format", "jsonl", "kind:decision"),
    ("audit", "holds"),
    ("audit", "search", "--json", "account:acme"),
    ("audit", "search", "account:acme"),
    ("audit", "stats"),
    ("audit", "tail", "-n", "1000"),
    ("audit", "verify"),
    ("client", "list"),
    ("config", "check"),
    ("config", "show"),
    ("contacts", "show", "acme"),
    ("db", "check"),
    ("grant", "requests", "acme"),
    ("grant", "show", "acme"),
    ("keys", "list"),
    ("kill-switch", "status"),
    ("notices", "list"),
)
"""All that only look, and can do so where no gateway runs; `audit show` comes besides."""


def files_of(directory):
    """Return all files, by their names from there."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def keep_keys(canaries, directory):
    """Watch for every private key that there is; yield what each is named, and the files that hold it by its nature."""
    with closing(sqlite3.connect(directory / STORE[0])) as store:
        pems = {name: pem for name, pem in store.execute("SELECT id, private_pem FROM signing_keys") if pem}
    for name, pem, files in [
        *((*each, STORE) for each in pems.items()),
        ("journal", (directory / KEY).read_bytes(), [KEY]),
    ]:
        canaries.keep(f"key {name}", pem.decode().splitlines()[1])
        yield f"key {name}", files


def index(directory):
    """Index the journal of a data directory, which the gateways of these tests leave to nobody."""
    with Builder(directory / "journal", directory / NAME) as builder:
        assert builder.catch_up()


def told(directory, document, assumption):
    """Run the commands on a data directory, of which no gateway is left; yield each with all that it says."""
    path = directory / "config.toml"
    path.write_text("".join(f"{key} = {_toml(value)}\n" for key, value in document.items()))
    for words in (*COMMANDS, ("audit", "show", assumption), ("audit", "show", "--json", assumption)):
        done = CliRunner().invoke(cli, ["--config", str(path), *words])
        assert 0 == done.exit_code, (words, done.output)
        yield words, done.output.encode()
    path.unlink()


def kept(changes):
    """Return a change of a configuration that makes `changes`, and where what comes of it can be read."""
    document = {}

    def change(wanted):
        changes(wanted)
        document.update(copy.deepcopy(wanted))

    return change, document


def _toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)
