"""What a request's head may be for anybody: its version, its host, its size, and an upgrade that is not made."""

import asyncio

import pytest
import pytest_asyncio

from tests.attack_world import open_attack
from tests.gateway_world import HOST
from tests.striker import HOST_LINE, NONCE, REFUSED, SMUGGLED, Striker, in_one, in_two, message, named, splits_of

whole = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def striker(tmp_path_factory):
    async with open_attack(tmp_path_factory.mktemp("gateway")) as attacker:
        yield Striker(attacker)


# --- C9, C13, C14: upgrades, versions, hosts ---

INNER = b"0\r\n\r\n" + SMUGGLED
CHUNKED_HELLO = b"5\r\nhello\r\n0\r\n\r\n"
LENGTH = b"Content-Length: %d" % len(INNER)
CHUNKED = b"Transfer-Encoding: chunked"
UPGRADES = [
    message(b"Connection: Upgrade", b"Upgrade: " + protocol, *lines, method=method, body=body)
    for protocol in (b"websocket", b"h2c", b"tcp", b"TLS/1.0")
    for method, lines, body in (
        (b"GET", (), b""),
        (b"POST", (LENGTH,), INNER),
        (b"POST", (CHUNKED,), CHUNKED_HELLO),
        (b"POST", (b"Content-Length: 5", b"Expect: 100-continue"), b"hello"),
    )
]


@whole
@pytest.mark.parametrize("raw", UPGRADES)
async def test_an_upgrade_that_is_not_made_does_not_move_the_end_of_the_request(striker, raw):
    """What follows an ignored Upgrade is still its body; the connection goes on behind h2c, which every app ignores."""
    expected = INNER if INNER in raw else b"hello" if b"hello" in raw else b""
    for result in await asyncio.gather(*(striker.strike(raw, split) for split in splits_of(raw))):
        assert "" == result.fault
        assert result.bodies == ([expected, b""] if b"h2c" in raw else [expected])
        assert all(not seen.values(b"upgrade") or b"websocket" in raw for seen in result.heard)


VERSIONS = (
    b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/2", b"HTTP/3.0", b"HTTP/9.9", b"HTTP/01.1", b"HTTP/1.10", b"HTTP/11",
    b"http/1.1", b"HTTP /1.1", b"HTTP/ 1.1", b"HTTP/1.1 x", b"HTTP/1,1", b"HTTPS/1.1", b"ICE/1.0", b"RTSP/1.0", b"1.1",
    b"", b"HTTP/1.1\x00", b"HTTP/\xb9.1", b"HTTP/-1.1", b"HTTP/1.1\t", b"\tHTTP/1.1",
)  # fmt: skip


@whole
async def test_only_two_versions_are_http_here(striker):
    """A request line that names another version, or none, is refused, and so is chunking in HTTP/1.0."""
    cases = [(message(method=b"GET", version=version), REFUSED) for version in VERSIONS]
    cases.append((message(CHUNKED, version=b"HTTP/1.0", body=CHUNKED_HELLO), REFUSED))
    cases.append((b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", REFUSED))
    cases.append((b"GET  /case/" + NONCE + b"  HTTP/1.1\r\n" + HOST_LINE + b"\r\n", REFUSED))
    cases.append((b"GET\t/case/" + NONCE + b" HTTP/1.1\r\n" + HOST_LINE + b"\r\n", REFUSED))
    cases.append(
        (message(b"Connection: keep-alive", b"Content-Length: 5", version=b"HTTP/1.0", body=b"hello"), b"hello")
    )
    assert [] == await striker.judge(named(cases))


@whole
@pytest.mark.parametrize("version", [b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/9.9"])
async def test_a_lone_request_of_another_version_is_refused_too(striker, version):
    """With nothing behind it the parser takes some of them; they end here all the same."""
    result = await striker.strike(message(method=b"GET", version=version), last=b"")
    assert (True, []) == (result.status in (400, 505), result.heard)


HOSTS = (
    b"a\x00.b", b"a,b", b"a/b", b"a b", b"u@a", b"u:p@a", b"a?b", b"a#b", b"a\\b", b"a:b", b"a:80:80", b"a:123456", b"[::1",
    b"::1", b"a%2eb", b"a;b", b"http://a", b"\xe9", b"a\x0b", b'"a"', b"<a>", b"{a}", b"a\r\n b", b"[::1]x", b"[z]", b"a*",
)  # fmt: skip
GOOD_HOSTS = (
    HOST.encode(),
    b"a",
    b"a:80",
    b"a:",
    b"[::1]",
    b"[::1]:8080",
    b"127.0.0.1:1",
    b"a_b.example",
    b"A.Example.",
)


@whole
async def test_there_is_one_host_and_it_is_one(striker):
    """None, two, or one that some reader would take for another host or for a path: refused for everybody."""
    cases = [(message(method=b"GET", host=b"Host: " + host + b"\r\n"), REFUSED) for host in HOSTS]
    cases.append((message(method=b"GET", host=b""), REFUSED))
    cases.append((message(HOST_LINE.strip(), method=b"GET"), REFUSED))
    cases.append((message(b"hOST: evil.example", method=b"GET"), REFUSED))
    cases += [(message(method=b"GET", host=b"Host: " + host + b"\r\n"), b"") for host in GOOD_HOSTS]
    assert [] == await striker.judge(named(cases))


# --- N2: too much ---


@whole
async def test_heads_have_an_end(striker):
    """A line, a target and a number of lines beyond the bound are refused; what fits is passed on."""
    long = b"a" * 40_000
    cases = [
        (message(b"X: " + long), REFUSED),
        (message(long + b": x"), REFUSED),
        (message(*[b"X: y"] * 300), REFUSED),
        (message(method=b"GET").replace(NONCE, NONCE + long, 1), REFUSED),
        (message(b"X: " + long[:20_000], method=b"GET"), b""),
        (message(*[b"X: y"] * 200, method=b"GET"), b""),
    ]
    assert [] == await striker.judge(named(cases), lambda raw: (in_one, in_two(len(raw) // 2), in_two(len(raw) - 1)))
