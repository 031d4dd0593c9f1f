"""Whether a token is to be bound to a key, and to which: the proof at the token endpoint (RFC 9449 section 5)."""

from collections.abc import Mapping

from aiohttp import web

from gateway.caller import CLIENT_HEADER
from gateway.clock import Clock
from gateway.places import Places
from gateway.proxy.triage import AccountReader
from gateway.proxy.wire import RequestHead
from gateway.stores.store import Client, Store, StoreConflict, StoreError
from gateway.tokens.dpop import HEADER, NONCE_HEADER, ProofRefused, Proofs
from policy.model import Deny, DenyReason


class BoundTokens:
    """Takes the proof of a token request, once on whatever node."""

    def __init__(self, proofs: Proofs, store: Store, places: Places, accounts: AccountReader, clock: Clock) -> None:
        self._proofs = proofs
        self._store = store
        self._places = places
        self._accounts = accounts
        self._clock = clock

    async def key_of(self, request: web.Request, client: Client) -> str | None:
        """Return the thumbprint of the key that the token is to be for, None if it is for whoever bears it.

        A client that must have bound tokens gets no other; any may ask for one. Raises ProofRefused, StoreError.
        """
        lines = request.headers.getall(HEADER, [])
        if not lines and not client.dpop:
            return None
        proof = self._proofs.read(lines, method=request.method, uris=self._addresses(request))
        try:
            await self._store.add_one_time(proof.digest, "", expires_at=proof.ends_at, now=self._clock())
        except StoreConflict as exc:
            raise ProofRefused("the proof was used before: make one for each request") from exc
        return proof.key

    def nonce_for(self, deny: Deny) -> Mapping[str, str]:
        """Return the header that says what the next proof has to hold, where a refusal is about that."""
        if deny.reason is not DenyReason.PROOF_NONCE:
            return {}
        try:
            return {NONCE_HEADER: self._proofs.nonces.current()}
        except StoreError:
            return {}

    def _addresses(self, request: web.Request) -> list[str]:
        """Return what the client may have called this: it is served at the issuer's host and at each account's."""
        found = [self._places.origin]
        head = RequestHead(method=b"POST", target=b"/", headers=request.raw_headers)
        account = self._accounts.read(head, request.headers.get(CLIENT_HEADER, ""))
        if account is not None:
            found.append(self._places.of_account(account))
        return [origin + request.path for origin in found]
