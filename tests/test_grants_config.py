"""The configuration of an app that keeps the grants: right as a whole, or refused with the path of what is wrong."""

import pytest
from click.testing import CliRunner

from gateway.cli.root import cli
from gateway.config.load import build
from gateway.config.model import ConfigError
from policy.model import AccountType, Duration
from tests.certificates import Authority
from tests.test_config import LEAST, document

URL = "https://{account}.desk.example/api/v2/security_settings"
SECRET = "s" * 32


def grants(**changes):
    """A document with an app that is asked; `http`, `webhook` and other keys of [grants] may be changed."""
    http = {"url": URL} | changes.pop("http", {})
    return document(more=[("grants", {"source": "http", "http": http} | changes)])


def load(tmp_path, **changes):
    return build(grants(**changes), {}, base=tmp_path).grants


def test_a_url_is_all_that_is_needed(tmp_path):
    """The rest is Zendesk's."""
    found = load(tmp_path)
    assert ("http", URL, None) == (found.source, found.http.url, found.webhook)
    assert "/security_settings/assumption_duration" == found.http.fields.duration
    assert set(Duration) == set(found.http.words.duration.values())
    assert (0.4, 16, ("read",)) == (found.http.timeout_seconds, found.http.max_connections, found.http.permissions)


@pytest.mark.parametrize(
    "url",
    [
        "https://desk.example/accounts/{account}/setting",
        "https://desk-{account}.eu.example:8443?x=1",
        "https://desk.example:8443/setting?of={account}&full=1",
        "http://127.0.0.1:9000/{account}",
        "http://[::1]:9000/{account}",
        "http://localhost/{account}",
    ],
)
def test_an_app_is_asked_over_tls_or_on_this_machine(tmp_path, url):
    """With the account in the host, the path or the query."""
    assert url == load(tmp_path, http={"url": url}).http.url


def test_secrets_come_from_files(tmp_path):
    """Readable by us alone, and never shown."""
    for name, text in (("credential", "Bearer abc"), ("hook", SECRET), ("old", SECRET[::-1] + "x")):
        (tmp_path / name).write_text(text + "\n")
        (tmp_path / name).chmod(0o600)
    found = load(
        tmp_path,
        http={"credential_file": "credential"},
        webhook={"secret_file": "hook", "previous_secret_file": "old"},
    )
    assert "Bearer abc" == found.http.credential.reveal()
    assert (SECRET, SECRET + "x") == (found.webhook.secret.reveal(), found.webhook.previous_secret.reveal())
    assert not {"Bearer", SECRET} & set(repr(found).split("'"))
    environment = {"LOCUM__GRANTS__WEBHOOK__SECRET": SECRET, "LOCUM__GRANTS__HTTP__CREDENTIAL": "Basic xyz"}
    found = build(grants(), environment, base=tmp_path).grants
    assert ("Basic xyz", SECRET) == (found.http.credential.reveal(), found.webhook.secret.reveal())


def test_words_are_the_app_s_own(tmp_path):
    """A table that is given replaces the default."""
    words = {"duration": {"forever": "always", "no": "off"}, "account_type": {"free": "trial", "pro": "paid"}}
    found = load(tmp_path, http={"words": words}).http.words
    assert {"forever": Duration.ALWAYS, "no": Duration.OFF} == found.duration
    assert {"free": AccountType.TRIAL, "pro": AccountType.PAID} == found.account_type


def test_tls_is_as_for_the_app_itself(tmp_path):
    """Its files are found beside the configuration."""
    Authority(tmp_path, "ours")
    found = load(tmp_path, http={"tls": {"ca": "ours.pem", "server_name": "desk.internal"}})
    assert (str(tmp_path / "ours.pem"), "desk.internal") == (found.http.tls.ca, found.http.tls.server_name)


