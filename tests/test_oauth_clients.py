"""A client that authenticates with a key of its own (RFC 7523): signed by an unrelated library, each assertion once."""

import asyncio
import base64
import json
import secrets
from types import SimpleNamespace
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from click.testing import CliRunner
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, OKPKey, RSAKey

from gateway.cli.root import cli
from gateway.stores.sqlite import open_sqlite
from gateway.stores.store import Client
from gateway.tokens.client_keys import ASSERTION_TYPE, AssertionRefused, ClientKeys, read_client_jwks
from gateway.tokens.signing import KeyRefused
from policy.model import ClientId
from tests.forgery import NOON, Forger
from tests.gateway_world import ISSUER
from tests.memory_store import MemoryStore
from tests.oauth_world import INTROSPECT, REVOKE, basic, open_oauth, payload_of
from tests.token_attacks import damaged, twin
from tests.token_endpoint_world import TOKEN_URL, form, issued, post

# RFC 9864 wants the curve to be named; nearly every client still says EdDSA (RFC 8037).
pytestmark = pytest.mark.filterwarnings("ignore:EdDSA is deprecated", "ignore:Key size should be")
shared = pytest.mark.asyncio(loop_scope="module")
KEYS = {
    "EdDSA": OKPKey.generate_key("Ed25519", {"kid": "ed"}),
    "ES256": ECKey.generate_key("P-256", {"kid": "ec"}),
    "RS256": RSAKey.generate_key(2048, {"kid": "rsa"}),
    "PS256": RSAKey.generate_key(2048, {"kid": "pss", "alg": "PS256"}),
}
FOREIGN = OKPKey.generate_key("Ed25519", {"kid": "ed"})
NONE = ["X-None: 1"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory):
    """One gateway for all of these: none of them changes anything."""
    async with open_oauth(tmp_path_factory.mktemp("clients")) as world:
        jwks = read_client_jwks(json.dumps(KeySet(list(KEYS.values())).as_dict(private=False)))
        for name, roles in (("signer", {"token", "introspect"}), ("watcher", {"introspect"})):
            await world.gateway.store.add_client(
                Client(id=ClientId(name), secret_digest=b"", roles=frozenset(roles), jwks=jwks)
            )
        yield world


def assertion(world, *, key=KEYS["EdDSA"], alg="EdDSA", header=None, **changes):
    """Return a flawless assertion, but for the changes; None drops a claim."""
    now = int(world.clock.now.timestamp())
    claims = {"iss": "signer", "sub": "signer", "aud": ISSUER, "iat": now, "exp": now + 60, "jti": secrets.token_hex(8)}
    claims = {name: value for name, value in (claims | changes).items() if value is not None}
    return jwt.encode({"alg": alg, "kid": key.kid} | (header or {}), claims, key, algorithms=[alg])


def fields(world, signed, **changes):
    return form(world) | {"client_assertion_type": ASSERTION_TYPE, "client_assertion": signed} | changes


async def ask(world, sent, *, target=TOKEN_URL, lines=NONE):
    return await post(world, urlencode(sent), target=target, headers=lines)


@shared
@pytest.mark.parametrize("alg", KEYS)
async def test_each_algorithm_of_its_keys_proves_it(world, alg):
    """The algorithms that the metadata name, signed by a library that we share no code with."""
    status, _, document = await ask(world, fields(world, assertion(world, key=KEYS[alg], alg=alg)))
    assert (200, "Bearer") == (status, document["token_type"])
    [record] = world.records(kind="token", decision="allow", assumption=payload_of(document["access_token"])["sid"])
    assert "signer" == record["client_id"]


@shared
@pytest.mark.parametrize("aud", [ISSUER, [ISSUER], f"{ISSUER}{TOKEN_URL}", [f"{ISSUER}{TOKEN_URL}"]])
async def test_it_is_for_the_issuer_or_the_token_endpoint(world, aud):
    """RFC 7523 section 3 allows both."""
    assert 200 == (await ask(world, fields(world, assertion(world, aud=aud))))[0]


