"""The vendor's issuer is asked safely, seldom, and believed only about itself; while it is away its last word counts."""

import asyncio
import json
import logging
from datetime import UTC, datetime

import pytest

from gateway.demo.issuer import DemoIssuer, Fault
from gateway.staff.issuer import IssuerError
from gateway.tokens.compact import read_compact
from gateway.tokens.signing import TokenRefused, verify_foreign
from tests.journals import Ticks
from tests.rawwire import RecordingUpstream, hold, response, then_close
from tests.scripted_idp import ME, id_token, idp, issuer_of, jwk


def token_of(kid):
    return read_compact(id_token(kid=kid))


async def test_discovery_leads_to_the_keys():
    """The document under the well-known path, then the keys it names; a second token asks nobody."""
    async with idp() as (upstream, issuer):
        for _ in range(3):
            assert ["k1"] == [key.id for key in await issuer.keys_for(token_of("k1"))]
        assert [b"/.well-known/openid-configuration", b"/keys"] == [request.target for request in upstream.requests]


async def test_an_issuer_may_end_in_a_slash():
    """Its documents are asked for without a second slash, and its name is still compared whole."""
    async with idp(slash="/") as (upstream, issuer):
        assert await issuer.keys_for(token_of("k1"))
        assert b"/.well-known/openid-configuration" == upstream.requests[0].target


