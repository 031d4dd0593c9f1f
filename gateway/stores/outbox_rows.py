"""What both databases say about notices: the statements, and the values as columns and back.

`{s}` stands before a table's name, `{ids}` for the ids of the JSON array `:ids`, `{full}`, `{busy}` and `{spared}` for
what is in theirs, and `{locked}` behind what is claimed.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.stores.outbox import URGENT, Claim, Concerned, Contacts, Former, Notice, Pending, Room, Target, Waiting
from gateway.stores.rows import RECORD, Row, read_record, write_time
from policy.model import AccountId

Values = Mapping[str, Any]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = datetime.max.replace(tzinfo=UTC)
_LONGEST_HOLD, _LONGEST_PAUSE = timedelta(minutes=10), timedelta(hours=2)
"""More than anybody holds a target or puts it off, though the clocks of nodes differ a little."""
_VALUE = re.compile(r":([a-z_]+)")

_URGENT = ", ".join(f"'{event}'" for event in URGENT)
CONTACTS = "account, mail, webhooks, set_by, set_at, version, former"
NOTICE = "id, about, event, account, channel, address, facts, happened_at, outcome, tries"

FIND_CONTACTS = f"SELECT {CONTACTS} FROM {{s}}notice_contacts WHERE account = :account"  # noqa: S608 - our own words
LIST_CONTACTS = f"SELECT {CONTACTS} FROM {{s}}notice_contacts ORDER BY account"  # noqa: S608 - our own words
PAGE_CONTACTS = f"""
    SELECT {", ".join(f"c.{name}" for name in CONTACTS.split(", "))}, {RECORD}
    FROM {{s}}notice_contacts AS c
    LEFT JOIN {{s}}accounts AS a ON a.id = c.account LEFT JOIN {{s}}grants AS g ON g.id = a.grant_id
    WHERE c.account > :after ORDER BY c.account LIMIT :most
"""  # noqa: S608 - our own words
SAVE_CONTACTS = """
    INSERT INTO {s}notice_contacts AS c (account, mail, webhooks, set_by, set_at, version, former)
    SELECT :account, :mail, :webhooks, :set_by, :set_at, :version, :former
    WHERE :known = 0 OR EXISTS (SELECT 1 FROM {s}notice_contacts WHERE account = :account)
    ON CONFLICT (account) DO UPDATE
    SET mail = excluded.mail, webhooks = excluded.webhooks, set_by = excluded.set_by, set_at = excluded.set_at,
        version = excluded.version, former = excluded.former
    WHERE c.version = :known
    RETURNING 1
"""
ADD_TARGET = """
    INSERT INTO {s}notice_targets (channel, address, not_before, held_until, holder, failures)
    VALUES (:channel, :address, :now, 0, '', 0) ON CONFLICT DO NOTHING
"""
ADD_NOTICE = """
    INSERT INTO {s}notices (id, about, event, account, channel, address, facts, happened_at, outcome, is_noted)
    VALUES (:id, :about, :event, :account, :channel, :address, :facts, :happened_at, :outcome, 0)
    ON CONFLICT DO NOTHING RETURNING 1
"""
_DUE = """
    FROM {s}notice_targets AS t
    WHERE (t.not_before <= :now OR t.not_before > :latest) AND (t.held_until <= :now OR t.held_until > :longest)
    AND t.channel NOT IN ({full}) AND EXISTS (
        SELECT 1 FROM {s}notices AS n WHERE n.channel = t.channel AND n.address = t.address AND n.is_noted = 0
        AND (n.account NOT IN ({busy}) OR n.address IN ({spared}))
        AND (n.not_before <= :now OR n.not_before > :latest)
    )
"""
IS_DUE = f"SELECT 1 {_DUE} LIMIT 1"
CLAIM_TARGET = f"""
    UPDATE {{s}}notice_targets SET held_until = :until, holder = :holder, retried = 0 WHERE (channel, address) = (
        SELECT channel, address {_DUE} ORDER BY not_before, channel, address LIMIT 1 {{locked}}
    )
    RETURNING channel, address, failures
"""  # noqa: S608 - our own words
CLAIMED = f"""
    SELECT {NOTICE} FROM {{s}}notices WHERE channel = :channel AND address = :address AND is_noted = 0
    AND (not_before <= :now OR not_before > :latest)
    ORDER BY tries > 0, CASE WHEN event IN ({_URGENT}) THEN 0 ELSE 1 END, happened_at, id LIMIT :most
