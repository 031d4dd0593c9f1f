"""Ordinary traffic through a whole gateway, byte for byte: what a customer sends is what the app gets, and back."""

import gzip
import random

import pytest
import pytest_asyncio

from tests.attack_world import open_attack, request
from tests.gateway_world import HOST
from tests.oracle import parse_responses
from tests.rawwire import chunked_response, drip, each_byte, response
from tests.striker import HOST_LINE

whole = pytest.mark.asyncio(loop_scope="module")

OK = b"HTTP/1.1 200 OK\r\n"
CLOSE = b"Connection: close\r\n"
NOISE = bytes(range(256)) * 8
GZIP = gzip.compress(NOISE, mtime=0)
BROTLI = b"\x0b\x02\x80hello\x03"
ZSTD = b"\x28\xb5\x2f\xfd\x04\x00\x29\x00\x00hello\x7c\x35\xe2\x3c"


class App:
    """Gives the next answer that it was told to."""

    def __init__(self):
        self.answer = response()

    def __call__(self, seen):
        return self.answer


@pytest.fixture(scope="module")
def app():
    return App()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(tmp_path_factory, app):
    async with open_attack(tmp_path_factory.mktemp("gateway"), script=app, token=False) as attacker:
        yield attacker.world


@pytest.fixture
def answering(app):
    def told(answer):
        app.answer = answer

    yield told
    app.answer = response()


def get(*lines, method=b"GET", target=b"/tickets/1", version=b"HTTP/1.1", host=HOST_LINE, body=b""):
    return (
        method
        + b" "
        + target
        + b" "
        + version
        + b"\r\n"
        + host
        + b"".join(line + b"\r\n" for line in lines)
        + b"\r\n"
        + body
    )


# --- requests ---

REQUESTS = {
    "a browser's": get(
        b"User-Agent: Mozilla/5.0 (X11; Linux x86_64)", b"Accept: text/html,*/*;q=0.8", b"Accept-Language: de, en;q=0.5",
        b"Accept-Encoding: gzip, deflate, br, zstd", b"Referer: https://" + HOST.encode() + b"/", b"Cookie: a=b; c=d",
        b"DNT: 1", b"Sec-Fetch-Mode: navigate", b"Priority: u=0, i",
    ),
    "without a single header more than it must have": get(),
    "odd capitals, twice, and nothing in it": get(b"x-A: 1", b"X-a: 2", b"X-A:  ", b"cOOKIE: a=1", b"Cookie: b=2").replace(b":  ", b": "),
    "high bytes in values": get(b"X-Name: \xc3\xa9\x80\xff", b"Cookie: name=\xe9"),
    "high bytes and whatever else in the target": get(target=b'/\xc3\xa9/\xff?q=\x80&a=%zz|"<>^`{}[]\\;,@:!$\'()*+//../%2e%2E/./'),
    "a fragment": get(target=b"/a#b"),
    "a range": get(b"Range: bytes=0-99, 200-", b'If-Range: "abc"'),
    "conditions": get(b'If-None-Match: "a", W/"b"', b"If-Modified-Since: Mon, 01 Jan 2024 00:00:00 GMT", b"If-Match: *"),
    "another host, with a port": get(host=b"Host: other.example:8443\r\n"),
    "the app's own credential": get(b"Authorization: Basic dTpw", b"Proxy-Authorization: Basic dTpw"),
    "what proxies said": get(b"X-Forwarded-For: 192.0.2.1, 192.0.2.2", b"Via: 1.1 a", b"Forwarded: for=192.0.2.1", b"X-Real-IP: 192.0.2.1"),
    "another method": get(method=b"PROPFIND"),
    "a method that nobody knows": get(method=b"M-SEARCH!"),
    "OPTIONS of the server": get(method=b"OPTIONS", target=b"*"),
    "an empty body": get(b"Content-Length: 0", method=b"POST"),
    "a body of every byte": get(b"Content-Length: %d" % len(NOISE), b"Content-Type: x/y", method=b"POST", body=NOISE),
    "a body on GET": get(b"Content-Length: 5", body=b"hello"),
    "a body on DELETE": get(b"Content-Length: 5", method=b"DELETE", body=b"hello"),
    "a compressed body": get(b"Content-Encoding: gzip", b"Content-Length: %d" % len(GZIP), method=b"PUT", body=GZIP),
    "a body that looks like a request": get(b"Content-Length: %d" % len(get()), method=b"PATCH", body=get()),
    "the length last": get(b"X: y", b"content-length: 2", method=b"POST", body=b"hi"),
}  # fmt: skip


