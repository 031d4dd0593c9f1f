"""What both databases say about staff's requests: the statements, and the values as columns and back.

`{s}` stands before the table's name; `$1` and so on is a value by its number, in SQLite by its name.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from gateway.stores.request_room import Room
from gateway.stores.requesting import COLUMNS, KEPT
from gateway.stores.rows import Row, read_end, read_time, select, write_end, write_time
from policy.asking import LATELY, GrantRequest, GrantRequestId, RequestRefusal, RequestState
from policy.model import AccountId, ActorId, Duration, Permission

FIND: Final = select(COLUMNS, "FROM {s}grant_requests WHERE id = $1")
LIST_WAITING: Final = select(
    COLUMNS,
    "FROM {s}grant_requests WHERE account = $1 AND answer = 'waiting' AND expires_at > $2 ORDER BY asked_at, id",
)
LIST_ASKED: Final = select(
    COLUMNS,
    """
    FROM {s}grant_requests WHERE actor_issuer = $1 AND actor_subject = $2 AND asked_at >= $3
    ORDER BY asked_at DESC, id
    """,
)
COUNT: Final = """
    SELECT count(*) FILTER (WHERE account = $1 AND actor_issuer = $2 AND actor_subject = $3),
        count(*) FILTER (WHERE account = $1), count(*) FILTER (WHERE actor_issuer = $2 AND actor_subject = $3)
    FROM {s}grant_requests
    WHERE (account = $1 OR (actor_issuer = $2 AND actor_subject = $3))
        AND (asked_at > $4 OR (answer = 'waiting' AND expires_at > $5))
"""
ADD: Final = f"""
    INSERT INTO {{s}}grant_requests ({COLUMNS})
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) ON CONFLICT DO NOTHING RETURNING 1
"""  # noqa: S608 - our own words
FORGET: Final = "DELETE FROM {s}grant_requests WHERE expires_at <= $1"
_ANSWER = """
    UPDATE {s}grant_requests SET answer = $1, answered_at = $2, answered_by = $3
    WHERE id = $4 AND answer = 'waiting' AND expires_at > $2
"""
ANSWER: Final = f"{_ANSWER} RETURNING 1"
APPROVE: Final = f"{_ANSWER} AND account = $5 RETURNING 1"
ANSWER_AT_EPOCH: Final = f"""{_ANSWER}
    AND EXISTS (SELECT 1 FROM {{s}}accounts WHERE id = {{s}}grant_requests.account AND epoch = $5) RETURNING 1
"""  # noqa: S608 - our own words


def request_row(request: GrantRequest) -> Row:
    """Return COLUMNS."""
    return (
        request.id,
        request.account,
        request.actor.issuer,
        request.actor.subject,
        request.name,
        " ".join(sorted(request.permissions)),
        request.duration,
        request.ticket,
        request.reason,
        write_time(request.asked_at),
        write_time(request.expires_at),
        request.answer,
        write_end(request.answered_at),
        request.answered_by,
    )


def read_request(row: Row) -> GrantRequest:
    """Return the request of COLUMNS; raises ValueError or OverflowError for what has no meaning."""
    id_, account, issuer, subject, name, permissions, duration, ticket, reason, asked, expires, *answered = row
    answer, answered_at, answered_by = answered
    return GrantRequest(
        id=GrantRequestId(id_),
        account=AccountId(account),
        actor=ActorId(issuer=issuer, subject=subject),
        name=name,
        permissions=frozenset(map(Permission, permissions.split())),
        duration=Duration(duration),
        ticket=ticket,
        reason=reason,
        asked_at=read_time(asked),
        expires_at=read_time(expires),
        answer=RequestState(answer),
        answered_at=read_end(answered_at),
        answered_by=answered_by,
    )


def count_row(request: GrantRequest) -> Row:
    """Return what COUNT takes."""
    asked = request.asked_at
    return (request.account, *request.actor, write_time(asked - LATELY), write_time(asked))


def judge_room(counts: Sequence[int], room: Room) -> RequestRefusal | None:
    """Return which bound one more would break, by what COUNT has found."""
    here, of_account, of_staff = counts
    if here >= room.per_staff_and_account:
        return RequestRefusal.TOO_MANY_OF_STAFF_IN_ACCOUNT
    if of_account >= room.per_account:
        return RequestRefusal.TOO_MANY_OF_ACCOUNT
    return RequestRefusal.TOO_MANY_OF_STAFF if of_staff >= room.per_staff else None


def forget_row(at: datetime) -> Row:
    """Return what FORGET takes."""
    return (write_time(at - KEPT),)


def answering(
    request: GrantRequestId, answer: RequestState, *, by: str, at: datetime, epoch: int | None
) -> tuple[str, Row]:
    """Return the statement that answers, and what it takes."""
    row = answer_row(request, answer, by=by, at=at)
    return (ANSWER, row) if epoch is None else (ANSWER_AT_EPOCH, (*row, epoch))


def answer_row(request: GrantRequestId, answer: RequestState, *, by: str, at: datetime) -> Row:
    """Return what ANSWER takes, and APPROVE but for the account."""
    return (answer, write_time(at), by, request)