"""  # noqa: S608 - our own words
SETTLE = "UPDATE {s}notices SET outcome = :outcome WHERE id IN ({ids}) AND outcome = '' RETURNING 1"
NOTE = "UPDATE {s}notices SET is_noted = 1, facts = '', address = '' WHERE id IN ({ids}) RETURNING 1"
# Whoever was asked meanwhile to try again does so, whatever came of this time. The row says so: who asks locks it.
RELEASE = """
    UPDATE {s}notice_targets
    SET not_before = CASE WHEN retried = 1 THEN not_before ELSE :not_before END,
        failures = :failures, error = :error, held_until = 0, holder = ''
    WHERE channel = :channel AND address = :address AND holder = :holder RETURNING 1
"""
PUT_OFF = """
    UPDATE {s}notices
    SET tries = tries + 1, not_before = CASE WHEN EXISTS (
        SELECT 1 FROM {s}notice_targets AS t
        WHERE t.channel = notices.channel AND t.address = notices.address AND t.retried = 1
    ) THEN not_before ELSE :not_before END
    WHERE id = :id RETURNING 1
"""
PENDING = f"""
    SELECT {", ".join(f"n.{name}" for name in NOTICE.split(", "))}, t.failures, n.not_before, t.not_before, t.error
    FROM {{s}}notices AS n JOIN {{s}}notice_targets AS t ON n.channel = t.channel AND n.address = t.address
    WHERE n.is_noted = 0 AND (:account = '' OR n.account = :account) ORDER BY n.happened_at, n.id LIMIT :most
"""  # noqa: S608 - our own words
GIVEN_UP = f"""
    SELECT {NOTICE} FROM {{s}}notices
    WHERE is_noted = 1 AND outcome <> 'sent' AND (:account = '' OR account = :account)
    ORDER BY happened_at DESC, id LIMIT :most
"""  # noqa: S608 - our own words
_RETRIED = "is_noted = 0 AND (:every = 1 OR id IN ({ids}))"
RETRY_TARGETS = f"""
    UPDATE {{s}}notice_targets
    SET not_before = CASE WHEN not_before > :now THEN :now ELSE not_before END, retried = 1
    WHERE EXISTS (
        SELECT 1 FROM {{s}}notices AS n
        WHERE n.channel = notice_targets.channel AND n.address = notice_targets.address AND {_RETRIED}
    )
    RETURNING 1
"""  # noqa: S608 - our own words
RETRY = f"UPDATE {{s}}notices SET not_before = 0 WHERE {_RETRIED} RETURNING 1"  # noqa: S608 - our own words
COUNT = "SELECT count(*), min(happened_at) FROM {s}notices WHERE is_noted = 0"
FORGET = "DELETE FROM {s}notices WHERE is_noted = 1 AND happened_at < :before"
FORGET_FORMER = "UPDATE {s}notice_contacts SET former = '[]' WHERE set_at < :before AND former <> '[]'"
FORGET_TARGETS = """
    DELETE FROM {s}notice_targets WHERE not_before < :now AND held_until < :now AND NOT EXISTS (
        SELECT 1 FROM {s}notices AS n
        WHERE n.channel = notice_targets.channel AND n.address = notice_targets.address AND n.is_noted = 0
    )
"""


def contacts_values(contacts: Contacts) -> Values:
    """Return the values that SAVE_CONTACTS takes."""
    return {
        "account": contacts.account,
        "mail": json.dumps(contacts.mail),
        "webhooks": json.dumps(contacts.webhooks),
        "set_by": contacts.by,
        "set_at": write_time(contacts.at),
        "version": contacts.version,
        "former": json.dumps([[*target, write_time(until)] for target, until in contacts.former]),
        "known": contacts.version - 1,
    }


def read_contacts(row: Row) -> Contacts:
    """Return the contacts of CONTACTS' columns; raises ValueError."""
    account, mail, webhooks, by, at, version, former = row
    return Contacts(
        account=AccountId(account),
        mail=_read_texts(mail),
        webhooks=_read_texts(webhooks),
        by=by,
        at=_read_time(at),
        version=version,
        former=_read_former(former),
    )


def page_values(after: str, *, most: int) -> Values:
    """Return the values that PAGE_CONTACTS takes."""
    return {"after": after, "most": most}


def read_concerned(row: Row) -> Concerned:
    """Return what PAGE_CONTACTS has found; raises ValueError."""
    count = len(CONTACTS.split(", "))
    contacts, record = read_contacts(row[:count]), row[count:]
    if record[0] is None:
        return Concerned(contacts, None, None)
    found = read_record(record)
    return Concerned(contacts, found.account, found.grant)


def notice_values(notice: Notice) -> Values:
    """Return the values that ADD_NOTICE takes."""
    return {
        "id": notice.id,
        "about": notice.about,
        "event": notice.event,
        "account": notice.account,
        "channel": notice.target.channel,
        "address": notice.target.address,
        "facts": notice.facts,
        "happened_at": write_time(notice.happened_at),
        "outcome": notice.outcome,
    }


