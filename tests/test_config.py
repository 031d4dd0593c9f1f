"""The configuration is right as a whole or refused with the path of what is wrong, and a secret never shows."""

import copy
import json
import tomllib
from pathlib import Path

import msgspec
import pytest

from gateway.config.load import build, load
from gateway.config.model import Config, ConfigError
from gateway.config.section import Secret, Section
from gateway.profiles import load_profile
from policy.model import Permission

ROOT = Path(__file__).resolve().parent.parent
LEAST = """
[server]
issuer = "https://assume.vendor.example"

[accounts]
host = "{account}.helpdesk.example"

[upstream]
url = "http://127.0.0.1:3000"
profile = "demo-helpdesk"

[staff]
issuer = "https://idp.vendor.example"
audience = "locum"

[[staff.rules]]
group = "support"
permissions = ["read"]
"""
ABSENT = object()
BASE = Path("base")


def document(path="", value=ABSENT, more=()):
    """Return the least document with one key set (or taken out), and perhaps more."""
    found = tomllib.loads(LEAST)
    for where, what in [*([(path, value)] if path else []), *more]:
        table = found
        *sections, key = where.split(".")
        for section in sections:
            table = table[int(section)] if isinstance(table, list) else table.setdefault(section, {})
        if what is ABSENT:
            del table[key]
        else:
            table[key] = copy.deepcopy(what)
    return found


def refusal(found, environment=None, base=BASE):
    with pytest.raises(ConfigError) as caught:
        build(found, environment or {}, base=base)
    return str(caught.value)


def test_the_least_file_is_enough():
    """What has a default need not be said, and the defaults are those of the documentation."""
    config = build(document(), {}, base=BASE)
    assert ("127.0.0.1:8080", "127.0.0.1:8081") == (config.server.listen, config.server.admin_listen)
    assert (900, 60, 2.0, 1.0) == (
        config.tokens.lifetime_seconds,
        config.identity.assertion_seconds,
        config.grants.fact_ttl_seconds,
        config.grants.absent_ttl_seconds,
    )
    assert (True, True, None) == (config.tokens.require_ticket, config.tokens.require_reason, config.tokens.signing_key)
    assert ("owner", "admin") == config.grants.administrator_roles
    assert (Permission.READ,) == config.grants.trial_permissions
    assert Path("base/data/locum.sqlite3") == config.store_path
    assert Path("base/data/journal") == config.journal_directory


def test_the_shipped_example_is_a_configuration():
    """It loads as it stands, and every key that it shows commented out is one that exists."""
    example = ROOT / "config.example.toml"
    assert "https://assume.vendor.example" == load(example, {}).server.issuer
    shown = [
        line.removeprefix("# ") for line in example.read_text(encoding="utf-8").splitlines() if line.startswith("# ")
    ]
    keys = {line.partition(" = ")[0] for line in shown if " = " in line and line.partition(" = ")[0].isidentifier()}
    assert set() == keys - _every_key(Config)
    assert {"listen", "strip", "fact_ttl_seconds"} <= keys


def _every_key(struct):
    found = set()
    for field in msgspec.structs.fields(struct):
        found.add(field.name)
        for kind in (field.type, *getattr(field.type, "__args__", ())):
            if kind is Secret:
                found.add(f"{field.name}_file")
            if isinstance(kind, type) and issubclass(kind, Section):
                found |= _every_key(kind)
    return found | {"subject", "actor", "account", "assumption"}


