"""The store's values as columns and back.

A time is a whole number of microseconds since 1970 in UTC: as fine as `datetime`, exact both ways, and in order for
SQL, where text would first need one agreed spelling. What cannot be read back exactly raises ValueError (or
OverflowError, for a time beyond the calendar), never a guess.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import json as msgspec_json

from gateway.stores.browsing import BrowserAssumption
from gateway.stores.holding import Hold
from gateway.stores.store import (
    AccountRecord,
    Changes,
    Client,
    GrantEvent,
    KillSwitch,
    StaffSession,
    StoreChange,
    StoredKey,
)
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
    a.id, a.type, a.suspended, a.epoch, a.attributes, g.id, g.epoch, g.duration, g.permissions, g.not_before,
    g.expires_at, g.given_by, g.revoked_at
"""
GRANT = "account, id, epoch, duration, permissions, not_before, expires_at, given_by, revoked_at"
EVENT = """
    account, epoch, made_at, made_by, change, grant_id, grant_epoch, duration, permissions, not_before, expires_at,
    given_by, revoked_at
"""
ASSUMPTION = """
    id, account, subject, actor_issuer, actor_subject, grant_id, ticket, reason, scopes, started_at, ended_at,
    signed_in_at, expires_at, agent_roles
"""
STAFF = "issuer, subject, name, permissions, groups, claims, disabled, signed_out_at, told_at"
SAID_OF_STAFF = ("name", "permissions", "groups", "claims", "told_at")
"""What of a staff member their provider's token said; the newest token's word counts."""
BROWSER = "digest, assumption, claims, expires_at, seen_at"
SESSION = "digest, issuer, subject, claims, signed_in_at, seen_at, ends_at"
CLIENT = "id, secret_digest, roles, jwks, dpop, account"
KEY = "id, algorithm, private_pem, created_at, signs_from, retired_at, ended_at"
KILL_SWITCH = "stopped, set_by, reason, set_at"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NO_GRANT: Row = (None,) * 8
_CHANGES = msgspec_json.Decoder(list[StoreChange])


def select(columns: str, rest: str) -> str:
    """Return the statement that asks for `columns`; both are our own words, never a caller's."""
    return f"SELECT {columns} {rest}"


def account_row(account: Account) -> Row:
    """Return id, type, suspended, epoch, attributes."""
    attributes = json.dumps(dict(sorted(account.attributes)))
    return (account.id, account.type, account.suspended, account.epoch, attributes)


def read_record(row: Row) -> AccountRecord:
    """Return the account, and its grant from the columns after `account_row`'s five."""
    account, kind, suspended, epoch, attributes = row[:5]
    return AccountRecord(
        account=Account(
            id=AccountId(account),
            type=AccountType(kind),
            suspended=bool(suspended),
            epoch=epoch,
            attributes=frozenset(_read_texts(json.loads(attributes)).items()),
        ),
        grant=_read_grant_of(account, row[5:]),
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
        write_end(grant.expires_at),
        grant.given_by,
        write_end(grant.revoked_at),
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
        not_before=read_time(not_before),
        expires_at=read_end(expires_at),
        given_by=given_by,
        revoked_at=read_end(revoked_at),
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
        at=read_time(at),
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
        write_end(assumption.ended_at),
        write_end(assumption.signed_in_at),
        write_time(assumption.expires_at),
        None if assumption.agent_roles is None else json.dumps(sorted(assumption.agent_roles)),
    )


def read_assumption(row: Row) -> Assumption:
    """Return the assumption of `assumption_row`'s columns."""
    assumption, account, subject, actor_issuer, actor_subject, grant, ticket, reason, scopes, *times, roles = row
    started, ended, signed_in, expires = times
    return Assumption(
        id=AssumptionId(assumption),
        account=AccountId(account),
        subject=AgentId(subject),
        actor=ActorId(issuer=actor_issuer, subject=actor_subject),
        grant_id=GrantId(grant),
        ticket=ticket,
        reason=reason,
        scopes=parse_scopes(scopes),
        started_at=read_time(started),
        expires_at=read_time(expires),
        ended_at=read_end(ended),
        signed_in_at=read_end(signed_in),
        agent_roles=None if roles is None else frozenset(json.loads(roles)),
    )


def staff_row(staff: Staff, *, at: datetime) -> Row:
    """Return issuer, subject, name, permissions, groups, claims, disabled, signed_out_at, told_at, seen_at."""
    groups, claims = json.dumps(sorted(staff.groups)), json.dumps(sorted(staff.claims))
    return (
        staff.id.issuer,
        staff.id.subject,
        staff.name,
        _join(staff.permissions),
        groups,
        claims,
        staff.disabled,
        write_end(staff.signed_out_at),
        write_end(staff.told_at),
        write_time(at),
    )


def read_staff(row: Row) -> Staff:
    """Return the staff member of `staff_row`'s columns but the last."""
    issuer, subject, name, permissions, groups, claims, disabled, signed_out_at, told_at = row
    return Staff(
        id=ActorId(issuer=issuer, subject=subject),
        name=name,
        permissions=_read_permissions(permissions),
        groups=frozenset(json.loads(groups)),
        claims=frozenset((str(name), str(value)) for name, value in json.loads(claims)),
        disabled=bool(disabled),
        signed_out_at=read_end(signed_out_at),
        told_at=read_end(told_at),
    )


def session_row(session: StaffSession) -> Row:
    """Return digest, issuer, subject, claims, signed_in_at, seen_at, ends_at."""
    actor = session.actor
    times = (session.signed_in_at, session.seen_at, session.ends_at)
    return (session.digest, actor.issuer, actor.subject, session.claims, *map(write_time, times))


