"""What the app is told of the client's connection: nobody's word stands where it may be taken for what we state."""

import pytest

from gateway.proxy.names import fold
from tests.attack_world import open_attack, request
from tests.certificates import Authority
from tests.test_public_tls import connect, open_tls_world

ALIASES = (b"X_Forwarded_For", b"X-Forwarded_For", b"x.forwarded-for", b"X~FORWARDED~FOR")
SCHEME = b"x-forwarded-proto"


def appending(document):
    document["upstream"]["forwarded_for"] = "append"


def trusting(document):
    appending(document)
    document["server"]["trusted_proxies"] = ["127.0.0.0/8"]


def told(seen, name):
    """The lines that an app which folds names takes for `name`, as they came."""
    return [line for line in seen.headers if fold(line[0]) == name]


@pytest.mark.parametrize("alias", ALIASES)
async def test_an_alias_does_not_overrule_the_address_that_we_state(tmp_path, alias):
    """Before or behind the plain line, or alone: an app that folds names finds our word last, and no other line."""
    lie, plain = alias + b": 6.6.6.6", b"X-Forwarded-For: 1.1.1.1"
    async with open_attack(tmp_path, change=appending) as attacker:
        for lines, value in (
            ([lie], b"127.0.0.1"),
            ([lie, plain], b"1.1.1.1, 127.0.0.1"),
            ([plain, lie], b"1.1.1.1, 127.0.0.1"),
            ([lie, plain, lie], b"1.1.1.1, 127.0.0.1"),
        ):
            [seen] = (await attacker.send(request(None, *lines))).heard
            assert [(b"X-Forwarded-For", value)] == told(seen, b"x-forwarded-for")


async def test_what_is_not_stated_passes_as_it_came(tmp_path):
    """Without TLS of ours the scheme is whatever stands in front says; and with `keep` the address is, too."""
    lines = (b"X_Forwarded_For: 6.6.6.6", b"X_Forwarded_Proto: gopher", b"X-Forwarded-Proto: https")
    async with open_attack(tmp_path) as attacker:
        [seen] = (await attacker.send(request(None, *lines))).heard
        assert request(None, *lines) == seen.head
    (other := tmp_path / "other").mkdir()
    async with open_attack(other, change=appending) as attacker:
        [seen] = (await attacker.send(request(None, *lines))).heard
        assert [b"gopher", b"https"] == [value for _, value in told(seen, SCHEME)]


async def test_staff_are_told_of_by_a_trusted_proxy_and_nobody_else(tmp_path):
    """The scheme as it says it, once and plainly; an app that insists on https would redirect staff for ever."""
    async with open_attack(tmp_path, change=trusting) as attacker:
        for said, value in (
            ([b"X-Forwarded-Proto: https"], [b"https"]),
            ([b"x-forwarded-proto: http"], [b"http"]),
            ([b"X-Forwarded-Proto: https, http"], []),
            ([b"X-Forwarded-Proto: javascript"], []),
            ([b"X-Forwarded-Proto: https", b"X-Forwarded-Proto: http"], []),
            ([], []),
        ):
            [seen] = (await attacker.send(request(attacker.token, *said))).heard
            assert (said, value) == (said, [value for _, value in told(seen, SCHEME)])
    (other := tmp_path / "other").mkdir()
    async with open_attack(other, change=appending) as attacker:
        [seen] = (await attacker.send(request(attacker.token, b"X-Forwarded-Proto: https"))).heard
        assert [] == told(seen, SCHEME)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize("trusted", [False, True])
async def test_by_our_own_tls_the_scheme_is_https(tmp_path, authority, trusted):
    """For customers and staff; what a customer says of it stays behind, unless they are a proxy in front."""
    pair, also = authority.issue("127.0.0.1"), trusting if trusted else appending
    async with open_tls_world(tmp_path, authority, pair, also=also) as world:
        assert 200 == (await world.choose())[0]
        context, token = authority.trusting(), await world.token()

        async def heard(*lines):
            async with connect(world.port, context) as (reader, writer):
                writer.write(request(*lines))
                assert (await reader.readuntil(b"\r\n\r\nok")).startswith(b"HTTP/1.1 200 ")
            return [value for _, value in told(world.upstream.requests[-1], SCHEME)]

        lies = (b"X-Forwarded-Proto: http", b"X_Forwarded_Proto: http")
        assert [b"https"] == await heard(token)
        assert [b"https"] == await heard(None)
        assert ([b"http", b"http"] if trusted else [b"https"]) == await heard(None, *lies)
        assert ([b"http"] if trusted else [b"https"]) == await heard(token, lies[0])