RULE = {"group": "support", "permissions": ["read"]}
REFUSED = {
    # what is unknown, at each level
    "a section": ("serve.listen", "x", "serve: there is no such key; did you mean `server`?"),
    "a key": ("server.listten", "x", "server.listten: there is no such key; did you mean `listen`?"),
    "a key of a list's table": ("staff.rules.0.team", "x", "staff.rules[0].team: there is no such key"),
    "a key of a catch": ("catch", [{"headers": "X"}], "catch[0].headers: there is no such key; did you mean `header`?"),
    "a way to switch it off": ("server.disable_auth", True, "server.disable_auth: there is no such key"),
    "a plain header's source": ("identity.plain", {"email": "X-Email"}, "identity.plain.email: known are"),
    # what must be there
    "no issuer": ("server.issuer", ABSENT, "server.issuer: is missing"),
    "no accounts": ("accounts", ABSENT, "accounts: is missing"),
    "no upstream": ("upstream", ABSENT, "upstream: is missing"),
    "no upstream url": ("upstream.url", ABSENT, "upstream.url: is missing"),
    "no profile": ("upstream.profile", ABSENT, "upstream.profile: is missing"),
    "no staff": ("staff", ABSENT, "staff: is missing"),
    "no staff audience": ("staff.audience", ABSENT, "staff.audience: is missing"),
    "no rules": ("staff.rules", ABSENT, "staff.rules: is missing"),
    "empty rules": ("staff.rules", [], "staff.rules: without a rule"),
    "a rule without permissions": ("staff.rules.0.permissions", ABSENT, "staff.rules[0].permissions: is missing"),
    # of the wrong kind
    "a number for a text": ("server.issuer", 5, "server.issuer: must be a text in quotes, and is a whole number"),
    "a text for a number": ("tokens.lifetime_seconds", "900", "tokens.lifetime_seconds: must be a whole number, and is a text"),
    "a fraction for a number": ("tokens.lifetime_seconds", 1.5, "must be a whole number, and is a number with a fraction"),
    "a text for a switch": ("tokens.require_ticket", "yes", "tokens.require_ticket: must be true or false, and is a text"),
    "a text for a list": ("staff.require_amr", "mfa", "staff.require_amr: must be a list, and is a text"),
    "another text for a word": ("server.workers", True, 'server.workers: must be a whole number or "auto", and is true or'),
    "one port for two": ("server.admin_listen", "127.0.0.1:8080", "server.admin_listen: is server.listen as well"),
    "a text for a section": ("tokens", "x", "tokens: must be a table, and is a text"),
    "an unknown permission": ("staff.rules.0.permissions", ["all"], "staff.rules[0].permissions[0]: must be \"read\" or "),
    "an unknown source": ("accounts.source", "cookie", "accounts.source: must be \"host\" or "),
    "an unknown forwarding": ("upstream.forwarded_for", "drop", "upstream.forwarded_for: must be \"append\" or "),
    "a secret that is a number": ("tokens.signing_key", 5, "tokens.signing_key: must be a text in quotes"),
    # beyond its bounds
    "a token of 901 seconds": ("tokens.lifetime_seconds", 901, "tokens.lifetime_seconds: must be above 0 and at most 900"),
    "a token of none": ("tokens.lifetime_seconds", 0, "tokens.lifetime_seconds: must be"),
    "an assertion of 61 seconds": ("identity.assertion_seconds", 61, "identity.assertion_seconds: must be"),
    "facts of more than 2 seconds": ("grants.fact_ttl_seconds", 2.1, "grants.fact_ttl_seconds: must be"),
    "facts of no time": ("grants.fact_ttl_seconds", 0.0, "grants.fact_ttl_seconds: must be"),
    "facts for ever": ("grants.fact_ttl_seconds", float("inf"), "grants.fact_ttl_seconds: must be"),
    "facts of no number": ("grants.fact_ttl_seconds", float("nan"), "grants.fact_ttl_seconds: must be"),
    "absence beyond 2 seconds": ("grants.absent_ttl_seconds", 3.0, "grants.absent_ttl_seconds: must be"),
    "no connection": ("upstream.max_connections", 0, "upstream.max_connections: must be"),
    "no time to connect": ("upstream.connect_timeout_seconds", 0.0, "upstream.connect_timeout_seconds: must be"),
    "a day and more to answer": ("upstream.response_timeout_seconds", 1e9, "upstream.response_timeout_seconds: must be"),
    "negative idleness": ("upstream.idle_timeout_seconds", -1.0, "upstream.idle_timeout_seconds: must be"),
    "segments of nothing": ("audit.segment_mib", 0, "audit.segment_mib: must be"),
    "a checkpoint never": ("audit.checkpoint_seconds", float("inf"), "audit.checkpoint_seconds: must be"),
    "no patience with the disk": ("audit.patience_seconds", 0, "audit.patience_seconds: must be"),
    "all patience with the disk": ("audit.patience_seconds", 31, "audit.patience_seconds: must be"),
    "another durability": ("audit.durability", "none", 'audit.durability: must be "process" or "power"'),
    "a stop that never waits": ("server.shutdown_seconds", -0.5, "server.shutdown_seconds: must be"),
    # addresses, networks, names
    "no port": ("server.listen", "127.0.0.1", "server.listen: `127.0.0.1` is not host:port"),
    "an empty port": ("server.listen", "127.0.0.1:", "server.listen:"),
    "no host": ("server.listen", ":80", "server.listen:"),
    "brackets around nothing": ("server.listen", "[]:80", "server.listen:"),
    "a port of words": ("server.admin_listen", "127.0.0.1:http", "server.admin_listen:"),
    "a port in other digits": ("server.admin_listen", "127.0.0.1:\u0661", "server.admin_listen:"),
    "a port beyond all": ("server.admin_listen", "127.0.0.1:65536", "server.admin_listen:"),
    "a port of 5000 digits": ("server.admin_listen", "127.0.0.1:" + "1" * 5000, "server.admin_listen:"),
    "a proxy that is no network": ("server.trusted_proxies", ["10.0.0.0/8", "proxy"], "server.trusted_proxies[1]: `proxy`"),
    "every address": ("server.trusted_proxies", ["10.0.0.0/8", "0.0.0.0/0"], "server.trusted_proxies[1]: `0.0.0.0/0` is everybody"),
    "every IPv6 address": ("server.trusted_proxies", ["::/0"], "server.trusted_proxies[0]: `::/0` is everybody"),
    "every IPv4 address in disguise": ("server.trusted_proxies", ["::ffff:0:0/96"], "server.trusted_proxies[0]:"),
    "a network with host bits": ("server.trusted_proxies", ["10.0.0.1/8"], "server.trusted_proxies[0]:"),
    "an issuer that is no URL": ("server.issuer", "assume.vendor.example", "server.issuer: must be an http(s) URL"),
    "an issuer with a slash": ("server.issuer", "https://assume.vendor.example/", "server.issuer: must be"),
    "an issuer with a query": ("server.issuer", "https://assume.vendor.example/x?y", "server.issuer: must be"),
    "an issuer with no such port": ("server.issuer", "https://assume.vendor.example:99999", "server.issuer: must be"),
    "an issuer in other letters": ("server.issuer", "https://\u00e4.example", "server.issuer: must be"),
    "a staff issuer in the clear": ("staff.issuer", "http://idp.vendor.example", "staff.issuer: must be an https URL"),
    "a staff issuer of another kind": ("staff.issuer", "file:///keys", "staff.issuer: must be"),
    "a staff issuer of nothing": ("staff.issuer", "https://", "staff.issuer: must be"),
    "a staff issuer at no port": ("staff.issuer", "https://idp.vendor.example:99999", "staff.issuer: must be"),
    "a sign-in of no age": ("staff.max_age_seconds", 0, "staff.max_age_seconds: must be above 0"),
    "a sign-in of the future": ("staff.max_age_seconds", -5, "staff.max_age_seconds: must be above 0"),
    "a sign-in of any age": ("staff.max_age_seconds", 10**18, "staff.max_age_seconds: must be above 0 and at most"),
    "a staff issuer that is broken": ("staff.issuer", "https://[", "staff.issuer: must be"),
    "a host without its account": ("accounts.host", "helpdesk.example", "accounts.host: must hold `{account}` once"),
    "a host with two": ("accounts.host", "{account}.{account}", "accounts.host: must hold"),
    "a host in other letters": ("accounts.host", "{account}.hélp.example", "accounts.host: must be ASCII"),
    "fixed to nothing": ("accounts.source", "fixed", "accounts.fixed: name the one account"),
    "a header unnamed": ("accounts.source", "header", "accounts.header: name the header"),
    "an identity header with a blank": ("identity.header", "X Locum", "identity.header: `X Locum` is not the name"),
    "an identity header with a line break": ("identity.header", "X-A\r\nX-B", "identity.header:"),
    "an identity header in other letters": ("identity.header", "X-Lócum", "identity.header:"),
    "an empty identity header": ("identity.header", "", "identity.header:"),
    "an identity header that frames": ("identity.header", "Content-Length", "identity.header:"),
    "a plain header that frames": ("identity.plain", {"subject": "host"}, "identity.plain.subject:"),
    "a plain header of nothing": ("identity.plain", {"subject": ""}, "identity.plain.subject:"),
    "stripping what frames": ("identity.strip", ["X-Ok", "transfer_encoding"], "identity.strip[1]:"),
    "a catch of nothing": ("catch", [{}], "catch[0]: set at least one"),
    "a catch with a bad network": ("catch", [{"header": "X-A"}, {"network": "all"}], "catch[1].network: `all`"),
    "a catch with a bad header": ("catch", [{"header": "X A"}], "catch[0].header:"),
    "a catch with a bad host": ("catch", [{"host": "hélp"}], "catch[0].host:"),
    "a rule for everybody": ("staff.rules", [{"permissions": ["read"]}], "staff.rules[0]: set `subject`"),
    "a rule for all of an account": ("staff.rules", [{"permissions": ["read"], "account_type": "paid"}], "staff.rules[0]: set"),
    "a rule that gives nothing": ("staff.rules", [RULE | {"permissions": []}], "staff.rules[0].permissions: name"),
    "a rule with an empty condition": ("staff.rules", [RULE | {"agent_roles": [""]}], "staff.rules[0]: an empty text"),
    "methods as a claim": ("staff.rules", [RULE | {"claims": {"amr": "mfa"}}], "staff.rules[0].claims: the methods"),
    "an odd attribute": ("staff.rules", [RULE | {"account_attributes": {"Re gion": "eu"}}], "staff.rules[0].account_attributes: "),
    "an account type that is none": ("staff.rules", [RULE | {"account_type": "free"}], "staff.rules[0].account_type: must be"),
    "a claim without a name": ("staff.agent_claim", "", "staff.agent_claim: name"),
    "no assumption at all": ("staff.max_assumptions", 0, "staff.max_assumptions: must be above 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_refused_with_its_path(case):
    """The message begins with the key and says what to do; nothing is passed over."""
    path, value, words = REFUSED[case]
    assert words in refusal(document(path, value))


def test_a_header_source_needs_someone_to_send_it():
    """An account that any client may name in a header would be no account."""
    source = [("accounts.source", "header"), ("accounts.header", "X-Account")]
    assert "server.trusted_proxies" in refusal(document(more=source))
    trusted = document("server.trusted_proxies", ["10.0.0.0/8"], more=source)
    assert "X-Account" == build(trusted, {}, base=BASE).accounts.header


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:8080", "localhost:65535", "0.0.0.0:80"])
def test_addresses_have_a_host_and_a_port(listen):
    """Both families, names, and port 0 for any."""
    assert listen == build(document("server.listen", listen), {}, base=BASE).server.listen


@pytest.mark.parametrize(
    "issuer", ["https://idp.example", "https://idp.example/tenant/", "http://127.0.0.1:9000", "http://[::1]:1"]
)
def test_staff_s_issuer_is_safe_to_ask(issuer):
    """Over TLS, or on this machine."""
    assert issuer == build(document("staff.issuer", issuer), {}, base=BASE).staff.issuer


# --- the environment ---


@pytest.mark.parametrize(
    ("name", "text", "path", "expected"),
    [
        ("LOCUM__SERVER__LISTEN", "127.0.0.1:9", "server.listen", "127.0.0.1:9"),
        ("LOCUM__TOKENS__LIFETIME_SECONDS", "60", "tokens.lifetime_seconds", 60),
        ("LOCUM__TOKENS__REQUIRE_TICKET", "false", "tokens.require_ticket", False),
        ("LOCUM__GRANTS__FACT_TTL_SECONDS", "0.5", "grants.fact_ttl_seconds", 0.5),
        ("LOCUM__STAFF__MAX_AGE_SECONDS", "3600", "staff.max_age_seconds", 3600),
        ("LOCUM__STAFF__REQUIRE_AMR", '["mfa", "hwk"]', "staff.require_amr", ("mfa", "hwk")),
        ("LOCUM__SERVER__TRUSTED_PROXIES", '["10.0.0.0/8"]', "server.trusted_proxies", ("10.0.0.0/8",)),
        ("LOCUM__IDENTITY__PLAIN", '{subject = "Remote-User"}', "identity.plain", {"subject": "Remote-User"}),
        ("LOCUM__SERVER__ISSUER", '"https://quoted.example"', "server.issuer", "https://quoted.example"),
        ("LOCUM__ACCOUNTS__HOST", "{account}.desk.example", "accounts.host", "{account}.desk.example"),
        ("LOCUM__SERVER__LISTEN", "[::1]:8080", "server.listen", "[::1]:8080"),
        ("LOCUM__ACCOUNTS__SOURCE", "host", "accounts.source", "host"),
        ("LOCUM__UPSTREAM__URL", "unix:/run/app.sock", "upstream.url", "unix:/run/app.sock"),
    ],
)
def test_the_environment_wins_over_the_file(name, text, path, expected):
    """Read as the key's own type, whatever the file said, and also where it said nothing."""
    section, key = path.split(".")
    said = document(
        more=[("server.listen", "127.0.0.1:1"), ("tokens.lifetime_seconds", 30), ("staff.require_amr", ["x"])]
    )
    for found in (document(), said):
        assert expected == getattr(getattr(build(found, {name: text}, base=BASE), section), key)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "LOCUM__SERVER__LISTTEN",
            "x",
            "server.listten: unknown key, set by the environment variable `LOCUM__SERVER__LISTTEN`",
        ),
        ("LOCUM__SERVE__LISTEN", "x", "serve.listen: unknown section"),
        ("LOCUM__SERVER__LISTEN__PORT", "x", "server.listen.port: unknown section"),
        ("LOCUM__", "x", "unknown key"),
        ("LOCUM__SERVER__", "x", "server.: unknown key"),
        ("LOCUM__DISABLE_AUTH", "1", "disable_auth: unknown key"),
        ("LOCUM__SERVER__LISTEN_FILE", "x", "server.listen_file: unknown key"),
        (
            "LOCUM__TOKENS__LIFETIME_SECONDS",
            "soon",
            "tokens.lifetime_seconds: `LOCUM__TOKENS__LIFETIME_SECONDS` does not fit",
        ),
        ("LOCUM__TOKENS__LIFETIME_SECONDS", "", "tokens.lifetime_seconds:"),
        ("LOCUM__TOKENS__LIFETIME_SECONDS", "9000", "tokens.lifetime_seconds: must be"),
        ("LOCUM__TOKENS__REQUIRE_TICKET", "maybe", "tokens.require_ticket:"),
        ("LOCUM__STAFF__REQUIRE_AMR", "mfa", "staff.require_amr:"),
        ("LOCUM__STAFF__REQUIRE_AMR", "[mfa", "staff.require_amr:"),
        ("LOCUM__ACCOUNTS__SOURCE", "cookie", "accounts.source:"),
        ("LOCUM__SERVER", "x", "server:"),
        ("LOCUM__STAFF__RULES", "[]", "staff.rules: without a rule"),
    ],
)
def test_a_variable_that_does_not_fit_is_refused(name, text, words):
    """A misspelt override must not be one that silently does nothing."""
    assert words in refusal(document(), {name: text})


