"""The store's contract: what holds when a call returns, whichever database is behind it."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from gateway.stores.awaiting import Awaiting
from gateway.stores.browsing import Browsing
from gateway.stores.counting import Counting
from gateway.stores.holding import Holding
from gateway.stores.once import Redeeming
from gateway.stores.outbox import Outbox
from gateway.stores.requesting import Requesting
from policy.grants import Change, GrantChange
from policy.model import Account, AccountId, ActorId, Assumption, AssumptionId, ClientId, Grant, GrantId, Staff


class StoreError(Exception):
    """Ours: the store cannot be read or written now. Staff are refused; customers do not notice."""


class StoreConflict(Exception):
    """The row exists already, or has changed since it was read: read again and decide again."""


class TooManyAssumptions(StoreConflict):
    """The staff member has as many assumptions open as they may."""


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
    """A program that may call our APIs; with an `account`, that account's part of the log and no other."""

    id: ClientId
    secret_digest: bytes
    """SHA-256 of a secret of 256 random bits, which needs no slow hash; empty for a client without a secret."""
    roles: frozenset[str]
    """What it may do: some of `gateway.clients.ROLES`."""
    jwks: str | None = None
    """A JWK set (RFC 7517) of the public keys by which it authenticates instead (RFC 7523); None: by its secret."""
    dpop: bool = False
    """Whether its tokens are only for the holder of a key (RFC 9449)."""
    account: AccountId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """A signing key; see `policy.keys` for what its times mean."""

    id: str
    algorithm: str
    private_pem: bytes
    """Empty once it has ended."""
    created_at: datetime
    signs_from: datetime
    retired_at: datetime | None = None
    ended_at: datetime | None = None

    def __repr__(self) -> str:
        """Hide the key."""
        return f"StoredKey(id={self.id!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class StaffSession:
    """A staff member's browser that is signed in."""

    digest: bytes
    """SHA-256 of the 256 random bits in its cookie, which are kept nowhere."""
    actor: ActorId
    claims: str
    """What the ID token said, as a JSON object, to be judged anew at each request."""
    signed_in_at: datetime
    """When they signed in at the issuer."""
    seen_at: datetime
    """When the session was last used, about."""
    ends_at: datetime
    """When it ends, however it is used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KillSwitch:
    """Whether all assumption is stopped, whatever any grant says."""

    on: bool = False
    by: str = ""
    """Who set it last; empty if nobody ever did."""
    reason: str = ""
    at: datetime | None = None


class StoreChange(Struct, frozen=True, kw_only=True, array_like=True):
    """One committed change: of what is named here, or of everything if nothing is.

    A database may write it as a JSON array of its fields in this order, `staff` as one of issuer and subject.
    """

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


class Store(Counting, Awaiting, Holding, Redeeming, Browsing, Requesting, Outbox, Protocol):
    """Every call raises StoreError when the store cannot answer; what it returns is never a guess.

    A write is durable when its call returns, and it is there as a whole or not at all. Whatever is written of an
    account, a grant, staff's request for one, an assumption, a staff member, a signing key or the kill-switch raises
    the position in the same transaction, whoever writes it: also by hand, with other tools. What changed may be named
    more than once.
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

    async def set_kill_switch(self, switch: KillSwitch, *, known: KillSwitch | None = None) -> bool:
        """Set it for every account and node; where one that somebody set is `known`, False if it is no more there."""

    async def find_account(self, account: AccountId) -> AccountRecord | None:
        """Return the account with its newest grant, or None if there is no such account."""

    async def add_account(self, account: Account) -> None:
        """Add an account; raises StoreConflict if its id is taken."""

    async def list_accounts(self) -> Sequence[AccountRecord]:
        """Return all accounts, by id."""

    async def search_accounts(self, text: str, *, most: int, after: str = "") -> Sequence[AccountRecord]:
        """Return at most `most` of the accounts behind `after` whose id has `text` in it, by id.

        Letters are compared as they are, and none has a meaning of its own. It walks the ids, and reads no account that
        does not fit.
        """

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

    async def begin_assumption(
        self, assumption: Assumption, staff: Staff, *, at: datetime, most: int | None = None
    ) -> None:
        """Save a staff member as `save_staff` does, and add the assumption that they begin, in one step.

        Raises StoreConflict, and then nothing is stored, if they have signed out later than `staff.signed_out_at`, as
        it was known when this was decided, or if the assumption's id is taken. Whichever of this and a sign-out comes
        second sees what the first did, so that no assumption outlives a sign-out that it was decided without.

        Likewise TooManyAssumptions if they have `most` open: neither ended nor expired `at` this time, nor under a
        grant that was. Of any number that begin at once, by however many processes, no more begin than may be open.
        """

    async def list_begun(self, actor: ActorId, *, at: datetime) -> Sequence[Assumption]:
        """Return those that a staff member has open `at` this time, as `begin_assumption` counts them, oldest first."""

    async def find_assumption(self, assumption: AssumptionId) -> Assumption | None:
        """Return an assumption, ended ones included."""

    async def end_assumption(self, assumption: AssumptionId, *, at: datetime) -> bool:
        """Mark it ended; False if it had ended before or does not exist."""

    async def end_assumptions_of(self, actor: ActorId, *, at: datetime) -> Sequence[AssumptionId]:
        """Mark all that a staff member has begun as ended, in one step; returns those that had not ended before."""

    async def sign_out(self, actor: ActorId, *, since: datetime, at: datetime) -> Sequence[Assumption]:
        """Remember that a staff member, seen before or not, signed out at `since`, and end what they had begun.

        That is all but what a later sign-in than `since` began. Both in one step; returns what had not ended before, as
        it is now. If they are known to have signed out at `since` or later, nothing happens: a notice that is told
        twice, by whichever process or node, ends nothing that was begun in between.
        """

    async def list_assumptions(self, *, at: datetime, account: AccountId | None = None) -> Sequence[Assumption]:
        """Return the assumptions that have neither been ended nor expired `at` this time, oldest first.

        Of one account, or of all.
        """

    async def save_staff(self, staff: Staff, *, at: datetime) -> None:
        """Insert or update a staff member as seen at `at`.

        Name, permissions, groups and claims stay as they are if what is stored was told later (`told_at`); a time that
        is not known is earlier than any. `disabled`, once set, stays until it is lifted by name; `signed_out_at` only
        ever moves forwards.
        """

    async def find_staff(self, actor: ActorId) -> Staff | None:
        """Return a staff member as last seen."""

    async def disable_staff(self, actor: ActorId, *, disabled: bool) -> bool:
        """Set or lift the lock; False if the person was never seen."""

    async def begin_session(self, session: StaffSession, staff: Staff, *, at: datetime) -> None:
        """Save a staff member as `save_staff` does, and add the session that they begin, in one step.

        Raises StoreConflict, and then no session is stored, if they are locked out or have signed out at
        `session.signed_in_at` or later, or if the digest is taken. What locks them out or signs them out afterwards,
        by whatever call or by hand, ends the session in the same step. Sessions that are over by `at` are forgotten.
        """

    async def find_session(self, digest: bytes) -> StaffSession | None:
        """Return a session that nobody has ended; whether its time is over is for the caller to see."""

    async def touch_session(self, digest: bytes, *, at: datetime) -> None:
        """Note that a session was used, if there still is one; `seen_at` only ever moves forwards."""

    async def end_session(self, digest: bytes) -> StaffSession | None:
        """End a session; returns it as it was, None if there was none."""

    async def add_client(self, client: Client) -> None:
        """Add an API client; raises StoreConflict if its id is taken."""

    async def find_client(self, client: ClientId) -> Client | None:
        """Return a client."""

    async def list_clients(self) -> Sequence[Client]:
        """Return all API clients, by id."""

    async def remove_client(self, client: ClientId) -> bool:
        """Forget an API client, so that its id is free; False if there is none of that id."""

    async def add_key(self, key: StoredKey, *, after: str | None = None) -> None:
        """Add a signing key, if the newest of its algorithm is `after`, or there is none and `after` is None.

        The newest is the one that signs last, ended or not. Otherwise, and if the id is taken, raises StoreConflict: so
        of several who find that a key is missing one makes it.
        """

    async def start_key(self, key: str, *, at: datetime) -> bool:
        """Have a key sign from `at`; False unless it was to sign later than that."""

    async def retire_key(self, key: str, *, at: datetime) -> bool:
        """Have a key sign no more from `at`; False if that was done before, or there is no such key."""

    async def end_key(self, key: str, *, at: datetime) -> bool:
        """Have nothing count from `at` that a key has signed, and forget the key itself; likewise."""

    async def list_keys(self) -> Sequence[StoredKey]:
        """Return all signing keys, newest first."""

    async def close(self) -> None:
        """Let go of the database; every later call raises StoreError."""
