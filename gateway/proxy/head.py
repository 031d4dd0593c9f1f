"""The reading of one request head: the only grammar that is accepted, and how the body behind it is framed.

Stricter than RFC 9112 asks of a server: what two readers could frame differently is refused for everybody.
"""

import re
from dataclasses import dataclass
from typing import Any

from gateway.proxy.names import LONGEST_REMEMBERED, fold
from gateway.proxy.remembered import Remembered
from gateway.proxy.wire import Headers, RequestHead
from gateway.proxy.witness import Disagreement, confirm_head

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
"""RFC 9110 section 5.6.2, one character of it."""
FIELD_LINE = TOKEN + rb"++:[\t\x20-\x7e\x80-\xff]*+\r\n"
"""RFC 9112 section 5, without line folding."""
BAD_LINE_BYTE = re.compile(rb"\r(?!\n|\Z)|(?<!\r)\n|\x00")
"""A CR or LF alone, or a NUL; a CR at the end may still get its LF."""

# Possessive repetition: whatever is sent, each byte is looked at once.
_REQUEST_LINE = re.compile(TOKEN + rb"++ [\x21-\x7e\x80-\xff]++ HTTP/([0-9]\.[0-9])\r\n")
_REQUEST = re.compile(rb"(" + TOKEN + rb"++) ([\x21-\x7e\x80-\xff]++) HTTP/1\.([01])\r\n")
_LINES = re.compile(rb"(?:" + FIELD_LINE + rb")*+")
_LINE = re.compile(rb"([^:]++):[\t ]*+([^\r]*+)\r\n")
_FIRST_BYTE = re.compile(rb"(?:\r\n)?(?:" + TOKEN + rb"|\r?\Z)")