def test_other_programs_variables_are_not_ours():
    """Only what begins with LOCUM and two underscores is read."""
    config = build(document(), {"LOCUM_LISTEN": "x", "locum__server__listen": "x", "PATH": "/"}, base=BASE)
    assert "127.0.0.1:8080" == config.server.listen


def test_a_variable_cannot_set_a_key_of_what_is_no_table():
    """The file's own fault is told first."""
    assert "server: must be a table" in refusal(document("server", "x"), {"LOCUM__SERVER__LISTEN": "127.0.0.1:1"})


# --- the file ---


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    """Missing, a directory, not UTF-8, not TOML, a key twice: refused, never taken for an empty one."""
    bad = tmp_path / "bad.toml"
    cases = [(tmp_path / "none.toml", "No such file"), (tmp_path, "directory")]
    for path, words in cases:
        with pytest.raises(ConfigError, match=words) as caught:
            load(path, {})
        assert str(path) in str(caught.value)
    for content, words in (
        (b"\xff\xfe", "cannot be read"),
        (b"[server", "not TOML"),
        (LEAST.encode() + b'[server]\nlisten = "x"\n', "not TOML"),
        (LEAST.replace("issuer =", 'issuer = "https://x.example"\nissuer =', 1).encode(), "not TOML"),
        (b"", "is missing"),
    ):
        bad.write_bytes(content)
        with pytest.raises(ConfigError, match=words):
            load(bad, {})


