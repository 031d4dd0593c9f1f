"""No token but the very one that we signed lets anybody in, and a damaged one of ours never reaches the app."""

import asyncio

import pytest
import pytest_asyncio

from gateway.tokens.signing import TokenRefused, TokenVerifier
from policy.model import DenyReason
from tests.forgery import Forger, b64
from tests.gateway_world import HOST, ISSUER, open_world, parse
from tests.rawwire import RecordingUpstream
from tests.token_attacks import header_attacks, payload_attacks, spellings

shared = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory):
    async with open_world(tmp_path_factory.mktemp("tokens")) as world:
        await world.add_account("beta")
        assert 200 == (await world.choose("week"))[0]
        assert 200 == (await world.choose("week", account="beta"))[0]
        yield world


async def send_each(world, tokens):
    """Send each token on a connection of its own, many at a time; return the statuses."""
    gate = asyncio.Semaphore(32)

    async def one(token):
        head = b"GET /tickets/1 HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\nConnection: close\r\n"
        async with gate:
            return parse(await world.raw(head + b"Authorization: Bearer " + token + b"\r\n\r\n"))[0]

    return await asyncio.gather(*[one(token) for token in tokens])


@shared
async def test_the_door_refuses_what_the_verifier_refuses(world):
    """Forged tokens get 401 and a record each; the app hears nothing and nobody is asked for keys."""
    async with RecordingUpstream() as outside:
        forger = Forger(private=world.gateway.keys.signing.private, key_id=world.gateway.keys.signing.id)
        forger.now = world.clock.now
        tokens = [token for _, token in [*header_attacks(forger, f"{outside.url}/keys"), *payload_attacks(forger)]]
        heard, asked, written = len(world.upstream.requests), world.issuer.jwks_fetches, refusals(world)
        assert {401} == set(await send_each(world, [token.encode() for token in tokens]))
        assert heard == len(world.upstream.requests)
        assert asked == world.issuer.jwks_fetches
        assert [] == outside.connections
        assert len(tokens) == refusals(world) - written


@shared
async def test_a_damaged_token_never_reaches_the_app(world):
    """One flipped bit in each byte of a live token: refused at the door, not handed on as somebody else's."""
    good = (await world.token()).encode()
    heard = len(world.upstream.requests)
    damaged = [good[:i] + bytes([byte ^ (1 << (i % 8))]) + good[i + 1 :] for i, byte in enumerate(good)]
    # A bit may make a line break, and then the request itself is broken; a 400 is a refusal too.
    assert {400, 401} >= set(await send_each(world, damaged))
    # White space around a header's value is not part of it.
    others = [other.encode() for name, other in spellings(good.decode()) if "blank" not in name and "line" not in name]
    assert {401} == set(await send_each(world, others))
    assert heard == len(world.upstream.requests)
    assert 200 == (await world.get(good.decode()))[0]


@shared
async def test_a_token_counts_from_its_issue_to_just_before_its_end(world):
    """Both ends, with five seconds for the clock of whoever issued it; and an ended one does not live for longer."""
    world.clock.forward(seconds=10)  # behind the beginning of the grant, which has no such leeway
    token = await world.token()
    start = world.clock.now
    for seconds, expected in (
        (-6, 401),
        (-5, 200),
        (0, 200),
        (899, 200),
        (900, 401),
        (901, 401),
        (3600, 401),
        (10, 200),
    ):
        world.clock.now = start
        world.clock.forward(seconds=seconds)
        status, headers, _ = await world.get(token)
        assert expected == status, seconds
        if status == 401:
            assert 'error="invalid_token"' in headers["www-authenticate"]
    world.clock.now = start


@shared
async def test_a_token_of_one_account_opens_no_other(world):
    """The host decides which account is asked; the token must be that account's."""
    token = await world.token()
    heard = len(world.upstream.requests)
    for host in (
        "beta.helpdesk.example",
        "acme.helpdesk.example.evil",
        "helpdesk.example",
        "ACME.beta.helpdesk.example",
    ):
        raw = f"GET /tickets/1 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
        status, _, body = parse(await world.raw(raw.encode()))
        assert 403 == status
        assert ("wrong_account" if host.startswith("beta") else "unknown_account") in body.decode()
    assert heard == len(world.upstream.requests)