@shared
@pytest.mark.parametrize(
    "changes",
    [
        {"aud": None}, {"aud": ""}, {"aud": []}, {"aud": ISSUER + "/"}, {"aud": ISSUER.upper()}, {"aud": ISSUER[:-1]},
        {"aud": [ISSUER, "https://other.example"]}, {"aud": "https://acme.helpdesk.example/.locum/oauth/token"},
        {"aud": {"a": ISSUER}}, {"aud": f"{ISSUER}{INTROSPECT}"},
        {"iss": None}, {"iss": "other"}, {"sub": None}, {"sub": "other"}, {"iss": "app", "sub": "app"},
        {"iss": "nobody", "sub": "nobody"}, {"iss": "signer\n", "sub": "signer\n"}, {"iss": ["signer"]},
        {"jti": None}, {"jti": ""}, {"jti": 5}, {"jti": "x" * 257}, {"jti": "a b"}, {"jti": ["x"]},
        {"exp": None}, {"exp": 0}, {"exp": "soon"}, {"exp": 1.5}, {"exp": True}, {"exp": 10**12}, {"exp": -1},
        {"iss": "watcher", "sub": "watcher"},
    ],
)  # fmt: skip
async def test_an_assertion_that_is_not_about_this_client_here_and_now_proves_nobody(world, changes):
    """Every claim of RFC 7523 section 3, missing, of another kind and for another place."""
    before = issued(world)
    status, headers, document = await ask(world, fields(world, assertion(world, **changes)))
    assert (401, "invalid_client") == (status, document["error"])
    assert "no-store" == headers["cache-control"]
    assert before == issued(world)


@shared
@pytest.mark.parametrize(
    ("after", "before", "right"),
    [(0, 60, True), (59, 0, True), (60, 0, False), (61, 0, False), (0, 305, True), (0, 306, False), (0, 86400, False)],
)
async def test_it_lives_for_minutes_at_the_most(world, after, before, right):
    """On or after its end it is over; one that would live for longer than five minutes is not accepted at all."""
    now = int(world.clock.now.timestamp())
    signed = assertion(world, iat=None, exp=now + (before or 60) - after)
    assert (200 if right else 401) == (await ask(world, fields(world, signed)))[0]


@shared
async def test_an_assertion_is_of_now(world):
    """Five seconds ahead are two clocks' difference, six are not."""
    now = int(world.clock.now.timestamp())
    for name in ("iat", "nbf"):
        assert 200 == (await ask(world, fields(world, assertion(world, **{name: now + 5}))))[0]
        assert 401 == (await ask(world, fields(world, assertion(world, **{name: now + 6}))))[0]


@shared
async def test_nobody_else_s_signature_counts(world):
    """Another key under the same id, another algorithm, none, the public key as a secret, a key brought along."""
    good = assertion(world)
    head, body, signature = good.split(".")
    secret = OctKey.import_key(json.dumps(KEYS["EdDSA"].as_dict(private=False)), {"kid": "ed"})
    header = {"alg": "EdDSA", "kid": "ed", "typ": "JWT"}
    free = RSAKey.import_key(
        {name: value for name, value in KEYS["PS256"].as_dict(private=True).items() if name != "alg"}
    )
    cases = {
        "another key": assertion(world, key=FOREIGN),
        "a key brought along": assertion(world, key=FOREIGN, header={"jwk": FOREIGN.as_dict(private=False)}),
        "an unknown key": assertion(world, header={"kid": "other"}),
        "no key id": assertion(world, header={"kid": ""}),
        "RS256 with the PS256 key": assertion(world, key=free, alg="RS256"),
        "HS256 with the public key": assertion(world, key=secret, alg="HS256"),
        "crit": Forger(private=KEYS["EdDSA"].private_key, key_id="ed").token(
            payload_of(good), header | {"crit": ["exp"]}
        ),
        "an ID token's type": assertion(world, header={"typ": "at+jwt"}),
        "a proof's type": assertion(world, header={"typ": "dpop+jwt"}),
        "a list for a type": Forger(private=KEYS["EdDSA"].private_key, key_id="ed").token(
            payload_of(good), header | {"typ": []}
        ),
        "no signature": f"{head}.{body}.",
        "cut": good[:-1],
        "padded": good + "=",
        "another payload": f"{head}.{body[:-4]}AAAA.{signature}",
        "long": assertion(world, more="x" * 9000),
        "staff's ID token": world.actor_token(),
        "an assumption token": await world.token(),
    }
    for name, signed in cases.items():
        status, _, document = await ask(world, fields(world, signed))
        assert (401, "invalid_client") == (status, document["error"]), name
    assert 200 == (await ask(world, fields(world, good)))[0]


