"""The Elastic Common Schema, version 8.17: `user` is the staff member who acts, `user.effective` the assumed agent."""

from typing import Any

from gateway.audit.formats.addresses import host_name, is_address
from gateway.audit.formats.text import PRODUCT, event_code, event_id, part, plain, product_version, without_none
from gateway.audit.segment import Entry

VERSION = "8.17.0"
# By kind: what of ECS's closed lists of categories and types it is.
_CATEGORIES = {
    "decision": (["web", "api"], ["access"]),
    "completion": (["web", "api"], ["end"]),
    "token": (["iam", "session"], ["start"]),
    "assumption": (["session"], ["end"]),
    "staff": (["authentication"], ["info"]),
    "grant": (["iam", "configuration"], ["change"]),
    "grant_request": (["iam"], ["info"]),
    "account": (["iam", "configuration"], ["change"]),
    "client": (["iam", "configuration"], ["change"]),
    "key": (["configuration"], ["change"]),
    "kill_switch": (["configuration"], ["change"]),
}
_STARTS = frozenset({"entered", "started", "approved"})
# What has a place of its own in the schema; everything else goes below `locum`.
_PLACED = frozenset(
    {"at", "actor", "subject", "account", "client_ip", "user_agent", "method", "path", "bytes_received"}
    | {"bytes_sent", "origin", "seq", "kind", "reason", "request_id", "status"}
)


def to_document(entry: Entry) -> dict[str, Any]:
    """Return the document; what has no field there stands below `locum`, under the journal's own names."""
    actor, effective = part(entry, "actor"), entry.get("subject")
    ip = entry.get("client_ip")
    address = ip if is_address(ip) else None
    user = without_none(
        {
            "id": _text(actor.get("subject")),
            "name": _text(actor.get("name") or actor.get("subject") or entry.get("by")),
            "domain": _text(actor.get("issuer")),
            "effective": None if effective is None else {"id": plain(effective), "name": plain(effective)},
        }
    )
    named = [user.get("id"), user.get("name"), effective]
    request = {"id": _text(entry.get("request_id")), "method": _text(entry.get("method"))}
    document = {
        "@timestamp": _text(entry.get("at")),
        "ecs": {"version": VERSION},
        "event": _event(entry),
        "message": event_code(entry),
        "user": user or None,
        "related": without_none(
            {"user": sorted({plain(each) for each in named if each}) or None, "ip": [address] if address else None}
        )
        or None,
        "organization": {"id": plain(entry["account"])} if "account" in entry else None,
        "rule": {"id": plain(entry["rule"])} if "rule" in entry else None,
        "http": _http(entry, without_none(request)),
        "url": without_none({"path": _text(entry.get("path")), "domain": host_name(entry.get("host"))}) or None,
        "source": {"ip": address} if address else None,
        "client": {"ip": address} if address else None,
        "user_agent": {"original": plain(entry["user_agent"])} if "user_agent" in entry else None,
        "trace": {"id": trace} if (trace := trace_id(entry)) else None,
        "observer": {"vendor": PRODUCT, "product": PRODUCT, "type": "proxy", "version": product_version()},
        "service": {"name": PRODUCT.lower(), "node": {"name": plain(entry.get("origin", ""))}},
        "locum": _own(entry, actor, address),
    }
    return without_none(document)


def trace_id(entry: Entry) -> str | None:
    """Return the trace that a request belongs to (W3C Trace Context section 3.2.2.3)."""
    parts = plain(entry.get("traceparent", "")).split("-")
    return parts[1] if len(parts) >= 4 and len(parts[1]) == 32 else None


def _event(entry: Entry) -> dict[str, Any]:
    kind, decision, reason = plain(entry.get("kind", "")), entry.get("decision"), entry.get("reason")
    category, types = _CATEGORIES.get(kind, (["configuration"], ["info"]))
    if kind == "assumption" and reason in _STARTS:
        types = ["start"]
    if decision is not None:
        types = [*types, "denied" if decision == "deny" else "allowed"]
    duration = entry.get("duration_us")
    return without_none(
        {
            "id": event_id(entry),
            "sequence": entry["seq"] if isinstance(entry.get("seq"), int) else None,
            "kind": "event",
            "category": category,
            "type": types,
            "action": f"locum.{event_code(entry)}",
            "code": event_code(entry),
            "dataset": "locum.audit",
            "provider": "locum",
            "outcome": outcome(entry),
            "reason": _text(reason),
            "duration": duration * 1000 if isinstance(duration, int) else None,
        }
    )


def outcome(entry: Entry) -> str:
    """Return `success`, `failure` or `unknown`."""
    decision, ended = entry.get("decision"), entry.get("ended")
    if ended is not None:
        return "success" if ended == "complete" else "failure"
    if decision is None:
        return "unknown"
    return "failure" if decision == "deny" else "success"


def _http(entry: Entry, request: dict[str, Any]) -> dict[str, Any] | None:
    for name in ("bytes_received", "bytes_sent"):
        if not isinstance(entry.get(name, 0), int):
            return request or None
    if "bytes_received" in entry:
        request["body"] = {"bytes": entry["bytes_received"]}
    response: dict[str, Any] = {}
    if isinstance(status := entry.get("status"), int):
        response["status_code"] = status
    if "bytes_sent" in entry:
        response["body"] = {"bytes": entry["bytes_sent"]}
    return without_none({"request": request or None, "response": response or None}) or None


def _own(entry: Entry, actor: Any, address: str | None) -> dict[str, Any]:
    own = {name: value for name, value in entry.items() if name not in _PLACED}
    if groups := actor.get("groups"):
        own["actor_groups"] = groups
    if address is None and "client_ip" in entry:
        own["client_ip"] = plain(entry["client_ip"])
    return own


def _text(value: Any) -> str | None:
    return None if value is None else plain(value)
