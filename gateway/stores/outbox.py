"""The store's contract for notices: who is to be told of what, until somebody was told or that was given up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from policy.model import Account, AccountId, Grant

WAITING: Final = ""
"""The outcome of a notice that nobody has been sent yet."""

URGENT: Final = ("contacts", "evidence", "kill_switch", "mended")
"""Events that no number of others may hide or hold up."""


class Target(NamedTuple):
    """Where notices go: a channel (`mail`, `webhook`, or `none` where nobody is known), and an address of it."""

    channel: str
    address: str


class Former(NamedTuple):
    """Where notices went until then."""

    target: Target
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Contacts:
    """Who of an account is told; nobody, where both are empty."""

    account: AccountId
    mail: tuple[str, ...] = ()
    webhooks: tuple[str, ...] = ()
    by: str
    """Who said so last."""
    at: datetime
    version: int = 1
    """One more than that of the contacts which these are in the place of."""
    former: tuple[Former, ...] = ()
    """Whom these took the place of, for some days: what happened before is news of theirs as well."""

    @property
    def targets(self) -> list[Target]:
        """Where their notices go."""
        return [Target("mail", each) for each in self.mail] + [Target("webhook", each) for each in self.webhooks]

    def told_of(self, at: datetime) -> list[Target]:
        """Who is to hear of what happened then: whoever is told now, and whoever was then and is no more."""
        return [*self.targets, *(each.target for each in self.former if at < each.until)]


class Concerned(NamedTuple):
    """An account's contacts, with what the store knows of the account itself."""

    contacts: Contacts
    account: Account | None
    grant: Grant | None
    """The newest, ended or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One event for one recipient."""

    id: str
    """The same each time the event is read, and no other notice's."""
    about: str
    """What tells the event's record from all others: its leaf hash."""
    event: str
    account: str
    """Empty for what concerns no account."""
    target: Target
    facts: str
    """What there is to say, as a JSON object; empty once it is on the record what came of the notice."""
    happened_at: datetime
    outcome: str = WAITING
    tries: int = 0
    """So often it was refused by itself: it is not the target that takes nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Notices of one target that nobody else deals with for a while: the urgent ones, then the others, by age."""

    target: Target
    holder: str
    failures: int
    """So often it has failed one after the other."""
    notices: Sequence[Notice]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """How the outbox fares."""

    count: int = 0
    """Notices of which it is not on the record yet what came of them."""
    oldest: datetime | None = None
    """When the oldest of them happened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A notice that waits, as the operator sees it."""

    notice: Notice
    failures: int
    """So often its target has failed one after the other."""
    not_before: datetime
    """From then on it is due, once nobody is at its target."""
    error: str
    """What went wrong there last; empty if nothing did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What is not to be claimed now."""

    full: Sequence[str] = ()
    """Channels."""
    busy: Sequence[str] = ()
    """Accounts: no target is for what concerns these alone."""
    spared: Sequence[str] = ()
    """Addresses that are claimed whomever it concerns."""


ALL: Final = Room()


class Outbox(Protocol):
    """Every call raises StoreError when the store cannot answer. Nothing decides on what stands here."""

    async def find_contacts(self, account: AccountId) -> Contacts | None:
        """Return an account's contacts; None if nobody ever named any."""

    async def list_contacts(self) -> Sequence[Contacts]:
        """Return all contacts, by account."""

    async def page_contacts(self, after: str, *, most: int) -> Sequence[Concerned]:
        """Return at most `most` of the contacts of accounts behind `after`, by account."""

    async def save_contacts(self, contacts: Contacts, *, tell: Sequence[Notice], now: datetime) -> None:
        """Put these in the place of those one version older, and add the notices that say so, in one step.

        Raises StoreConflict, and nothing is stored, if the stored ones are of another version.
        """

    async def add_notices(self, notices: Sequence[Notice], *, now: datetime) -> int:
        """Add those that are not there yet, whatever came of those that are; returns how many that were.

        One with an outcome only waits for its record.
        """

    async def is_due(self, *, now: datetime, room: Room = ALL) -> bool:
        """Tell whether `claim_notices` would return something."""

    async def claim_notices(
        self, holder: str, *, now: datetime, until: datetime, most: int, room: Room = ALL
    ) -> Claim | None:
        """Take the target that has waited longest, with up to `most` of its notices; None if nothing is due.

        Those that were put off and are due again come last. Nobody else is given that target `until` then, or until
        `finish_claim`. `holder` is told from all others. What is held or put off for longer than anybody does is due: a
        clock was ahead.
        """

    async def settle_notices(self, ids: Sequence[str], *, outcome: str) -> None:
        """Keep what came of notices, of which a first outcome stays; they are not to be sent again."""

    async def finish_claim(
        self,
        claim: Claim,
        *,
        noted: Sequence[str],
        not_before: datetime,
        failures: int,
        error: str = "",
        put_off: Mapping[str, datetime] = MappingProxyType({}),
    ) -> None:
        """Let go of the target, unless it is another's by now: nothing is sent there `not_before` then.

        Of the notices named as `noted`, whose outcome is on the record, only that they were there is kept. Those that
        are `put_off` were tried once more, and are not claimed before their time. What was retried there since it was
        claimed is due all the same, with all else that waits there: nobody knows how much of it was tried by then.
        """

    async def list_pending(self, *, account: str = "", most: int) -> Sequence[Pending]:
        """Return up to `most` that wait, oldest first; of one account, unless that is empty."""

    async def list_given_up(self, *, account: str = "", most: int) -> Sequence[Notice]:
        """Return up to `most` that were given up, by the record, newest first, while they are kept.

        Where they went is not kept any more.
        """

    async def retry_notices(self, ids: Sequence[str] | None, *, now: datetime) -> int:
        """Have notices that wait be due, None: all, with their targets; returns how many there were of them.

        Whoever is at a target puts nothing off by finishing: what still waits there is due at once, one more time.
        """

    async def count_waiting(self) -> Waiting:
        """Return how much waits."""

    async def tidy_notices(self, *, before: datetime, contacts_before: datetime, now: datetime) -> None:
        """Forget what happened `before` then and is noted, and targets for which nothing waits and no pause goes on.

        Contacts that have not changed since `contacts_before` forget whom they took the place of.
        """
