"""A notice of the identity provider is opened with the provider's own keys, whole, and once; strangers cost it nothing."""

import asyncio
import contextlib
import hashlib
import hmac
import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.demo.issuer import DemoIssuer, Fault
from gateway.staff.issuer import IssuerError
from gateway.staff.notices import MOST_REMEMBERED
from gateway.tokens.compact import read_compact
from gateway.tokens.signing import SigningKey
from policy.events import NoticeError
from policy.model import ActorId
from tests.forgery import PRIVATE, Forger
from tests.journals import Ticks
from tests.notices import AT, IDP, KINDS, ME, forged, notices
from tests.scripted_idp import issuer_of, jwk
from tests.token_attacks import twin


async def code_of(kind, text):
    with pytest.raises(NoticeError) as error:
        await notices(kind).open(text)
    return error.value.code


@pytest.mark.parametrize("kind", KINDS)
async def test_every_byte_of_a_notice_counts(kind):
    """Whichever bit of it is flipped, wherever it is cut off, and whatever is put behind it: it is refused."""
    good = forged(kind)
    assert (await notices(kind).open(good)).person == ActorId(issuer=IDP, subject="dana")
    opened = notices(kind)
    for at in range(len(good)):
        for mask in (0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80):
            with pytest.raises(NoticeError):
                await opened.open(good[:at] + chr(ord(good[at]) ^ mask) + good[at + 1 :])
        with pytest.raises(NoticeError):
            await opened.open(good[:at])
    for more in ("=", " ", "\n", ".", "A", "\x00"):
        for text in (good + more, more + good):
            with pytest.raises(NoticeError):
                await opened.open(text)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("header", "sign"),
    [
        ({"alg": "none"}, lambda _signed: b""),
        ({"alg": "none"}, None),
        ({"alg": "nOnE"}, None),
        ({"alg": None}, None),
        ({"alg": ["EdDSA"]}, None),
        ({"alg": "HS256"}, None),
        ({"alg": "RS256"}, None),
        ({"alg": "ES256"}, None),
        ({"kid": "k2"}, None),
        ({"kid": None}, None),
        ({"kid": ["k1"]}, None),
        ({"kid": "../../dev/null"}, None),
        ({"crit": []}, None),
        ({"crit": ["exp"]}, None),
        ({"b64": False, "crit": ["b64"]}, None),
        ({}, lambda _signed: bytes(64)),
        ({}, lambda signed: PRIVATE.sign(signed + b"x")),
    ],
)
async def test_only_the_issuers_key_in_its_own_algorithm_counts(kind, header, sign):
    """BCL 2.6 steps 2 and 3: as of an ID token; no `none`, no shared secret, no key that the token brings along."""
    if header.get("alg") == "none" and sign is not None:
        sign = lambda _signed: b"x"  # noqa: E731 - an empty part is not a compact token at all
    assert "invalid_key" == await code_of(kind, forged(kind, header=header, sign=sign))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_shared_secret_made_of_the_public_key_counts_for_nothing(kind):
    """HS256 with the key's own bytes, in each of its spellings."""
    public = PRIVATE.public_key()
    for secret in (
        public.public_bytes_raw(),
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(jwk()).encode(),
    ):
        text = forged(
            kind,
            header={"alg": "HS256"},
            sign=lambda signed, secret=secret: hmac.digest(secret, signed, hashlib.sha256),
        )
        assert "invalid_key" == await code_of(kind, text)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_twin_of_a_used_notice_is_used(kind):
    """ES256 gives anybody a second signature, n - s for s: a notice is known again by its `jti`, not by its text."""
    _, claims, type_ = KINDS[kind]
    key = SigningKey.generate("es", "ES256")
    opened = notices(kind, others=[key.jwk()])
    text = key.sign(claims(), type_=type_)
    news = []
    for one in (text, twin(text), text):
        with opened.once(await opened.open(one)) as new:
            news.append(new)
    assert text != twin(text)
    assert [True, False, False] == news


