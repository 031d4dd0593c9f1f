"""The writing of one request head, which must read as one request with the body that follows it and as nothing else."""

from typing import Final, NamedTuple

from gateway.proxy.lines import join_lines
from gateway.proxy.names import LONGEST_REMEMBERED
from gateway.proxy.remembered import Remembered
from gateway.proxy.wire import Headers, RequestHead

_WITH_BODY: Final = "encoded with a body"
_WITHOUT_BODY: Final = "encoded without a body"


class Encoded(NamedTuple):
    """A request's head for the wire."""

    text: bytes
    length: int | None
    """Of the body; None if it is chunked."""
    signs_in: bool
    """Whether it may sign the connection in, and not itself alone, as NTLM and Negotiate do (RFC 4559 section 6)."""


def encode_request(head: RequestHead, *, has_body: bool) -> Encoded:
    """The head byte for byte, with a Transfer-Encoding line if it lacks one.

    Raises ValueError for a head that some reader would frame differently, CONNECT included: the last gate before the
    upstream, since a line or a length too many here is another person's request there.
    """
    line = b"%b %b HTTP/1.1\r\n" % (head.method, head.target)
    if line.count(b" ") != 2 or line.count(b"\n") != 1 or line.count(b"\r") != 1:
        raise ValueError("a request line has a line break or a space where none may be")
    if head.method == b"CONNECT":
        raise ValueError("`CONNECT` asks for a tunnel, and there is none here")
    key = _WITH_BODY if has_body else _WITHOUT_BODY
    encoded: Encoded | None = head.kept.get(key)
    if encoded is None:
        encoded = head.kept[key] = _encode_lines(head.headers, has_body=has_body)
    return Encoded(line + encoded.text, encoded.length, encoded.signs_in)


def _tell(name: bytes) -> bytes:
    """Return a header's name in lower case if it frames the message or signs in, else nothing."""
    key = name.lower()
    return key if key in _TELLING else b""


_SIGN_IN = (b"authorization", b"proxy-authorization")
_TELLING = (b"content-length", b"transfer-encoding", *_SIGN_IN)
_BY_CONNECTION = (b"ntlm", b"negotiate")
_telling = Remembered(_tell, longest=LONGEST_REMEMBERED)


def _encode_lines(headers: Headers, *, has_body: bool) -> Encoded:
    text = join_lines(map(b": ".join, headers), "a request head")
    lengths: list[bytes] = []
    codings: list[bytes] = []
    signs_in = False
    for name, value in headers:
        if not (key := _telling[name]):
            continue
        if key == b"content-length":
            lengths.append(value)
        elif key in _SIGN_IN:
            signs_in |= value.strip().lower().startswith(_BY_CONNECTION)
        else:
            codings.append(value.lower())
    if has_body and not lengths and not codings:
        codings.append(b"chunked")
        text = b"%bTransfer-Encoding: chunked\r\n\r\n" % text[:-2]
    return Encoded(text, _body_length(lengths, codings, has_body=has_body), signs_in)


def _body_length(lengths: list[bytes], codings: list[bytes], *, has_body: bool) -> int | None:
    if codings and (codings != [b"chunked"] or lengths or not has_body):
        raise ValueError("a request head has a Transfer-Encoding that does not fit its body")
    if codings:
        return None
    if len(lengths) > 1 or not all(length.isdigit() for length in lengths):
        raise ValueError("a request head has an ambiguous Content-Length")
    length = int(lengths[0]) if lengths else 0
    if length and not has_body:
        raise ValueError("a request head announces a body and has none")
    return length
