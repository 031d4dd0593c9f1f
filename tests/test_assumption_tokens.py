"""No token but the very one that we signed lets anybody in, and a damaged one of ours never reaches the app."""

import asyncio
import hashlib
import hmac
import itertools
import json
import string

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.proxy.names import Names
from gateway.proxy.triage import Credential, find_credential
from gateway.tokens.signing import SigningKey, TokenRefused, TokenVerifier
from policy.model import ActorId, DenyReason
from policy.scopes import parse_scopes
from tests.forgery import DROP, ISSUER, KEY, NOON, PRIVATE, Forger, b64, detail
from tests.gateway_world import HOST, open_world, parse
from tests.rawwire import RecordingUpstream

# The public half in every form that a careless verifier might take for an HMAC secret.
PUBLIC_FORMS = {
    "raw": PRIVATE.public_key().public_bytes_raw(),
    "der": PRIVATE.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    "pem": PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    "pem, stripped": PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).strip(),
    "openssh": PRIVATE.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
    "jwk": json.dumps(KEY.jwk()).encode(),
    "x": KEY.jwk()["x"].encode(),
    "empty": b"",
}
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493


@pytest.fixture
def verifier():
    return TokenVerifier([KEY], issuer=ISSUER)


@pytest.fixture
def forger():
    return Forger(private=PRIVATE, key_id=KEY.id)


def header_attacks(forger, outside="http://127.0.0.1:9/keys"):
    """Yield tokens whose payload is flawless and whose header asks for something else."""

    def with_header(**changes):
        return forger.token(header=forger.header(**changes))

    unsigned = {"sign": lambda _: b""}
    for alg in (
        "none",
        "None",
        "nOnE",
        "NONE",
        "",
        "HS256",
        "ES256",
        "RS256",
        "EDDSA",
        "eddsa",
        "Ed25519",
        5,
        None,
        True,
    ):
        yield f"alg {alg!r}", with_header(alg=alg)
    for alg in ("none", "None", "NONE", "EdDSA"):
        yield f"alg {alg!r} unsigned", forger.token(header=forger.header(alg=alg), **unsigned)
    yield "alg is a list", with_header(alg=["EdDSA"])
    yield "alg is missing", with_header(alg=DROP)
    for form, secret in PUBLIC_FORMS.items():
        for alg, digest in (("HS256", "sha256"), ("HS512", "sha512")):
            mac = forger.token(header=forger.header(alg=alg), sign=lambda m, s=secret, d=digest: hmac.digest(s, m, d))
            yield f"{alg} with the public key, {form}", mac
    for crit in (["x"], [], ["exp"], ["b64"], "exp"):
        yield f"crit {crit}", with_header(crit=crit)
    yield "b64 false", with_header(b64=False)
    yield "b64 false and critical", with_header(b64=False, crit=["b64"])
    yield "jku", with_header(jku=outside)
    yield "x5u", with_header(x5u=outside)
    yield "jwk", with_header(jwk=KEY.jwk())
    yield "x5c", with_header(x5c=[b64(PUBLIC_FORMS["der"])])
    other = Ed25519PrivateKey.generate()
    yield "foreign key under our kid", forger.token(sign=other.sign)
    own = SigningKey("locum-other", other)
    yield "foreign key, its jwk along", forger.token(header=forger.header(jwk=own.jwk()), sign=other.sign)
    yield "foreign key, its kid", forger.token(header=forger.header(kid="locum-other"), sign=other.sign)
    for kid in (
        "../../../../dev/null",
        "' OR 1=1 --",
        "",
        "\x00",
        KEY.id.upper(),
        KEY.id + " ",
        outside,
        "file:///dev/null",
    ):
        yield f"kid {kid!r}", with_header(kid=kid)
    yield "kid is a list", with_header(kid=[forger.key_id])
    yield "kid is null", with_header(kid=None)
    yield "kid is missing", with_header(kid=DROP)
    yield "kid of 6 KiB", with_header(kid="k" * 6000)
    for typ in ("JWT", "at+JWT", "application/at+jwt", "at+jwt ", "locum-assertion+jwt", "", None, ["at+jwt"]):
        yield f"typ {typ!r}", with_header(typ=typ)
    yield "typ is missing", with_header(typ=DROP)
    yield "cty", with_header(cty="JWT")
    yield "zip", with_header(zip="DEF")
    head = json.dumps(forger.header())[1:-1]
    yield "alg twice, none last", forger.token(header=f'{{{head},"alg":"none"}}'.encode())
    yield "alg twice, none first", forger.token(header=f'{{"alg":"none",{head}}}'.encode())
    yield "header is a list", forger.token(header=b"[]")
    yield "header is no JSON", forger.token(header=b"{'alg':'EdDSA'}")
    rsa_key, ec_key = (
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
        ec.generate_private_key(ec.SECP256R1()),
    )
    yield "RS256", forger.token(header=forger.header(alg="RS256"), sign=lambda m: rsa_key.sign(m, PKCS1v15(), SHA256()))
    yield "ES256", forger.token(header=forger.header(alg="ES256"), sign=lambda m: ec_key.sign(m, ec.ECDSA(SHA256())))


