"""What we say of ourselves: authorization server metadata (RFC 8414), protected resource metadata (RFC 9728)."""

from collections.abc import Iterable
from typing import Any

import msgspec
from aiohttp import web

from gateway.caller import CLIENT_HEADER
from gateway.devices import authorization as devices
from gateway.places import RESOURCE_METADATA, SERVER_METADATA, Places
from gateway.proxy.triage import AccountReader
from gateway.proxy.wire import RequestHead
from gateway.tokens import introspect, revoke
from gateway.tokens.callers import AUTHENTICATION_METHODS, TOKEN_PATH
from gateway.tokens.dpop import ALGORITHMS
from gateway.tokens.signing import FOREIGN_ALGORITHMS
from policy.claims import DETAILS_TYPE
from policy.devices import GRANT_TYPE as DEVICE_GRANT_TYPE
from policy.exchange import GRANT_TYPE
from policy.model import Scope

_SECONDS = 300


class MetadataEndpoint:
    """Tells clients where everything is, by configuration alone."""

    def __init__(self, *, places: Places, accounts: AccountReader, scopes: Iterable[Scope], with_devices: bool) -> None:
        """With `with_devices` staff can approve here what a device asks for."""
        self._places = places
        self._with_devices = with_devices
        self._accounts = accounts
        self._scopes = sorted(map(str, scopes))

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        # The issuer may change while we run, the routes may not; the front sends on no other path than the right one.
        return [
            web.get(SERVER_METADATA + "{path:.*}", self.server),
            web.get(RESOURCE_METADATA, self.resource),
        ]

    async def server(self, request: web.Request) -> web.Response:
        """Return the metadata of the authorization server (RFC 8414 section 3.2)."""
        if request.rel_url.raw_path != self._places.server_metadata:
            raise web.HTTPNotFound
        return _document(self._server())

    async def resource(self, request: web.Request) -> web.Response:
        """Return the metadata of the account's host that was asked (RFC 9728 section 3.2); 404 if it is none."""
        head = RequestHead(method=b"GET", target=b"/", headers=request.raw_headers)
        account = self._accounts.read(head, request.headers.get(CLIENT_HEADER, ""))
        if account is None:
            raise web.HTTPNotFound
        return _document(
            {
                "resource": self._places.of_account(account),
                "authorization_servers": [self._places.issuer],
                "scopes_supported": self._scopes,
                "bearer_methods_supported": ["header"],
                "authorization_details_types_supported": [DETAILS_TYPE],
                "dpop_signing_alg_values_supported": ALGORITHMS,
            }
        )

    def _server(self) -> dict[str, Any]:
        origin = self._places.origin
        authentication: dict[str, Any] = {}
        grant_types = [GRANT_TYPE]
        for name in ("token", "introspection", "revocation"):
            authentication[f"{name}_endpoint_auth_methods_supported"] = AUTHENTICATION_METHODS
            # Section 2: demanded with private_key_jwt, and never `none`.
            authentication[f"{name}_endpoint_auth_signing_alg_values_supported"] = FOREIGN_ALGORITHMS
        if self._with_devices:
            # RFC 8628 section 4.
            authentication["device_authorization_endpoint"] = origin + devices.PATH
            grant_types.append(DEVICE_GRANT_TYPE)
            for name in ("token", "revocation"):
                methods = [*AUTHENTICATION_METHODS, "none"]
                authentication[f"{name}_endpoint_auth_methods_supported"] = methods
        return authentication | {
            "issuer": self._places.issuer,
            "token_endpoint": origin + TOKEN_PATH,
            "introspection_endpoint": origin + introspect.PATH,
            "revocation_endpoint": origin + revoke.PATH,
            "jwks_uri": f"{origin}/.locum/jwks.json",
            # Required, and may not be empty (sections 2 and 3.2), though nothing is authorized by a redirect here.
            "response_types_supported": ["none"],
            "grant_types_supported": grant_types,
            "scopes_supported": self._scopes,
            "authorization_details_types_supported": [DETAILS_TYPE],
            "dpop_signing_alg_values_supported": ALGORITHMS,
        }


def _document(members: dict[str, Any]) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(members),
        content_type="application/json",
        headers={"Cache-Control": f"max-age={_SECONDS}", "Access-Control-Allow-Origin": "*"},
    )
