"""TLS contexts: whom the public listener shows itself as, and whom an upstream has to be."""

import logging
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from gateway.clock import Clock, utc_now
from gateway.config.load import read_secret
from gateway.config.model import ConfigError, ServerTls, UpstreamTls

log = logging.getLogger(__name__)

_PROTOCOLS = ["http/1.1"]
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def listener_context(tls: ServerTls, *, clock: Clock = utc_now) -> ssl.SSLContext:
    """Return the context of the public listener, or raise ConfigError with the path of the key that is wrong.

    An expired certificate is taken, with a warning in the log: clients that pin it go on, and a restart is not refused.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[tls.minimum_version]
    # A client could make us work as often as it likes, and TLS 1.3 has none (RFC 8446 section 4.1.2).
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(_PROTOCOLS)
    _load_chain(context, tls.certificate, tls.key, "server.tls", clock)
    return context


def renew_listener(context: ssl.SSLContext, tls: ServerTls, *, clock: Clock = utc_now) -> None:
    """Show the certificate of these files to whoever connects from now on; what is open is not touched.

    Raises ConfigError, and then everything stays as it was. `context` comes from `listener_context`.
    """
    fresh = listener_context(tls, clock=clock)

    def hand_over(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = fresh

    # Loaded into the old context, the new chain would stand there without its key for a moment, or for good if the
    # files change meanwhile. This is called for every client, also for one that names no server.
    context.sni_callback = hand_over
    context.minimum_version = fresh.minimum_version


def upstream_context(tls: UpstreamTls, where: str, *, clock: Clock = utc_now) -> ssl.SSLContext:
    """Return a context that takes no upstream but a verified one; raises ConfigError, with `where` as its path.

    Trusted are the authorities in `ca`, or the system's if that is empty. Which name the certificate must have is said
    with each connection.
    """
    # This kind of context verifies the chain and the name from the start, and nothing here takes that back.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(_PROTOCOLS)
    if tls.ca:
        _read_certificates(tls.ca, f"{where}.ca")
        context.load_verify_locations(tls.ca)
    else:
        context.load_default_certs()
    if tls.certificate:
        _load_chain(context, tls.certificate, tls.key, where, clock)
    return context


def _load_chain(context: ssl.SSLContext, certificate: str, key: str, where: str, clock: Clock) -> None:
    chain = _read_certificates(certificate, f"{where}.certificate")
    private = _read_key(key, f"{where}.key")
    try:
        if _public(private.public_key()) != _public(chain[0].public_key()):
            raise ConfigError(
                f"{where}.key: `{key}` does not fit the first certificate in `{certificate}`: "
                "put the server's own first, and those of its authorities behind it"
            )
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError, UnsupportedAlgorithm) as exc:
        raise ConfigError(f"{where}.certificate: `{certificate}` and its key cannot be used: {exc}") from exc
    if chain[0].not_valid_after_utc <= clock():
        log.warning("%s.certificate: `%s` has expired: renew it, and reload", where, certificate)


def _read_certificates(path: str, where: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(Path(path).read_bytes())
    except OSError as exc:
        raise ConfigError(f"{where}: `{path}` cannot be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise ConfigError(f"{where}: `{path}` does not hold certificates in PEM") from exc


def _read_key(path: str, where: str) -> PrivateKeyTypes:
    text = read_secret(Path(path), where)
    try:
        return load_pem_private_key(text.encode("utf-8"), password=None)
    except TypeError as exc:
        raise ConfigError(
            f"{where}: `{path}` is encrypted, and there is nobody to ask for its password: "
            "store it plain, readable by our own user only"
        ) from exc
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ConfigError(f"{where}: `{path}` does not hold a private key in PEM") from exc


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _no_password() -> str:
    """Without it OpenSSL would ask at the terminal for the password of a key that has one."""
    raise ValueError("the key is encrypted")
