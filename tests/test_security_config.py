"""The table [console.security]: what it needs, what it refuses, and that its secrets never show."""

import pytest

from gateway.config.load import build
from gateway.console.security.people import People
from gateway.stores.store import Client
from tests.test_config import BASE, document, refusal

TABLE = ("console.security", {})
ORIGIN = "https://locum.vendor.example"
WHOLE = {"origin": ORIGIN, "sign_in": {"client_id": "locum-security", "auditors": ["security"]}}
SIGN_IN = "console.security.sign_in"
REFUSED = {
    "a path": ("console.security.origin", f"{ORIGIN}/console", "console.security.origin: must be an origin"),
    "a slash": ("console.security.origin", f"{ORIGIN}/", "console.security.origin: must be an origin"),
    "capitals": (
        "console.security.origin",
        "https://Locum.vendor.example",
        "console.security.origin: must be an origin",
    ),
    "a default port": ("console.security.origin", f"{ORIGIN}:443", "console.security.origin: must be an origin"),
    "no host": ("console.security.origin", "https://", "console.security.origin: must be an origin"),
    "in the clear": (
        "console.security.origin",
        "http://locum.vendor.example",
        "console.security.origin: must be https",
    ),
    "in the clear by another name": ("console.security.origin", "http://localhost.evil.example", "must be https"),
    "another scheme": (
        "console.security.origin",
        "ftp://locum.vendor.example",
        "console.security.origin: must be https",
    ),
    "no origin": ("console.security.origin", "", "console.security.origin: the identity provider sends"),
    "no idle time": ("console.security.idle_seconds", 0, "console.security.idle_seconds: must be above 0"),
    "too long a session": ("console.security.absolute_seconds", 604801, "console.security.absolute_seconds: must be"),
    "no tries": ("console.security.sign_in_tries", 0, "console.security.sign_in_tries: must be above 0"),
    "tries without end": ("console.security.sign_in_tries", 1001, "console.security.sign_in_tries: must be above 0"),
    "an empty client": (f"{SIGN_IN}.client_id", "", f"{SIGN_IN}.client_id: must be printable"),
    "without OpenID": (f"{SIGN_IN}.scopes", ["profile"], f"{SIGN_IN}.scopes: `openid` has to be"),
    "nobody": (f"{SIGN_IN}.auditors", [], f"{SIGN_IN}.auditors: without a value"),
    "whoever has an empty value": (f"{SIGN_IN}.operators", [""], f"{SIGN_IN}.operators: an empty value"),
    "no claim": (f"{SIGN_IN}.roles_claim", "", f"{SIGN_IN}.roles_claim: name the claim"),
    "an issuer in the clear": (f"{SIGN_IN}.issuer", "http://idp.example", f"{SIGN_IN}.issuer: must be an https"),
    "a name that the ID token has to say": (f"{SIGN_IN}.userinfo_claims", ["sub"], "counts from the ID token alone"),
    "no age": (f"{SIGN_IN}.max_age_seconds", 0, f"{SIGN_IN}.max_age_seconds: must be above 0"),
    "a way around it": ("console.security.trust_host", True, "trust_host: there is no such key"),
}


@pytest.mark.parametrize(("path", "value", "said"), REFUSED.values(), ids=REFUSED)
def test_what_would_not_be_safe_is_refused_by_its_path(path, value, said):
    """Before anything starts."""
    assert said in refusal(document("console.security", WHOLE, more=[(path, value)]))


def test_a_listener_for_others_needs_an_origin():
    """On loopback an empty table is enough; where others reach the listener, nobody may ask by any name."""
    assert None is build(document(), {}, base=BASE).console.security
    assert "" == build(document(*TABLE), {}, base=BASE).console.security.origin
    for listen in ("192.0.2.1:8081", "[::]:8081", "gateway.example:8081"):
        found = document(*TABLE, more=[("server.admin_listen", listen)])
        assert "console.security.origin: server.admin_listen is not" in refusal(found)
        found = document("console.security", {"origin": ORIGIN}, more=[("server.admin_listen", listen)])
        assert ORIGIN == build(found, {}, base=BASE).console.security.origin


def test_its_secret_may_come_from_a_file_and_never_shows(tmp_path):
    """As every other."""
    path = tmp_path / "secret"
    path.write_text("hush\n")
    path.chmod(0o600)
    whole = WHOLE | {"sign_in": WHOLE["sign_in"] | {"client_secret_file": str(path)}}
    section = build(document("console.security", whole), {}, base=BASE).console.security.sign_in
    assert "hush" == section.client_secret.reveal()
    assert "hush" not in repr(section)


@pytest.mark.parametrize(
    ("roles", "account", "expected"),
    [
        ({"audit"}, None, {"auditor"}),
        ({"audit"}, "acme", {"auditor"}),
        ({"operate"}, None, {"auditor", "operator"}),
        ({"operate", "audit"}, "acme", {"auditor"}),
        ({"token", "grants", "kill_switch", "introspect"}, None, set()),
        (set(), None, set()),
    ],
)
def test_a_clients_roles_make_what_somebody_may_do(roles, account, expected):
    """Nobody who is limited to an account ends anything, and the roles of programs are none here."""
    client = Client(id="x", secret_digest=b"", roles=frozenset(roles), account=account)
    standing = People(None, issuer="", store=None, clock=None).of_client(client)
    assert (expected, account) == (standing.roles, standing.account)