REQUIRED = (
    "iss",
    "aud",
    "sub",
    "act",
    "client_id",
    "scope",
    "sid",
    "jti",
    "iat",
    "nbf",
    "exp",
    "authorization_details",
)


def payload_attacks(forger):
    """Yield tokens that are signed with our own key and still say what we never say."""
    good = forger.claims()
    now = good["iat"]
    for name in REQUIRED:
        yield f"no {name}", forger.token(forger.claims(**{name: DROP}))
        yield f"{name.upper()} for {name}", forger.token(forger.claims(**{name: DROP, name.upper(): good[name]}))
        for wrong in (None, True, 1.5, [], {}, "", "x\ny", ["x"]):
            if (name, wrong) not in _HARMLESS:
                yield f"{name} is {wrong!r}", forger.token(forger.claims(**{name: wrong}))
        twice = json.dumps(good)[:-1] + f",{json.dumps(name)}:{json.dumps(good[name])}}}"
        yield f"{name} twice", forger.token(twice.encode())
    host = ISSUER.removeprefix("https://")
    for issuer in (ISSUER[:-1], ISSUER + "/", ISSUER + ".evil", ISSUER.upper(), host, " " + ISSUER, [ISSUER]):
        yield f"iss {issuer!r}", forger.token(forger.claims(iss=issuer))
    for name, value in itertools.product(("iat", "nbf", "exp"), (float(now), str(now), -1, 10**12, 10**30, now + 0.5)):
        yield f"{name} {value!r}", forger.token(forger.claims(**{name: value}))
    for name, text in itertools.product(
        ("iat", "exp"), ("NaN", "Infinity", "-Infinity", "1e400", "1e999", "0" + str(now))
    ):
        raw = json.dumps(good).replace(f'"{name}": {good[name]}', f'"{name}": {text}')
        yield f"{name} {text}", forger.token(raw.encode())
    yield "lives a second longer than any", forger.token(forger.claims(exp=now + 901))
    yield "not yet, said apart", forger.token(forger.claims(nbf=now - 1))
    for act in (
        {"sub": "dana"},
        {"iss": "x"},
        {"sub": "dana", "iss": "x", "act": {"sub": "eve", "iss": "x"}},
        {"sub": "dana", "iss": "x", "may_act": {}},
        {"sub": ["dana"], "iss": "x"},
        [{"sub": "dana", "iss": "x"}],
    ):
        yield f"act {act}", forger.token(forger.claims(act=act))
    for details in (
        [],
        [detail(), detail()],
        detail(),
        [detail(type="other")],
        [detail(account=["acme"])],
        [detail(account=None)],
        [detail(identifier=None)],
        [detail(grant_epoch="1")],
        [detail(grant_epoch=True)],
        [detail(grant_epoch=1.0)],
        ["acme"],
    ):
        yield f"details {str(details)[:60]}", forger.token(forger.claims(authorization_details=details))
    for scope in (
        "tickets:read  tickets:read",
        "tickets:read\ttickets:write",
        " tickets:read",
        "tickets:read\n",
        "*",
        "tickets",
    ):
        yield f"scope {scope!r}", forger.token(forger.claims(scope=scope))
    yield "payload is a list", forger.token(b"[]")
    yield "payload is a text", forger.token(b'"x"')
    yield "payload nests 1500 deep", forger.token(b'{"iss":' + b"[" * 1500 + b"]" * 1500 + b"}")
    yield "payload is UTF-16", forger.token(json.dumps(good).encode("utf-16"))
    yield "payload has a byte order mark", forger.token(b"\xef\xbb\xbf" + json.dumps(good).encode())
    yield "payload is not UTF-8", forger.token(json.dumps(good).encode().replace(b"maria", b"mar\xffa"))
    yield "half a surrogate pair", forger.token(json.dumps(good).replace("maria", "mar\\ud800a").encode())
    yield "longer than 8 KiB", forger.token(forger.claims(more="x" * 6200))


