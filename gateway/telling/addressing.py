"""Who is told of an event: the account's contacts, and the security team where it wants to know."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from gateway.config.notices import NoticesSecurity
from gateway.stores.outbox import Contacts, Notice, Target
from gateway.telling.events import CHOSEN_AS, Event

NOBODY = "none"
"""The channel of what nobody can be told, because no contact is known: that goes on the record, too."""


@dataclass(frozen=True, slots=True)
class Addressing:
    """Makes notices of events."""

    security: NoticesSecurity

    def notices(self, event: Event, contacts: Contacts | None, *, about: str) -> list[Notice]:
        """Return a notice for each recipient, and one for nobody where whoever ought to be told cannot be."""
        targets: list[Target] = []
        if event.account:
            targets += (contacts.told_of(event.at) if contacts else []) or [Target(NOBODY, event.account)]
        if CHOSEN_AS.get(event.name, event.name) in self.security.events:
            own = self.targets
            targets += own or ([] if event.account else [Target(NOBODY, "")])
        return make_notices(event, targets, about=about)

    @property
    def targets(self) -> list[Target]:
        """Where the security team is told."""
        hooks = [Target("webhook", self.security.webhook)] if self.security.webhook else []
        return [Target("mail", each) for each in self.security.mail] + hooks


def make_notices(event: Event, targets: Sequence[Target], *, about: str) -> list[Notice]:
    """Return a notice for each target, which has the same id each time its record is read."""
    facts = msgspec.json.encode(event.facts).decode()
    return [
        Notice(
            id=make_id(about=about, target=target),
            about=about,
            event=event.name,
            account=event.account,
            target=target,
            facts=facts,
            happened_at=event.at,
        )
        for target in dict.fromkeys(targets)
    ]


def read_facts(notice: Notice) -> dict[str, Any]:
    """Return what there is to say of it; raises ValueError if that cannot be read."""
    return msgspec.json.decode(notice.facts, type=dict[str, str])


def is_older(notice: Notice, than: datetime) -> bool:
    """Tell whether what it says happened before then."""
    return notice.happened_at < than


def make_id(*, about: str, target: Target) -> str:
    """Return the id of the notice that tells a target about something."""
    text = f"{about}\0{target.channel}\0{target.address}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]