@whole
@pytest.mark.parametrize("name", REQUESTS)
async def test_a_request_arrives_as_it_was_sent(world, name):
    """In one piece and byte by byte; nothing is added, taken out, decoded, or put in order."""
    for pieces in ([REQUESTS[name]], each_byte(REQUESTS[name])):
        assert response() == await world.raw(pieces)
        seen = world.upstream.requests[-1]
        assert REQUESTS[name] == seen.head + seen.body


@whole
async def test_hundreds_of_made_up_requests_arrive_as_they_were_sent(world):
    """Any token for a name, any visible or high bytes in values and targets, bodies of any bytes; pipelined."""
    rng = random.Random(11)  # noqa: S311 - repeatable, not secret
    token = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~"
    visible = bytes([*range(0x21, 0x7F), *range(0x80, 0x100)])

    def some(of, most):
        return bytes(rng.choices(of, k=rng.randint(1, most)))

    def made_up():
        lines = [
            b"Q" + some(token, 20) + b": " + some(visible, 60) + b" \t" + some(visible, 9)
            for _ in range(rng.randint(0, 20))
        ]
        if rng.random() < 0.5:
            return get(*lines, target=b"/" + some(visible, 80))
        body = rng.randbytes(rng.randint(0, 3000))
        lines.insert(rng.randint(0, len(lines)), b"Content-Length: %d" % len(body))
        return get(*lines, method=b"X" + some(token, 8), target=b"/" + some(visible, 80), body=body)

    for _ in range(20):
        raws = [made_up() for _ in range(25)]
        before = len(world.upstream.requests)
        assert response() * 25 == await world.raw(b"".join(raws), responses=25)
        assert raws == [seen.head + seen.body for seen in world.upstream.requests[before:]]


HOP_BY_HOP = [
    b"Connection: keep-alive", b"Keep-Alive: timeout=5", b"Proxy-Connection: keep-alive", b"TE: trailers, deflate",
    b"Connection: X-Mine, keep-alive", b"X-Mine: 1", b"Expect: 100-continue",
]  # fmt: skip


@whole
async def test_what_describes_the_connection_is_all_that_stays_behind(world):
    """RFC 9110 section 7.6.1: and what Connection nominates."""
    assert response() == await world.raw(get(b"X-A: 1", *HOP_BY_HOP, b"X-B: 2"))
    assert get(b"X-A: 1", b"X-B: 2") == world.upstream.requests[-1].head


@whole
@pytest.mark.parametrize("size", [1, 2, 1000])
async def test_a_chunked_request_arrives_chunked_and_whole(world, size):
    """Extensions stay behind; the content is the same, and it is still chunked."""
    chunks = b"".join(
        b"%x;a=b\r\n%b\r\n" % (len(piece), piece)
        for piece in (NOISE[at : at + size] for at in range(0, len(NOISE), size))
    )
    raw = get(b"Transfer-Encoding: chunked", b"X-Last: 1", method=b"POST")
    assert response() == await world.raw(raw + chunks + b"0\r\n\r\n")
    seen = world.upstream.requests[-1]
    assert (raw, NOISE) == (seen.head, seen.body)


# --- responses ---

