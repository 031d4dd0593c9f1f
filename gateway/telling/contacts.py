"""Changing who of an account is told: on the record first, and told to everybody who was told before."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from msgspec import structs

from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Record
from gateway.clock import Clock
from gateway.config.notices import Notices, NoticesSecurity
from gateway.stores.outbox import Contacts, Former, Notice, Target
from gateway.stores.store import Store, StoreConflict, StoreError
from gateway.telling.addresses import MOST, is_mail, is_webhook, shown
from gateway.telling.addressing import Addressing, make_notices
from gateway.telling.events import Event
from policy.model import AccountId, ClientId

if TYPE_CHECKING:
    from gateway.caller import Caller

log = logging.getLogger(__name__)

FORMER_KEPT: Final = timedelta(days=4)
"""So long it is known who was told before: what happened then is read by then."""
_MOST_FORMER: Final = 200


class BadContact(Exception):
    """Theirs: an address that nothing can be sent to. The message says which kind, and is fit for the caller."""


def open_book(notices: Notices | None, store: Store, journal: AuditLog, *, clock: Clock) -> ContactBook:
    """Return who of each account is told by `notices`; without them, who would be."""
    signs = notices is not None and notices.webhooks.secret is not None
    addressing = Addressing(NoticesSecurity() if notices is None else notices.security)
    return ContactBook(store, journal, addressing, signs=signs, clock=clock)


class ContactBook:
    """Keeps who of each account is told."""

    def __init__(self, store: Store, journal: AuditLog, addressing: Addressing, *, signs: bool, clock: Clock) -> None:
        """`signs` is whether webhooks can be told anything: without it none is added."""
        self._store = store
        self._signs = signs
        self._journal = journal
        self.addressing = addressing
        self._clock = clock

    async def find(self, account: AccountId) -> Contacts | None:
        """Return an account's contacts; raises StoreError."""
        return await self._store.find_contacts(account)

    async def change(
        self,
        account: AccountId,
        *,
        mail: Sequence[str],
        webhooks: Sequence[str],
        by: str,
        caller: Caller | None = None,
        client: ClientId | None = None,
        known: int | None = None,
    ) -> Contacts:
        """Put these in the place of what there is; whoever was told before, and whoever is now, is told of it.

        With `known`, only those of that version are replaced; 0: none. The notices are in the store with the change
        itself: nobody can be taken off who does not hear of it. Raises BadContact, JournalError, StoreError, and
        StoreConflict if they were changed meanwhile; then nothing is changed.
        """
        check_contacts(mail, webhooks)
        before = await self._store.find_contacts(account)
        if known is not None and known != (before.version if before else 0):
            raise StoreConflict(f"the contacts of `{account}` are not those of version {known} any more")
        if not self._signs and set(webhooks) - set(before.webhooks if before else ()):
            raise BadContact(
                "no webhook can be told anything, for none can be signed: set notices.webhooks.secret first"
            )
        now = self._clock()
        after = Contacts(
            account=account,
            mail=tuple(dict.fromkeys(mail)),
            webhooks=tuple(dict.fromkeys(webhooks)),
            by=by,
            at=now,
            version=(before.version if before else 0) + 1,
            former=_former(before, now),
        )
        told = [shown(*target) for target in after.targets]
        record = Record(
            kind="account",
            reason="contacts_changed",
            account=account,
            by=by,
            recipient=" ".join(told) or None,
            count=len(told),
            client_id=client,
            client_ip=caller.client_ip if caller else None,
            request_id=caller.request_id if caller else None,
        )
        await self._journal.append(record, durable=True)
        try:
            await self._store.save_contacts(after, tell=self._notices(before, after, now), now=now)
        except (StoreConflict, StoreError) as error:
            reason = "overtaken" if isinstance(error, StoreConflict) else "store_unavailable"
            await self._undo(structs.replace(record, decision="deny", reason=reason))
            raise
        return after

    def _notices(self, before: Contacts | None, after: Contacts, now: datetime) -> list[Notice]:
        told = ", ".join(shown(*target) for target in after.targets)
        event = Event(name="contacts", account=after.account, at=now, facts={"by": after.by, "now": told})
        targets: list[Target] = [*(before.targets if before else []), *after.targets]
        if "contacts" in self.addressing.security.events:
            targets += self.addressing.targets
        return make_notices(event, targets, about=f"contacts:{after.account}:{after.version}")

    async def _undo(self, record: Record) -> None:
        try:
            await self._journal.append(record, durable=True)
        except JournalError:
            log.exception("that contacts were not changed could not be recorded")


def _former(before: Contacts | None, now: datetime) -> tuple[Former, ...]:
    """Return who was told before and until when; of one who was so twice the last time."""
    if before is None:
        return ()
    found = {each.target: each for each in before.former if each.until > now - FORMER_KEPT}
    for target in before.targets:
        found.pop(target, None)
        found[target] = Former(target, now)
    return tuple(found.values())[-_MOST_FORMER:]


def check_contacts(mail: Sequence[str], webhooks: Sequence[str]) -> None:
    """Raise BadContact for what nothing can be sent to."""
    if len(mail) > MOST or len(webhooks) > MOST:
        raise BadContact(f"an account may have {MOST} mail addresses and {MOST} webhooks at the most")
    for text in mail:
        if not is_mail(text):
            raise BadContact("a mail address must be one in ASCII, without a name, such as admin@acme.example")
    for text in webhooks:
        if not is_webhook(text):
            raise BadContact("a webhook must be an https URL in ASCII, without a user and a fragment")