BIG = b'{"keys":[],"x":"' + b"x" * 70_000 + b'"}'
REDIRECT = response(b"", status=b"302 Found", headers=[(b"Location", b"/keys")])
BROKEN = {
    "500": response(b"{}", status=b"500 Oops"),
    "404": response(b"{}", status=b"404 Not Found"),
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "a redirect": REDIRECT,
    "HTML": response(b"<!doctype html><title>Sign in</title>"),
    "nothing": response(b""),
    "null": response(b"null"),
    "a list": response(b"[]"),
    "a text": response(b'"keys"'),
    "JSON cut short": response(b'{"keys":[{"kty":'),
    "not UTF-8": response(b'{"keys":"\xff\xfe"}'),
    "nested 30000 deep": response(b'{"keys":' + b"[" * 30_000 + b"]" * 30_000 + b"}"),
    "too long": response(BIG),
    "a body cut short": then_close(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"),
    "a head cut short": then_close(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "no HTTP": then_close(b"220 mail.example ESMTP\r\n"),
    "a closed connection": then_close(b""),
    "a false gzip": response(b"{}", headers=[(b"Content-Encoding", b"gzip")]),
}


@pytest.mark.parametrize("where", ["discovery", "keys"])
@pytest.mark.parametrize("case", BROKEN)
async def test_a_broken_issuer_has_no_keys(where, case, caplog):
    """Whatever comes instead of a document: it cannot be asked, a line in the log says so, and no redirect is followed."""
    async with idp(**{where: BROKEN[case]}) as (upstream, issuer):
        with caplog.at_level(logging.WARNING), pytest.raises(IssuerError):
            await issuer.keys_for(token_of("k1"))
        assert "could not be fetched" in caplog.text
        # By address: aiohttp repeats a GET once when the connection breaks off before the answer.
        asked = {request.target for request in upstream.requests}
        assert {b"/.well-known/openid-configuration"} | ({b"/keys"} if where == "keys" else set()) == asked


@pytest.mark.parametrize(
    "discovery",
    [
        {"issuer": "https://other.example", "jwks_uri": "http://127.0.0.1/keys"},
        {"jwks_uri": "http://127.0.0.1/keys"},
        {"issuer": None},
        {},
    ],
)
async def test_a_foreign_discovery_document_is_not_believed(discovery):
    """It must be this issuer's own (OpenID Connect Discovery 1.0 section 4.3), and name its keys."""
    async with idp(discovery) as (upstream, issuer):
        with pytest.raises(IssuerError):
            await issuer.keys_for(token_of("k1"))
        assert 1 == len(upstream.requests)


@pytest.mark.parametrize(
    "address",
    ["http://idp.invalid/keys", "http://10.0.0.1/keys", "http://127.0.0.1.evil.invalid/", "file:///dev/null", "ftp://127.0.0.1/", "/keys", "", "http://[", 5],
)  # fmt: skip
async def test_keys_come_over_tls_or_from_this_machine(address):
    """Anything else could be anybody's; it is refused before a name is looked up."""

    def script(request):
        return response(json.dumps({"issuer": upstream.url, "jwks_uri": address}).encode())

    async with RecordingUpstream(script) as upstream, issuer_of(upstream.url) as issuer:
        with pytest.raises(IssuerError, match=r"https|names no keys|cannot be asked"):
            await issuer.keys_for(token_of("k1"))


@pytest.mark.parametrize(
    "address", ["http://idp.vendor.example", "ftp://127.0.0.1", "idp.vendor.example", "file:///etc"]
)
async def test_an_issuer_in_the_clear_is_never_asked(address):
    """Plain http is for loopback alone."""
    async with issuer_of(address) as issuer:
        with pytest.raises(IssuerError, match=r"https|cannot be asked"):
            await issuer.keys_for(token_of("k1"))


async def test_new_keys_are_found_and_old_ones_forgotten():
    """After a rotation an unknown key id leads to the new set; a key that is gone from it verifies nothing more."""
    ticks = Ticks()
    async with DemoIssuer() as demo, issuer_of(demo.issuer, ticks) as issuer:

        async def verify(token):
            parsed = read_compact(token)
            keys = await issuer.keys_for(parsed)
            return verify_foreign(parsed, keys, issuer=demo.issuer, audience=ME, now=datetime.now(UTC))  # noqa: TID251 - the demo's clock

        old = demo.token("dana", audience=ME)
        assert "dana" == (await verify(old))["sub"]
        demo.rotate(overlap=False)
        new = demo.token("dana", audience=ME)
        with pytest.raises(TokenRefused):
            await verify(new)
        ticks.now += 60
        assert "dana" == (await verify(new))["sub"]
        with pytest.raises(TokenRefused):
            await verify(old)


async def test_a_new_key_in_the_issuers_own_answer_is_asked_for_at_once():
    """However often it changes its keys; for a known one nobody is asked, and nobody else's minute is used up."""
    async with DemoIssuer() as demo, issuer_of(demo.issuer, Ticks()) as issuer:
        for fetches in (1, 2, 3, 4):
            token = read_compact(demo.token("dana", audience=ME))
            for _ in range(3):
                keys = await issuer.keys_for(token, direct=True)
                assert token.header["kid"] in {key.id for key in keys}
            assert fetches == demo.jwks_fetches
            demo.rotate(overlap=False)
        # Sign-ins that come at the same time share what it is asked.
        token = read_compact(demo.token("dana", audience=ME))
        await asyncio.gather(*(issuer.keys_for(token, direct=True) for _ in range(50)))
        assert 5 == demo.jwks_fetches
        for fetches in (6, 6):
            await issuer.keys_for(token_of("made up"))
            assert fetches == demo.jwks_fetches


async def test_unknown_keys_are_asked_for_once_a_minute():
    """Ten thousand invented key ids make one fetch a minute, also when they come at once."""
    ticks = Ticks()
    async with DemoIssuer() as demo, issuer_of(demo.issuer, ticks) as issuer:
        await asyncio.gather(*[issuer.keys_for(token_of(f"first-{n}")) for n in range(50)])
        assert 1 == demo.jwks_fetches
        for minute in range(1, 4):
            ticks.now = minute * 60 - 0.001
            await asyncio.gather(*[issuer.keys_for(token_of(f"{minute}-{n}")) for n in range(50)])
            assert minute == demo.jwks_fetches
            ticks.now = minute * 60
            for n in range(2500):
                await issuer.keys_for(token_of(f"{minute}.{n}"))
            assert minute + 1 == demo.jwks_fetches


async def test_keys_are_fetched_anew_each_hour():
    """A key that the issuer took back does not count for ever."""
    ticks = Ticks()
    async with DemoIssuer() as demo, issuer_of(demo.issuer, ticks) as issuer:
        known = read_compact(demo.token("dana", audience=ME))
        await issuer.keys_for(known)
        ticks.now = 3599
        await issuer.keys_for(known)
        assert 1 == demo.jwks_fetches
        ticks.now = 3600
        await issuer.keys_for(known)
        assert 2 == demo.jwks_fetches


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.SILENT])
async def test_an_outage_keeps_the_keys_known_last(fault):
    """While the issuer is away what it said goes on counting, and it is asked no more than once a minute."""
    ticks = Ticks()
    async with DemoIssuer() as demo, issuer_of(demo.issuer, ticks) as issuer:
        known = read_compact(demo.token("dana", audience=ME))
        before = await issuer.keys_for(known)
        demo.down(fault)
        ticks.now = 7200
        for _ in range(20):
            assert before == await issuer.keys_for(known)
            assert before == await issuer.keys_for(token_of("unknown"))
        # aiohttp repeats a GET once when the connection breaks off before the answer.
        assert (3 if fault is Fault.ABORTING else 2) == demo.discovery_fetches


