"""What a 401 tells a client besides its error: where to ask for a token, and how staff have to sign in for one."""

import re
from collections.abc import Iterable

from gateway.places import RESOURCE_METADATA, Places
from gateway.refusals import Said
from gateway.tokens.dpop import ALGORITHMS
from policy.model import AccountId, Deny, DenyReason

# What stands between quotes as it is (RFC 9110 section 5.6.4); a context with another character is left out.
_QUOTABLE = re.compile(r"[!#-\[\]-~]+", re.ASCII)


_OF_PROOFS = (DenyReason.PROOF_MISSING, DenyReason.PROOF_INVALID, DenyReason.PROOF_NONCE)


class Challenges:
    """Makes the parameters of `WWW-Authenticate` from the configuration, never from what the request says."""

    def __init__(self, places: Places, *, acr: Iterable[str], max_age_seconds: int | None) -> None:
        """Ask staff for one of the contexts `acr`, and for a sign-in no older than that."""
        self._places = places
        step_up = [("acr_values", " ".join(word for word in acr if _QUOTABLE.fullmatch(word)))]
        step_up.append(("max_age", "" if max_age_seconds is None else str(max_age_seconds)))
        self._step_up = [pair for pair in step_up if pair[1]]

    def of(self, deny: Deny, account: AccountId | None) -> Said:
        """Return the parameters for a refusal at an account's host."""
        said: list[tuple[str, str]] = []
        if deny.reason in _OF_PROOFS:
            said.append(("algs", " ".join(ALGORITHMS)))
        if deny.reason is DenyReason.STAFF_AUTHENTICATION_WEAK:
            # RFC 9470 section 3; it is staff's own sign-in that has to be stronger, at their identity provider.
            said += self._step_up
        if account is not None:
            # RFC 9728 section 5.1.
            said.append(("resource_metadata", self._places.of_account(account) + RESOURCE_METADATA))
        return said
