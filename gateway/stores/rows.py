"""The store's values as columns and back.

A time is a whole number of microseconds since 1970 in UTC: as fine as `datetime`, exact both ways, and in order for
SQL, where text would first need one agreed spelling. What cannot be read back exactly raises ValueError (or
OverflowError, for a time beyond the calendar), never a guess.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.stores.store import AccountRecord, Changes, Client, GrantEvent, KillSwitch, StoreChange, StoredKey
from policy.grants import Change, GrantChange
from policy.model import (
    Account,
    AccountId,
    AccountType,
    ActorId,
    AgentId,
    Assumption,
    AssumptionId,
    ClientId,
    Duration,
    Grant,
    GrantId,
    Permission,
    Staff,
)
from policy.scopes import format_scopes, parse_scopes

Row = tuple[Any, ...]

# The columns that each `read_` below takes, in its order.
RECORD = """
    a.id, a.type, a.suspended, a.epoch, g.id, g.epoch, g.duration, g.permissions, g.not_before, g.expires_at,
    g.given_by, g.revoked_at
"""
GRANT = "account, id, epoch, duration, permissions, not_before, expires_at, given_by, revoked_at"
EVENT = """
    account, epoch, made_at, made_by, change, grant_id, grant_epoch, duration, permissions, not_before, expires_at,
    given_by, revoked_at
"""
ASSUMPTION = """
    id, account, subject, actor_issuer, actor_subject, grant_id, ticket, reason, scopes, started_at, ended_at,
    signed_in_at
"""
STAFF = "issuer, subject, name, permissions, groups, disabled, signed_out_at"
CLIENT = "id, secret_digest, roles"
KEY = "id, algorithm, private_pem, created_at, retired_at"
KILL_SWITCH = "stopped, set_by, reason, set_at"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NO_GRANT: Row = (None,) * 8


def select(columns: str, rest: str) -> str:
    """Return the statement that asks for `columns`; both are our own words, never a caller's."""
    return f"SELECT {columns} {rest}"


def account_row(account: Account) -> Row:
    """Return id, type, suspended, epoch."""
    return (account.id, account.type, account.suspended, account.epoch)


def read_record(row: Row) -> AccountRecord:
    """Return the account, and its grant from the columns after `account_row`'s four."""
    account, kind, suspended, epoch = row[:4]
    return AccountRecord(
        account=Account(id=AccountId(account), type=AccountType(kind), suspended=bool(suspended), epoch=epoch),
        grant=_read_grant_of(account, row[4:]),
    )


def grant_row(grant: Grant | None) -> Row:
    """Return id, epoch, duration, permissions, not_before, expires_at, given_by, revoked_at; without the account."""
    if grant is None:
        return _NO_GRANT
    return (
        grant.id,
        grant.epoch,
        grant.duration,
        _join(grant.permissions),
        write_time(grant.not_before),
        _write_end(grant.expires_at),
        grant.given_by,
        _write_end(grant.revoked_at),
    )


def read_grant(row: Row) -> Grant:
    """Return the grant of an account and `grant_row`'s columns."""
    account, grant, epoch, duration, permissions, not_before, expires_at, given_by, revoked_at = row
    return Grant(
        id=GrantId(grant),
        account=AccountId(account),
        epoch=epoch,
        duration=Duration(duration),
        permissions=_read_permissions(permissions),
        not_before=_read_time(not_before),
        expires_at=_read_end(expires_at),
        given_by=given_by,
        revoked_at=_read_end(revoked_at),
    )


def event_row(change: GrantChange, *, by: str, at: datetime) -> Row:
    """Return account, epoch, made_at, made_by, change and `grant_row`'s columns."""
    account = change.account
    return (account.id, account.epoch, write_time(at), by, change.change, *grant_row(change.grant))


def read_event(row: Row) -> GrantEvent:
    """Return the line of history of `event_row`'s columns."""
    account, epoch, at, by, change = row[:5]
    return GrantEvent(
        account=AccountId(account),
        epoch=epoch,
        at=_read_time(at),
        by=by,
        change=Change(change),
        grant=_read_grant_of(account, row[5:]),
    )


def assumption_row(assumption: Assumption) -> Row:
    """Return the columns in the order of the table."""
    return (
        assumption.id,
        assumption.account,
        assumption.subject,
        assumption.actor.issuer,
        assumption.actor.subject,
        assumption.grant_id,
        assumption.ticket,
        assumption.reason,
        format_scopes(assumption.scopes),
        write_time(assumption.started_at),
        _write_end(assumption.ended_at),
        _write_end(assumption.signed_in_at),
    )


