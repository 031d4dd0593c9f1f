"""Where one request ends and the next begins: what can be read as two is refused, or goes on as exactly one."""

import asyncio
import contextlib
import re

import pytest
import pytest_asyncio

from tests.attack_world import open_attack
from tests.patience import PATIENCE_SECONDS
from tests.rawwire import each_byte, exchange
from tests.striker import (
    BROKEN,
    LAST,
    NONCE,
    REFUSED,
    SMUGGLED,
    Striker,
    in_one,
    in_two,
    message,
    named,
    splits_of,
)

whole = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def striker(tmp_path_factory):
    async with open_attack(tmp_path_factory.mktemp("gateway")) as attacker:
        yield Striker(attacker)


# --- C1, C2: two framings, or one that only some see ---

INNER = b"0\r\n\r\n" + SMUGGLED
CHUNKED_HELLO = b"5\r\nhello\r\n0\r\n\r\n"
LENGTH = b"Content-Length: %d" % len(INNER)
CHUNKED = b"Transfer-Encoding: chunked"

NAME_DAMAGE = (
    b"%b :", b"%b\t:", b"%b\x0b:", b"%b\x00:", b" %b:", b"\t%b:", b"\x0b%b:", b"\x00%b:", b"\xa0%b:", b"%b\xa0:", b"%b\x85:",
    b"%b::", b'"%b":', b"(%b):", b"%b;:", b"X: y\n%b:", b"X: y\r%b:", b"X: y\r\r\n%b:", b"X: y\n\r%b:", b"X:\n %b:", b"%b",
    b":%b:", b"%b\r\n :", b"%b\n:", b"%b\r:", b"\xc2\xad%b:", b"%b/:", b"%b=:", b"[%b]:", b"%b@:", b"%b,:",
)  # fmt: skip
CODINGS = (
    b"chunked;q=1", b"chunked\t", b"chunked, identity", b"identity, chunked", b",chunked", b"chunked,", b"chunked, chunked", b"xchunked",
    b"chunkedx", b'"chunked"', b"'chunked'", b"chunk", b"identity", b"", b"gzip, chunked", b"gzip", b"%63hunked", b"chunked\x00",
    b"\x00chunked", b"\x0bchunked", b"chunked\x0b", b"\x0cchunked", b"chunked\xa0", b"\xa0chunked", b"\x85chunked", b"ch\xc3\xbcnked",
    b"chunked\r\n\tx", b"\r\n chunked", b"\r\n\tchunked", b"chunked\n", b"\nchunked", b"chunked\rX: y", b"=chunked", b"chunked;",
    b"chunked x", b"x chunked", b"(chunked)", b"chunked/1.0", b"cow", b"chunked\x7f", b"\xff\xfechunked",
)  # fmt: skip
SPELT_CODINGS = (b"chunked", b"CHUNKED", b"cHuNkEd", b"chunked ", b"\tchunked", b" \tChunked ")


def obfuscations():
    for method in (b"GET", b"POST"):
        for first, second in ((LENGTH, CHUNKED), (CHUNKED, LENGTH)):
            yield message(first, second, method=method, body=INNER), REFUSED
        for damage in NAME_DAMAGE:
            yield message(LENGTH, damage % b"Transfer-Encoding" + b" chunked", method=method, body=INNER), REFUSED
            yield message(damage % b"Content-Length" + b" 4", CHUNKED, method=method, body=CHUNKED_HELLO), REFUSED
        for mark in b"!#$%&'*+.^_`|~":
            alias = b"Transfer%cEncoding: chunked" % mark
            yield message(LENGTH, alias, method=method, body=INNER), REFUSED
            yield message(b"Content%cLength: 4" % mark, CHUNKED, method=method, body=CHUNKED_HELLO), REFUSED
        for coding in CODINGS:
            line = b"Transfer-Encoding:" + coding
            yield message(line, method=method, body=CHUNKED_HELLO), REFUSED
            yield message(LENGTH, line, method=method, body=INNER), REFUSED
        for coding in SPELT_CODINGS:
            line = b"tRANSFER-eNCODING:" + coding
            yield message(line, method=method, body=CHUNKED_HELLO), b"hello"
            yield message(line, LENGTH, method=method, body=INNER), REFUSED
        yield message(CHUNKED, CHUNKED, method=method, body=CHUNKED_HELLO), REFUSED
        yield message(b"X-Transfer-Encoding: chunked", LENGTH, method=method, body=INNER), INNER