REFUSED = {
    "a source without its table": ({"http": None}, 'grants.source: "http" and the table [grants.http] go together'),
    "a table without its source": ({"source": "own"}, 'grants.source: "http" and the table [grants.http] go together'),
    "a source that is unknown": ({"source": "ldap"}, 'grants.source: must be "own" or "http"'),
    "no url": ({"http": {"url": ""}}, "grants.http.url: must be an ASCII URL"),
    "no account": ({"http": {"url": "https://desk.example/setting"}}, "grants.http.url: must be an ASCII URL"),
    "two accounts": ({"http": {"url": "https://{account}.desk.example/{account}"}}, "grants.http.url:"),
    "in the clear": ({"http": {"url": "http://desk.example/{account}"}}, "grants.http.url: must be an https URL"),
    "a loopback that an account could name": ({"http": {"url": "http://{account}:80/"}}, "grants.http.url: an account is"),
    "a host of the account's choice": ({"http": {"url": "https://{account}/setting"}}, "grants.http.url: an account is one"),
    "a domain of its choice": ({"http": {"url": "https://desk.{account}:443/"}}, "grants.http.url: an account is one label"),
    "another kind": ({"http": {"url": "ftp://desk.example/{account}"}}, "grants.http.url:"),
    "a user": ({"http": {"url": "https://me:pass@desk.example/{account}"}}, "grants.http.url:"),
    "a port beyond all": ({"http": {"url": "https://desk.example:99999/{account}"}}, "grants.http.url: must be an https URL"),
    "a port that is none": ({"http": {"url": "https://desk.example:abc/{account}"}}, "grants.http.url: must be an https URL"),
    "an empty port": ({"http": {"url": "https://desk.example:/{account}"}}, "grants.http.url: must be an https URL"),
    "port 0": ({"http": {"url": "https://desk.example:0/{account}"}}, "grants.http.url: must be an https URL"),
    "an empty label": ({"http": {"url": "https://desk..example/{account}"}}, "grants.http.url: must be an https URL"),
    "an empty first label": ({"http": {"url": "https://.{account}.desk.example/"}}, "grants.http.url: must be an https URL"),
    "a label too long": ({"http": {"url": f"https://{'a' * 64}.example/{{account}}"}}, "grants.http.url: must be an https URL"),
    "a name too long": ({"http": {"url": f"https://{'a.' * 130}b/{{account}}"}}, "grants.http.url: must be an https URL"),
    "a label of a hyphen": ({"http": {"url": "https://-/{account}"}}, "grants.http.url: must be an https URL"),
    "a host with a delimiter": ({"http": {"url": "https://desk;x/{account}"}}, "grants.http.url: must be an https URL"),
    "an address of the future": ({"http": {"url": "https://[v1.x]/{account}"}}, "grants.http.url: must be an https URL"),
    "an address that an account completes": ({"http": {"url": "https://{account}.254.169.254/"}}, "grants.http.url: an account is"),
    "one in another base": ({"http": {"url": "https://{account}.0xA9FEA9FE:443/"}}, "grants.http.url: an account is one label"),
    "a fragment": ({"http": {"url": "https://desk.example/{account}#x"}}, "grants.http.url:"),
    "a blank": ({"http": {"url": "https://desk.example/a b/{account}"}}, "grants.http.url:"),
    "other letters": ({"http": {"url": "https://hélp.example/{account}"}}, "grants.http.url:"),
    "no time": ({"http": {"timeout_seconds": 0.0}}, "grants.http.timeout_seconds: must be above 0"),
    "more time than staff wait": ({"http": {"timeout_seconds": 0.5}}, "grants.http.timeout_seconds: must be"),
    "time of no number": ({"http": {"timeout_seconds": float("nan")}}, "grants.http.timeout_seconds: must be"),
    "no connection": ({"http": {"max_connections": 0}}, "grants.http.max_connections: must be"),
    "a header that frames": ({"http": {"headers": {"Host": "x"}}}, "grants.http.headers: `Host`"),
    "a header of two lines": ({"http": {"headers": {"X-A": "a\r\nX-B: c"}}}, "grants.http.headers: what `X-A`"),
    "a header's name with a blank": ({"http": {"headers": {"X A": "a"}}}, "grants.http.headers: `X A`"),
    "a header twice": ({"http": {"headers": {"X-A": "a", "x-a": "b"}}}, "grants.http.headers: `x-a` is there twice"),
    "the credential's header twice": (
        {"http": {"headers": {"authorization": "a"}, "credential": "b"}},
        "grants.http.credential_header: `Authorization` is there twice",
    ),
    "nobody who may choose": (
        {"http": None, "source": "own", "administrator_roles": []},
        "grants.administrator_roles: without a role",
    ),
    "a credential of two lines": ({"http": {"credential": "a\nb"}}, "grants.http.credential_header: what `Authorization`"),
    "a credential in the framing": (
        {"http": {"credential": "a", "credential_header": "Connection"}},
        "grants.http.credential_header: `Connection`",
    ),
    "a pointer that is a name": ({"http": {"fields": {"assumable": "assumable"}}}, "grants.http.fields.assumable: must be"),
    "no way to say no": ({"http": {"fields": {"assumable": "", "duration": ""}}}, "grants.http.fields: one of"),
    "an unknown field": ({"http": {"fields": {"until": "/x"}}}, "grants.http.fields.until: there is no such key"),
    "an unknown duration": ({"http": {"words": {"duration": {"x": "decade"}}}}, 'grants.http.words.duration[...]: must be "off" or '),
    "no word at all": ({"http": {"words": {"duration": {}}}}, "grants.http.words.duration: without a word"),
    "TLS in the clear": (
        {"http": {"url": "http://127.0.0.1/{account}", "tls": {"ca": "a.pem"}}},
        "grants.http.tls: goes with a url",
    ),
    "a short secret": ({"webhook": {"secret": "s" * 31}}, "grants.webhook.secret: must have at least 32 bytes"),
    "a short one before": (
        {"webhook": {"secret": SECRET, "previous_secret": "x"}},
        "grants.webhook.previous_secret: must have",
    ),
    "the same one before": (
        {"webhook": {"secret": SECRET, "previous_secret": SECRET}},
        "grants.webhook.previous_secret: is the secret itself",
    ),
    "no secret": ({"webhook": {}}, "grants.webhook.secret: is missing"),
    "no window": ({"webhook": {"secret": SECRET, "window_seconds": 0}}, "grants.webhook.window_seconds: must be"),
    "a window of days": ({"webhook": {"secret": SECRET, "window_seconds": 3601}}, "grants.webhook.window_seconds: must"),
    "a notice of a name": ({"webhook": {"secret": SECRET, "account": "account"}}, "grants.webhook.account: must be"),
    "notices to our own": ({"http": None, "source": "own", "webhook": {"secret": SECRET}}, "grants.webhook: goes with"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_refused_with_its_path(tmp_path, case):
    """The message begins with the key, and shows no secret."""
    changes, words = REFUSED[case]
    wanted = grants(**{key: value for key, value in changes.items() if value is not None})
    if changes.get("http", {}) is None:
        del wanted["grants"]["http"]
    with pytest.raises(ConfigError) as refused:
        build(wanted, {}, base=tmp_path)
    assert str(refused.value).startswith(words) or words in str(refused.value)
    assert "sssss" not in str(refused.value)


# --- the command line ---

APP = """
[grants]
source = "http"
[grants.http]
url = "https://{account}.desk.example/settings"
"""


@pytest.mark.parametrize("command", [["grant", "set", "acme", "week", "--as", "olga"], ["account", "convert", "acme"]])
def test_the_command_line_leaves_the_setting_to_the_app(tmp_path, command):
    """It says who keeps it, and opens nothing."""
    file = tmp_path / "locum.toml"
    file.write_text(LEAST + APP)
    found = CliRunner().invoke(cli, ["--config", str(file), *command])
    assert 1 == found.exit_code
    assert "the app keeps this setting" in found.output
    assert [file] == list(tmp_path.iterdir())


def test_config_check_reads_the_files_of_the_app_s_tls(tmp_path):
    """What would stop the start is said before it."""
    file = tmp_path / "locum.toml"
    file.write_text(LEAST + APP)
    assert 0 == CliRunner().invoke(cli, ["--config", str(file), "config", "check"]).exit_code
    file.write_text(LEAST + APP + '[grants.http.tls]\nca = "gone.pem"\n')
    found = CliRunner().invoke(cli, ["--config", str(file), "config", "check"])
    assert 0 != found.exit_code
    assert "grants.http.tls.ca" in (found.output + str(found.exception))