# RFC 9112 section 3.2: an invalid Host is refused. Sub-delimiters and escapes, which the grammar of a registered name
# allows, are left out: no name in use has them, and `,` `;` `%` are where readers differ.
_HOST = re.compile(rb"(?:[A-Za-z0-9._~-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_FRAMING = (b"content-length", b"transfer-encoding")
_TELLING = frozenset({b"host", b"connection", b"expect", b"upgrade", *_FRAMING})
_LOOK_ALIKE = b"(look-alike)"


_LONGEST_KEPT_BYTES = 4096


class ClientFault(ConnectionError):
    """The client's fault: what it sends cannot be read on, so the connection ends with this answer.

    A ConnectionError for whoever reads the body: nothing more of the request will come.
    """

    def __init__(self, *, status: int, title: str) -> None:
        """Say with `title` what is wrong, in our own words and never in the client's."""
        super().__init__(title)
        self.status = status
        self.title = title


@dataclass(frozen=True, slots=True, kw_only=True)
class Framing:
    """What of a request head concerns its connection."""

    length: int = 0
    """Of the body, in bytes, if it is not chunked."""
    chunked: bool = False
    persistent: bool = True
    """Whether the client lets another request follow (RFC 9112 section 9.3)."""
    expects_continue: bool = False


_PLAIN = Framing()


class HeadReader:
    """Reads the heads of one connection; header lines that are those of the head before are not read again."""

    __slots__ = ("_last", "_lines", "_max_lines", "_minor")

    def __init__(self, *, max_lines: int) -> None:
        """Refuse heads with more header lines than that."""
        self._max_lines = max_lines
        self._minor = b""
        self._lines: bytes | None = None
        """Of the head before, if what they say is kept."""
        self._last: tuple[Headers, Framing, dict[object, Any]] = ((), _PLAIN, {})

    def read(self, raw: bytes) -> tuple[RequestHead, Framing]:
        """Read a head that ends with its empty line; raises ClientFault."""
        line = _REQUEST.match(raw)
        if line is None:
            raise _explain(raw)
        method, target, minor = line.groups()
        lines = raw[line.end() : -2]
        # After CONNECT the lines mean something else.
        if lines == self._lines and minor == self._minor and method != b"CONNECT":
            headers, framing, kept = self._last
        else:
            headers, framing = self._read_lines(raw, lines, minor, method)
            kept = {}
            # Lines of unusual length are read anew each time, so that an idle connection holds little.
            if len(lines) <= _LONGEST_KEPT_BYTES and method != b"CONNECT":
                self._lines, self._minor, self._last = lines, minor, (headers, framing, kept)
            else:
                self._lines, self._last = None, ((), _PLAIN, {})
        version = (1, 1) if minor == b"1" else (1, 0)
        return RequestHead(method=method, target=target, headers=headers, version=version, kept=kept), framing

    def _read_lines(self, raw: bytes, lines: bytes, minor: bytes, method: bytes) -> tuple[Headers, Framing]:
        if _LINES.fullmatch(lines) is None:
            raise _explain(raw)
        headers = split_lines(lines)
        if len(headers) > self._max_lines:
            raise ClientFault(status=431, title="send fewer header lines")
        framing = _framing(headers, is_11=minor == b"1", connects=method == b"CONNECT")
        try:
            confirm_head(lines, minor=minor, has_body=framing.chunked or framing.length > 0)
        except Disagreement as exc:
            raise ClientFault(status=400, title="the header lines can be read in more than one way") from exc
        return headers, framing


def split_lines(lines: bytes) -> Headers:
    """Return header or trailer lines, each with its CRLF and of the right grammar, as names and values."""
    return tuple([(name, value.rstrip(b"\t ")) for name, value in _LINE.findall(lines)])


def check_beginning(raw: bytes, *, since: int, max_bytes: int) -> None:
    """Look at a head that is not all there yet, of which `since` bytes were looked at before; raises ClientFault.

    What can never become a head is refused now and not when the time is up.
    """
    if not since and _FIRST_BYTE.match(raw) is None:
        raise ClientFault(status=400, title="the message does not begin with a method")
    if BAD_LINE_BYTE.search(raw, max(0, since - 1)):
        raise ClientFault(status=400, title="a line of the head does not end in CRLF, or holds a NUL")
    if len(raw) > max_bytes:
        raise too_long(raw)


def too_long(raw: bytes) -> ClientFault:
    """Return the fault of a head with too many bytes: its target's if that has more than half of them."""
    if b"\r\n" in raw[2 : len(raw) // 2]:
        return ClientFault(status=431, title="send shorter header lines")
    return ClientFault(status=414, title="send a shorter request target")


def _explain(raw: bytes) -> ClientFault:
    line = _REQUEST_LINE.match(raw)
    if line is None:
        return ClientFault(status=400, title="the request line is not `method target HTTP/1.1`")
    if line[1] not in (b"1.0", b"1.1"):
        return ClientFault(status=505, title="send HTTP/1.1 or HTTP/1.0")
    return ClientFault(status=400, title="a header line is not `name: value`")


def _tell(name: bytes) -> bytes:
    """Return a header's name in lower case if it says something of the message, else nothing."""
    key = name.lower()
    if key in _TELLING:
        return key
    return _LOOK_ALIKE if fold(name) in _FRAMING else b""


_telling = Remembered(_tell, longest=LONGEST_REMEMBERED)


def _framing(headers: Headers, *, is_11: bool, connects: bool) -> Framing:
    """RFC 9112 section 6.3, with every case in doubt refused; raises ClientFault."""
    found = [(key, value) for name, value in headers if (key := _telling[name])]
    if is_11 and (b"connection", b"keep-alive") in found:
        found.remove((b"connection", b"keep-alive"))
    if is_11 and len(found) == 1 and found[0][0] == b"host" and not connects:
        _check_host(found[0][1])
        return _PLAIN
    telling: dict[bytes, list[bytes]] = {}
    for key, value in found:
        telling.setdefault(key, []).append(value)
    hosts = telling.get(b"host", ())
    if len(hosts) > 1 or (is_11 and not hosts):
        raise ClientFault(status=400, title="there must be exactly one Host header")
    for host in hosts:
        _check_host(host)
    if _LOOK_ALIKE in telling:
        raise ClientFault(status=400, title="a header is a look-alike of Content-Length or Transfer-Encoding")
    lengths, codings = telling.get(b"content-length", ()), telling.get(b"transfer-encoding", ())
    if len(lengths) + len(codings) > 1:
        raise ClientFault(status=400, title="the length of the body is given twice")
    if codings and (codings[0].lower() != b"chunked" or not is_11):
        raise ClientFault(status=400, title="the Transfer-Encoding is not plain `chunked`")
    options = {option.strip(b"\t ") for value in telling.get(b"connection", ()) for option in value.lower().split(b",")}
    # After an upgrade that is not made, what follows may be meant for the other protocol. Not so with h2c, for which
    # clients wait, and which some ask for each time.
    switches = connects or any(value.lower() != b"h2c" for value in telling.get(b"upgrade", ()))
    return Framing(
        length=_parse_length(lengths[0]) if lengths else 0,
        chunked=bool(codings),
        persistent=b"close" not in options and not switches and (is_11 or b"keep-alive" in options),
        expects_continue=is_11 and any(b"100-continue" in value.lower() for value in telling.get(b"expect", ())),
    )


def _check_host(host: bytes) -> None:
    if _HOST.fullmatch(host) is None:
        raise ClientFault(status=400, title="the Host header is not a host with or without a port")


def _parse_length(text: bytes) -> int:
    # 18 digits stay below 2**63; a leading zero is read as octal somewhere.
    if not text.isdigit() or len(text) > 18 or (text[:1] == b"0" and text != b"0"):
        raise ClientFault(status=400, title="the Content-Length is not a plain number")
    return int(text)