@whole
async def test_a_framing_that_only_some_readers_see_is_refused(striker):
    """Damaged or doubled Transfer-Encoding and Content-Length never make two requests out of one."""
    cases = named(obfuscations())
    assert len(cases) > 300
    assert [] == await striker.judge(cases)


# --- C3: lengths ---

LENGTHS = (
    b"5, 5", b"5,", b",5", b"5, 6", b"+5", b"-5", b"-0", b"0x5", b"5_0", b"5 0", b"5;", b"", b"05", b"00", b"010", b"5.0",
    b"5e0", b"%d" % 2**63, b"%d" % 2**64, b"9" * 20, b"%d" % (2**64 + 5), b"\xd9\xa5", b"5\x00", b"5\x0b", b"\x0b5",
    b"5\xa0", b"five", b"5\r\n 0", b"\r\n 5", b'"5"', b"5h", b"0b101", b"0o5", b"5L", b"NaN", b"\xb2",
)  # fmt: skip


@whole
async def test_a_length_that_can_be_read_as_two_numbers_is_refused(striker):
    """Signs, blanks, bases, leading zeros, overflow, repetition: only a plain number counts."""
    pairs = ((b"5", b"\r\nContent-Length: 5"), (b"5", b"\r\ncontent-length:0"), (b"0", b"\r\nCONTENT-LENGTH: 5"))
    wrong = (*LENGTHS, *(first + second for first, second in pairs))
    cases = [(message(b"Content-Length:" + length, body=b"hello"), REFUSED) for length in wrong]
    cases += [
        (message(b"Content-Length:" + length, body=b"hello"), b"hello") for length in (b"5", b" 5", b"\t5 \t", b"5 ")
    ]
    assert [] == await striker.judge(named(cases))


# --- C4, C5: the ends of lines ---

