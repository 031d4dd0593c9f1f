"""The records of staff's requests: kind `grant_request`. An approval is the `grant` record that names the request."""

from msgspec import structs

from gateway.audit.record import Record, name_actor
from gateway.caller import Caller
from gateway.grants.certain import Uncertain
from gateway.stores.store import StoreError
from policy.asking import GrantRequest, GrantRequestId, RequestRefusal, Wish
from policy.model import AccountId, ClientId, Staff

_LONGEST_ID = 64


def record_asked(request: GrantRequest, *, caller: Caller, client: ClientId | None) -> Record:
    """Return the record of a request that is made."""
    return structs.replace(
        record_answer(request, "asked", caller=caller, client=client),
        decision="allow",
        permissions=tuple(sorted(request.permissions)),
        duration=str(request.duration),
        expires_at=request.expires_at.isoformat(),
    )


def record_refused(
    refusal: RequestRefusal, wish: Wish, staff: Staff, *, caller: Caller, client: ClientId | None
) -> Record:
    """Return the record of a request that was not made."""
    return Record(
        kind="grant_request",
        decision="deny",
        reason=str(refusal),
        account=wish.account,
        actor=name_actor(staff.id, staff.name),
        ticket=wish.ticket,
        stated_reason=wish.reason,
        permissions=tuple(sorted(wish.permissions)),
        duration=str(wish.duration),
        client_id=client,
        client_ip=caller.client_ip,
        user_agent=caller.user_agent,
        request_id=caller.request_id,
    )


def record_answer(
    request: GrantRequest, done: str, *, caller: Caller, client: ClientId | None, by: str | None = None
) -> Record:
    """Return the record of what `by` did to a request; None: who asked."""
    return Record(
        kind="grant_request",
        reason=done,
        account=request.account,
        actor=name_actor(request.actor, request.name),
        by=by,
        grant_request=request.id,
        ticket=request.ticket,
        stated_reason=request.reason,
        client_id=client,
        client_ip=caller.client_ip,
        user_agent=caller.user_agent,
        request_id=caller.request_id,
    )


def record_denied(
    refusal: RequestRefusal,
    named: GrantRequestId,
    request: GrantRequest | None,
    *,
    account: AccountId,
    by: str,
    caller: Caller,
    client: ClientId | None,
) -> Record:
    """Return the record of an answer that did not count; None: the account has no such request."""
    if request is not None:
        record = record_answer(request, str(refusal), caller=caller, client=client, by=by)
        return structs.replace(record, decision="deny")
    return Record(
        kind="grant_request",
        decision="deny",
        reason=str(refusal),
        account=account,
        by=by,
        grant_request=named[:_LONGEST_ID],
        client_id=client,
        client_ip=caller.client_ip,
        user_agent=caller.user_agent,
        request_id=caller.request_id,
    )


def undone(record: Record, why: StoreError | RequestRefusal) -> Record:
    """Return the record that takes another back, or says that nobody knows."""
    if isinstance(why, Uncertain):
        return structs.replace(record, decision=None, reason="unknown")
    return structs.replace(
        record, decision="deny", reason=str(why) if isinstance(why, RequestRefusal) else "store_unavailable"
    )