RESPONSES = {
    "plain": response(b"hello", headers=[(b"Date", b"Mon, 01 Jan 2024 00:00:00 GMT"), (b"Server", b"app/1")]),
    "every byte": response(NOISE, headers=[(b"Content-Type", b"application/octet-stream")]),
    "cookies, in order": response(headers=[(b"Set-Cookie", b"a=1; Path=/"), (b"X", b"y"), (b"set-cookie", b"a=2"), (b"Set-Cookie", b"b=3; Secure")]),
    "high bytes": response(headers=[(b"X-Name", b"\xc3\xa9\x80\xff"), (b"Location", b"/\xe9")]),
    "no reason": response(status=b"200 "),
    "a reason of its own": response(status=b"200 Sehr gut \xe9"),
    "a status that nobody knows": response(status=b"299 Odd"),
    "an error": response(status=b"503 Busy", headers=[(b"Retry-After", b"5")]),
    "a redirect to another place": response(status=b"302 Found", headers=[(b"Location", b"https://other.example/")]),
    "two challenges": response(status=b"401 Who", headers=[(b"WWW-Authenticate", b"Basic"), (b"WWW-Authenticate", b"Bearer")]),
    "gzip": response(GZIP, headers=[(b"Content-Encoding", b"gzip"), (b"Vary", b"Accept-Encoding")]),
    "brotli": response(BROTLI, headers=[(b"Content-Encoding", b"br")]),
    "zstd": response(ZSTD, headers=[(b"Content-Encoding", b"zstd")]),
    "a part": response(b"art", status=b"206 Partial Content", headers=[(b"Content-Range", b"bytes 1-3/4"), (b"Accept-Ranges", b"bytes")]),
    "no such part": response(b"", status=b"416 Range Not Satisfiable", headers=[(b"Content-Range", b"bytes */4")]),
    "nothing": response(b""),
    "no content": b"HTTP/1.1 204 No Content\r\nETag: x\r\n\r\n",
    "reset content": response(b"", status=b"205 Reset Content"),
    "not modified": b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nVary: Cookie\r\n\r\n',
    "not modified, with a length": b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 1000\r\n\r\n',
    "one chunk": chunked_response(b"hello", headers=[(b"Cache-Control", b"public")]).replace(b"Transfer-Encoding: chunked\r\nCache-Control: public", b"Cache-Control: public\r\nTransfer-Encoding: chunked"),
}  # fmt: skip


@whole
@pytest.mark.parametrize("name", RESPONSES)
async def test_a_response_arrives_as_it_was_sent(world, answering, name):
    """Whether it leaves the app in one piece or byte by byte; several on one connection."""
    raw = RESPONSES[name]
    ask = get() * 3
    answering(raw)
    assert raw * 3 == await world.raw(ask, responses=3)
    answering(drip(raw))
    [first, *_] = got = await parse_responses(await world.raw(ask, responses=3))
    assert [first] * 3 == got
    assert ([first.first_line, first.headers, bytes(first.body)]) == await _read(raw)


async def _read(raw):
    [one] = await parse_responses(raw)
    return [one.first_line, one.headers, bytes(one.body)]


@whole
async def test_what_describes_the_apps_connection_stays_behind(world, answering):
    """Its Connection, its Keep-Alive and what it nominates are not the client's."""
    lines = [
        (b"X-A", b"1"),
        (b"Connection", b"keep-alive, X-Mine"),
        (b"Keep-Alive", b"timeout=5"),
        (b"X-Mine", b"1"),
        (b"X-B", b"2"),
    ]
    answering(response(headers=lines))
    assert response(headers=[lines[0], lines[-1]]) == await world.raw(get())


HEADS = {
    "a length": OK + b"Content-Length: 1000\r\nETag: x\r\n\r\n",
    "no length": OK + b"ETag: x\r\n\r\n",
    "a length of nothing": OK + b"Content-Length: 0\r\n\r\n",
    "an error": b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n",
}