def test_relative_paths_count_from_the_file(tmp_path):
    """Not from wherever the process was started."""
    path = tmp_path / "locum.toml"
    path.write_text(LEAST, encoding="utf-8")
    assert tmp_path / "data" / "locum.sqlite3" == load(path, {}).store_path


def test_an_unknown_profile_names_the_shipped_ones():
    """A typo is answered with what there is."""
    with pytest.raises(ConfigError, match=r"upstream\.profile: `demo` cannot be read; shipped are .*demo-helpdesk"):
        load_profile("demo")


# --- secrets ---

CANARY = "canary-7d1f"


def secret_file(directory, text, mode=0o600):
    path = directory / "key.pem"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def test_a_secret_comes_from_its_file(tmp_path):
    """Relative to the configuration, or absolute; blanks and line ends around it do not count."""
    secret_file(tmp_path, f"{CANARY}\n")
    for where in ("key.pem", str(tmp_path / "key.pem")):
        config = build(document("tokens.signing_key_file", where), {}, base=tmp_path)
        assert CANARY == config.tokens.signing_key.reveal()


@pytest.mark.parametrize(
    ("mode", "text", "words"),
    [
        (0o604, CANARY, "is readable by everybody: chmod 600"),
        (0o602, CANARY, "is readable by everybody"),
        (0o666, CANARY, "is readable by everybody"),
        (0o600, "", "is empty"),
        (0o600, " \n\t\n", "is empty"),
    ],
)
def test_a_secret_file_must_be_secret_and_hold_something(tmp_path, mode, text, words):
    """A file that everybody may read holds no secret, and an empty one is a mistake."""
    secret_file(tmp_path, text, mode)
    message = refusal(document("tokens.signing_key_file", "key.pem"), base=tmp_path)
    assert message.startswith("tokens.signing_key_file:")
    assert words in message
    assert CANARY not in message


