"""A gateway played by the test for whoever verifies assertions: it has keys of each kind, publishes them, and signs."""

import base64
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from tests.rsa_keys import rsa_key

ISSUER, AUDIENCE = "https://assume.vendor.example", "helpdesk"
TYPE = "locum-assertion+jwt"
KEYS = {
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "RS256": rsa_key(),
}
_WRITERS = {"EdDSA": OKPAlgorithm, "ES256": ECAlgorithm, "RS256": RSAAlgorithm}


def jwk(algorithm="EdDSA", *, key=None, **changes):
    """The public key as the gateway publishes it."""
    found = json.loads(_WRITERS[algorithm].to_jwk((key or KEYS[algorithm]).public_key()))
    found.pop("key_ops", None)
    found |= {"kid": f"locum-{algorithm.lower()}", "use": "sig", "alg": algorithm} | changes
    return {name: value for name, value in found.items() if value is not ...}


def claims(*, now=None, **changes):
    """What a good assertion says, with changes; one that is `...` is left out."""
    now = int(time.time() if now is None else now)  # noqa: TID251 - whoever verifies goes by the real clock
    found = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "maria",
        "act": {"sub": "dana", "iss": "https://idp.vendor.example"},
        "sid": "as_1",
        "account": "acme",
        "scope": "tickets:read tickets:write",
        "grant_id": "grant_1",
        "seat": "none",
        "jti": "j1",
        "iat": now,
        "exp": now + 60,
    } | changes
    return {name: value for name, value in found.items() if value is not ...}


def assertion(algorithm="EdDSA", *, header=None, key=None, signed_as=None, **changes):
    """A signed one; `signed_as` is another algorithm than the header's name for it."""
    head = {"alg": algorithm, "kid": f"locum-{algorithm.lower()}", "typ": TYPE} | (header or {})
    head = {name: value for name, value in head.items() if value is not ...}
    payload = changes.pop("payload", None) or json.dumps(claims(**changes)).encode()
    return compact(json.dumps(head).encode(), payload, algorithm=signed_as or algorithm, key=key)


def compact(head, payload, *, algorithm="EdDSA", key=None):
    """Sign these very bytes."""
    signed = f"{b64(head)}.{b64(payload)}"
    signer = jwt.get_algorithm_by_name(algorithm)
    return f"{signed}.{b64(signer.sign(signed.encode(), key or KEYS[algorithm]))}"


def b64(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Publisher:
    """Serves a key set over HTTP on loopback, and counts how often it was asked."""

    def __init__(self):
        self.document = {"keys": [jwk(algorithm) for algorithm in KEYS]}
        self.status = 200
        self.location = None
        self.asked = 0
        self.url = ""
        self.reached = threading.Event()
        """Somebody has asked since it hangs."""
        self._goes_on = threading.Event()
        self._goes_on.set()

    @contextmanager
    def hanging(self):
        """Answer nobody until the end of this."""
        self.reached.clear()
        self._goes_on.clear()
        try:
            yield
        finally:
            self._goes_on.set()

    def wait(self):
        """Note that somebody asks, and return when they may be answered."""
        self.asked += 1
        self.reached.set()
        self._goes_on.wait()


@contextmanager
def publishing():
    publisher = Publisher()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            publisher.wait()
            document = publisher.document
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(publisher.status)
            if publisher.location:
                self.send_header("Location", publisher.location)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        publisher.url = f"{url}/.locum/jwks.json"
        yield publisher


@contextmanager
def serving(server):
    """Run a server of the standard library on a thread; yields its address."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