def read_assumption(row: Row) -> Assumption:
    """Return the assumption of `assumption_row`'s columns."""
    assumption, account, subject, actor_issuer, actor_subject, grant, ticket, reason, scopes, *times = row
    started, ended, signed_in = times
    return Assumption(
        id=AssumptionId(assumption),
        account=AccountId(account),
        subject=AgentId(subject),
        actor=ActorId(issuer=actor_issuer, subject=actor_subject),
        grant_id=GrantId(grant),
        ticket=ticket,
        reason=reason,
        scopes=parse_scopes(scopes),
        started_at=_read_time(started),
        ended_at=_read_end(ended),
        signed_in_at=_read_end(signed_in),
    )


def staff_row(staff: Staff, *, at: datetime) -> Row:
    """Return issuer, subject, name, permissions, groups, disabled, signed_out_at, seen_at."""
    groups = json.dumps(sorted(staff.groups))
    return (
        staff.id.issuer,
        staff.id.subject,
        staff.name,
        _join(staff.permissions),
        groups,
        staff.disabled,
        _write_end(staff.signed_out_at),
        write_time(at),
    )


def read_staff(row: Row) -> Staff:
    """Return the staff member of `staff_row`'s columns but the last."""
    issuer, subject, name, permissions, groups, disabled, signed_out_at = row
    return Staff(
        id=ActorId(issuer=issuer, subject=subject),
        name=name,
        permissions=_read_permissions(permissions),
        groups=frozenset(json.loads(groups)),
        disabled=bool(disabled),
        signed_out_at=_read_end(signed_out_at),
    )


def client_row(client: Client) -> Row:
    """Return id, secret_digest, roles."""
    return (client.id, client.secret_digest, _join(client.roles))


def read_client(row: Row) -> Client:
    """Return the client of `client_row`'s columns."""
    client, secret_digest, roles = row
    return Client(id=ClientId(client), secret_digest=secret_digest, roles=frozenset(roles.split()))


def key_row(key: StoredKey) -> Row:
    """Return id, algorithm, private_pem, created_at, retired_at."""
    return (key.id, key.algorithm, key.private_pem, write_time(key.created_at), _write_end(key.retired_at))


def read_key(row: Row) -> StoredKey:
    """Return the signing key of `key_row`'s columns."""
    key, algorithm, private_pem, created_at, retired_at = row
    return StoredKey(
        id=key,
        algorithm=algorithm,
        private_pem=private_pem,
        created_at=_read_time(created_at),
        retired_at=_read_end(retired_at),
    )


def kill_switch_row(switch: KillSwitch) -> Row:
    """Return stopped, set_by, reason, set_at."""
    return (switch.on, switch.by, switch.reason, _write_end(switch.at))


def read_kill_switch(row: Row) -> KillSwitch:
    """Return the kill-switch of `kill_switch_row`'s columns."""
    stopped, by, reason, at = row
    return KillSwitch(on=bool(stopped), by=by, reason=reason, at=_read_end(at))


def read_changes(found: Sequence[Row], *, after: int, newest: int | None = None) -> Changes:
    """Return what is new of rows as `read_change` takes them, in order: the one at `after` and those that follow it.

    The newest of all is among them in any case; its position is `newest`, if that is known otherwise.
    """
    newest = newest if newest is not None else found[-1][0] if found else 0
    tags = {row[0]: row[-1] for row in found if row[0] in (after, newest)}
    changes = [read_change(row) for row in found if row[0] > after]
    named = len(changes) == newest - after
    return Changes(
        position=newest, changes=changes if named else None, tag=tags.get(after), newest_tag=tags.get(newest)
    )


def read_change(row: Row) -> StoreChange:
    """Return the change of position, account, assumption, staff_issuer, staff_subject, tag."""
    position, account, assumption, issuer, subject, _ = row
    return StoreChange(
        position=position,
        account=None if account is None else AccountId(account),
        assumption=None if assumption is None else AssumptionId(assumption),
        staff=None if issuer is None else ActorId(issuer=issuer, subject=subject),
    )


def write_time(time: datetime) -> int:
    """Return the microseconds since 1970; raises TypeError for a time without a zone."""
    return (time - _EPOCH) // _MICROSECOND


def _write_end(time: datetime | None) -> int | None:
    return None if time is None else write_time(time)


def _read_time(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def _read_end(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else _read_time(microseconds)


def _read_grant_of(account: str, row: Row) -> Grant | None:
    return None if row[0] is None else read_grant((account, *row))


def _join(words: Iterable[str]) -> str:
    return " ".join(sorted(words))


def _read_permissions(text: str) -> frozenset[Permission]:
    return frozenset(Permission(word) for word in text.split())
