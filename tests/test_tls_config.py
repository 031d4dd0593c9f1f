"""TLS contexts come from files that fit, or not at all; what is wrong is said by the key that names the file."""

import logging
import ssl
from datetime import timedelta

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.cli.root import cli
from gateway.config.load import build
from gateway.config.model import ConfigError, ServerTls, UpstreamTls
from gateway.tls import listener_context, renew_listener, upstream_context
from tests.certificates import START, Authority
from tests.test_config import BASE, LEAST, document, refusal


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def pair(authority):
    return authority.issue("localhost")


def _other_key(pair):
    pair.write_key(ec.generate_private_key(ec.SECP256R1()))


def _key_of_another_kind(pair):
    key = x25519.X25519PrivateKey.generate()
    pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


WRONG = {
    "no certificate": (lambda pair: pair.certificate.unlink(), "certificate: ", "cannot be read: No such file"),
    "a directory": (lambda pair: (pair.certificate.unlink(), pair.certificate.mkdir()), "certificate: ", "cannot be read"),
    "an empty certificate": (lambda pair: pair.certificate.write_bytes(b""), "certificate: ", "does not hold certificates"),
    "a key for a certificate": (
        lambda pair: pair.certificate.write_bytes(pair.key.read_bytes()), "certificate: ", "does not hold certificates",
    ),
    "half a certificate": (
        lambda pair: pair.certificate.write_bytes(pair.certificate.read_bytes()[:200]), "certificate: ", "does not hold",
    ),
    "no key": (lambda pair: pair.key.unlink(), "key: ", "cannot be read: No such file"),
    "an empty key": (lambda pair: pair.key.write_bytes(b""), "key: ", "is empty"),
    "a key for everybody": (lambda pair: pair.key.chmod(0o604), "key: ", "readable by everybody: chmod 600"),
    "binary": (lambda pair: pair.key.write_bytes(b"\xff\xfe"), "key: ", "cannot be read"),
    "a certificate for a key": (
        lambda pair: pair.key.write_bytes(pair.certificate.read_bytes()), "key: ", "does not hold a private key",
    ),
    "half a key": (lambda pair: pair.key.write_bytes(pair.key.read_bytes()[:90]), "key: ", "does not hold a private key"),
    "an encrypted key": (
        lambda pair: pair.write_key(ec.generate_private_key(ec.SECP256R1()), b"password"), "key: ", "is encrypted",
    ),
    "another key": (_other_key, "key: ", "does not fit the first certificate"),
    "a key that cannot sign": (_key_of_another_kind, "key: ", "does not fit the first certificate"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_files_that_do_not_fit_are_refused_by_their_key(pair, case, capfd):
    """For the listener and for a client certificate alike; nobody is asked for a password, and no key is shown."""
    spoil, key, words = WRONG[case]
    before = pair.key.read_text()
    spoil(pair)
    client = UpstreamTls(certificate=str(pair.certificate), key=str(pair.key))
    for where, make in (
        ("server.tls.", lambda: listener_context(ServerTls(**pair.table()))),
        ("upstreams[1].tls.", lambda: upstream_context(client, "upstreams[1].tls")),
    ):
        with pytest.raises(ConfigError) as caught:
            make()
        message = str(caught.value)
        assert message.startswith(f"{where}{key}"), message
        assert words in message
        assert not [line for line in before.splitlines() if line in message]
    assert ("", "") == capfd.readouterr()


def test_authorities_must_be_readable(tmp_path, pair):
    """A typo in `ca` must not end in trusting the system's, or nobody."""
    for path, words in (
        (tmp_path / "none.pem", "cannot be read"),
        (pair.key, "does not hold certificates"),
    ):
        with pytest.raises(ConfigError, match=words) as caught:
            upstream_context(UpstreamTls(ca=str(path)), "upstream.tls")
        assert str(caught.value).startswith("upstream.tls.ca: ")


def test_an_expired_certificate_is_used_and_warned_of(authority, caplog):
    """A start is not refused for it; one that is still good is not mentioned."""
    expiry = START + timedelta(days=1)
    pair = authority.issue("localhost", until=expiry)
    with caplog.at_level(logging.WARNING):
        listener_context(ServerTls(**pair.table()), clock=lambda: expiry - timedelta(seconds=1))
        assert [] == caplog.messages
        listener_context(ServerTls(**pair.table()), clock=lambda: expiry)
    assert [f"server.tls.certificate: `{pair.certificate}` has expired: renew it, and reload"] == caplog.messages


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2])
@pytest.mark.parametrize("minimum", ["1.2", "1.3"])
def test_the_listener_takes_no_older_version_than_is_configured(authority, pair, minimum, version):
    """TLS 1.2 unless 1.3 is asked for; it is the listener that refuses, and not the client that does not try."""
    server = listener_context(ServerTls(**pair.table(minimum_version=minimum)))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = authority.up_to(version).wrap_bio(to_client, to_server, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    expected = ssl.SSLWantReadError if (minimum, version) == ("1.2", ssl.TLSVersion.TLSv1_2) else ssl.SSLError
    with pytest.raises(expected) as caught:
        server.wrap_bio(to_server, to_client, server_side=True).do_handshake()
    assert caught.value.reason == ("UNSUPPORTED_PROTOCOL" if expected is ssl.SSLError else None)


def test_a_handshake_is_made_once_per_connection(pair):
    """A client cannot have it done over and over; and the version is 1.2 unless it is said."""
    context = listener_context(ServerTls(**pair.table()))
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert "1.2" == ServerTls(**pair.table()).minimum_version


@pytest.mark.parametrize("own", [True, False])
def test_an_upstream_is_always_verified(authority, own):
    """Chain and name, with an authority of its own and with the system's; no key of the configuration says otherwise."""
    context = upstream_context(UpstreamTls(ca=str(authority.file) if own else ""), "upstream.tls")
    assert (ssl.CERT_REQUIRED, True) == (context.verify_mode, context.check_hostname)
    assert ssl.TLSVersion.TLSv1_2 == context.minimum_version
    if own:
        assert 1 == context.cert_store_stats()["x509"]
    assert {"ca", "certificate", "key", "server_name"} == set(UpstreamTls.__struct_fields__)


def test_a_renewal_that_fails_changes_nothing(authority, pair):
    """The files are tried before anything is touched."""
    context = listener_context(ServerTls(**pair.table()))
    _other_key(pair)
    with pytest.raises(ConfigError, match=r"server\.tls\.key"):
        renew_listener(context, ServerTls(**pair.table(minimum_version="1.3")))
    assert (None, ssl.TLSVersion.TLSv1_2) == (context.sni_callback, context.minimum_version)


# --- in the file ---

SERVER = {"certificate": "chain.pem", "key": "key.pem"}
HTTPS = ("upstream.url", "https://app")
INLINE = "-----BEGIN PRIVATE KEY-----\ncanary-9c2d\n"
REFUSED = {
    "no certificate": ("server.tls", {"key": "x"}, "server.tls.certificate: is missing"),
    "no key": ("server.tls", {"certificate": "x"}, "server.tls.key: is missing"),
    "an empty path": ("server.tls", SERVER | {"key": ""}, "server.tls.key: name its PEM file"),
    "an old version": ("server.tls", SERVER | {"minimum_version": "1.1"}, 'server.tls.minimum_version: must be "1.2" or "1.3"'),
    "a number": ("server.tls", SERVER | {"minimum_version": 1.2}, 'server.tls.minimum_version: must be "1.2" or '),
    "a key in place of its path": ("server.tls", SERVER | {"key": INLINE}, "server.tls.key: give the path of a PEM file"),
    "an upstream's key in place": (
        "upstream.tls", {"certificate": "x", "key": INLINE}, "upstream.tls.key: give the path of a PEM file",
    ),
    "no verification": ("upstream.tls", {"verify": False}, "upstream.tls.verify: there is no such key"),
    "a certificate alone": ("upstream.tls", {"certificate": "x"}, "upstream.tls: `certificate` and `key` go together"),
    "a key alone": ("upstream.tls", {"key": "x"}, "upstream.tls: `certificate` and `key` go together"),
    "a name with a port": ("upstream.tls", {"server_name": "app:443"}, "upstream.tls.server_name: `app:443` is not"),
    "a name with a dot first": ("upstream.tls", {"server_name": ".app"}, "upstream.tls.server_name:"),
    "a name with a star": ("upstream.tls", {"server_name": "*.app"}, "upstream.tls.server_name:"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_with_tls_is_refused_with_its_path(case):
    """And a key that somebody put where its path belongs is not repeated."""
    path, value, words = REFUSED[case]
    message = refusal(document(path, value, more=[HTTPS]))
    assert words in message
    assert "canary-9c2d" not in message


@pytest.mark.parametrize("url", ["http://app", "unix:/run/app.sock"])
def test_tls_terms_without_tls_are_a_mistake(url):
    """Whoever writes them means to be protected."""
    assert refusal(document("upstream.tls", {}, more=[("upstream.url", url)])).startswith(
        "upstream.tls: goes with a url"
    )
    others = [{"path": "/chat", "url": url, "tls": {}}]
    assert refusal(document("upstreams", others)).startswith("upstreams[0].tls: goes with a url")


def test_paths_of_files_count_from_the_configuration(tmp_path):
    """Like every other; an absolute one stays as it is, and one that is not given stays away."""
    mine = {"ca": "ca.pem", "certificate": "/etc/mine.pem", "key": "mine.key"}
    others = [{"path": "/chat", "url": "https://chat", "tls": {"ca": "chat.pem"}}]
    found = document("server.tls", SERVER, more=[HTTPS, ("upstream.tls", mine), ("upstreams", others)])
    config = build(found, {}, base=tmp_path)
    server, upstream, other = config.server.tls, config.upstream.tls, config.upstreams[0].tls
    assert (str(tmp_path / "chain.pem"), str(tmp_path / "key.pem")) == (server.certificate, server.key)
    assert (str(tmp_path / "ca.pem"), "/etc/mine.pem", str(tmp_path / "mine.key")) == (
        upstream.ca,
        upstream.certificate,
        upstream.key,
    )
    assert (str(tmp_path / "chat.pem"), "", "") == (other.ca, other.certificate, other.key)


def test_the_environment_reaches_tables_that_may_be_missing():
    """`LOCUM__SERVER__TLS__KEY` sets a key of a table that the file has or lacks; alone it is half a table."""
    given = {"LOCUM__SERVER__TLS__CERTIFICATE": "/c.pem", "LOCUM__SERVER__TLS__KEY": "/k.pem"}
    for found in (document(), document("server.tls", SERVER)):
        tls = build(found, given, base=BASE).server.tls
        assert ("/c.pem", "/k.pem", "1.2") == (tls.certificate, tls.key, tls.minimum_version)
    message = refusal(document(), {"LOCUM__SERVER__TLS__KEY": "/k.pem"})
    assert "server.tls.certificate: is missing" == message
    assert "server.tls.keys: unknown key" in refusal(document(), {"LOCUM__SERVER__TLS__KEYS": "x"})


def test_the_check_of_a_configuration_looks_into_its_files(tmp_path, authority, pair):
    """`locum config check` says beforehand what a start or a reload would: each upstream, and the listener's files."""
    path = tmp_path / "config.toml"
    table = f'certificate = "{pair.certificate}"\nkey = "{pair.key}"\n'
    path.write_text(
        f'{LEAST}\n[server.tls]\n{table}[[upstreams]]\npath = "/chat"\nurl = "https://chat"\n'
        f'[upstreams.tls]\nca = "{authority.file.name}"\n'
    )
    told = CliRunner().invoke(cli, ["--config", str(path), "config", "check"])
    assert (0, True) == (told.exit_code, told.stdout.startswith("ok: http://127.0.0.1:3000, https://chat with profile"))
    # The upstreams are looked at first.
    for file, where in ((pair.key, "server.tls.key: "), (authority.file, "upstreams[0].tls.ca: ")):
        file.unlink()
        told = CliRunner().invoke(cli, ["--config", str(path), "config", "check"])
        assert (78, True) == (told.exit_code, where in told.stderr), told.stderr
