"""Who calls our APIs: client authentication with a secret (RFC 6749 section 2.3.1)."""

import base64
import binascii
import hashlib
import hmac
import secrets
from urllib.parse import unquote_plus

from gateway.stores.store import Client, Store
from policy.model import ClientId

ROLES = ("token", "introspect", "grants", "kill_switch", "audit", "operate", "device")
"""Exchange tokens and take them back; ask about tokens; read and change grants; read and set the kill-switch; read the
log; end what staff do, at the security team's console; ask staff for a token, which only a public client may, and
nothing else."""
AUDIT_ROLE = "audit"
"""Of a client that may read the log: of all accounts, or of its own only."""
OPERATE_ROLE = "operate"
"""Of a client with whose secret a person signs in to the security team's console, and may take away what staff have."""
DEVICE_ROLE = "device"
"""Of a public client (RFC 6749 section 2.1): whoever names it is it, so it may do nothing that staff do not approve."""
_MOST_BYTES = 1024


def new_secret() -> str:
    """Return a client secret of 256 random bits."""
    return secrets.token_urlsafe(32)


def digest_of(secret: str) -> bytes:
    """Return what is stored of a secret; 256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode("utf-8")).digest()


def is_public(client: Client) -> bool:
    """Tell whether a client has nothing by which it could prove itself; it may have one role then, `device`."""
    return not client.secret_digest and client.jwks is None and client.roles == {DEVICE_ROLE}


class ClientAuthenticator:
    """Authenticates callers by `client_secret_basic`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def find_public(self, client: str) -> Client | None:
        """Return a public client by its id, None if there is none; raises StoreError."""
        found = await self._store.find_client(ClientId(client)) if len(client) <= _MOST_BYTES else None
        return found if found is not None and is_public(found) else None

    async def authenticate(self, authorization: list[str], role: str) -> Client | None:
        """Return the client that the `Authorization` lines prove, if it has the role; raises StoreError.

        An unknown client costs the same comparison as a known one.
        """
        given = _read_basic(authorization[0]) if len(authorization) == 1 else None
        client = None if given is None else await self.prove(*given)
        return client if client is not None and role in client.roles else None

    async def prove(self, name: str, secret: str) -> Client | None:
        """Return the client of this id, if the secret is its own; raises StoreError. It takes as long either way."""
        if len(name) > _MOST_BYTES or len(secret) > _MOST_BYTES:
            return None
        client = await self._store.find_client(ClientId(name))
        expected = client.secret_digest if client else bytes(32)
        right = hmac.compare_digest(digest_of(secret), expected)
        return client if client is not None and right else None


def _read_basic(value: str) -> tuple[str, str] | None:
    scheme, _, encoded = value.partition(" ")
    if scheme.lower() != "basic" or len(encoded) > _MOST_BYTES:
        return None
    try:
        name, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        return None
    return (unquote_plus(name), unquote_plus(secret)) if colon else None
