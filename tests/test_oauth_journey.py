"""An OAuth client that shares no code with us finds its way by the standards alone, over real sockets."""

import json
import re
import secrets

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver
from joserfc import jwt
from joserfc.jwk import KeySet, OKPKey

from gateway.clock import utc_now
from gateway.stores.store import Client
from gateway.tokens.client_keys import ASSERTION_TYPE
from policy.model import ClientId
from tests.gateway_world import AGENT_TYPE, EXCHANGE, ID_TOKEN
from tests.oauth_world import open_oauth
from tests.ports import free_port

pytestmark = pytest.mark.filterwarnings("ignore:EdDSA is deprecated")


class ToTheGateway(AbstractResolver):
    """Every name is the gateway's address, as the operator's DNS would have it."""

    async def resolve(self, host, port=0, family=0):
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": family, "proto": 0, "flags": 0}]

    async def close(self):
        pass


async def test_from_a_401_to_the_end(tmp_path):
    """Refused, it finds the server, proves itself by its key, exchanges, verifies, works, asks, ends, is refused."""
    port = free_port()
    issuer = f"http://assume.localhost:{port}"
    key = OKPKey.generate_key("Ed25519", {"kid": "desk-1"})

    def change(document):
        document["server"] |= {"issuer": issuer, "listen": f"127.0.0.1:{port}"}
        document["accounts"]["host"] = "{account}.localhost"

    async with (
        open_oauth(tmp_path, change=change) as world,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=ToTheGateway())) as http,
    ):
        jwks = json.dumps(KeySet([key]).as_dict(private=False))
        roles = frozenset({"token", "introspect"})
        await world.gateway.store.add_client(Client(id=ClientId("desk-1"), secret_digest=b"", roles=roles, jwks=jwks))
        desk = Desk(http, key)
        address = f"http://acme.localhost:{port}/tickets/1"

        await desk.discover(address)
        assert issuer == desk.server["issuer"]
        granted = await desk.exchange(world.actor_token(), audience="acme.localhost")
        assert ("Bearer", "tickets:read") == (granted["token_type"], granted["scope"])
        token = granted["access_token"]
        claims = await desk.verify(token, audience="acme.localhost")
        assert ("maria", {"sub": "dana", "iss": world.issuer.issuer}) == (claims["sub"], claims["act"])
        assert granted["authorization_details"] == claims["authorization_details"]
        async with http.get(address, headers={"Authorization": f"Bearer {token}"}) as answer:
            assert (200, claims["sid"]) == (answer.status, answer.headers["X-Locum-Session"])
        told = await desk.ask("introspection_endpoint", token)
        assert {"active": True, "token_type": "Bearer"} | claims == told
        await desk.ask("revocation_endpoint", token)
        assert {"active": False} == await desk.ask("introspection_endpoint", token)
        async with http.get(address, headers={"Authorization": f"Bearer {token}"}) as answer:
            assert 403 == answer.status


class Desk:
    """A client that knows its own key and what the standards say, and nothing else of Locum."""

    def __init__(self, http, key):
        self._http = http
        self._key = key
        self.server = {}

    async def discover(self, address):
        """Follow RFC 9728 section 5, then RFC 8414 section 3."""
        # Any token will do that looks as if it were one of this server.
        spoilt = "eyJhbGciOiJFZERTQSIsImtpZCI6ImxvY3Vt.e30.AA"
        async with self._http.get(address, headers={"Authorization": f"Bearer {spoilt}"}) as answer:
            assert 401 == answer.status
            [place] = re.findall(r'resource_metadata="([^"]+)"', answer.headers["WWW-Authenticate"])
        resource = await self._get(place)
        assert address.startswith(resource["resource"] + "/")
        [issuer] = resource["authorization_servers"]
        scheme, _, rest = issuer.partition("://")
        host, _, path = rest.partition("/")
        known = f"{scheme}://{host}/.well-known/oauth-authorization-server"
        self.server = await self._get(f"{known}/{path}" if path else known)
        assert issuer == self.server["issuer"]
        assert "private_key_jwt" in self.server["token_endpoint_auth_methods_supported"]
        assert EXCHANGE in self.server["grant_types_supported"]

    async def exchange(self, actor_token, *, audience):
        detail = {"type": "account_assumption", "account": "acme", "ticket": "SUP-1", "reason": "cannot reproduce"}
        return await self._post(
            "token_endpoint",
            {
                "grant_type": EXCHANGE,
                "subject_token": "maria",
                "subject_token_type": AGENT_TYPE,
                "actor_token": actor_token,
                "actor_token_type": ID_TOKEN,
                "audience": audience,
                "scope": "tickets:read",
                "authorization_details": json.dumps([detail]),
            },
        )

    async def verify(self, token, *, audience):
        """Follow RFC 9068 section 4."""
        keys = KeySet.import_key_set(await self._get(self.server["jwks_uri"]))
        found = jwt.decode(token, keys, algorithms=["EdDSA"])
        assert "at+jwt" == found.header["typ"]
        registry = jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": self.server["issuer"]},
            aud={"essential": True, "value": audience},
            **{name: {"essential": True} for name in ("exp", "sub", "client_id", "iat", "jti")},
            leeway=30,
        )
        registry.validate(found.claims)
        return found.claims

    async def ask(self, endpoint, token):
        return await self._post(endpoint, {"token": token})

    async def _post(self, endpoint, fields):
        now = int(utc_now().timestamp())
        claims = {"iss": "desk-1", "sub": "desk-1", "aud": self.server["issuer"], "jti": secrets.token_hex(8)}
        signed = jwt.encode(
            {"alg": "EdDSA", "kid": "desk-1"}, claims | {"iat": now, "exp": now + 60}, self._key, algorithms=["EdDSA"]
        )
        proof = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": signed}
        async with self._http.post(self.server[endpoint], data=fields | proof) as answer:
            assert 200 == answer.status, await answer.text()
            return await answer.json()

    async def _get(self, address):
        async with self._http.get(address) as answer:
            assert 200 == answer.status
            return json.loads(await answer.read())
