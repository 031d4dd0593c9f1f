"""What a customer's provider tells of sign-outs: every session that had begun by then is over, at its next request."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final

from gateway.audit.log import AuditLog
from gateway.caller import Caller
from gateway.clock import Clock
from gateway.console.sessions import Kept
from gateway.console.sign_out_record import record_sign_out
from gateway.rarely import Rarely
from gateway.stores.once import Redeeming
from gateway.stores.store import StoreConflict, StoreError
from policy.events import Notice
from policy.model import AccountId, ClientId
from policy.provider_administrators import is_subject, name_person
from policy.times import LEEWAY, is_time

log = logging.getLogger(__name__)

_unrecorded = Rarely(log)
_together = Rarely(log)

_MOST_ROUNDS = 5
_ALL: Final = "all"
"""In place of the claim's name, where a sign-out is everybody's."""


class CustomerSignOuts:
    """Keeps until when sessions count that one client of one provider has made, by person and by session there.

    OpenID Connect Back-Channel Logout 1.0. A session whose ID token was issued later counts, so the same may be told
    any number of times.
    """

    def __init__(
        self,
        account: AccountId,
        *,
        issuer: str,
        client_id: str,
        client: ClientId,
        longest: timedelta,
        store: Redeeming,
        tell_ended: Callable[[], Awaitable[None]],
        journal: AuditLog,
        may_record: Callable[[AccountId, str], bool],
        may_keep: Callable[[], bool],
        clock: Clock,
    ) -> None:
        """Tell the record of `account` and `client`; no session of this provider's lasts longer than `longest`.

        `tell_ended` is called once sessions have ended. `may_record` takes one record of somebody's, and of the
        account's; False when they have had their share. `may_keep` takes one more of what this provider's sign-outs
        may write to the store; False when it has written too much.
        """
        self._account = account
        self._issuer = issuer
        self._client_id = client_id
        self._client = client
        self._longest = longest
        self._store = store
        self._tell_ended = tell_ended
        self._journal = journal
        self._may_record = may_record
        self._may_keep = may_keep
        self._clock = clock

    async def is_over(self, kept: Kept) -> bool:
        """Tell whether the provider has ended a session, or all of that person's; raises StoreError."""
        begun_at = _told_at(kept)
        for mark in (*self._marks(kept.claims), self._mark(_ALL)):
            until = await self._store.find_one_time(mark, now=self._clock())
            if until is not None and begun_at <= datetime.fromisoformat(until) + LEEWAY:
                return True
        return False

    async def name(self, notice: Notice) -> Notice:
        """Return the notice as it is: a session of the provider's says enough."""
        return notice

    async def carry_out(self, notice: Notice, caller: Caller) -> None:
        """End every session of a person's, or of one session at the provider, that had begun when this was issued.

        It only takes power away, so it is done even if it cannot be recorded, or if so many are told of that the share
        of the account is used up: each of them costs the disk a record. A provider that tells of more than the store
        is to keep one by one signs out all whom it has signed in. Raises StoreError.
        """
        said = {"sub": notice.person.subject} if notice.person is not None else {"sid": notice.session}
        is_new = False
        for mark in self._marks(said):
            is_new |= await self._put(mark, notice.issued_at)
        if is_new:
            await self._tell_ended()
        named = notice.person is not None and is_subject(notice.person.subject)
        by = name_person(self._issuer, notice.person.subject) if notice.person and named else self._issuer
        if not self._may_record(self._account, by):
            _unrecorded.warning("the provider of %s tells of too many sign-outs to record each", self._account)
            return
        await record_sign_out(self._journal, caller, by=by, client=self._client, account=self._account)

    async def _put(self, mark: bytes, until: datetime) -> bool:
        """Keep that sessions are over which had begun `until` then; False if that is known."""
        now = self._clock()
        end = now + self._longest + 2 * LEEWAY
        for _ in range(_MOST_ROUNDS):
            # Never without any in between: what failed there would let ended sessions live again.
            known = await self._store.find_one_time(mark, now=now)
            if known is not None and datetime.fromisoformat(known) >= until:
                return False  # what is there ends all that this would, and is kept as long
            # Everybody's is written once a second at the most, as often as there is another `iat`.
            if mark != self._mark(_ALL) and not self._may_keep():
                _together.warning("%s tells of so many sign-outs that all are signed out together", self._issuer)
                return await self._put(self._mark(_ALL), until)
            if known is None:
                try:
                    await self._store.add_one_time(mark, until.isoformat(), expires_at=end, now=now)
                except StoreConflict:
                    continue  # somebody else was told just now
                return True
            if await self._store.swap_one_time(mark, until.isoformat(), known=known, now=now, expires_at=end):
                return True
        raise StoreError("others go on telling of the same sign-out")

    def _marks(self, claims: Mapping[str, Any]) -> list[bytes]:
        """Return by what is known that a person, or a session of the provider's, is signed out."""
        return [self._mark(name, value) for name in ("sub", "sid") if isinstance(value := claims.get(name), str)]

    def _mark(self, name: str, value: str = "") -> bytes:
        return sha256(f"account signed out\0{self._issuer}\0{self._client_id}\0{name}\0{value}".encode()).digest()


def _told_at(kept: Kept) -> datetime:
    """Return when the provider said who somebody is, which may be a while before their session began here.

    Of a code that is redeemed behind a sign-out the ID token was issued before it.
    """
    issued = kept.claims.get("iat")
    return min(kept.begun_at, datetime.fromtimestamp(issued, UTC)) if is_time(issued) else kept.begun_at
