"""The reading of upstream responses: one reading of every byte, wherever the segments are cut, or an anomaly."""

import pytest

from gateway.proxy.response import (
    MAX_FRAMING_BYTES,
    MAX_INTERIM_RESPONSES,
    MAX_TRAILERS,
    ResponseAnomaly,
    ResponseParser,
)
from tests.rawwire import chunked_response, cut_at, each_byte, response

MAX_HEAD_BYTES = 64 * 1024
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

SOUND = {
    "counted": (response(b"hello"), b"hello"),
    "empty": (response(b""), b""),
    "chunked": (chunked_response(b"he", b"llo"), b"hello"),
    "chunked, with trailers": (chunked_response(b"hello", trailers=[(b"Digest", b"x"), (b"Host", b"evil")]), b"hello"),
    "chunked, with extensions": (CHUNKED + b'5;a="b"\r\nhello\r\n0;z\r\n\r\n', b"hello"),
    "chunked, whose data looks like the end": (chunked_response(b"0\r\n\r\n", b"\r\n\r\n"), b"0\r\n\r\n\r\n\r\n"),
    "after interim": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + response(),
        b"ok",
    ),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "304": (b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", b""),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "chunked, with blanks around the coding": (
        OK + b"Transfer-Encoding: \tchunked \t\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"ok",
    ),
    "upgrade offered": (response(headers=[(b"Upgrade", b"h2c"), (b"Connection", b"Upgrade")]), b"ok"),
    "1.0, kept alive": (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", b"ok"),
}

