"""The command line as an operator types it: a real store, exit codes, and for each command a real process."""

import asyncio
import importlib
import json
import sys
from datetime import timedelta
from pathlib import Path

import aiohttp
import click
import msgspec
import pytest
from click.testing import CliRunner

from gateway.cli.audit import audit
from gateway.cli.root import cli
from gateway.clock import utc_now
from gateway.config.model import Config
from gateway.config.section import Section
from gateway.stores.request_room import Room
from gateway.stores.sqlite import open_sqlite
from tests import started
from tests.patience import PATIENCE_SECONDS
from tests.rawwire import RecordingUpstream, exchange, response
from tests.request_contract import another

PROJECT = Path(__file__).parent.parent
CLI = PROJECT / "gateway" / "cli"
CONFIG = """
[server]
issuer = "https://assume.vendor.example"
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
[accounts]
host = "{account}.helpdesk.example"
[upstream]
url = "%s"
profile = "demo-helpdesk"
[staff]
issuer = "https://idp.vendor.example"
audience = "locum"
[[staff.rules]]
group = "support"
permissions = ["read"]
"""


class Shell:
    """Runs `locum` in a directory of its own: within this process, or, where that counts, as a process."""

    def __init__(self, directory):
        self.directory = directory
        self.config(CONFIG % "http://127.0.0.1:9")

    def config(self, text):
        (self.directory / "config.toml").write_text(text)

    async def start(self, *words, **environment):
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway",
            *words,
            cwd=self.directory,
            env=started.environment(**environment),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def __call__(self, *words, **options):
        """As `here`, but beside a running loop: on a thread."""
        return await asyncio.to_thread(self.here, *words, **options)

    def here(self, *words, code=0, **environment):
        """Run a command in this process, with a loop of its own; return all that it says."""
        result = CliRunner().invoke(cli, words, env=environment, prog_name="locum")
        if not isinstance(result.exception, SystemExit | None):
            raise result.exception
        assert code == result.exit_code, result.output
        return result.stdout + result.stderr

    async def process(self, *words, code=0, **environment):
        """Run a command as a process; return all that it says."""
        process = await self.start(*words, **environment)
        out, err = await process.communicate()
        assert code == process.returncode, (out, err)
        return out.decode() + err.decode()


