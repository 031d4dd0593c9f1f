"""The store's contract: what holds when a call returns, whichever database is behind it."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from policy.grants import Change, GrantChange
from policy.model import Account, AccountId, ActorId, Assumption, AssumptionId, ClientId, Grant, GrantId, Staff


class StoreError(Exception):
    """Ours: the store cannot be read or written now. Staff are refused; customers do not notice."""


class StoreConflict(Exception):
    """The row exists already, or has changed since it was read: read again and decide again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRecord:
    """An account with its newest grant, ended or not, read in one transaction."""

    account: Account
    grant: Grant | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantEvent:
    """One line of an account's history."""

    account: AccountId
    epoch: int
    at: datetime
    by: str
    change: Change
    grant: Grant | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A program that may call our APIs."""

    id: ClientId
    secret_digest: bytes
    """SHA-256 of a secret of 256 random bits, which needs no slow hash."""
    roles: frozenset[str]
    """Of `token` (exchange tokens) and `grants` (read and change grants)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """A signing key."""

    id: str
    algorithm: str
    private_pem: bytes
    created_at: datetime
    retired_at: datetime | None = None

    def __repr__(self) -> str:
        """Hide the key."""
        return f"StoredKey(id={self.id!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class KillSwitch:
    """Whether all assumption is stopped, whatever any grant says."""

    on: bool = False
    by: str = ""
    """Who set it last; empty if nobody ever did."""
    reason: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreChange:
    """One committed change: of what is named here, or of everything if nothing is."""

    position: int
    """Counts every change of the store, without a gap, in the order in which they were committed."""
    account: AccountId | None = None
    """The account or its grant changed."""
    assumption: AssumptionId | None = None
    staff: ActorId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What was committed after a position."""

    position: int
    """The newest there is. Lower than the position asked about: the store is an older copy of itself."""
    changes: Sequence[StoreChange] | None
    """In order. None: they cannot be named any more, so anything may have changed."""
    tag: str | None = field(default=None, compare=False)
    """Of the change at the position asked about, None if it is not kept any more.

    Each change has a tag by chance, so another one than was seen there before is the change of another history: an
    older copy that has gone on by itself. It says nothing of what changed, so it is not compared.
    """
    newest_tag: str | None = field(default=None, compare=False)
    """Likewise, of the change at `position`; None if there was no change ever."""


class Push(Protocol):
    """A channel that says when to read the changes; it carries no truth of its own, so a lie in it does no harm."""

    async def wait(self) -> None:
        """Return when something may have been committed since the last return, at once for what came in between.

        Raises StoreError when the channel is lost, and always thereafter: listen again.
        """


class Store(Protocol):
    """Every call raises StoreError when the store cannot answer; what it returns is never a guess.

    A write is durable when its call returns, and it is there as a whole or not at all. Whatever is written of an
    account, a grant, an assumption, a staff member or the kill-switch raises the position in the same transaction,
    whoever writes it: also by hand, with other tools. What changed may be named more than once.
    """

    def listen(self) -> AbstractAsyncContextManager[Push]:
        """Open a channel that misses nothing committed after the block was entered, by whichever process or node."""

    async def read_changes(self, after: int) -> Changes:
        """Return what was committed after `after`; some thousands of the newest changes are kept by name."""

    async def raise_position(self, beyond: int) -> None:
        """Make the position higher than `beyond` and than it was, in one change of everything.

        For a store put back from an older copy, once an operator trusts it again. This alone may leave a gap, across
        which no changes are named.
        """

    async def touch_account(self, account: AccountId) -> None:
        """Raise the position for an account, known or not, that is to be looked at again.

        The epoch of one that is known goes up too, so that what was decided before can be saved no more. Nothing else
        of it changes.
        """

    async def find_kill_switch(self) -> KillSwitch:
        """Return the kill-switch; off if it was never set."""

    async def set_kill_switch(self, switch: KillSwitch) -> None:
        """Set it for every account and every node."""

    async def find_account(self, account: AccountId) -> AccountRecord | None:
        """Return the account with its newest grant, or None if there is no such account."""

    async def add_account(self, account: Account) -> None:
        """Add an account; raises StoreConflict if its id is taken."""

    async def list_accounts(self) -> Sequence[AccountRecord]:
        """Return all accounts, by id."""

    async def save_change(self, change: GrantChange, *, by: str, at: datetime) -> None:
        """Store the account, its grant and a line of history together.

        Raises StoreConflict unless the stored epoch is exactly one below the change's: whoever decided on older
        facts decides again. Likewise if the grant's id was revoked before or is another account's: what has ended
        does not begin again. A change without a grant leaves the account without one.
        """

    async def list_changes(self, account: AccountId) -> Sequence[GrantEvent]:
        """Return the account's history, newest first."""

    async def find_grant(self, grant: GrantId) -> Grant | None:
        """Return a grant by its id, ended ones included."""

    async def add_assumption(self, assumption: Assumption) -> None:
        """Add a started assumption; raises StoreConflict if its id is taken."""

    async def begin_assumption(self, assumption: Assumption, staff: Staff, *, at: datetime) -> None:
        """Save a staff member as `save_staff` does, and add the assumption that they begin, in one step.

        Raises StoreConflict, and then nothing is stored, if they have signed out later than `staff.signed_out_at`, as
        it was known when this was decided, or if the assumption's id is taken. Whichever of this and a sign-out comes
        second sees what the first did, so that no assumption outlives a sign-out that it was decided without.
        """

    async def find_assumption(self, assumption: AssumptionId) -> Assumption | None:
        """Return an assumption, ended ones included."""

    async def end_assumption(self, assumption: AssumptionId, *, at: datetime) -> bool:
        """Mark it ended; False if it had ended before or does not exist."""

    async def end_assumptions_of(self, actor: ActorId, *, at: datetime) -> Sequence[AssumptionId]:
        """Mark all that a staff member has begun as ended, in one step; returns those that had not ended before."""

    async def sign_out(self, actor: ActorId, *, since: datetime, at: datetime) -> Sequence[Assumption]:
        """Remember that a staff member, seen before or not, signed out at `since`, and end what they had begun.

        That is all but what a later sign-in than `since` began. Both in one step; returns what had not ended before, as
        it is now. If they are known to have signed out at
        `since` or later, nothing happens: a notice that is told twice, by whichever process or node, ends nothing that
        was begun in between.
        """

    async def list_assumptions(self, *, account: AccountId | None = None) -> Sequence[Assumption]:
        """Return the assumptions that have not been ended, oldest first: of one account, or of all."""

    async def save_staff(self, staff: Staff, *, at: datetime) -> None:
        """Insert or update a staff member as seen at `at`.

        `disabled`, once set, stays until it is lifted by name; `signed_out_at` only ever moves forwards.
        """

    async def find_staff(self, actor: ActorId) -> Staff | None:
        """Return a staff member as last seen."""

    async def disable_staff(self, actor: ActorId, *, disabled: bool) -> bool:
        """Set or lift the lock; False if the person was never seen."""

    async def add_client(self, client: Client) -> None:
        """Add an API client; raises StoreConflict if its id is taken."""

    async def find_client(self, client: ClientId) -> Client | None:
        """Return a client."""

    async def add_key(self, key: StoredKey) -> None:
        """Add a signing key; raises StoreConflict if its id is taken."""

    async def list_keys(self) -> Sequence[StoredKey]:
        """Return all signing keys, newest first."""

    async def close(self) -> None:
        """Let go of the database; every later call raises StoreError."""