@pytest.mark.parametrize("kind", KINDS)
async def test_what_can_be_read_two_ways_is_refused(kind):
    """A member that is there twice, in the header, the claims or the event; and no JSON object at all."""
    _, claims, type_ = KINDS[kind]
    forger = Forger(private=PRIVATE, key_id="k1")
    header = json.dumps({"alg": "EdDSA", "kid": "k1", "typ": type_})
    payload = json.dumps(claims())
    assert await notices(kind).open(forger.token(payload.encode(), header.encode()))
    twice = [
        (header[:-1] + f', "typ": "{type_}"}}', payload),
        (header, payload[:-1] + f', "iss": "{IDP}"}}'),
        (header, payload[:-1] + f', "iat": {AT}}}'),
        (header, payload.replace('"events": {', '"events": {}, "events": {')),
        (header, payload.replace("/event/", "/event/", 1).replace('": {', '": {"a": 1, "a": 1, ', 1)),
        (header, f"[{payload}]"),
        (header, "null"),
        (header, payload[:-1] + ', "x": NaN}'),
    ]
    for one, other in twice:
        assert "invalid_request" == await code_of(kind, forger.token(other.encode(), one.encode()))


async def test_memory_has_a_bound_and_ends_with_the_notice():
    """Four thousand of the newest; and no longer than a notice could be sent again."""
    ticks = Ticks()
    opened = notices("logout", ticks=ticks)
    notice = await opened.open(forged("logout"))

    def is_new(one):
        with opened.once(one) as new:
            return new

    assert [True, False] == [is_new(notice), is_new(notice)]
    assert is_new(replace(notice, id="other"))
    ticks.now = 3604.9
    assert not is_new(notice)
    ticks.now = 8000
    assert is_new(notice)
    for n in range(MOST_REMEMBERED):
        assert is_new(replace(notice, id=f"n-{n}"))
    assert is_new(notice)


def unknown(n):
    return read_compact(Forger(private=PRIVATE, key_id=f"k-{n}").token({}, {"alg": "EdDSA", "kid": f"k-{n}"}))


async def test_strangers_have_the_issuer_asked_once_a_minute_and_use_up_nobody_elses_minute():
    """Ten thousand invented keys; whoever is vouched for finds a new key all the same, and a good notice goes on."""
    ticks = Ticks()
    async with DemoIssuer() as demo, issuer_of(demo.issuer, ticks) as issuer:
        known = read_compact(demo.token("dana", audience=ME))
        assert await issuer.keys_for(known)
        for minute in range(1, 4):
            ticks.now = minute * 60
            await asyncio.gather(*(_try(issuer, f"{minute}.{n}") for n in range(50)))
            for n in range(3000):
                await _try(issuer, n)
            assert minute + 1 == demo.jwks_fetches
            assert await issuer.keys_for(known, stranger=True)
        demo.rotate()
        new = read_compact(demo.token("dana", audience=ME))
        with pytest.raises(IssuerError, match="a moment ago"):
            await issuer.keys_for(new, stranger=True)
        assert any(key.id == new.header["kid"] for key in await issuer.keys_for(new))
        assert 5 == demo.jwks_fetches
        assert await issuer.keys_for(new, stranger=True)


async def _try(issuer, n):
    with contextlib.suppress(IssuerError):
        await issuer.keys_for(unknown(n), stranger=True)


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.GARBAGE, Fault.FOREIGN])
async def test_an_issuer_that_is_away_is_not_asked_by_each_stranger(fault):
    """Once in ten seconds, while no key of it is known; whoever is vouched for may ask at any time."""
    ticks = Ticks()
    async with DemoIssuer() as demo, issuer_of(demo.issuer, ticks) as issuer:
        demo.down(fault)
        for attempt in range(3):
            ticks.now = attempt * 10
            for n in range(200):
                await _try(issuer, n)
            assert attempt + 1 == demo.discovery_fetches
        with pytest.raises(IssuerError):
            await issuer.keys_for(unknown(0))
        assert 4 == demo.discovery_fetches
        demo.up()
        with pytest.raises(IssuerError):
            await issuer.keys_for(unknown(0), stranger=True)
        ticks.now += 10
        assert await issuer.keys_for(read_compact(demo.token("dana", audience=ME)), stranger=True)
