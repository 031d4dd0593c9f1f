"""TLS to the app as it is configured: it is verified, always, and learns who we are if it asks."""

import logging
import ssl

import pytest

from tests.certificates import EXPIRED, Authority, allow_old
from tests.gateway_world import open_world
from tests.rawwire import RecordingUpstream, response


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("stranger"), "a stranger")


async def ask(tmp_path, server, **tls):
    """Send one request through a gateway before an app over TLS; return the status and how many the app heard."""
    async with RecordingUpstream(response(), tls=server) as app:

        def change(document):
            document["upstream"] |= {"url": app.url} | ({"tls": tls} if tls else {})

        async with open_world(tmp_path, change=change) as world:
            status, _, body = await world.get(target="/")
        assert (status == 200) == (body == b"ok")
        return status, len(app.requests)


async def test_an_app_with_the_right_certificate_is_spoken_to(tmp_path, authority):
    """From the authority that is configured, for the host of the URL."""
    server = authority.issue("localhost").as_server()
    assert (200, 1) == await ask(tmp_path, server, ca=str(authority.file))


@pytest.mark.parametrize(
    "case", ["the system's authorities", "another authority", "another name", "expired", "no name"]
)
async def test_an_app_that_is_not_who_it_should_be_hears_nothing(tmp_path, authority, stranger, caplog, case):
    """Not a byte of a request; the client gets a 502, and the log says what was wrong with the certificate."""
    caplog.set_level(logging.WARNING)
    tls = {} if case == "the system's authorities" else {"ca": str(authority.file)}
    match case:
        case "another authority":
            pair = stranger.issue("localhost")
        case "another name":
            pair = authority.issue("127.0.0.2")
        case "expired":
            pair = authority.issue("localhost", file="expired", until=EXPIRED)
        case "no name":
            pair, tls["server_name"] = authority.issue("localhost"), "app.internal.example"
        case _:
            pair = authority.issue("localhost")
    assert (502, 0) == await ask(tmp_path, pair.as_server(), **tls)
    assert any("certificate" in message.lower() for message in caplog.messages), caplog.messages


async def test_the_certificate_may_be_for_another_name_than_the_address(tmp_path, authority):
    """That name is then the one that counts, and the one that is asked for."""
    asked = []
    server = authority.issue("app.internal.example").as_server()
    server.sni_callback = lambda _connection, name, _context: asked.append(name)
    name = "app.internal.example"
    assert (200, 1) == await ask(tmp_path, server, ca=str(authority.file), server_name=name)
    assert [name] == asked


@pytest.mark.parametrize(("who", "expected"), [("own", (200, 1)), ("nobody", (502, 0)), ("a stranger", (502, 0))])
async def test_an_app_that_asks_for_our_certificate_gets_it(tmp_path, authority, stranger, who, expected):
    """And turns away whoever has none, or another's: then it has heard no request."""
    server = authority.issue("localhost").as_server(clients=authority.file)
    shown = {"own": authority.issue("locum").table(), "a stranger": stranger.issue("locum").table()}.get(who, {})
    assert expected == await ask(tmp_path, server, ca=str(authority.file), **shown)


async def test_each_upstream_has_its_own_terms(tmp_path, authority, stranger):
    """Trusting an authority for one part of the app trusts it for no other."""
    async with (
        RecordingUpstream(response(b"ok"), tls=stranger.issue("localhost").as_server()) as chat,
        RecordingUpstream(response(b"ok"), tls=stranger.issue("localhost").as_server()) as files,
    ):

        def change(document):
            document["upstreams"] = [
                {"path": "/chat", "url": chat.url, "tls": {"ca": str(stranger.file)}},
                {"path": "/files", "url": files.url, "tls": {"ca": str(authority.file)}},
            ]

        async with open_world(tmp_path, change=change) as world:
            assert [200, 502, 200] == [(await world.get(target=target))[0] for target in ("/chat", "/files", "/")]
        assert (1, 0) == (len(chat.requests), len(files.requests))


async def test_an_app_that_speaks_an_old_version_hears_nothing(tmp_path, authority):
    """TLS 1.2 is the oldest."""
    server = authority.issue("localhost").as_server()
    allow_old(server, ssl.TLSVersion.TLSv1_1)
    assert (502, 0) == await ask(tmp_path, server, ca=str(authority.file))