@shared
@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("Authorization: Bearer {t}\r\nAuthorization: Bearer {t}", DenyReason.AMBIGUOUS_HEADER),
        ("Authorization: Bearer {t}, Bearer {t}", DenyReason.AMBIGUOUS_HEADER),
        ("Authorization: Bearer {t}\r\nAuthorization: Basic eDp5", DenyReason.AMBIGUOUS_HEADER),
        ("Authorization: Token {t}", DenyReason.AMBIGUOUS_HEADER),
        ('Authorization: Bearer "{t}"', DenyReason.TOKEN_INVALID),
        ("Authorization: {t}", DenyReason.AMBIGUOUS_HEADER),
        ("Authorization: Bearer {t}\r\nConnection: authorization", DenyReason.AMBIGUOUS_HEADER),
        ("AUTHORIZATION: bEARER {t}", None),
    ],
)
async def test_a_token_is_read_in_one_way_or_refused(world, lines, reason):
    """Twice, wrapped, under another scheme or nominated away: what is ours and unclear is refused."""
    raw = f"GET /tickets/1 HTTP/1.1\r\nHost: {HOST}\r\n{lines.format(t=await world.token())}\r\n\r\n"
    heard = len(world.upstream.requests)
    status, _, body = parse(await world.raw(raw.encode()))
    if reason is None:
        assert 200 == status
        return
    assert status in (400, 401)
    assert reason in body.decode()
    assert heard == len(world.upstream.requests)


@shared
async def test_a_token_in_the_query_or_a_cookie_is_no_credential(world):
    """RFC 6750 section 2.3 is not served: it is refused, and neither the app nor the journal gets to see the token."""
    token = await world.token()
    heard = len(world.upstream.requests)
    for target, headers in (
        (f"/tickets/1?access_token={token}", []),
        (f"/tickets/1?{token}", []),
        (f"/tickets/{token}", []),
        ("/tickets/1", [("Cookie", f"token={token}")]),
        ("/tickets/1", [("Proxy-Authorization", f"Bearer {token}")]),
        ("/tickets/1", [("User-Agent", token)]),
    ):
        for credential in (None, token):
            status, _, body = await world.get(credential, target, headers=headers)
            assert (400, True) == (status, b"ambiguous_header" in body), (target, headers)
    assert heard == len(world.upstream.requests)
    journal = b"".join(path.read_bytes() for path in (world.directory / "journal").iterdir())
    assert token.encode()[:60] not in journal


def refusals(world):
    return len(world.records(kind="decision", decision="deny"))


@shared
async def test_ten_thousand_tokens_that_are_not_ours_cost_the_store_nothing(world):
    """What is damaged, forged or signed by nobody is refused before anybody asks for a fact, and nothing is kept of it."""
    good = await world.token()
    assert 200 == (await world.get(good))[0]
    signed, _, _ = good.rpartition(".")
    bogus = [f"{signed}.{b64(number.to_bytes(64, 'big'))}" for number in range(10_000)]
    verifier = TokenVerifier(world.gateway.keys, issuer=ISSUER)
    accepted = 0
    for token in bogus:
        try:
            verifier.verify(token)
        except TokenRefused:
            continue
        accepted += 1
    assert 0 == accepted
    before = await _fetches(world)
    assert {401} == set(await send_each(world, [token.encode() for token in bogus[:100]]))
    assert before == await _fetches(world)


async def _fetches(world):
    """Return how often the store was asked for facts, as monitoring reads it."""
    async with world.http.get(f"{world.gateway.admin_url}/metrics") as answer:
        text = await answer.text()
    return sorted(line for line in text.splitlines() if line.startswith("locum_fact_fetches_total"))
