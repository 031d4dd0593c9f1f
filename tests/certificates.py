"""An authority that lives as long as a test, and certificates of its making, in files."""

import ipaddress
import ssl
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

START = datetime(2020, 1, 1, tzinfo=UTC)
AGES = timedelta(days=36_500)
EXPIRED = START + timedelta(days=1)


class Authority:
    """Vouches for whom it is told to; its own certificate is in `file`."""

    def __init__(self, directory: Path, name: str = "a test's own authority") -> None:
        self.directory = directory
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _certificate(self.name, self.name, self._key.public_key(), START + AGES)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = directory / f"{name.replace(' ', '-')}.pem"
        self.file.write_bytes(certificate.public_bytes(Encoding.PEM))

    def issue(self, name: str, *, file: str = "", until: datetime = START + AGES) -> "Pair":
        """Make a key and a certificate for a host name or an address, and write them into two files."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate = (
            _certificate(subject, self.name, key.public_key(), until)
            .add_extension(x509.SubjectAlternativeName([_general_name(name)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        pair = Pair(self.directory, file or name)
        pair.serial = certificate.serial_number
        pair.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        pair.write_key(key)
        return pair

    def trusting(self, *, asks: "Pair | None" = None) -> ssl.SSLContext:
        """A client's context that trusts this authority alone."""
        context = ssl.create_default_context(cafile=str(self.file))
        if asks is not None:
            context.load_cert_chain(asks.certificate, asks.key)
        return context

    def up_to(self, version: ssl.TLSVersion) -> ssl.SSLContext:
        """A client's context that offers nothing newer, and is not too proud for its ciphers."""
        context = self.trusting()
        allow_old(context, version)
        return context


def allow_old(context: ssl.SSLContext, version: ssl.TLSVersion) -> None:
    """Let a context speak nothing newer than an old version."""
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # what is deprecated is what is tried here
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = version


class Pair:
    """A certificate and its key, each in a file."""

    def __init__(self, directory: Path, name: str) -> None:
        self.certificate = directory / f"{name}.crt"
        self.key = directory / f"{name}.key"
        self.serial = 0

    def write_key(self, key: ec.EllipticCurvePrivateKey, password: bytes = b"") -> None:
        how: KeySerializationEncryption = BestAvailableEncryption(password) if password else NoEncryption()
        self.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how))
        self.key.chmod(0o600)

    def as_server(self, *, clients: Path | None = None) -> ssl.SSLContext:
        """A server's context; with `clients`, that authority has to vouch for whoever connects."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        if clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(clients)
        return context

    def table(self, **more: object) -> dict[str, object]:
        """As the configuration names them."""
        return {"certificate": str(self.certificate), "key": str(self.key), **more}


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, until: datetime):
    serial = x509.random_serial_number()
    builder = x509.CertificateBuilder(issuer, subject, key, serial)
    return builder.not_valid_before(START).not_valid_after(until)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
