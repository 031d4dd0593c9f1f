"""How the journal tells of device requests."""

from gateway.audit.record import Record
from gateway.caller import Caller
from policy.devices import DeviceRequest
from policy.model import AccountId, AgentId
from policy.scopes import format_scopes


def record_device(request: DeviceRequest, caller: Caller) -> Record:
    """Return the record of something that happens to a device request, by whoever `caller` is; add what it is."""
    asked = request.asked
    return Record(
        kind="assumption",
        subject=AgentId(asked.subject),
        account=AccountId(asked.account),
        ticket=asked.ticket,
        stated_reason=asked.reason,
        scopes=tuple(format_scopes(asked.scopes).split()),
        client_id=request.client,
        client_ip=caller.client_ip,
        user_agent=caller.user_agent,
        request_id=caller.request_id,
    )