def target_values(target: Target, *, now: datetime) -> Values:
    """Return the values that ADD_TARGET takes."""
    return {"channel": target.channel, "address": target.address, "now": write_time(now)}


def read_notice(row: Row) -> Notice:
    """Return the notice of NOTICE's columns, whatever is wrong with its time: no other waits for its sake."""
    name, about, event, account, channel, address, facts, at, outcome, tries = row
    return Notice(
        id=name,
        about=about,
        event=event,
        account=account,
        target=Target(channel, address),
        facts=facts,
        happened_at=_nearest(at),
        outcome=outcome,
        tries=tries,
    )


def due_values(now: datetime, room: Room) -> Values:
    """Return the values that IS_DUE takes."""
    return {
        "now": write_time(now),
        "latest": write_time(now + _LONGEST_PAUSE),
        "longest": write_time(now + _LONGEST_HOLD),
        "full": ids_value(room.full),
        "busy": ids_value(room.busy),
        "spared": ids_value(room.spared),
    }


def claim_values(holder: str, *, now: datetime, until: datetime, room: Room) -> Values:
    """Return the values that CLAIM_TARGET takes."""
    return {**due_values(now, room), "holder": holder, "until": write_time(until)}


def claimed_values(row: Row, *, claim: Values, most: int) -> Values:
    """Return the values that CLAIMED takes, of what CLAIM_TARGET has found by the values of `claim`."""
    return {"channel": row[0], "address": row[1], "most": most, "now": claim["now"], "latest": claim["latest"]}


def read_claim(row: Row, holder: str, notices: Sequence[Row]) -> Claim:
    """Return the claim of what CLAIM_TARGET and CLAIMED have found."""
    channel, address, failures = row
    return Claim(
        target=Target(channel, address),
        holder=holder,
        failures=failures,
        notices=[read_notice(each) for each in notices],
    )


def release_values(claim: Claim, *, not_before: datetime, failures: int, error: str) -> Values:
    """Return the values that RELEASE takes."""
    return {
        "channel": claim.target.channel,
        "address": claim.target.address,
        "holder": claim.holder,
        "not_before": write_time(not_before),
        "failures": failures,
        "error": error,
    }


def put_off_values(put_off: Mapping[str, datetime]) -> list[Values]:
    """Return the values that PUT_OFF takes, for each."""
    return [{"id": name, "not_before": write_time(at)} for name, at in put_off.items()]


def listed_values(account: str, *, most: int) -> Values:
    """Return the values that PENDING and GIVEN_UP take."""
    return {"account": account, "most": most}


def read_pending(row: Row) -> Pending:
    """Return what PENDING has found."""
    *notice, failures, own, targets, error = row
    return Pending(
        notice=read_notice(tuple(notice)), failures=failures, not_before=_nearest(max(own, targets)), error=error
    )


def retry_values(ids: Sequence[str] | None, *, now: datetime) -> tuple[Values, Values]:
    """Return the values that RETRY_TARGETS and RETRY take."""
    which = {"ids": ids_value(ids or ()), "every": 1 if ids is None else 0}
    return {**which, "now": write_time(now)}, which


def ids_value(ids: Sequence[str]) -> str:
    """Return what stands for `:ids`."""
    return json.dumps(list(ids))


def read_waiting(row: Row) -> Waiting:
    """Return what COUNT has found."""
    count, oldest = row
    return Waiting(count=count, oldest=None if oldest is None else _nearest(oldest))


def read_target(row: Row) -> Target:
    """Return the target of channel, address, not_before, held_until, holder and failures; raises ValueError."""
    _read_time(row[2])
    return Target(row[0], row[1])


def _read_texts(text: str) -> tuple[str, ...]:
    found = json.loads(text)
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise ValueError("a list of addresses is none")
    return tuple(found)


def _read_former(text: str) -> tuple[Former, ...]:
    return tuple(Former(Target(channel, address), _read_time(until)) for channel, address, until in json.loads(text))


def _read_time(value: int) -> datetime:
    return _EPOCH + timedelta(microseconds=value)


def _nearest(value: int) -> datetime:
    """Return a time, or the last one there is for what no time can be."""
    try:
        return _read_time(value)
    except OverflowError:
        return _LAST


def numbered(sql: str, values: Values) -> tuple[str, Row]:
    """Return a statement with its values by number, `$1` and so on, as PostgreSQL takes them."""
    names = list(dict.fromkeys(_VALUE.findall(sql)))
    text = _VALUE.sub(lambda found: f"${names.index(found[1]) + 1}", sql)
    return text, tuple(values[name] for name in names)
