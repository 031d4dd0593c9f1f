"""Has the administrators of every account told of what concerns them all, some accounts at a time.

A round is a chain in the outbox. Each link is a notice to nobody, which says behind which account to go on. The notices
of a page and the next link are stored in one step, before the link is let go of: whoever dies in between leaves a link
that the next one takes, and what is stored twice is there once. So a round ends over any number of deaths and nodes,
and never is more of it in hand than a page.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from gateway.clock import Clock
from gateway.stores.outbox import WAITING, Claim, Concerned, Notice, Room, Target
from gateway.stores.store import Store
from gateway.telling.addressing import NOBODY, make_id
from gateway.telling.counts import SENT
from gateway.telling.events import Event
from policy.model import AccountType

CHANNEL: Final = "accounts"
"""Of links."""
MOST: Final = 100
"""Accounts of a page."""
PAUSE: Final = timedelta(seconds=1)
"""Between two pages."""
_PATIENCE: Final = 10
"""So many pauses a page waits at the most for what is to be sent before it, so that neither holds up the other."""


class _Link(msgspec.Struct, frozen=True):
    """Where a round stands."""

    facts: dict[str, str]
    after: str = ""


def begin_round(event: Event, *, about: str) -> Notice | None:
    """Return the first link, the same each time the event's record is read; None if it is not for all accounts.

    Broken evidence is told to an account once a day (UTC), however much is found: it has to ask, whatever there is.
    That it is whole again is told once, though it stands on the record again because somebody died meanwhile.
    """
    if not event.to_all:
        return None
    key = _key(event, about)
    target = Target(CHANNEL, key)
    return Notice(
        id=make_id(about=key, target=target),
        about=about,
        event=event.name,
        account="",
        target=target,
        facts=_write(_Link(facts=_facts(event))),
        happened_at=event.at,
    )


def _key(event: Event, about: str) -> str:
    """Return what tells a round from all others."""
    if event.name == "evidence":
        return f"evidence:{event.at:%Y-%m-%d}"
    return f"mended:{since}" if event.name == "mended" and (since := _since(event)) else about


class Spreader:
    """Deals with claims of links."""

    def __init__(
        self, store: Store, *, kept_by_app: bool, clock: Clock, most: int = MOST, pause: timedelta = PAUSE
    ) -> None:
        """With `kept_by_app` the store cannot say of every account whether its setting is on: so all are told."""
        self._store = store
        self._kept_by_app = kept_by_app
        self._clock = clock
        self._most = most
        self._pause = pause

    async def deal(self, claim: Claim) -> None:
        """Store the notices of the next page of accounts, and let go of the round until its pause is over.

        While other notices are due nothing is stored behind them, for some pauses. Raises StoreError; then another one
        goes on from here once the claim is over.
        """
        now = self._clock()
        if claim.failures < _PATIENCE and await self._store.is_due(now=now, room=Room(full=[CHANNEL])):
            await self._store.finish_claim(
                claim,
                noted=[],
                not_before=now + self._pause,
                failures=claim.failures + 1,
                error="others are sent first",
            )
            return
        for link in claim.notices:
            if link.outcome == WAITING:
                await self._spread(link)
        ids = [link.id for link in claim.notices]
        await self._store.settle_notices(ids, outcome=SENT)
        await self._store.finish_claim(claim, noted=ids, not_before=self._clock() + self._pause, failures=0)

    async def _spread(self, link: Notice) -> None:
        at = msgspec.json.decode(link.facts, type=_Link)
        page = await self._store.page_contacts(at.after, most=self._most)
        facts = msgspec.json.encode(at.facts).decode()
        since = _moment(at.facts.get("since", "")) or link.happened_at
        notices = [
            notice
            for each in page
            if self._concerns(link, each, since=since)
            for notice in _notices(link, each, facts=facts, since=since)
        ]
        if len(page) == self._most:
            after = page[-1].contacts.account
            follower = make_id(about=f"{link.target.address}\0{after}", target=link.target)
            facts = _write(_Link(facts=at.facts, after=after))
            notices.append(replace(link, id=follower, facts=facts))
        if notices:
            await self._store.add_notices(notices, now=self._clock())

    def _concerns(self, link: Notice, of: Concerned, *, since: datetime) -> bool:
        """Tell whether an account is told: of evidence each, and of the kill-switch those whose setting was on.

        Whatever the setting is, only the journal shows that nobody stood in. Where it began later, it is told as well.
        That it is whole again is nobody's news who named their first contact after it was found broken, `since` then.
        """
        if link.event == "mended":
            return of.contacts.version > 1 or of.contacts.at <= since
        if link.event != "kill_switch" or self._kept_by_app:
            return True
        if of.account is not None and of.account.type is AccountType.TRIAL:
            return True
        grant, at = of.grant, link.happened_at
        return grant is not None and not grant.is_expired(at) and (grant.revoked_at is None or at < grant.revoked_at)


def _notices(link: Notice, of: Concerned, *, facts: str, since: datetime) -> list[Notice]:
    account = of.contacts.account
    targets = of.contacts.told_of(since) or [Target(NOBODY, account)]
    # An address that is told of several accounts hears of each, for each of them can look up that it was told.
    key = f"{link.target.address}\0{account}"
    return [
        Notice(
            id=make_id(about=key, target=target),
            about=link.about,
            event=link.event,
            account=account,
            target=target,
            facts=facts,
            happened_at=link.happened_at,
        )
        for target in dict.fromkeys(targets)
    ]


def _facts(event: Event) -> dict[str, str]:
    """Return what an account may know: nothing of others, nor of what goes on inside the vendor."""
    if event.name == "mended" and (since := _since(event)):
        return {"since": since}
    change = event.facts.get("change", "")
    return {"change": change} if event.name == "kill_switch" and change in ("on", "off", "off_failed") else {}


def _since(event: Event) -> str:
    """Return when it began, empty where the record says no time: then it says nothing else either."""
    found = _moment(event.facts.get("since", ""))
    return found.isoformat() if found else ""


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo is not None else None
    except (ValueError, OverflowError):
        # Before the first year there is, in UTC.
        return None


def _write(link: _Link) -> str:
    return msgspec.json.encode(link).decode()
