"""Puts on the record that somebody is signed out of one of our consoles, by themselves or by their provider."""

import logging

from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Record
from gateway.caller import Caller
from policy.model import AccountId, ClientId

log = logging.getLogger(__name__)


async def record_sign_out(
    journal: AuditLog, caller: Caller, *, by: str, client: ClientId | None, account: AccountId | None = None
) -> None:
    """Return once it is durable, or once it is known that it cannot be recorded, which the log says.

    A sign-out only takes power away, so it is done even then. Without `account` it is the security team's console.
    """
    record = Record(
        kind="audit",
        reason="signed_out",
        account=account,
        by=by,
        client_id=client,
        client_ip=caller.client_ip,
        user_agent=caller.user_agent,
        request_id=caller.request_id,
    )
    try:
        await journal.append(record, durable=True)
    except JournalError:
        log.exception("a sign-out of %s could not be recorded", account or "the security team's console")