async def test_a_failed_or_cancelled_first_fetch_is_made_again():
    """There is nothing to lose by asking: the first answer is not put off for a minute."""
    answers = [response(b"", status=b"503 Away"), hold(asyncio.Event()), None]

    def script(request):
        right = {"keys": [jwk()], "issuer": upstream.url, "jwks_uri": f"{upstream.url}/keys"}
        return (answers.pop(0) if answers else None) or response(json.dumps(right).encode())

    async with RecordingUpstream(script) as upstream, issuer_of(upstream.url) as issuer:
        with pytest.raises(IssuerError):
            await issuer.keys_for(token_of("k"))
        asking = asyncio.ensure_future(issuer.keys_for(token_of("k")))
        await upstream.until(lambda: len(upstream.requests) == 2)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert ["k1"] == [key.id for key in await issuer.keys_for(token_of("k"))]


async def test_first_sign_ins_at_once_wait_for_the_same_answer():
    """The attack of a start: whoever comes while the keys are fetched for the first time is not told that there are none."""
    come, strangers = asyncio.Event(), 20

    def script(request):
        right = {"keys": [jwk()], "issuer": upstream.url, "jwks_uri": f"{upstream.url}/keys"}
        return hold(come, after=response(json.dumps(right).encode()))

    async with RecordingUpstream(script) as upstream, issuer_of(upstream.url) as issuer:
        asking = [asyncio.ensure_future(issuer.keys_for(token_of("k1"), stranger=True)) for _ in range(strangers)]
        await upstream.until(lambda: upstream.requests)
        asking.append(asyncio.ensure_future(issuer.keys_for(token_of("k1"), stranger=True)))
        await asyncio.sleep(0)
        assert not any(one.done() for one in asking)
        come.set()
        assert {"k1"} == {key.id for keys in await asyncio.gather(*asking) for key in keys}
        assert 2 == len(upstream.requests), "each document once"


async def test_an_issuer_that_is_away_at_a_start_is_not_asked_once_by_each_stranger():
    """Those who waited share how it came out, and for ten seconds nobody asks again."""
    come, ticks = asyncio.Event(), Ticks()
    script = hold(come, after=response(b"", status=b"503 Away"))
    async with RecordingUpstream(script) as upstream, issuer_of(upstream.url, ticks) as issuer:
        asking = [asyncio.ensure_future(issuer.keys_for(token_of("k1"), stranger=True)) for _ in range(20)]
        await upstream.until(lambda: upstream.requests)
        come.set()
        assert {IssuerError} == {type(one) for one in await asyncio.gather(*asking, return_exceptions=True)}
        assert 1 == len(upstream.requests)