def test_a_secret_file_must_be_readable(tmp_path):
    """Missing, a directory, not text."""
    (tmp_path / "dir").mkdir(mode=0o700)
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    binary.chmod(0o600)
    for name in ("none", "dir", "binary"):
        message = refusal(document("tokens.signing_key_file", name), base=tmp_path)
        assert message.startswith("tokens.signing_key_file:")
        assert "cannot be read" in message


def test_a_secret_is_given_once(tmp_path):
    """Both in the file, or both in the environment, is a question and no answer."""
    secret_file(tmp_path, CANARY)
    both = document(more=[("tokens.signing_key_file", "key.pem"), ("tokens.signing_key", CANARY)])
    message = refusal(both, base=tmp_path)
    assert "tokens.signing_key_file: give either this or `signing_key`, not both" == message
    variables = {"LOCUM__TOKENS__SIGNING_KEY": CANARY, "LOCUM__TOKENS__SIGNING_KEY_FILE": "key.pem"}
    assert "not both" in refusal(document(), variables, base=tmp_path)


def test_the_environment_s_secret_wins_in_either_form(tmp_path):
    """Whatever form the file used gives way."""
    secret_file(tmp_path, "from-the-file")
    by_file, inline = document("tokens.signing_key_file", "missing.pem"), document("tokens.signing_key", "inline")
    for said in (by_file, inline, document()):
        for variables, expected in (
            ({"LOCUM__TOKENS__SIGNING_KEY": "direct"}, "direct"),
            ({"LOCUM__TOKENS__SIGNING_KEY_FILE": "key.pem"}, "from-the-file"),
            ({"LOCUM__TOKENS__SIGNING_KEY": '"quoted"'}, '"quoted"'),
            ({"LOCUM__TOKENS__SIGNING_KEY": "[x"}, "[x"),
        ):
            config = build(copy.deepcopy(said), variables, base=tmp_path)
            assert expected == config.tokens.signing_key.reveal()


def test_a_secret_never_shows(tmp_path):
    """Not in a repr, a text, a format, an error about something else, or a dump of the whole."""
    config = build(document("tokens.signing_key", CANARY), {}, base=BASE)
    shown = [
        repr(config),
        str(config),
        f"{config.tokens}",
        f"{config.tokens.signing_key}",
        str([config.tokens.signing_key]),
    ]
    for text in shown:
        assert CANARY not in text
    assert "Secret(…)" in repr(config.tokens)
    with pytest.raises(TypeError) as caught:
        json.dumps(config.tokens.signing_key)
    assert CANARY not in str(caught.value)
    with pytest.raises(TypeError) as caught:
        msgspec.to_builtins(config)
    assert CANARY not in str(caught.value)
    for path, value in (("server.listen", 5), ("server.nonsense", 1), ("tokens.lifetime_seconds", "x")):
        assert CANARY not in refusal(document(path, value, more=[("tokens.signing_key", CANARY)]))
    for wrong in ([CANARY], {"key": CANARY}):
        assert CANARY not in refusal(document("tokens.signing_key", wrong))
