"""Where a request ends and the next begins, byte by byte: one reading, or none, and wherever the network cuts."""

import asyncio
import re

import pytest

from gateway.proxy.flow import Inbox
from gateway.proxy.head import ClientFault
from gateway.proxy.intake import Intake
from gateway.proxy.witness import Disagreement, confirm_head
from tests.rawwire import each_byte

HOST = b"Host: a\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def get(*lines, method=b"GET", target=b"/", version=b"HTTP/1.1", host=HOST, body=b""):
    return method + b" " + target + b" " + version + b"\r\n" + host + b"".join(lines) + b"\r\n" + body


def chunked(body):
    return get(CHUNKED, method=b"POST", body=body)


class Reading:
    """What an intake made of some bytes."""

    def __init__(self):
        self.messages = []
        """Request line and body of each request that is all here."""
        self.fault = None

    async def read(self, pieces, **limits):
        """Feed piece by piece, as a connection does: the next head is cut when the body before it has ended."""
        options = {"max_bytes": 32 * 1024, "max_lines": 256, **limits}
        intake = Intake(lambda: Inbox(asyncio.get_running_loop(), lambda: None), **options)
        head, body = None, b""
        for piece in pieces:
            intake.feed(piece)
            try:
                while head is not None or (cut := intake.cut_head()) is not None:
                    if head is None:
                        head, body = cut[0], b""
                    while intake.inbox is not None and (intake.inbox.buffered or intake.inbox._error):
                        body += await intake.inbox.take()
                    if intake.inbox is not None and not intake.inbox.ended:
                        break
                    self.messages.append((head.method + b" " + head.target, head.headers, body))
                    head = None
            except ClientFault as fault:
                self.fault = fault
                break
        return self

    @property
    def outcome(self):
        return self.messages, self.fault and self.fault.status


async def read(raw, **limits):
    return await Reading().read([raw], **limits)