ANOMALIES = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "HTTP/0.9": b"<html>hello</html>\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\n\r\n",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\n\r\n",
    "a line before the status": b"\r\n" + response(),
    "status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "status below 100": b"HTTP/1.1 099 OK\r\n\r\n",
    "two spaces before the status": b"HTTP/1.1  200 OK\r\n\r\n",
    "NUL in the reason": b"HTTP/1.1 200 O\0K\r\n\r\n",
    "CR in the reason": b"HTTP/1.1 200 O\rK\r\n\r\n",
    "bare LF everywhere": b"HTTP/1.1 200 OK\nX: y\n\n",
    "bare LF after the status line": b"HTTP/1.1 200 OK\nX: y\r\n\r\n",
    "bare LF after a header": OK + b"X: y\nZ: z\r\n\r\n",
    "bare LF after an empty header": OK + b"X:\nZ: z\r\n\r\n",
    "bare LF at the end": OK + b"X: y\n\r\n\r\n",
    "bare CR in a header": OK + b"X: y\rZ: z\r\n\r\n",
    "CR CR LF": OK + b"X: y\r\r\nZ: z\r\n\r\n",
    "LF CR": OK + b"X: y\n\rZ: z\r\n\r\n",
    "folded header": OK + b"X: y\r\n z\r\n\r\n",
    "folded first header": OK + b" X: y\r\n\r\n",
    "space before the colon": OK + b"Content-Length : 2\r\n\r\nok",
    "no colon": OK + b"X\r\n\r\n",
    "no name": OK + b": y\r\n\r\n",
    "NUL in a value": OK + b"X: y\0z\r\n\r\n",
    "high byte in a name": OK + b"X\x85: y\r\n\r\n",
    "differing Content-Length": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
    "the same Content-Length twice": OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "a list of Content-Length": OK + b"Content-Length: 2, 2\r\n\r\nok",
    "+2": OK + b"Content-Length: +2\r\n\r\nok",
    "-2": OK + b"Content-Length: -2\r\n\r\nok",
    "0x2": OK + b"Content-Length: 0x2\r\n\r\nok",
    "2_0": OK + b"Content-Length: 2_0\r\n\r\nok",
    "leading zero": OK + b"Content-Length: 02\r\n\r\nok",
    "empty Content-Length": OK + b"Content-Length:\r\n\r\n",
    "2**63": OK + b"Content-Length: 9223372036854775808\r\n\r\n",
    "2**64 + 2": OK + b"Content-Length: 18446744073709551618\r\n\r\nok",
    "length and chunked": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "identity": OK + b"Transfer-Encoding: identity\r\n\r\n",
    "gzip, chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ", chunked": OK + b"Transfer-Encoding: , chunked\r\n\r\n0\r\n\r\n",
    "xchunked": OK + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked and a vertical tab": OK + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "empty Transfer-Encoding": OK + b"Transfer-Encoding:\r\n\r\n",
    "chunked in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "101 unasked": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "interim with a body": b"HTTP/1.1 103 Early Hints\r\nContent-Length: 2\r\n\r\nok" + response(),
    "interim with an empty chunked body": b"HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n" + response(),
    "interim that announces a body": b"HTTP/1.1 103 Early Hints\r\nContent-Length: 2\r\n\r\n" + response(),
    "interim without end": b"HTTP/1.1 102 Processing\r\n\r\n" * (MAX_INTERIM_RESPONSES + 1) + response(),
    "a long head": OK + b"X: y\r\n" * (MAX_HEAD_BYTES // 6) + b"\r\n",
    "a head without end": OK + b"X: " + b"y" * MAX_HEAD_BYTES,
    "chunk size with 0x": CHUNKED + b"0x2\r\nok\r\n0\r\n\r\n",
    "chunk size with a sign": CHUNKED + b"+2\r\nok\r\n0\r\n\r\n",
    "chunk size with a space": CHUNKED + b"2 \r\nok\r\n0\r\n\r\n",
    "chunk size overflow": CHUNKED + b"10000000000000002\r\nok\r\n0\r\n\r\n",
    "chunk size with bare LF": CHUNKED + b"2\nok\r\n0\r\n\r\n",
    "CR in a chunk extension": CHUNKED + b"2;a\r\rX\r\nok\r\n0\r\n\r\n",
    "LF in a chunk extension": CHUNKED + b"2;a\nX\r\nok\r\n0\r\n\r\n",
    "chunk longer than its size": CHUNKED + b"2\r\nokk\r\n0\r\n\r\n",
    "chunk shorter than its size": CHUNKED + b"3\r\nok\r\n0\r\n\r\n",
    "bare LF after chunk data": CHUNKED + b"2\r\nok\n0\r\n\r\n",
    "bare LF after the last chunk": CHUNKED + b"2\r\nok\r\n0\n\r\n",
    "bare LF at the very end": CHUNKED + b"2\r\nok\r\n0\r\n\n",
    "bare LF in the trailers": CHUNKED + b"0\r\nX: y\n\r\n",
    "Content-Length in the trailers": CHUNKED + b"0\r\nContent-Length: 2\r\n\r\n",
    "extensions without end": CHUNKED + b"2;" + b"a" * (2 * MAX_FRAMING_BYTES),
    "too many trailers": CHUNKED + b"2\r\nok\r\n0\r\n" + b"X:y\r\n" * (MAX_TRAILERS + 1) + b"\r\n",
    "a folded trailer": CHUNKED + b"0\r\nX: y\r\n z\r\n\r\n",
    "NUL in a trailer": CHUNKED + b"0\r\nX: y\0z\r\n\r\n",
    "space before the colon of a trailer": CHUNKED + b"0\r\nX : y\r\n\r\n",
    "trailers without end": CHUNKED + b"0\r\n" + b"X: y\r\n" * (MAX_FRAMING_BYTES // 3),
}  # fmt: skip


def read(pieces: list[bytes], *, to_head: bool = False, eof: bool = False) -> ResponseParser:
    parser = ResponseParser(to_head=to_head, max_bytes=MAX_HEAD_BYTES)
    for piece in pieces:
        if piece:
            parser.feed(piece)
    if eof:
        parser.feed_eof()
    return parser


@pytest.mark.parametrize(("raw", "body"), SOUND.values(), ids=SOUND)
def test_a_sound_response_reads_the_same_wherever_its_segments_are_cut(raw, body):
    """No offset at which a segment may end changes what is read."""
    for pieces in [each_byte(raw), *(cut_at(raw, offset) for offset in range(len(raw)))]:
        parser = read(pieces)

        assert (True, True, body) == (parser.complete, parser.reusable, b"".join(parser.chunks))


@pytest.mark.parametrize(("raw", "_body"), SOUND.values(), ids=SOUND)
@pytest.mark.parametrize("surplus", [b"\r\n", b"\n", b"\r", b"0", b"\0", b"HTTP/1.1 200 OK\r\n\r\n", response(b"evil")])
def test_a_byte_beyond_a_response_is_an_anomaly_wherever_the_segments_are_cut(raw, _body, surplus):
    """Even a line end after the last byte is seen, in the same segment, in the next, or in one of its own."""
    raw_and_more = raw + surplus
    for offset in range(len(raw_and_more)):
        with pytest.raises(ResponseAnomaly):
            read(cut_at(raw_and_more, offset))


@pytest.mark.parametrize("raw", ANOMALIES.values(), ids=ANOMALIES)
def test_what_two_readers_could_frame_differently_is_an_anomaly_in_one_segment(raw):
    """Nothing doubtful is repaired."""
    with pytest.raises(ResponseAnomaly):
        read([raw])


@pytest.mark.parametrize("raw", ANOMALIES.values(), ids=ANOMALIES)
def test_what_two_readers_could_frame_differently_is_an_anomaly_byte_by_byte(raw):
    """Segments do not hide it."""
    with pytest.raises(ResponseAnomaly):
        read(each_byte(raw))


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\r\n", b"\n\r"])
def test_every_line_end_of_the_framing_must_be_crlf(end):
    """Each CRLF of a chunked response, replaced alone by what some take for one, breaks the response."""
    raw = chunked_response(b"hello", headers=[(b"X", b"y")], trailers=[(b"Z", b"z")])
    offsets = [offset for offset in range(len(raw)) if raw.startswith(b"\r\n", offset)]
    for offset in offsets:
        with pytest.raises(ResponseAnomaly):
            read([raw[:offset] + end + raw[offset + 2 :]], eof=True)


@pytest.mark.parametrize("name", ["counted", "chunked", "chunked, with trailers", "after interim", "204"])
def test_a_response_cut_off_anywhere_is_an_anomaly(name):
    """The end of the stream is never taken for the end of a response that frames itself."""
    raw, _ = SOUND[name]
    for end in range(len(raw)):
        with pytest.raises(ResponseAnomaly):
            read([raw[:end]], eof=True)


def test_a_body_without_framing_ends_with_the_stream_and_costs_the_connection():
    """RFC 9112 section 6.3, rule 8."""
    parser = read([OK + b"\r\nhel", b"lo"], eof=True)

    assert (True, False, b"hello") == (parser.complete, parser.reusable, b"".join(parser.chunks))


@pytest.mark.parametrize(
    ("lines", "reusable"),
    [
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n", False),
        (b"HTTP/1.1 200 OK\r\nConnection: Upgrade,\t CLOSE\r\n", False),
        (b"HTTP/1.1 200 OK\r\nconnection: keep-alive\r\nConnection: close\r\n", False),
        (b"HTTP/1.0 200 OK\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n", True),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive, close\r\n", False),
    ],
)
def test_a_connection_persists_by_version_and_connection_options(lines, reusable):
    """RFC 9112 section 9.3; `close` is the last word."""
    assert reusable == read([lines + b"Content-Length: 2\r\n\r\nok"]).reusable


@pytest.mark.parametrize(
    ("head", "to_head", "reusable"),
    [
        (OK + b"\r\n", True, True),
        (OK + b"Content-Length: 0\r\n\r\n", True, True),
        (OK + b"Content-Length: 5\r\n\r\n", True, False),
        (CHUNKED, True, False),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", False, False),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", False, True),
        (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", False, False),
    ],
)
def test_a_response_without_a_body_ends_with_its_head_and_an_announced_body_costs_the_connection(
    head, to_head, reusable
):
    """Whoever announces a body to HEAD may send it later, into the next exchange; so there is no next one."""
    parser = read([head], to_head=to_head)

    assert (True, reusable, 0) == (parser.complete, parser.reusable, len(parser.chunks))


def test_headers_keep_bytes_order_case_and_repetition():
    """What the app sent is what there is, without the blanks around values."""
    raw = (
        OK + b"set-cookie: a=1\r\nX-Empty:\r\nSet-Cookie:  b=\xe9\x80\xff;\tq \t\r\nX:y:z\r\nContent-Length: 0\r\n\r\n"
    )

    head = read([raw]).head

    assert head is not None
    assert (
        (b"set-cookie", b"a=1"),
        (b"X-Empty", b""),
        (b"Set-Cookie", b"b=\xe9\x80\xff;\tq"),
        (b"X", b"y:z"),
        (b"Content-Length", b"0"),
    ) == head.headers


@pytest.mark.parametrize("reason", [b"", b"OK", b"Sehr gut", b"\xc3\xa9 \xff"])
def test_the_reason_is_kept(reason):
    """RFC 9112 section 4: any text, or none."""
    head = read([b"HTTP/1.1 299 " + reason + b"\r\nContent-Length: 0\r\n\r\n"]).head

    assert head is not None
    assert (299, reason) == (head.status, head.reason)


def test_many_tiny_chunks_in_one_segment_come_out_as_one_piece():
    """The cost downstream is by segment and not by chunk."""
    parser = read([CHUNKED + b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n"])

    assert ([b"x" * 10_000], 10_000) == (list(parser.chunks), parser.buffered)


# --- beside the response ---


def test_interim_responses_are_kept_in_order_but_for_100():
    """Wherever the segments are cut, and without a length that a client might believe."""
    raw = (
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 0\r\nlink: </b>\r\n\r\n" + response()
    )
    for pieces in [each_byte(raw), *(cut_at(raw, offset) for offset in range(len(raw)))]:
        interim = read(pieces).interim

        assert [(102, ()), (103, ((b"Link", b"</a>"), (b"link", b"</b>")))] == [
            (head.status, head.headers) for head in interim
        ]


def test_trailers_keep_bytes_order_case_and_repetition():
    """Wherever the segments are cut; the headers are not among them."""
    lines = [
        (b"X-Sum", b"1"),
        (b"x-sum", b"\xff 2"),
        (b"Content-Digest", b"sha-256=:x:"),
        (b"X-Locum-Assertion", b"forged"),
    ]
    raw = chunked_response(b"he", b"llo", headers=[(b"X-Head", b"y")], trailers=lines)
    for pieces in [each_byte(raw), *(cut_at(raw, offset) for offset in range(len(raw)))]:
        parser = read(pieces)

        assert tuple(lines) == parser.trailers
        assert parser.head is not None
        assert ((b"X-Head", b"y"), (b"Transfer-Encoding", b"chunked")) == parser.head.headers


@pytest.mark.parametrize(
    "name",
    [
        b"Transfer-Encoding", b"Host", b"Set-Cookie", b"cookie", b"Authorization", b"WWW-Authenticate", b"Proxy-Authorization", b"Connection",
        b"Trailer", b"TE", b"Upgrade", b"Keep-Alive", b"Content-Type", b"CONTENT-ENCODING", b"Content-Range",
        b"Content-Security-Policy", b"Cache-Control", b"Expires", b"Age", b"Date", b"Location", b"Vary", b"Expect", b"Range",
        b"If-Match", b"Max-Forwards", b"Access-Control-Allow-Origin", b"Sec-WebSocket-Accept",
    ],
)  # fmt: skip
def test_what_may_not_stand_in_trailers_is_dropped(name):
    """RFC 9110 section 6.5.1: nobody reads it there, or somebody merges it into the headers."""
    parser = read([chunked_response(b"hello", trailers=[(b"X", b"1"), (name, b"evil"), (b"Y", b"2")])])

    assert ((b"X", b"1"), (b"Y", b"2")) == parser.trailers


@pytest.mark.parametrize("raw", [response(), b"HTTP/1.1 204 No Content\r\n\r\n", chunked_response(b"x")])
def test_most_responses_have_no_trailers(raw):
    """Not even those of another response."""
    assert () == read([raw]).trailers