def read_session(row: Row) -> StaffSession:
    """Return the session of `session_row`'s columns."""
    digest, issuer, subject, claims, signed_in_at, seen_at, ends_at = row
    return StaffSession(
        digest=digest,
        actor=ActorId(issuer=issuer, subject=subject),
        claims=claims,
        signed_in_at=read_time(signed_in_at),
        seen_at=read_time(seen_at),
        ends_at=read_time(ends_at),
    )


def read_one_time(row: Row) -> tuple[bytes, str, datetime]:
    """Return digest, payload and end of a one-time value."""
    digest, payload, expires_at = row
    return digest, payload, read_time(expires_at)


def read_hand_over(row: Row) -> tuple[AssumptionId, datetime]:
    """Return the assumption, and until when a browser has to take it over."""
    assumption, ends_at = row
    return AssumptionId(assumption), read_time(ends_at)


def actor_of(sessions: Sequence[StaffSession], sid: str) -> ActorId | None:
    """Return whose sessions those are that came of the provider's session `sid`; None unless it is one person's."""
    actors = {session.actor for session in sessions if json.loads(session.claims).get("sid") == sid}
    return actors.pop() if len(actors) == 1 else None


def browser_row(browser: BrowserAssumption) -> Row:
    """Return digest, assumption, claims, expires_at, seen_at."""
    times = (browser.expires_at, browser.seen_at)
    return (browser.digest, browser.assumption, browser.claims, *map(write_time, times))


def read_browser(row: Row) -> BrowserAssumption:
    """Return what a browser holds, of `browser_row`'s columns."""
    digest, assumption, claims, expires_at, seen_at = row
    return BrowserAssumption(
        digest=digest,
        assumption=AssumptionId(assumption),
        claims=claims,
        expires_at=read_time(expires_at),
        seen_at=read_time(seen_at),
    )


def client_row(client: Client) -> Row:
    """Return id, secret_digest, roles, jwks, dpop."""
    return (client.id, client.secret_digest, _join(client.roles), client.jwks, client.dpop, client.account)


def read_client(row: Row) -> Client:
    """Return the client of `client_row`'s columns."""
    client, secret_digest, roles, jwks, dpop, account = row
    return Client(
        id=ClientId(client),
        secret_digest=secret_digest,
        roles=frozenset(roles.split()),
        jwks=jwks,
        dpop=bool(dpop),
        account=None if account is None else AccountId(account),
    )


def key_row(key: StoredKey) -> Row:
    """Return id, algorithm, private_pem, created_at, signs_from, retired_at, ended_at."""
    ends = (write_end(key.retired_at), write_end(key.ended_at))
    return (key.id, key.algorithm, key.private_pem, write_time(key.created_at), write_time(key.signs_from), *ends)


def read_key(row: Row) -> StoredKey:
    """Return the signing key of `key_row`'s columns."""
    key, algorithm, private_pem, created_at, signs_from, retired_at, ended_at = row
    return StoredKey(
        id=key,
        algorithm=algorithm,
        private_pem=private_pem,
        created_at=read_time(created_at),
        signs_from=read_time(signs_from),
        retired_at=read_end(retired_at),
        ended_at=read_end(ended_at),
    )


def hold_row(hold: Hold) -> Row:
    """Return account, set_by, reason, set_at."""
    return (hold.account, hold.by, hold.reason, write_time(hold.at))


def read_hold(row: Row) -> Hold:
    """Return the hold of `hold_row`'s columns."""
    account, by, reason, at = row
    return Hold(account=AccountId(account), by=by, reason=reason, at=read_time(at))


def kill_switch_row(switch: KillSwitch) -> Row:
    """Return stopped, set_by, reason, set_at."""
    return (switch.on, switch.by, switch.reason, write_end(switch.at))


def read_kill_switch(row: Row) -> KillSwitch:
    """Return the kill-switch of `kill_switch_row`'s columns."""
    stopped, by, reason, at = row
    return KillSwitch(on=bool(stopped), by=by, reason=reason, at=read_end(at))


def read_changes(row: Row, *, after: int) -> Changes:
    """Return what is new after a position, of the newest position, the two tags, and all changes since as JSON.

    All of them in one row, because each row that is fetched costs others their turn twice.
    """
    newest, tag, newest_tag, text = row
    changes = _CHANGES.decode(text)
    named = len(changes) == newest - after
    return Changes(position=newest, changes=changes if named else None, tag=tag, newest_tag=newest_tag)


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


def write_end(time: datetime | None) -> int | None:
    """Return the same, or None for none."""
    return None if time is None else write_time(time)


def read_time(microseconds: int) -> datetime:
    """Return the time of `write_time`'s number; raises OverflowError beyond the calendar."""
    return _EPOCH + timedelta(microseconds=microseconds)


def read_end(microseconds: int | None) -> datetime | None:
    """Return the time of `write_end`'s number."""
    return None if microseconds is None else read_time(microseconds)


def _read_grant_of(account: str, row: Row) -> Grant | None:
    return None if row[0] is None else read_grant((account, *row))


def _read_texts(members: Any) -> dict[str, str]:
    if not isinstance(members, dict) or not all(isinstance(value, str) for value in members.values()):
        raise ValueError("not an object of texts")
    return members


def _join(words: Iterable[str]) -> str:
    return " ".join(sorted(words))


def _read_permissions(text: str) -> frozenset[Permission]:
    return frozenset(Permission(word) for word in text.split())