# An empty text where nothing depends on the text's shape: such a token names nothing that the store knows.
_HARMLESS = [("aud", ""), ("sub", ""), ("client_id", ""), ("sid", ""), ("jti", ""), ("scope", "")]
_HARMLESS += [(name, "x\ny") for name in ("aud", "sub", "client_id", "sid", "jti")]


def spellings(token):
    """Yield other texts for the same token: decoders may take them for it."""
    head, body, signature = token.split(".")
    yield "padded", f"{head}.{body}.{signature}=="
    yield "padded payload", f"{head}.{body}=.{signature}"
    yield "blank before", f" {token}"
    yield "blank after", f"{token} "
    yield "newline after", f"{token}\n"
    yield "a part more", f"{token}."
    yield "five parts", f"{token}.x.y"
    yield "no payload", f"{head}..{signature}"
    yield "standard alphabet", token.translate(str.maketrans("-_", "+/")) + ("" if set("-_") & set(token) else "+")
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    # 64 bytes end in a character of which two bits count: fifteen others decode to the same bytes.
    last = alphabet.index(signature[-1])
    for loose in range(last & ~15, (last & ~15) + 16):
        if loose != last:
            yield f"loose bits {loose & 15}", f"{head}.{body}.{signature[:-1]}{alphabet[loose]}"


def test_the_forger_could_make_a_good_one(verifier, forger):
    """The attacks start from a token that is accepted, so what is refused is the attack."""
    claims = verifier.verify(forger.token())
    assert ("maria", "acme", "grant_1", 1) == (claims.subject, claims.account, claims.grant_id, claims.grant_epoch)
    assert ActorId(issuer="https://idp.vendor.example", subject="dana") == claims.actor
    assert parse_scopes("tickets:read") == claims.scopes
    assert (NOON, 900) == (claims.issued_at, (claims.expires_at - claims.issued_at).total_seconds())


def test_no_other_header_is_obeyed(verifier, forger):
    """One algorithm, one type, a key of ours by its id, and nothing else in the header."""
    cases = list(header_attacks(forger))
    assert 60 <= len(cases)
    assert [] == [name for name, token in cases if is_accepted(verifier, token)]
    assert [] == [name for name, token in cases if not verifier.is_ours(token)]


def test_our_own_signature_does_not_make_a_wrong_payload_right(verifier, forger):
    """What does not have exactly the shape that we write is not ours, whoever signed it."""
    cases = list(payload_attacks(forger))
    assert 150 <= len(cases)
    assert [] == [name for name, token in cases if is_accepted(verifier, token)]
    assert [] == [name for name, token in cases if not verifier.is_ours(token)]


def test_a_token_has_one_spelling(verifier, forger):
    """Another text for the same bytes is another token, and refused."""
    token = forger.token()
    assert [] == [name for name, other in spellings(token) if is_accepted(verifier, other)]


def test_a_signature_has_one_value(verifier, forger):
    """The twin of an Ed25519 signature, its second half moved by the order of the group, is refused."""

    def twin(message):
        signature = PRIVATE.sign(message)
        moved = int.from_bytes(signature[32:], "little") + GROUP_ORDER
        return signature[:32] + moved.to_bytes(32, "little")

    assert not is_accepted(verifier, forger.token(sign=twin))


