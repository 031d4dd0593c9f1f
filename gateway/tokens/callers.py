"""Who asks the OAuth endpoints, and with which parameters: client authentication and the form, read together."""

from aiohttp import web

from gateway.bodies import FormError, read_form
from gateway.clients import ClientAuthenticator
from gateway.places import Places
from gateway.stores.store import Client
from gateway.tokens import answers
from gateway.tokens.client_keys import ASSERTION_TYPE, AssertionRefused, ClientKeys

AUTHENTICATION_METHODS = ("client_secret_basic", "private_key_jwt")
TOKEN_PATH = "/.locum/oauth/token"  # noqa: S105 - a path
_MOST_FORM_BYTES = 16 * 1024
_CREDENTIALS = ("client_secret", "client_assertion", "client_assertion_type")

Fields = list[tuple[str, str]]


class ClientRefused(Exception):
    """The caller's fault: it is not a client with the role that is asked for (RFC 6749 section 5.2)."""

    def answer(self) -> web.Response:
        """Return the 401 that says so."""
        return answers.error(401, "invalid_client", str(self))


class OAuthCallers:
    """Reads a request of an OAuth client, which authenticates in exactly one way."""

    def __init__(self, clients: ClientAuthenticator, keys: ClientKeys, places: Places) -> None:
        self._clients = clients
        self._keys = keys
        self._places = places

    async def read(self, request: web.Request, *, role: str, public: bool = False) -> tuple[Client, Fields]:
        """Return who asks and the form's fields; raises ClientRefused, FormError, StoreError.

        With `public`, also a client that proves nothing and says its id alone, whatever `role` is: what it may do is
        for the caller to see to.

        The header comes first: with one, the body is believed in nothing about who asks, and whoever sends a secret
        there, too, or another's id, uses two ways at once (RFC 6749 section 2.3).
        """
        authorization = request.headers.getall("Authorization", [])
        if authorization:
            client = await self._clients.authenticate(authorization, role)
            if client is None:
                raise ClientRefused(f"authenticate as a client with the role `{role}`")
            fields = await read_form(request, _MOST_FORM_BYTES)
            if any(name in _CREDENTIALS and value for name, value in fields):
                raise FormError("authenticate in one way only")
        else:
            client, fields = await self._read_body(request, role, public=public)
        if any(name == "client_id" and value not in ("", client.id) for name, value in fields):
            raise FormError("`client_id` is not the client that has authenticated")
        return client, fields

    async def _read_body(self, request: web.Request, role: str, *, public: bool) -> tuple[Client, Fields]:
        try:
            fields = await read_form(request, _MOST_FORM_BYTES)
        except FormError as exc:
            # Who asks comes first, and they have not said it in any way that we know.
            raise ClientRefused(f"authenticate as a client with the role `{role}`") from exc
        if public and not any(name in _CREDENTIALS and value for name, value in fields):
            return await self._read_public(fields, role), fields
        return await self._read_signed(request, fields, role), fields

    async def _read_public(self, fields: Fields, role: str) -> Client:
        """Return the public client that names itself (RFC 6749 section 3.2.1)."""
        names = [value for name, value in fields if name == "client_id" and value]
        client = await self._clients.find_public(names[0]) if len(names) == 1 else None
        if client is None:
            said = f"authenticate as a client with the role `{role}`, or name a public client with the role `device`"
            raise ClientRefused(said)
        return client

    async def _read_signed(self, request: web.Request, fields: Fields, role: str) -> Client:
        given = [value for name, value in fields if name == "client_assertion" and value]
        types = [value for name, value in fields if name == "client_assertion_type"]
        secrets = any(name == "client_secret" and value for name, value in fields)
        if len(given) != 1 or types != [ASSERTION_TYPE] or secrets:
            raise ClientRefused(
                f"authenticate as a client with the role `{role}`: {' or '.join(AUTHENTICATION_METHODS)}"
            )
        origin = self._places.origin
        # RFC 7523 section 3 allows the token endpoint's address beside the issuer.
        audiences = {self._places.issuer, origin + TOKEN_PATH, origin + request.path}
        try:
            client = await self._keys.authenticate(given[0], audiences=audiences)
        except AssertionRefused as exc:
            raise ClientRefused(str(exc)) from exc
        if role not in client.roles:
            raise ClientRefused(f"authenticate as a client with the role `{role}`")
        return client


def read_token(fields: Fields) -> str:
    """Return the one `token` of an introspection or revocation request, or raise FormError.

    The hint at its type is passed over: there is one type (RFC 7662 section 2.1, RFC 7009 section 2.1).
    """
    names = [name for name, _ in fields]
    if len(set(names)) != len(names):
        raise FormError("a parameter is there twice: send each once")
    token = dict(fields).get("token", "")
    if not token:
        raise FormError("send the `token`")
    return token
