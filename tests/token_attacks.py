"""Tokens that look like a good one and are not: other headers, payloads and spellings, damage, a second signature."""

import base64
import hmac
import itertools
import json
import string

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.tokens.signing import SigningKey
from tests.forgery import DROP, ISSUER, KEY, PRIVATE, b64, detail
from tests.rsa_keys import rsa_key

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
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def damaged(token):
    """Yield the token with each bit of it flipped, cut at each place from either end, and with something more."""
    for at, letter in enumerate(token):
        for bit in range(8):
            yield token[:at] + chr(ord(letter) ^ 1 << bit) + token[at + 1 :]
        yield token[:at]
        yield token[at + 1 :]
    for more in ("=", " ", "\n", ".", "A", "\x00"):
        yield token + more
        yield more + token


def twin(token):
    """Return a token of ES256 with the other signature that its own gives anybody: n - s for s."""
    signed, _, part = token.rpartition(".")
    raw = base64.urlsafe_b64decode(part + "==")
    other = P256_ORDER - int.from_bytes(raw[32:], "big")
    return f"{signed}.{b64(raw[:32] + other.to_bytes(32, 'big'))}"


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
    ec_key = ec.generate_private_key(ec.SECP256R1())
    yield (
        "RS256",
        forger.token(header=forger.header(alg="RS256"), sign=lambda m: rsa_key().sign(m, PKCS1v15(), SHA256())),
    )
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
