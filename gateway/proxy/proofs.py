"""Whether a request with a bound token comes from whoever holds its key (RFC 9449 section 7)."""

from gateway.places import Places
from gateway.proxy.headers import values
from gateway.proxy.triage import Credential
from gateway.proxy.wire import Headers, RequestHead
from gateway.stores.store import StoreError
from gateway.taken import Full, Taken
from gateway.tokens.dpop import Proof, ProofRefused, Proofs
from policy.model import AccountId, AssumptionClaims, Deny, DenyReason


class HeldKeys:
    """Judges the proof of each request, and takes each once.

    What was taken is remembered in this process: to tell every other one of each request would cost more than the
    request. So a proof that somebody has copied off an open connection could be used once in each other process,
    within a minute, for the same method and address and with the same token only.
    """

    def __init__(self, proofs: Proofs, places: Places, taken: Taken) -> None:
        self._proofs = proofs
        self._places = places
        self._taken = taken

    def judge(
        self, head: RequestHead, credential: Credential, claims: AssumptionClaims, account: AccountId
    ) -> Deny | None:
        """Return why the token does not count with this request, or None; a bound one never counts as a bearer."""
        if claims.key is None or not credential.dpop:
            detail = "a token that is bound to a key is sent as `Authorization: DPoP`, and no other is"
            return Deny(reason=DenyReason.PROOF_MISSING, detail=detail)
        try:
            self._take(self._read(head, credential.token, account), claims.key)
        except ProofRefused as exc:
            return exc.deny
        except (StoreError, Full):
            return Deny(reason=DenyReason.STORE_UNAVAILABLE)
        return None

    def nonce(self, deny: Deny) -> Headers:
        """Return the line that says what the next proof has to hold, where a refusal is about that."""
        if deny.reason is not DenyReason.PROOF_NONCE:
            return ()
        try:
            return ((b"DPoP-Nonce", self._proofs.nonces.current().encode("ascii")),)
        except StoreError:
            return ()

    def _take(self, proof: Proof, key: str) -> None:
        if proof.key != key:
            raise ProofRefused("the proof is of another key than the token's")
        if not self._taken.take(proof.digest):
            raise ProofRefused("the proof was used before: make one for each request")

    def _read(self, head: RequestHead, token: str, account: AccountId) -> Proof:
        path = head.target.partition(b"?")[0].decode("latin-1")
        return self._proofs.read(
            [value.decode("latin-1") for value in values(head.headers, b"dpop")],
            method=head.method.decode("latin-1"),
            uris=(self._places.of_account(account) + path,),
            token=token,
        )