def test_every_bit_of_a_token_counts(verifier, forger):
    """There is no bit whose flip leaves a token that is accepted, or one that the app would get to see."""
    good = forger.token().encode()
    for index, bit in itertools.product(range(len(good)), range(8)):
        flipped = bytearray(good)
        flipped[index] ^= 1 << bit
        header = ((b"Host", HOST.encode()), (b"Authorization", b"Bearer " + bytes(flipped)))
        found = find_credential(header, Names().among(header), verifier)
        assert found is not None, (index, bit)
        if isinstance(found, Credential):
            assert not is_accepted(verifier, found.token), (index, bit)


def test_every_letter_case_counts(verifier, forger):
    """A token with one letter in the other case is another token."""
    good = forger.token()
    for index, letter in enumerate(good):
        if letter.isalpha():
            assert not is_accepted(verifier, good[:index] + letter.swapcase() + good[index + 1 :]), index


def test_no_part_of_a_token_is_a_token(verifier, forger):
    """Every beginning and every end is refused; what still says that it is ours is told by it."""
    good = forger.token()
    head, body, _ = good.split(".")
    for cut in range(len(good)):
        assert not is_accepted(verifier, good[:cut])
        assert not is_accepted(verifier, good[cut + 1 :])
    assert all(verifier.is_ours(good[:cut]) for cut in range(40, len(good)))
    assert all(verifier.is_ours(good[cut:]) for cut in range(len(head) + 2))
    assert verifier.is_ours(body)


def test_a_token_of_somebody_else_is_not_ours(verifier, forger):
    """The app's own bearer tokens pass, also those that speak of us elsewhere than in `iss`."""
    theirs = Forger(private=Ed25519PrivateKey.generate(), key_id="app-1", issuer="https://helpdesk.example")
    for claims in (
        theirs.claims(),
        theirs.claims(aud=ISSUER),
        theirs.claims(act={"iss": ISSUER, "sub": "x"}),
        theirs.claims(iss=ISSUER + "x"),
        theirs.claims(iss=[ISSUER]),
        b'[["iss","https://assume.vendor.example"]]',
    ):
        assert not verifier.is_ours(theirs.token(claims))
    for text in ("", ".", "..", "abc.def.ghi", "Zm9v", "ey.ey.ey", "e" * 4000, hashlib.sha256(b"x").hexdigest()):
        assert not verifier.is_ours(text)


def test_refusals_tell_nothing_of_the_token(verifier, forger):
    """An error message may be logged; a token may not."""
    for _, token in [*header_attacks(forger), *payload_attacks(forger)]:
        with pytest.raises(TokenRefused) as caught:
            verifier.verify(token)
        parts = [part for part in token.split(".") if len(part) > 8]
        assert not [part for part in parts if part in str(caught.value)]
        assert token not in repr(Credential(token=token))


def test_a_key_that_is_not_listed_verifies_nothing(forger):
    """A verifier without the key refuses; with two keys each verifies only what names it."""
    second = SigningKey("locum-second", Ed25519PrivateKey.generate())
    assert not is_accepted(TokenVerifier([second], issuer=ISSUER), forger.token())
    both = TokenVerifier([KEY, second], issuer=ISSUER)
    assert is_accepted(both, forger.token())
    assert not is_accepted(both, forger.token(header=forger.header(kid="locum-second")))


def test_what_was_refused_once_is_refused_again(verifier, forger):
    """Remembering verified tokens never remembers a refused one as verified."""
    bad = forger.token(sign=Ed25519PrivateKey.generate().sign)
    assert [False, False] == [is_accepted(verifier, bad) for _ in range(2)]
    assert [True, True] == [is_accepted(verifier, forger.token()) for _ in range(2)]
    assert not is_accepted(verifier, bad)


def is_accepted(verifier, token):
    try:
        verifier.verify(token)
    except TokenRefused:
        return False
    return True


# --- through the socket ---

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
    """One second either side of both ends; and a clock set back does not bring an ended one to life for longer."""
    token = await world.token()
    start = world.clock.now
    for seconds, expected in (
        (-1, 401),
        (0, 200),
        (1, 200),
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