@pytest.fixture
def locum(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Shell(tmp_path)


async def test_what_waits_for_an_accounts_answer_is_listed(locum):
    """Who asks, what for, why, and until when it waits; nothing in it steers the terminal, and what is over is left out."""
    await locum("account", "add", "acme", "--as", "robin")
    assert "" == await locum("grant", "requests", "acme")
    now = utc_now()
    asked = another(1, name="Dana\x1b[31m", reason="a\u202eb", asked_at=now, expires_at=now + timedelta(days=4))
    over = another(2, ticket="SUP-8", asked_at=now - timedelta(days=5), expires_at=now - timedelta(days=1))
    store = await open_sqlite(locum.directory / "data" / "locum.sqlite3")
    for one in (asked, over):
        assert None is await store.add_grant_request(one, room=Room())
    await store.close()
    [line] = (await locum("grant", "requests", "acme")).splitlines()
    assert line.startswith("ask_1  Dana\\u001b[31m (")
    for words in (": read test_tickets, week", "ticket SUP-7", f"{asked.expires_at:%Y-%m-%d %H:%M:%S} UTC; a\\u202eb"):
        assert words in line
    await locum("grant", "requests", "nobody", code=1)


async def test_an_operator_keeps_accounts_and_grants(locum):
    """Accounts and grants are added, shown, changed and converted; each change is on a journal that verifies."""
    assert "acme: added, paid" in await locum.process("account", "add", "acme", "--as", "robin")
    await locum("account", "add", "young", "--type", "trial")
    assert "assumption off" in await locum("account", "show", "acme")
    assert "always assumable" in await locum("account", "show", "young")
    assert "enabled" in await locum.process(
        "grant", "set", "acme", "week", "--as", "owner", "--allow", "read,test_tickets"
    )
    assert "read test_tickets" in await locum("grant", "show", "acme")
    assert "reduced" in await locum("grant", "set", "acme", "day", "--as", "owner")
    assert "turned_off" in await locum("grant", "set", "acme", "off", "--as", "owner")
    history = await locum("grant", "show", "acme", "--history")
    assert ["turned_off", "reduced", "enabled"] == [line.split()[3] for line in history.splitlines()[1:]]
    assert "converted to paid" in await locum("account", "convert", "young", "--as", "sales")
    assert "assumption off" in await locum("account", "show", "young")

    told = (await locum("audit", "search", "-decision:deny")).splitlines()
    assert 6 == len(told)
    assert "robin @acme" in told[0]
    assert "ok" == (await locum.process("audit", "verify")).splitlines()[-1]


async def test_clients_are_listed_and_removed(locum):
    """With what they may do and how they authenticate, without a secret; each change is on the record."""
    key = {"kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    (locum.directory / "keys.json").write_text(json.dumps({"keys": [key]}))
    secret = (await locum.process("client", "add", "app", "--role", "grants", "--role", "token")).strip()
    await locum("client", "add", "signer", "--role", "introspect", "--jwks", "keys.json", "--dpop")
    await locum("client", "add", "laptop", "--public", "--role", "device")
    await locum("client", "add", "siem", "--role", "audit", "--account", "acme")
    listed = await locum("client", "list")
    assert [
        "app: token grants; a secret",
        "laptop: device; public, without a secret",
        "siem: audit; a secret; acme only",
        "signer: introspect; keys k1; DPoP only",
    ] == listed.splitlines()
    assert secret not in listed
    told = [json.loads(line) for line in (await locum("client", "list", "--json")).splitlines()]
    expected = {"id": "signer", "roles": ["introspect"], "by": "keys", "keys": ["k1"], "dpop": True, "account": None}
    assert expected == told[3]
    assert "acme" == told[2]["account"]
    assert ["secret", "nothing", "secret", "keys"] == [one["by"] for one in told]

    assert "app: removed\n" == await locum("client", "remove", "app", "--as", "robin")
    assert "there is no client `app`: `locum client list` shows all" in await locum("client", "remove", "app", code=1)
    assert ["laptop", "siem", "signer"] == [
        line.partition(":")[0] for line in (await locum("client", "list")).splitlines()
    ]
    [record] = (await locum("audit", "search", "kind:client reason:removed")).splitlines()
    assert "robin" in record


async def test_a_client_is_removed_also_if_that_cannot_be_recorded(locum):
    """Its secret may be in the wrong hands; the command fails, and says what was done."""
    await locum("client", "add", "app", "--role", "token")
    lock = locum.directory / "data" / "journal" / "cli.lock"
    lock.unlink()
    lock.mkdir()
    said = await locum.process("client", "remove", "app", code=1)
    assert "this is done (client: removed), but not on the record: the journal" in said
    assert "" == await locum("client", "list")


async def test_a_customer_s_off_holds_also_if_it_cannot_be_recorded(locum):
    """Turned off and converted without a journal, which is said; nothing is turned on without one."""
    await locum("account", "add", "acme")
    await locum("account", "add", "umbra", "--type", "trial")
    await locum("grant", "set", "acme", "year", "--as", "jane")
    lock = locum.directory / "data" / "journal" / "cli.lock"
    lock.unlink()
    lock.mkdir()
    assert "not on the record" in await locum.process("grant", "set", "acme", "off", "--as", "jane", code=1)
    assert "assumption off" in await locum("grant", "show", "acme")
    assert "not on the record" in await locum.process("account", "convert", "umbra", code=1)
    assert "umbra: paid" in await locum("grant", "show", "umbra")
    await locum.process("grant", "set", "acme", "day", "--as", "jane", code=1)
    assert "assumption off" in await locum("grant", "show", "acme")


async def test_an_account_is_described_for_the_rules(locum):
    """At its start and later, attribute by attribute; each change is on the record, and none is not one."""
    region, plan = ("--attribute", "region=eu"), ("--attribute", "plan=gold=1")
    await locum("account", "add", "acme", *region, *plan)
    assert "acme: paid, plan=gold=1, region=eu; assumption off" in await locum("account", "show", "acme")
    changed = await locum(
        "account", "change", "acme", "--attribute", "region=us", "--attribute", "plan=", "--as", "robin"
    )
    assert "acme: region=us\n" == changed
    assert "acme: region=us\n" == await locum("account", "change", "acme", "--attribute", "region=us", "--as", "robin")
    assert "acme: paid, region=us; assumption off" in await locum("account", "show", "acme")
    assert 1 == len((await locum("audit", "search", "reason:attributes_changed")).splitlines())
    assert "name at least one --attribute" in await locum("account", "change", "acme", code=2)
    for odd in ("region", "=eu", "Re=x", "region=a\nb"):
        assert "such as region=eu" in await locum("account", "change", "acme", "--attribute", odd, code=2)


BAD_INPUT = [
    (("account", "add", "acme"), 1, "is there already"),
    (("account", "show", "nobody"), 1, "there is no account `nobody`"),
    (("account", "convert", "acme", "--as", "x"), 1, "is not a trial"),
    (("grant", "set", "acme", "fortnight", "--as", "x"), 2, "'fortnight' is not one of"),
    (("grant", "set", "acme", "day", "--as", "x", "--allow", "root"), 2, "`root` is no permission"),
    (("grant", "set", "acme", "day", "--as", "x", "--role", "agent"), 1, "only an administrator"),
    (("grant", "set", "acme", "day"), 2, "Missing option '--as'"),
    (("client", "add", "a b", "--role", "token"), 2, "name a client with letters"),
    (("client", "add", "app"), 2, "Missing option '--role'"),
    (("client", "add", "siem", "--role", "audit", "--account", ""), 2, "--account needs the id of an account"),
    (("assumption", "end", "as_none", "--as", "x"), 1, "there is no assumption `as_none`"),
    (("staff", "lock", "ghost"), 1, "was never seen here"),
    (("--config", "missing.toml", "account", "show"), 78, "`missing.toml`: cannot be read"),
    (("policy", "explain", "--profile", "none", "--path", "/"), 78, "upstream.profile: `none` cannot be read"),
]


@pytest.mark.parametrize(("words", "code", "says"), BAD_INPUT)
async def test_bad_input_gets_one_clear_line(locum, words, code, says):
    """The exit code tells usage (2), configuration (78) and refusal (1) apart."""
    await locum("account", "add", "acme")
    assert says in await locum(*words, code=code)


# Each code, and the commands of which no other test starts a process.
@pytest.mark.parametrize(
    ("words", "code", "says"), [case for case in BAD_INPUT if {"fortnight", "end", "lock", "explain"} & set(case[0])]
)
async def test_a_process_ends_with_the_code_and_no_traceback(locum, words, code, says):
    """What a shell sees of it."""
    told = await locum.process(*words, code=code)
    assert says in told
    assert "Traceback" not in told


async def test_a_gateway_that_does_not_start_says_so_in_one_line(locum):
    """As the above, for `locum run`."""
    locum.config(
        (CONFIG % "http://127.0.0.1:9").replace("[accounts]", "[tokens]\nsigning_key_file = 'none'\n[accounts]")
    )
    told = await locum.process("run", code=78)
    assert 1 == len(told.splitlines())
    assert "tokens.signing_key_file: `" in told


@pytest.mark.parametrize(
    ("before", "after", "path"),
    [
        (
            'issuer = "https://assume',
            'isuer = "x"\nissuer = "https://assume',
            "server.isuer: there is no such key; did you mean `issuer`?",
        ),
        ('url = "http://127.0.0.1:9"', "", "upstream.url: is missing"),
        ('url = "http://127.0.0.1:9"', 'url = "http://127.0.0.1:9/path"', "upstream.url: "),
        (
            'profile = "demo-helpdesk"',
            "profile = 7",
            "upstream.profile: must be a text in quotes, and is a whole number",
        ),
        ('listen = "127.0.0.1:0"\nadmin', 'listen = "here"\nadmin', "server.listen: `here` is not host:port"),
        ("[accounts]", '[tokens]\nsigning_key_file = "absent.pem"\n[accounts]', "tokens.signing_key_file: `"),
    ],
)
def test_a_bad_configuration_stops_the_start_with_78_and_the_path(locum, before, after, path):
    """Nothing is guessed: the gateway does not start, and says which key it was."""
    text = CONFIG % "http://127.0.0.1:9"
    assert before in text
    locum.config(text.replace(before, after))
    assert path in locum.here("run", code=78)


def test_a_weak_or_open_signing_key_stops_the_start(locum, tmp_path):
    """A key that everybody may read, and one that is no Ed25519 key, are refused with the key's path."""
    text = (CONFIG % "http://127.0.0.1:9").replace("[accounts]", '[tokens]\nsigning_key_file = "key.pem"\n[accounts]')
    locum.config(text)
    key = tmp_path / "key.pem"
    key.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    key.chmod(0o644)
    assert "tokens.signing_key_file: `" in locum.here("run", code=78)
    key.chmod(0o600)
    assert "tokens.signing_key: not an unencrypted private key" in locum.here("run", code=78)


async def test_the_environment_wins_over_the_file(locum):
    """LOCUM__SECTION__KEY overrides a key, and an unknown one is refused."""
    shown = json.loads(await locum.process("config", "show", LOCUM__TOKENS__LIFETIME_SECONDS="60"))
    assert 60 == shown["tokens"]["lifetime_seconds"]
    assert "tokens.lifetime: unknown key" in await locum("config", "check", code=78, LOCUM__TOKENS__LIFETIME="60")


async def test_the_example_configuration_is_right_as_it_stands(locum):
    """`config.example.toml` passes the check."""
    locum.config((PROJECT / "config.example.toml").read_text())
    assert "ok: http://127.0.0.1:3000 with profile demo-helpdesk" in await locum("config", "check")


async def test_run_serves_until_it_is_told_to_stop(locum):
    """`locum run` passes ordinary traffic, answers for its health, and ends by SIGTERM with 0."""
    async with RecordingUpstream(lambda _request: response()) as upstream:
        locum.config(CONFIG % upstream.url)
        process = await locum.start("run")
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                line = (await process.stderr.readline()).decode()
                while "for everybody" not in line:
                    line = (await process.stderr.readline()).decode()
            public, admin = (word for word in line.replace(",", "").split() if word.startswith("http"))
            answer = await exchange("127.0.0.1", int(public.rpartition(":")[2]), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            async with aiohttp.ClientSession() as http, http.get(f"{admin}/readyz") as ready:
                parts = {"store": "ok", "journal": "ok", "push": "ok", "clock": "ok"}
                assert {"status": "ok", "parts": parts, "kill_switch": "off"} == await ready.json()
        finally:
            process.terminate()
            _, errors = await process.communicate()
        assert 0 == process.returncode, errors


async def test_two_commands_at_once_take_turns(locum):
    """Each waits for the other's journal, and both are done."""
    told = await asyncio.gather(*(locum.process("account", "add", f"a{number}") for number in range(3)))
    assert ["a0: added, paid\n", "a1: added, paid\n", "a2: added, paid\n"] == told


def test_every_command_is_listed_and_there():
    """A file or folder of the command line with a command in it is listed under its name, and nothing else is."""
    files = [*CLI.glob("[a-z]*.py"), *(path.parent for path in CLI.glob("*/__init__.py"))]
    modules = {path.stem: importlib.import_module(f"gateway.cli.{path.stem}") for path in files}
    made = {
        stem: [name for name, value in vars(module).items() if isinstance(value, click.Command)]
        for stem, module in modules.items()
        if stem != "root"
    }
    with click.Context(cli) as context:
        listed = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    assert {stem.replace("_", "-") for stem, names in made.items() if names} == set(listed)
    for name, command in listed.items():
        stem = name.replace("-", "_")
        assert vars(modules[stem])[stem] is command
    assert cli.get_command(context, "root") is None


def test_every_command_of_the_journal_is_there():
    """A file below `audit` with a command in it is listed in the group, under the name that the command has."""
    modules = [importlib.import_module(f"gateway.cli.audit.{path.stem}") for path in CLI.glob("audit/[a-z]*.py")]
    commands = [each for module in modules for each in vars(module).values() if isinstance(each, click.Command)]
    with click.Context(audit) as context:
        listed = [audit.get_command(context, name) for name in audit.list_commands(context)]
    assert listed
    assert sorted(commands, key=id) == sorted(listed, key=id)
    assert [each.name for each in listed] == audit.list_commands(context)
    assert None is audit.get_command(context, "options")


def test_every_key_of_the_configuration_is_explained():
    """The example names each key of each section, set or commented out."""
    text = (PROJECT / "config.example.toml").read_text()

    def keys(struct):
        for field in msgspec.structs.fields(struct):
            kinds = [field.type, *getattr(field.type, "__args__", ())]
            inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)]
            if not inner:
                yield field.name
            for kind in inner:
                yield from keys(kind)

    assert [] == [
        key for key in keys(Config) if not any(way in text for way in (f"{key} =", f"{key}_file =", f".{key}]"))
    ]
