"""Sends batches over HTTP: to Splunk, Elastic, an OTLP collector, or whoever takes JSON.

A thread's blocking client: a sink waits for its receiver, and nobody waits for a sink. No redirect is followed, for it
would take the credential and the records to whomever it names.
"""

import contextlib
import gzip
import http.client
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from gateway.audit.sinks.outlet import NOT_AS_IT_IS, Answered, Encoded, Refused, Sent, Unreachable
from gateway.audit.sinks.shapes import Shape
from gateway.audit.sinks.sockets import connect, cut_after
from gateway.config.section import Secret

_MOST_ANSWER_BYTES: Final = 8 * 1024 * 1024
_LATER = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where batches go, and with what."""

    url: str
    headers: Mapping[str, str]
    credential: Secret | None
    credential_header: str
    tls: ssl.SSLContext | None
    """For a URL that begins with https."""
    server_name: str = ""

    def __repr__(self) -> str:
        """Hide all of it: a path can be a credential, too."""
        return "Address(…)"


class HttpOutlet(Answered):
    """Implements Outlet over one connection, which is kept as long as the other side keeps it."""

    def __init__(self, address: Address, shape: Shape, *, form: str, packed: bool, seconds: float) -> None:
        """Connect to nobody yet; `packed` is whether bodies go in gzip."""
        super().__init__()
        parts = urlsplit(address.url)
        self._host, self._port = parts.hostname or "", parts.port or (443 if address.tls else 80)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._address = address
        self._shape = shape
        self._form = form
        self._packed = packed
        self._seconds = seconds
        self._connection: http.client.HTTPConnection | None = None

    def send(self, batch: list[Encoded]) -> Sent:
        body = self._shape.body(batch, self._form)
        status, retry_after, answer = self._ask(gzip.compress(body, 5) if self._packed else body)
        if 200 <= status < 300:
            sent = self._shape.read(answer, len(batch))
            self._arrived += 1
            return sent
        self.close()
        if status in NOT_AS_IT_IS:
            raise Refused(f"it answers {status}")
        if status in _LATER or status >= 500:
            raise Unreachable(f"it answers {status}", retry_after=retry_after)
        if 300 <= status < 400:
            raise Unreachable(f"it answers {status}: a redirect is not followed, so give the URL that it leads to")
        raise Unreachable(f"it answers {status}: check the URL, the credential and what this sink may do there")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, body: bytes) -> tuple[int, float | None, bytes]:
        if self._connection is not None:
            # The other side may have closed it since: then a new one is worth one try.
            with contextlib.suppress(OSError, http.client.HTTPException):
                return self._ask_on(self._connection, body)
            self.close()
        try:
            self._connection = self._open()
            return self._ask_on(self._connection, body)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unreachable(f"the exchange broke off: {type(error).__name__}") from error

    def _open(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self._host, self._port)
        address = self._address
        connection.sock = connect(
            self._host, self._port, tls=address.tls, server_name=address.server_name, seconds=self._seconds
        )
        return connection

    def _ask_on(self, connection: http.client.HTTPConnection, body: bytes) -> tuple[int, float | None, bytes]:
        if connection.sock is None:
            raise http.client.NotConnected
        with cut_after(self._seconds, connection.sock):
            is_cut = True
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request("POST", self._target, body, self._headers())
                is_cut = False
            # Who takes no more may have said why before they closed.
            response = connection.getresponse()
            if is_cut and 200 <= response.status < 300:
                raise http.client.HTTPException("it says that it has taken what it was not sent")
            answer = response.read(_MOST_ANSWER_BYTES)
            if not response.isclosed() and response.read(1):
                raise http.client.HTTPException("the answer is too long")
        if response.will_close:
            self.close()
        return response.status, _seconds(response.headers.get("Retry-After")), answer

    def _headers(self) -> dict[str, str]:
        address = self._address
        headers = {**address.headers, "Content-Type": self._shape.content_type, "User-Agent": "locum"}
        if self._packed:
            headers["Content-Encoding"] = "gzip"
        if address.credential is not None:
            headers[address.credential_header] = address.credential.reveal()
        return headers


def _seconds(text: str | None) -> float | None:
    """Return what `Retry-After` says, if it says it in seconds (RFC 9110 section 10.2.3)."""
    return float(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 7 else None
