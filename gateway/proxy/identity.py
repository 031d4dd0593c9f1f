"""How the app is told who is there: a signed assertion, and plain headers only where the operator names them."""

import secrets
from datetime import datetime, timedelta

from cachetools import TTLCache

from gateway.clock import Ticks
from gateway.config.model import Identity
from gateway.proxy.wire import RequestHead
from gateway.tokens.signing import SigningKey
from policy.claims import ASSERTION_TYPE, build_assertion
from policy.model import AssumptionId, Permit, Scope

Said = tuple[AssumptionId, int, frozenset[Scope], datetime]
_KEPT_SECONDS = 30.0
_MOST_KEPT = 4096


class Assertions:
    """Makes the header lines that state the identity of a permitted request."""

    def __init__(
        self, key: SigningKey, identity: Identity, *, issuer: str, audience: str, bind: bool, ticks: Ticks
    ) -> None:
        self._key = key
        self._issuer = issuer
        self._audience = audience
        self._bind = bind
        self._lifetime = timedelta(seconds=identity.assertion_seconds)
        self._header = identity.header.encode("ascii")
        self._plain = [(name.encode("ascii"), what) for what, name in identity.plain.items()]
        # Half an assertion's life at the most, so that what the app gets is always good for a while.
        kept = min(_KEPT_SECONDS, identity.assertion_seconds / 2)
        self._kept: TTLCache[Said, bytes] = TTLCache(_MOST_KEPT, kept, timer=ticks)

    def lines(self, permit: Permit, head: RequestHead, host: str, *, now: datetime) -> list[tuple[bytes, bytes]]:
        """Return the lines to add; the assertion ends with the permit at the latest."""
        return [(self._header, self._assertion(permit, head, host, now)), *self._plain_lines(permit)]

    def _assertion(self, permit: Permit, head: RequestHead, host: str, now: datetime) -> bytes:
        if self._bind:
            return self._sign(
                permit, now, (head.method.decode("ascii"), f"https://{host}{head.target.decode('ascii')}")
            )
        # Keyed by all that it says, and by when it must end; the rules that let a request through are not said.
        key: Said = (permit.assumption, permit.grant_epoch, permit.scopes, permit.ends_at)
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = self._sign(permit, now, None)
        return found

    def _sign(self, permit: Permit, now: datetime, bound_to: tuple[str, str] | None) -> bytes:
        claims = build_assertion(
            permit,
            issuer=self._issuer,
            audience=self._audience,
            assertion_id=secrets.token_urlsafe(16),
            now=now,
            lifetime=self._lifetime,
            bound_to=bound_to,
        )
        return self._key.sign(claims, type_=ASSERTION_TYPE).encode("ascii")

    def _plain_lines(self, permit: Permit) -> list[tuple[bytes, bytes]]:
        said = {
            "subject": permit.subject,
            "actor": permit.actor.subject,
            "account": permit.account,
            "assumption": permit.assumption,
        }
        return [(name, said[what].encode("utf-8")) for name, what in self._plain]
