"""The upstream over TLS: the same exchange, and only with whom the certificate names."""

import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.proxy.wire import UpstreamFault
from tests.rawwire import RecordingUpstream
from tests.upgrades import handshake, switching
from tests.upstream_client import body_of, fetch, pool_to, request

BOTH_LOOPS = True


@pytest.fixture(scope="module")
def contexts(tmp_path_factory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's context with a fresh certificate for `localhost`, and a client's that trusts it alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test's own authority")])
    start = datetime(2020, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=36_500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    encoding = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(key.private_bytes(*encoding) + pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cadata=pem.decode())


async def test_exchanges_over_tls_share_a_connection(contexts):
    """With a body and without."""
    server, client = contexts
    async with RecordingUpstream(tls=server) as upstream, pool_to(upstream.url, tls=client) as pool:
        assert (200, b"ok") == await fetch(pool)
        assert (200, b"ok") == await fetch(pool, request(b"POST"), body_of(b"hello"))
        assert (b"hello", 1) == (upstream.requests[1].body, len(upstream.connections))


async def test_a_certificate_for_another_name_gets_no_request(contexts):
    """The name in the URL is the name that counts, and the fault says what was wrong."""
    server, client = contexts
    async with RecordingUpstream(tls=server) as upstream:
        url = upstream.url.replace("localhost", "127.0.0.1")
        async with pool_to(url, tls=client) as pool:
            with pytest.raises(UpstreamFault, match="certificate"):
                await fetch(pool)
        assert [] == upstream.requests


async def test_a_certificate_that_nobody_vouches_for_gets_no_request(contexts):
    """The default trust store knows no test's authority."""
    server, _ = contexts
    async with (
        RecordingUpstream(tls=server) as upstream,
        pool_to(upstream.url, tls=ssl.create_default_context()) as pool,
    ):
        with pytest.raises(UpstreamFault, match="certificate"):
            await fetch(pool)
        assert [] == upstream.requests


async def test_a_switch_of_protocols_over_tls_is_the_same(contexts):
    """Both ways, to the last byte written before the close."""
    server, client = contexts
    async with (
        RecordingUpstream(switching() + b"first", tls=server) as upstream,
        pool_to(upstream.url, tls=client) as pool,
    ):
        answer = await pool.send(handshake(), None, upgrade=True)
        assert b"first" == await answer.stream.read()
        written = b"x" * 1_000_000
        await answer.stream.write(written)
        await answer.stream.close()
        await upstream.until(upstream.connections[0].ended.is_set)

        assert upstream.connections[0].received.endswith(b"\r\n\r\n" + written)
        assert (0, 1) == (pool.open_count, len(upstream.connections))