@shared
async def test_an_assertion_counts_once(world):
    """Two hundred at a time: one of them is answered; and by its `jti`, not by its text."""
    signed = assertion(world, jti="once")
    gate = asyncio.Semaphore(40)

    async def one():
        async with gate:
            return (await ask(world, {"token": "x", **_proof(signed)}, target=INTROSPECT))[0]

    statuses = await asyncio.gather(*(one() for _ in range(200)))
    assert (1, 199) == (statuses.count(200), statuses.count(401))
    again = assertion(world, jti="once", key=KEYS["ES256"], alg="ES256")
    first = assertion(world, key=KEYS["ES256"], alg="ES256")
    assert 200 == (await ask(world, fields(world, first)))[0]
    for used in (again, first, twin(first)):
        status, _, document = await ask(world, fields(world, used))
        assert (401, True) == (status, "before" in document["error_description"])
    # Another client's identifiers are its own.
    other = assertion(world, jti="once", iss="watcher", sub="watcher")
    assert 200 == (await ask(world, {"token": "x", **_proof(other)}, target=INTROSPECT))[0]


@pytest.mark.parametrize("alg", KEYS)
async def test_every_bit_of_an_assertion_counts(alg):
    """Each flipped, and each cut of it, proves nobody, and uses nothing up."""
    store = MemoryStore()
    jwks = read_client_jwks(json.dumps(KeySet([KEYS[alg]]).as_dict(private=False)))
    roles = frozenset({"token"})
    await store.add_client(Client(id=ClientId("signer"), secret_digest=b"", roles=roles, jwks=jwks))
    keys = ClientKeys(store, lambda: NOON)
    good = assertion(SimpleNamespace(clock=SimpleNamespace(now=NOON)), key=KEYS[alg], alg=alg)
    for bad in damaged(good):
        with pytest.raises(AssertionRefused):
            await keys.authenticate(bad, audiences=[ISSUER])
    assert "signer" == (await keys.authenticate(good, audiences=[ISSUER])).id


@shared
async def test_a_stranger_uses_up_nobody_s_identifier(world):
    """What is not the client's own signature leaves no mark."""
    assert 401 == (await ask(world, fields(world, assertion(world, key=FOREIGN, jti="mine"))))[0]
    assert 200 == (await ask(world, fields(world, assertion(world, jti="mine"))))[0]


@shared
async def test_a_client_authenticates_in_one_way(world):
    """RFC 6749 section 2.3: two ways at once are refused, also if both are right."""
    line = [f"Authorization: {world.basic()}"]
    status, _, document = await ask(world, fields(world, assertion(world)), lines=line)
    assert (400, "invalid_request") == (status, document["error"])
    for changes in (
        {"client_secret": "plain"},
        {"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"},
        {"client_assertion_type": ""},
        {"client_assertion": ""},
    ):
        assert 401 == (await ask(world, fields(world, assertion(world), **changes)))[0]
    twice = urlencode([*fields(world, assertion(world)).items(), ("client_assertion", assertion(world))])
    assert 401 == (await post(world, twice, headers=NONE))[0]
    assert 400 == (await ask(world, fields(world, assertion(world), client_id="other")))[0]
    assert 200 == (await ask(world, fields(world, assertion(world), client_id="signer")))[0]


@shared
async def test_a_client_with_keys_has_no_secret(world):
    """Not the empty one either."""
    for secret in ("", "\0", "signer"):
        encoded = base64.b64encode(f"signer:{secret}".encode()).decode()
        assert 401 == (await ask(world, form(world), lines=[f"Authorization: Basic {encoded}"]))[0]


@shared
async def test_the_role_counts_for_keys_as_well(world):
    """Whoever may only ask about tokens gets none and takes none back."""
    watcher = {"iss": "watcher", "sub": "watcher"}
    token = await world.token()
    assert 401 == (await ask(world, fields(world, assertion(world, **watcher))))[0]
    sent = {"token": token, **_proof(assertion(world, **watcher))}
    assert 401 == (await ask(world, sent, target=REVOKE))[0]
    sent = {"token": token, **_proof(assertion(world, **watcher))}
    assert True is (await ask(world, sent, target=INTROSPECT))[2]["active"]