LINE_ENDS = (b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n ", b"\r\n\t", b"\x0b\r\n", b"\x00\r\n", b"\r\x00\n", b"\r\n\x00")
PLAIN = message(b"Accept: */*", b"X-Note: a", method=b"GET")
COUNTED = message(b"Accept: */*", b"Content-Length: 5", b"X-Note: a", body=b"hello")
STREAMED = message(CHUNKED, b"X-Note: a", body=b"5;x=y\r\nhello\r\n3\r\nyou\r\n0\r\n\r\n")


def damaged(raw: bytes):
    """Replace each CRLF of a message by each other end of line, one at a time."""
    for found in re.finditer(rb"\r\n", raw):
        before, after = raw[: found.start()], raw[found.end() :]
        for end in LINE_ENDS:
            # A whole empty line with something behind it has ended the head and spoilt nothing.
            if not (end.startswith(b"\r\n") and before.endswith(b"\r\n")):
                yield before + end + after


@whole
@pytest.mark.parametrize("raw", [PLAIN, COUNTED])
async def test_a_line_that_does_not_end_in_crlf_is_refused(striker, raw):
    """Whichever line of a head it is; and no byte of the request comes back in the error."""
    assert [] == await striker.judge(named((spoilt, REFUSED) for spoilt in damaged(raw)))


@whole
async def test_chunk_framing_that_does_not_end_in_crlf_never_completes_a_request(striker):
    """The app gets nothing, or a request that breaks off; the connection ends either way."""
    head = STREAMED.index(b"\r\n\r\n")
    cases = ((raw, REFUSED if _spoilt_at(raw) < head else BROKEN) for raw in damaged(STREAMED))
    assert [] == await striker.judge(named(cases))


def _spoilt_at(raw: bytes) -> int:
    return next(at for at, (was, now) in enumerate(zip(STREAMED, raw + b"\0" * 4, strict=False)) if was != now)


STRAYS = (b"\n", b"\r", b"\x00", b"\x0b")


@whole
async def test_a_stray_byte_anywhere_in_a_message_is_refused(striker):
    """A line end alone, a NUL, or a blank that some languages trim: in no place of a head, nor of chunk framing."""
    head = STREAMED.index(b"\r\n\r\n") + 4
    spoilt = [STREAMED[:at] + stray + STREAMED[at:] for at in range(len(STREAMED)) for stray in STRAYS]
    # What comes out as the whole message with a stray byte behind it has spoilt nothing.
    spoilt = [raw for raw in spoilt if not raw.startswith(STREAMED)]
    cases = [(raw, BROKEN if raw.startswith(STREAMED[:head]) else REFUSED) for raw in spoilt]

    def splits(raw):
        at = next(at for at, byte in enumerate(raw) if raw[:at] + raw[at + 1 :] == STREAMED)
        return in_one, each_byte, in_two(max(1, at)), in_two(at + 1), in_two(head)

    assert [] == await striker.judge(named(cases), splits)


# --- C6, C7: chunks and trailers ---

CHUNKS = (
    b"0x5\r\nhello\r\n", b"+5\r\nhello\r\n", b"-5\r\nhello\r\n", b" 5\r\nhello\r\n", b"5 \r\nhello\r\n", b"5\t\r\nhello\r\n",
    b"0_5\r\nhello\r\n", b"5_\r\nhello\r\n", b"g\r\nhello\r\n", b"\r\nhello\r\n", b"5\r\nhelloX\r\n", b"5\r\nhell\r\n",
    b"5\r\nhello", b"5\nhello\r\n", b"5\r\nhello\n", b"5\r\nhello\r", b"5;a=b\r\rXX\r\nhello\r\n", b"5;a\nb\r\nhello\r\n",
    b"5;a=\"\n\"\r\nhello\r\n", b"5;a\x00\r\nhello\r\n", b"10000000000000005\r\nhello\r\n", b"ffffffffffffffffffff\r\nhello\r\n",
    b"5,\r\nhello\r\n", b"5 5\r\nhello\r\n", b"\xd9\xa5\r\nhello\r\n", b"5.\r\nhello\r\n", b"0\r\n\r\r\n", b"0\r\n\n", b"0\n\r\n",
    b"\x005\r\nhello\r\n", b"5\r\r\nhello\r\n", b"5\x0b\r\nhello\r\n", b"h5\r\nhello\r\n", b"5h\r\nhello\r\n",
)  # fmt: skip
GOOD_CHUNKS = (
    b"5\r\nhello\r\n",
    b"005\r\nhello\r\n",
    b"5;a=b;c\r\nhello\r\n",
    b"1\r\nh\r\n4\r\nello\r\n",
    b'5;a="b;c"\r\nhello\r\n',
)


@whole
async def test_a_chunk_that_can_be_read_as_another_is_refused(striker):
    """Sizes are hexadecimal digits and nothing else, and each chunk ends where it says."""
    cases = [(message(CHUNKED, body=chunk + b"0\r\n\r\n"), BROKEN) for chunk in CHUNKS]
    cases += [(message(CHUNKED, body=chunk + b"0\r\n\r\n"), b"hello") for chunk in GOOD_CHUNKS]
    cases.append((message(CHUNKED, body=b"A\r\n0123456789\r\n0\r\n\r\n"), b"0123456789"))
    assert [] == await striker.judge(named(cases))


@whole
async def test_a_body_that_breaks_on_its_way_ends_both_connections(striker):
    """The app has the head already; then it gets no more, and neither side is left waiting."""
    world = striker.attacker.world
    before = len(world.upstream.requests)

    async def strike(index, chunk):
        nonce = b"way%02d" % index

        def heard():
            return [seen for seen in world.upstream.requests[before:] if nonce in seen.target]

        head = message(CHUNKED).replace(NONCE, nonce)
        await world.note_sent(head)
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                writer.write(head)
                await world.upstream.until(heard)
                writer.write(chunk + b"0\r\n\r\n" + LAST.replace(NONCE, nonce))
                with contextlib.suppress(ConnectionError):
                    assert b" 200 " not in await reader.read()
                [seen] = heard()
                await world.upstream.connections[seen.connection_id].ended.wait()
        finally:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        return chunk if seen.complete.is_set() else None

    done = await asyncio.gather(*(strike(index, chunk) for index, chunk in enumerate(CHUNKS)))
    assert {None} == set(done)


NO_TRAILERS = (
    b"X-Locum-Assertion: admin", b"X_Locum_Assertion: admin", b"x.locum.session: 1", b"Host: evil.example", b"Content-Length: 99",
    b"Transfer-Encoding: chunked", b"Authorization: Bearer x.y.z", b"Connection: close", b"Cookie: session=stolen",
)  # fmt: skip
BROKEN_TRAILERS = (
    b"GET /smuggled/" + NONCE + b" HTTP/1.1", b"X: y\nZ: z", b"X: y\rZ: z", b"X: a\x00b", b" X: folded", b"X : y", b"X: a\r\n b", b": y",
)  # fmt: skip


@whole
async def test_a_trailer_is_never_taken_for_a_header(striker):
    """What stands behind the last chunk changes no head, and what frames, routes or identifies goes nowhere."""
    cases = [(message(CHUNKED, body=b"5\r\nhello\r\n0\r\n" + line + b"\r\n\r\n"), b"hello") for line in NO_TRAILERS]
    # A parser may refuse those two by itself, which is as good.
    refused = [case for case in cases if b"\nContent-Length" in case[0] or case[0].count(b"Transfer-Encoding") > 1]
    cases = [case for case in cases if case not in refused] + [(raw, BROKEN) for raw, _ in refused]
    cases += [(message(CHUNKED, body=b"0\r\n" + line + b"\r\n\r\n"), BROKEN) for line in BROKEN_TRAILERS]
    assert [] == await striker.judge(named(cases))


@whole
async def test_trailers_have_an_end(striker):
    """Ten thousand of them are refused before they are read; they are more than is taken in with a head."""
    raw = message(CHUNKED, body=b"0\r\n" + b"X-T: y\r\n" * 10_000 + b"\r\n")
    assert [] == await striker.judge({"many": (raw, BROKEN)}, lambda raw: (in_two(1), in_two(raw.index(b"0\r\n"))))


# --- any segmentation ---

SPLIT_CASES = [
    (PLAIN, b""),
    (COUNTED, b"hello"),
    (message(CHUNKED, body=b"3;x\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"), b"hello"),
    (b"\r\n" + PLAIN, b""),
    (message(LENGTH, CHUNKED, body=INNER), REFUSED),
    (message(b"Content-Length: 05", body=b"hello"), REFUSED),
    (message(b"X: y\nTransfer-Encoding: chunked", LENGTH, body=INNER), REFUSED),
    (message(b"Transfer_Encoding: chunked", LENGTH, body=INNER), REFUSED),
]


@whole
async def test_where_the_network_cuts_makes_no_difference(striker):
    """Each message comes out the same in one piece, in two at every single place, and byte by byte."""
    assert [] == await striker.judge(named(SPLIT_CASES), lambda raw: splits_of(raw, everywhere=True))


async def test_pieces_are_what_the_gateway_reads():
    """What is sent in pieces by many at a time arrives in those pieces, or the tests above would show nothing."""
    read = []

    class Server(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport, self.pieces = transport, []
            read.append(self.pieces)

        def data_received(self, data):
            self.pieces.append(data)
            if data.endswith(b"!"):
                self.transport.close()

    door, turn = asyncio.Lock(), asyncio.Semaphore(24)
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def send(pieces):
        async with turn:
            await exchange("127.0.0.1", port, pieces, door=door)

    await asyncio.gather(*(send([b"some", b"thing", b"!"]) for _ in range(200)))
    server.close()
    await server.wait_closed()
    assert [[b"some", b"thing", b"!"]] * 200 == read
