"""How the app is told who is there: a signed assertion, and plain headers only where the operator names them."""

import secrets
from datetime import datetime, timedelta

from gateway.clock import Clock, Ticks
from gateway.config.model import Identity
from gateway.proxy.wire import Headers, RequestHead
from gateway.tokens.keys import KeyRing
from gateway.tokens.signing import SigningKey
from policy.claims import ASSERTION_TYPE, build_assertion
from policy.model import AssumptionId, Permit, Scope

Said = tuple[int, frozenset[Scope], datetime]
_KEPT_SECONDS = 30.0
_MOST_KEPT = 4096


class Assertions:
    """Makes the header lines that state the identity of a permitted request."""

    def __init__(
        self, keys: KeyRing, identity: Identity, *, issuer: str, audience: str, bind: bool, ticks: Ticks
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._bind = bind
        self._lifetime = timedelta(seconds=identity.assertion_seconds)
        self._header = identity.header.encode("ascii")
        self._plain = [(name.encode("ascii"), what) for what, name in identity.plain.items()]
        # Half an assertion's life at the most, so that what the app gets is always good for a while.
        kept = min(_KEPT_SECONDS, identity.assertion_seconds / 2)
        self._kept: dict[AssumptionId, tuple[Said, float, str, Headers]] = {}
        self._kept_seconds = kept
        self._ticks = ticks

    def lines(self, permit: Permit, head: RequestHead, host: str, clock: Clock) -> Headers:
        """Return the lines to add; the assertion ends with the permit at the latest.

        The same object as before while all of it is still good.
        """
        if self._bind:
            bound_to = (head.method.decode("ascii"), f"https://{host}{head.target.decode('ascii')}")
            return self._make(self._keys.assertions, permit, clock(), bound_to)
        # Kept with all that can change in what it says; the rules that let a request through are not said.
        said: Said = (permit.grant_epoch, permit.scopes, permit.ends_at)
        kept = self._kept.get(permit.assumption)
        ticks = self._ticks()
        if kept is not None and kept[0] == said and ticks < kept[1] and self._keys.knows(kept[2]):
            return kept[3]
        key = self._keys.assertions
        lines = self._make(key, permit, clock(), None)
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        self._kept[permit.assumption] = (said, ticks + self._kept_seconds, key.id, lines)
        return lines

    def _make(self, key: SigningKey, permit: Permit, now: datetime, bound_to: tuple[str, str] | None) -> Headers:
        return ((self._header, self._sign(key, permit, now, bound_to)), *self._plain_lines(permit))

    def _sign(self, key: SigningKey, permit: Permit, now: datetime, bound_to: tuple[str, str] | None) -> bytes:
        claims = build_assertion(
            permit,
            issuer=self._issuer,
            audience=self._audience,
            assertion_id=secrets.token_urlsafe(16),
            now=now,
            lifetime=self._lifetime,
            bound_to=bound_to,
        )
        return key.sign(claims, type_=ASSERTION_TYPE).encode("ascii")

    def _plain_lines(self, permit: Permit) -> list[tuple[bytes, bytes]]:
        said = {
            "subject": permit.subject,
            "actor": permit.actor.subject,
            "account": permit.account,
            "assumption": permit.assumption,
        }
        return [(name, said[what].encode("utf-8")) for name, what in self._plain]
