"""The table [staff.sign_in]: what it needs, what it refuses, and that its secrets never show."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.config.load import build
from gateway.config.model import ConfigError
from gateway.config.section import Secret
from gateway.tokens.signing import SigningKey
from tests.provider_world import Browser, open_sign_in
from tests.test_config import BASE, document, refusal

TABLE = ("staff.sign_in", {"client_id": "locum"})
HTTP = "goes with a server.issuer of https"
REFUSED = {
    "no client": ("staff.sign_in", {}, "staff.sign_in.client_id: is missing"),
    "an empty client": ("staff.sign_in.client_id", "", "staff.sign_in.client_id: must be printable"),
    "a client of two lines": ("staff.sign_in.client_id", "a\nb", "staff.sign_in.client_id: must be printable"),
    "secret and key": (
        "staff.sign_in",
        {"client_id": "x", "client_secret": "x", "client_key": "y"},
        "staff.sign_in: give `client_secret` or",
    ),
    "without OpenID": ("staff.sign_in.scopes", ["profile"], "staff.sign_in.scopes: `openid` has to be"),
    "two scopes in one": ("staff.sign_in.scopes", ["openid", "a b"], "staff.sign_in.scopes[1]: `a b` is not"),
    "no idle time": ("staff.sign_in.idle_seconds", 0, "staff.sign_in.idle_seconds: must be above 0"),
    "too long an idle time": ("staff.sign_in.idle_seconds", 86401, "staff.sign_in.idle_seconds: must be above 0"),
    "too long a session": ("staff.sign_in.absolute_seconds", 604801, "staff.sign_in.absolute_seconds: must be"),
    "in the clear": ("server.issuer", "http://assume.vendor.example", HTTP),
    "in the clear behind a name like ours": ("server.issuer", "http://localhost.evil.example", HTTP),
    "a path": ("server.issuer", "https://vendor.example/locum", "without a path"),
    "a default port": ("server.issuer", "https://vendor.example:443", "must be `https://vendor.example`"),
    "capitals": ("server.issuer", "https://Vendor.example", "must be `https://vendor.example`"),
    "a user": ("server.issuer", "https://a@vendor.example", "server.issuer: must be an http(s) URL"),
    "no host": ("server.issuer", "https://:443", "server.issuer: must be an http(s) URL"),
    "no port": ("server.issuer", "https://vendor.example:x", "server.issuer: must be an http(s) URL"),
    "a way around it": ("staff.sign_in.disable_pkce", True, "staff.sign_in.disable_pkce: there is no such key"),
}


@pytest.mark.parametrize(("path", "value", "said"), REFUSED.values(), ids=REFUSED)
def test_what_would_not_be_safe_is_refused_by_its_path(path, value, said):
    """Before anything starts."""
    found = document(*TABLE, more=[(path, value)])
    assert said in refusal(found)


def test_the_least_table_is_enough():
    """A public client; half an hour idle, eight hours in all; without the table there is no sign-in."""
    section = build(document(*TABLE), {}, base=BASE).staff.sign_in
    assert (1800, 28800, ("openid", "profile"), None, None) == (
        section.idle_seconds,
        section.absolute_seconds,
        section.scopes,
        section.client_secret,
        section.client_key,
    )
    assert None is build(document(), {}, base=BASE).staff.sign_in


@pytest.mark.parametrize("issuer", ["http://localhost:8080", "http://127.0.0.1:8080", "http://[::1]:8080"])
def test_http_is_for_loopback(issuer):
    """So that it can be tried out."""
    found = document(*TABLE, more=[("server.issuer", issuer)])
    assert issuer == build(found, {}, base=BASE).server.issuer


def test_secrets_come_from_files_and_never_show(tmp_path):
    """Both of them have a `_file` twin."""
    (tmp_path / "secret").write_text("c4nary\n")
    (tmp_path / "secret").chmod(0o600)
    for name in ("client_secret", "client_key"):
        found = document("staff.sign_in", {"client_id": "locum", f"{name}_file": "secret"})
        config = build(found, {}, base=tmp_path)
        assert Secret("c4nary") == getattr(config.staff.sign_in, name)
        assert "c4nary" not in repr(config)
    found = document("staff.sign_in", {"client_id": "locum"})
    config = build(found, {"LOCUM__STAFF__SIGN_IN__CLIENT_SECRET": "c4nary"}, base=tmp_path)
    assert "c4nary" == config.staff.sign_in.client_secret.reveal()


async def test_a_key_that_is_none_is_refused_at_the_start(tmp_path):
    """With the path of the key; a good one signs in."""
    with pytest.raises(ConfigError, match=r"^staff\.sign_in\.client_key: not an unencrypted"):
        async with open_sign_in(tmp_path, client_secret=None, client_key="-----BEGIN NOTHING-----"):
            pytest.fail("it started")
    pem = SigningKey("x", Ed25519PrivateKey.generate()).pem().decode()
    async with open_sign_in(tmp_path, client_secret=None, client_key=pem) as world:
        assert 303 == (await Browser(world).sign_in()).status
        [(authorization, form)] = world.issuer.asked
        assert (None, True) == (authorization, "client_assertion" in form)