# --- adding one ---


def test_the_command_takes_public_keys_only(tmp_path):
    """A private key, a secret, a weak key, a doubled id or nothing at all is refused with what to do."""
    good = KEYS["EdDSA"].as_dict(private=False)
    for keys, words in (
        ([], "no key"),
        ([KEYS["EdDSA"].as_dict(private=True)], "private"),
        ([OctKey.generate_key(256).as_dict()], "private"),
        ([RSAKey.generate_key(1024, {"kid": "short"}, auto_kid=False).as_dict(private=False)], "cannot be used"),
        ([good, good], "`kid`"),
        ([good | {"use": "enc"}], "cannot be used"),
        ([good | {"kid": ["ed"]}], "cannot be used"),
        (["x"], "cannot be used"),
    ):
        with pytest.raises(KeyRefused, match=words):
            read_client_jwks(json.dumps({"keys": keys}))
    for text in ("", "[]", "{}", '{"keys": 5}', '{"keys":[],"keys":[]}', "[" * 2000):
        with pytest.raises(KeyRefused):
            read_client_jwks(text)


async def test_a_client_that_is_removed_is_refused_from_its_next_request_on(tmp_path):
    """At every endpoint, whatever it authenticates with; nothing of it is remembered."""
    async with open_oauth(tmp_path) as world:
        jwks = read_client_jwks(json.dumps(KeySet([KEYS["EdDSA"]]).as_dict(private=False)))
        roles = frozenset({"token", "introspect"})
        signer = Client(id=ClientId("signer"), secret_digest=b"", roles=roles, jwks=jwks)
        await world.gateway.store.add_client(signer)

        async def answers():
            token = {"token": "x"}
            asked = [
                await ask(world, fields(world, assertion(world))),
                await ask(world, fields(world, assertion(world)) | token, target=INTROSPECT),
                await ask(world, form(world), lines=[f"Authorization: {world.basic()}"]),
                await ask(world, token, target=REVOKE, lines=[f"Authorization: {world.basic()}"]),
                await ask(world, token, target=INTROSPECT, lines=[basic("api")]),
            ]
            return [status for status, _, _ in asked]

        assert [200] * 5 == await answers()
        for name in ("signer", "app", "api"):
            assert await world.gateway.store.remove_client(ClientId(name))
        assert [401] * 5 == await answers()
        assert 401 == (await world.choose("day"))[0]


async def test_a_client_is_added_with_its_keys(tmp_path):
    """`locum client add --jwks`: nothing secret is printed, and the record comes first."""
    config = tmp_path / "locum.toml"
    config.write_text(
        f'[server]\nissuer = "{ISSUER}"\ndata_directory = "data"\n[accounts]\nhost = "{{account}}.b.example"\n'
        '[upstream]\nurl = "http://127.0.0.1:1"\nprofile = "demo-helpdesk"\n'
        '[staff]\nissuer = "https://idp.example"\naudience = "locum"\n'
        '[[staff.rules]]\ngroup = "support"\npermissions = ["read"]\n'
    )
    jwks = tmp_path / "keys.json"
    jwks.write_text(json.dumps(KeySet([KEYS["ES256"]]).as_dict(private=False)))
    run = CliRunner().invoke
    arguments = ["--config", str(config), "client", "add", "signer", "--role", "token", "--jwks", str(jwks), "--dpop"]
    done = await asyncio.to_thread(run, cli, arguments)
    assert (0, True) == (done.exit_code, "added" in done.output), done.output
    store = await open_sqlite(tmp_path / "data" / "locum.sqlite3")
    try:
        stored = await store.find_client(ClientId("signer"))
    finally:
        await store.close()
    assert (b"", True) == (stored.secret_digest, stored.dpop)
    assert ["ec"] == [key["kid"] for key in json.loads(stored.jwks)["keys"]]
    refused = await asyncio.to_thread(run, cli, [*arguments[:4], "other", "--role", "grants", "--jwks", str(jwks)])
    assert 2 == refused.exit_code


def _proof(signed):
    return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": signed}