@whole
@pytest.mark.parametrize("name", HEADS)
async def test_the_answer_to_head_is_the_apps_head(world, answering, name):
    """Its length is that of a body that does not come, and the connection goes on."""
    answering(HEADS[name])
    assert HEADS[name] * 2 == await world.raw(get(method=b"HEAD") * 2, responses=2, to_head=True)


# --- versions ---


@whole
@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
@pytest.mark.parametrize("option", [b"", b"Connection: keep-alive", b"Connection: close"])
async def test_a_connection_goes_on_as_its_version_says(world, version, option):
    """RFC 9112 section 9.3; and the answer says so where the version alone does not."""
    persistent = option == b"Connection: keep-alive" or (version == b"HTTP/1.1" and option != b"Connection: close")
    raw = get(*([option] if option else []), version=version)
    answer = await world.raw(raw + get(b"Connection: close"), responses=None)
    told = b"" if version == b"HTTP/1.1" else b"Connection: keep-alive\r\n"
    first = response().replace(b"\r\n\r\n", b"\r\n" + (told if persistent else CLOSE) + b"\r\n")
    last = response().replace(b"\r\n\r\n", b"\r\n" + CLOSE + b"\r\n")
    assert first + (last if persistent else b"") == answer
    assert get() == world.upstream.requests[-1].head


@whole
async def test_http_10_gets_no_chunks(world, answering):
    """It does not know them: the body ends with the connection, whatever the client asked for."""
    answering(chunked_response(b"hel", b"lo"))
    for lines in ([], [b"Connection: keep-alive"]):
        answer = await world.raw(get(*lines, version=b"HTTP/1.0"), responses=None)
        assert OK + CLOSE + b"\r\nhello" == answer


@whole
async def test_a_body_that_ends_with_the_apps_connection_is_chunked_for_the_client(world, answering):
    """So that the client's connection goes on, and a truncation shows."""

    async def closing(connection):
        await connection.send(OK + b"X: y\r\n\r\nhello")
        connection.close()

    answering(closing)
    [first, second] = await parse_responses(await world.raw(get() * 2, responses=2))
    assert (b"hello", [(b"X", b"y"), (b"Transfer-Encoding", b"chunked")]) == (first.body, first.headers)
    assert first == second


# --- many on one connection ---


@whole
async def test_pipelined_answers_come_in_order_and_byte_for_byte(world, app, answering):
    """Of all methods and kinds of answer, whichever way the bytes come in."""
    kinds = list(RESPONSES.values())
    raw = b"".join(get(b"X-Kind: %d" % index) for index in range(len(kinds)))
    app_answer = iter(kinds * 2)

    async def next_answer(connection):
        await connection.send(next(app_answer))

    answering(next_answer)
    for pieces in ([raw], each_byte(raw)):
        assert b"".join(kinds) == await world.raw(pieces, responses=len(kinds))


@whole
async def test_a_refused_or_broken_request_takes_nothing_along_that_came_before_it(world):
    """What was pipelined ahead of it has its answer first."""
    raw = get(target=b"/1") + get(target=b"/2") + get(b"X : y", target=b"/3") + get(target=b"/4")
    before = len(world.upstream.requests)
    answer = await world.raw(raw, responses=None)
    assert [200, 200, 400] == [one.status for one in await parse_responses(answer)]
    assert [b"/1", b"/2"] == [seen.target for seen in world.upstream.requests[before:]]


@whole
async def test_customers_do_not_get_each_others_cookies(world, answering):
    """What the app sets for one is in no request of another: the gateway has no memory of its own."""
    answering(response(headers=[(b"Set-Cookie", b"session=of-one; Path=/")]))
    await world.raw(get(b"Cookie: mine=1"))
    await world.raw(request(host=HOST))
    assert request(host=HOST) == world.upstream.requests[-1].head