ACCEPTED = {
    "plain": (get(), b"GET /", b""),
    "1.0 without a host": (get(version=b"HTTP/1.0", host=b""), b"GET /", b""),
    "any method": (get(method=b"M-SEARCH!"), b"M-SEARCH! /", b""),
    "an unheard-of method with a body": (
        get(b"Content-Length: 2\r\n", method=b"FROB", body=b"hi"),
        b"FROB /",
        b"hi",
    ),
    "any visible target": (get(target=b'/a|b"<>^{}`\\#x%zz?\xc3\xa9\xff'), b'GET /a|b"<>^{}`\\#x%zz?\xc3\xa9\xff', b""),
    "an empty line before": (b"\r\n" + get(), b"GET /", b""),
    "empty and padded values": (get(b"X:\r\n", b"Y: \t \r\n", b"Z:\tb c \t\r\n"), b"GET /", b""),
    "high bytes in a value": (get(b"X: \x80\xff\r\n"), b"GET /", b""),
    "a length": (get(b"cOntent-lEngth: 5\r\n", method=b"POST", body=b"hello"), b"POST /", b"hello"),
    "a length of nothing": (get(b"Content-Length: 0\r\n"), b"GET /", b""),
    "chunks": (chunked(b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"), b"POST /", b"hello"),
    "chunks with extensions": (chunked(b'5;a=b;c;d="e;\\"f"\r\nhello\r\n0;x\r\n\r\n'), b"POST /", b"hello"),
    "leading zeros, capital digits": (chunked(b"00A\r\n0123456789\r\n000\r\n\r\n"), b"POST /", b"0123456789"),
    "line ends inside chunks": (chunked(b"4\r\n\r\n\r\n\r\n0\r\n\r\n"), b"POST /", b"\r\n\r\n"),
    "trailers": (chunked(b"1\r\nx\r\n0\r\nX-Sum: 1\r\nHost: b\r\n\r\n"), b"POST /", b"x"),
    "an upgrade with chunks": (
        get(CHUNKED, b"Connection: Upgrade\r\nUpgrade: h2c\r\n", body=b"1\r\nx\r\n0\r\n\r\n"),
        b"GET /",
        b"x",
    ),
    "an upgrade with a length": (
        get(b"Content-Length: 2\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n", body=b"hi"),
        b"GET /",
        b"hi",
    ),
}


@pytest.mark.parametrize("case", ACCEPTED)
async def test_what_is_one_request_is_read_as_that_one(case):
    """In one piece, cut in two at every place, and byte by byte; and what stands behind it is the next."""
    raw, line, body = ACCEPTED[case]
    whole = await read(raw + NEXT)
    assert [(line, body), (b"GET /next", b"")] == [(message[0], message[2]) for message in whole.messages]
    assert whole.fault is None
    for pieces in _every_cut(raw + NEXT):
        assert whole.outcome == (await Reading().read(pieces)).outcome


async def test_header_lines_keep_their_order_case_and_bytes():
    """Only the blanks around a value are no part of it."""
    whole = await read(get(b"x-B: \t1 , 2\t \r\n", b"X-b:\xff:\r\n", b"x:\r\n"))
    assert ((b"Host", b"a"), (b"x-B", b"1 , 2"), (b"X-b", b"\xff:"), (b"x", b"")) == whole.messages[0][1]


def _every_cut(raw):
    yield each_byte(raw)
    for at in range(1, len(raw)):
        yield [raw[:at], raw[at:]]


REFUSED = {
    "lower-case version": (get(version=b"http/1.1"), 400),
    "no version": (b"GET /\r\n" + HOST + b"\r\n", 400),
    "0.9": (get(version=b"HTTP/0.9"), 505),
    "1.2": (get(version=b"HTTP/1.2"), 505),
    "2.0": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "1.10": (get(version=b"HTTP/1.10"), 400),
    "two spaces": (b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a tab": (b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a space behind": (get(version=b"HTTP/1.1 "), 400),
    "a space in the target": (get(target=b"/a b"), 400),
    "a DEL in the target": (get(target=b"/\x7f"), 400),
    "no method": (b" / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a method that is no token": (get(method=b"G@T"), 400),
    "two empty lines before": (b"\r\n\r\n" + get(), 400),
    "an empty line that is not one": (b"\n" + get(), 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "no host": (get(host=b""), 400),
    "two hosts": (get(HOST), 400),
    "two hosts in 1.0": (get(HOST, version=b"HTTP/1.0"), 400),
    "a folded line": (get(b"X: a\r\n b\r\n"), 400),
    "a folded first line": (get(host=b" Host: a\r\n"), 400),
    "a space before the colon": (get(b"X : y\r\n"), 400),
    "no colon": (get(b"X\r\n"), 400),
    "no name": (get(b": y\r\n"), 400),
    "a high byte in a name": (get(b"X\xe9: y\r\n"), 400),
    "a NUL in a value": (get(b"X: a\x00b\r\n"), 400),
    "a vertical tab in a value": (get(b"X: a\x0bb\r\n"), 400),
    "a DEL in a value": (get(b"X: a\x7f\r\n"), 400),
    "a bare LF": (get(b"X: a\nY: b\r\n"), 400),
    "a bare CR": (get(b"X: a\rY: b\r\n"), 400),
    "only bare LFs": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "CR CR LF": (get(b"X: a\r\r\n"), 400),
    "two lengths": (get(b"Content-Length: 5\r\nContent-Length: 5\r\n", body=b"hello"), 400),
    "a list of lengths": (get(b"Content-Length: 5, 5\r\n", body=b"hello"), 400),
    "a signed length": (get(b"Content-Length: +5\r\n", body=b"hello"), 400),
    "an octal length": (get(b"Content-Length: 05\r\n", body=b"hello"), 400),
    "no length": (get(b"Content-Length:\r\n"), 400),
    "foreign digits": (get("Content-Length: ٥\r\n".encode(), body=b"hello"), 400),
    "19 digits": (get(b"Content-Length: 1000000000000000000\r\n"), 400),
    "both framings": (get(b"Content-Length: 5\r\n", CHUNKED, body=b"0\r\n\r\n"), 400),
    "both framings, turned": (get(CHUNKED, b"Content-Length: 5\r\n", body=b"0\r\n\r\n"), 400),
    "chunked twice": (get(CHUNKED, CHUNKED, body=b"0\r\n\r\n"), 400),
    "gzip, chunked": (get(b"Transfer-Encoding: gzip, chunked\r\n", body=b"0\r\n\r\n"), 400),
    "identity": (get(b"Transfer-Encoding: identity\r\n"), 400),
    "chunked in 1.0": (get(CHUNKED, version=b"HTTP/1.0", body=b"0\r\n\r\n"), 400),
}

BROKEN_CHUNKS = (
    b"0x5\r\nhello\r\n", b"+5\r\nhello\r\n", b"-5\r\nhello\r\n", b" 5\r\nhello\r\n", b"5 \r\nhello\r\n", b"5\t\r\nhello\r\n",
    b"\r\nhello\r\n", b"g\r\nhello\r\n", b"5\r\nhelloX\r\n", b"5\r\nhell\r\n1", b"5\r\nhello1", b"5\nhello\r\n", b"5\r\nhello\n1",
    b"5\r\nhello\r1", b"5;a=b\r\rXX\r\nhello\r\n", b"5;a\nb\r\nhello\r\n", b'5;a="\n"\r\nhello\r\n', b"5;a\x00\r\nhello\r\n",
    b"5;\r\nhello\r\n", b"5; a\r\nhello\r\n", b'5;a="b\r\nhello\r\n', b"00000000000000005\r\nhello\r\n", b"5;" + b"a" * 2000 + b"\r\nhello\r\n",
    b"0\r\n\r\r\n", b"0\r\n\n", b"0\n\r\n", b"0\r\nX\r\n\r\n", b"0\r\nX : y\r\n\r\n", b"0\r\nX: a\r\n b\r\n\r\n", b"0\r\n X: y\r\n\r\n",
    b"0\r\n" + b"X: y\r\n" * 100 + b"\r\n", b"0\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", b"0\r\nContent-Length: 5\r\n\r\n",
    b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
)  # fmt: skip
REFUSED |= {repr(body[:20]): (chunked(body + b"0\r\n\r\n"), 400) for body in BROKEN_CHUNKS}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_could_be_two_is_refused_and_nothing_behind_it_is_read(case):
    """In one piece, cut in two at every place, and byte by byte; the fault has none of the client's bytes."""
    raw, status = REFUSED[case]
    cuts = [[raw + NEXT], *_every_cut(raw + NEXT)] if len(raw) < 500 else [[raw + NEXT], each_byte(raw + NEXT)]
    for pieces in cuts:
        reading = await Reading().read(pieces)
        assert ([], status) == reading.outcome, pieces
        assert re.fullmatch(r"[a-zA-Z0-9 `:,/.'-]+", reading.fault.title)


async def test_what_breaks_behind_a_request_does_not_touch_it():
    """The first is read, the second refused, the third never seen."""
    reading = await read(NEXT + get(b"X : y\r\n") + NEXT)
    assert ([b"GET /next"], 400) == ([message[0] for message in reading.messages], reading.fault.status)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (get(target=b"/" + b"a" * 1000), 414),
        (get(b"X: " + b"y" * 1000 + b"\r\n"), 431),
        (get(b"X" * 1000 + b": y\r\n"), 431),
        (get(*[b"X: y\r\n"] * 40), 431),
    ],
)
async def test_heads_have_an_end(raw, status):
    """Whichever part is too long, and whether or not its end ever comes."""
    limits = {"max_bytes": 600, "max_lines": 30}
    assert status == (await read(raw, **limits)).fault.status
    assert status == (await Reading().read(each_byte(raw), **limits)).fault.status
    if len(raw) > 601:
        assert status == (await Reading().read(each_byte(raw[:601]), **limits)).fault.status


async def test_a_head_of_exactly_the_limit_is_read():
    """Its empty line counts."""
    raw = get(b"X: " + b"y" * 100 + b"\r\n")
    assert 1 == len((await read(raw, max_bytes=len(raw))).messages)
    assert 431 == (await read(raw, max_bytes=len(raw) - 1)).fault.status


async def test_many_small_chunks_and_one_large_one_are_the_same():
    """What the content is does not depend on how it is chunked."""
    content = bytes(range(256)) * 40
    small = b"".join(b"1\r\n%b\r\n" % content[at : at + 1] for at in range(len(content)))
    large = b"%x\r\n%b\r\n" % (len(content), content)
    readings = [await read(chunked(body + b"0\r\n\r\n") + NEXT) for body in (small, large)]
    assert readings[0].outcome == readings[1].outcome
    assert content == readings[0].messages[0][2]


@pytest.mark.parametrize(
    ("lines", "has_body"),
    [
        (b"Host: a\r\nContent-Length: 5\r\n", False),
        (b"Host: a\r\nTransfer-Encoding: chunked\r\n", False),
        (b"Host: a\r\n", True),
        (b"Host: a\r\nContent-Length: 0\r\n", True),
        (b"Host: a\r\nX : y\r\n", False),
        (b"Host: a\nX: y\r\n", False),
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", True),
    ],
)
async def test_the_second_reader_objects_where_it_would_end_a_request_elsewhere(lines, has_body):
    """It is there for the mistakes of the first, so it is asked what that one should never let through."""
    with pytest.raises(Disagreement):
        confirm_head(lines, minor=b"1", has_body=has_body)
