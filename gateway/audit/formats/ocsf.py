"""OCSF 1.8: what class an entry is an event of, and its attributes.

An assumption is an Authentication (3002) whose user is switched to the agent, a request an API Activity (6003) under
the profile of a security control, a change an Entity Management (3004), and what happens to the journal itself an Event
Log Activity (1008). What the schema has no attribute for stands in `unmapped`, under the journal's own names.
"""

from collections.abc import Callable
from typing import Any

from gateway.audit.formats.addresses import host_name, is_address
from gateway.audit.formats.ecs import outcome, trace_id
from gateway.audit.formats.severity import severity
from gateway.audit.formats.text import (
    PRODUCT,
    event_code,
    event_id,
    milliseconds,
    part,
    plain,
    product_version,
    without_none,
)
from gateway.audit.segment import Entry

VERSION = "1.8.0"
_OTHER = 99
_PLACED = frozenset({"at", "origin", "seq", "actor", "account"})
_STATUSES = {"unknown": 0, "success": 1, "failure": 2}

_SYSTEM, _IAM, _APPLICATION = 1, 3, 6
_LOG, _AUTHENTICATION, _ENTITY, _LIFECYCLE, _API = 1008, 3002, 3004, 6002, 6003

# Of an API call: by method. What neither creates, reads, updates nor deletes is another activity.
_METHODS = {"POST": 1, "GET": 2, "HEAD": 2, "OPTIONS": 2, "PUT": 3, "PATCH": 3, "DELETE": 4}
_KNOWN_METHODS = frozenset({*_METHODS, "CONNECT", "TRACE"})
_IMPERSONATE = 2
_LOGON, _LOGOFF, _ACCOUNT_SWITCH = 1, 2, 7
# Reasons of the kind `assumption` that do not end one.
_BEGINNINGS = frozenset({"entered", "started", "asked", "approved", "handed_over"})
# Of a managed thing, by the reason of the record.
_CHANGES = {
    "added": 1, "added_paid": 1, "added_trial": 1, "made": 1, "created": 1, "generated": 1, "extended": 3, "reduced": 3,
    "permissions_changed": 3, "attributes_changed": 3, "converted": 3, "rotated": 3, "unchanged": 2, "removed": 4,
    "retired": 4, "enabled": 8, "unlocked": 8, "turned_off": 9, "disabled": 9, "locked": 9, "off": 9, "on": 8,
    "suspended": 12, "resumed": 13, "asked": 1, "declined": 3, "withdrawn": 4,
}  # fmt: skip
# Of a managed thing, by kind: the field that names it.
_NAMES = {
    "grant": "grant_id", "grant_request": "grant_request", "client": "client_id", "key": "key_id", "account": "account",
}  # fmt: skip
# Of the log: an erasure deletes what is personal, retention clears content.
_LOG_ACTIVITIES = {"retention": 1, "erasure": 2, "exported": 3, "recovered": 8}
_ALLOWED, _BLOCKED, _REVOKED, _UNAUTHORIZED, _ERROR = 1, 2, 24, 26, 27
_NO_LONGER = frozenset({"grant_off", "grant_revoked", "grant_expired", "assumption_ended", "staff_signed_out"})
_FAULTS = frozenset(
    {"store_unavailable", "store_stale", "journal_unavailable", "issuer_unavailable", "app_unavailable"}
)


def to_event(entry: Entry) -> dict[str, Any]:
    """Return the event."""
    return _BUILDERS.get(plain(entry.get("kind", "")), _as_log)(entry)


def _event(entry: Entry, class_uid: int, activity: int, *placed: str, **more: Any) -> dict[str, Any]:
    """Return an event of a class; `placed` are the fields that `more` holds."""
    status = more.pop("status", None) or outcome(entry)
    unmapped = {name: value for name, value in entry.items() if name not in _PLACED and name not in placed}
    if "actor" in entry and "uid" not in (more.get("actor") or {}).get("user", {}):
        # Somebody else did it, to them.
        unmapped["actor"] = entry["actor"]
    return without_none(
        {
            "activity_id": activity,
            "activity_name": event_code(entry) if activity == _OTHER else None,
            "category_uid": class_uid // 1000,
            "class_uid": class_uid,
            "type_uid": class_uid * 100 + activity,
            "time": milliseconds(entry.get("at")),
            "severity_id": severity(entry),
            "status_id": _STATUSES[status],
            "status_detail": _text(entry.get("reason")),
            "message": event_code(entry),
            "metadata": _metadata(entry, more.pop("profiles", None)),
            "unmapped": unmapped or None,
            **more,
        }
    )


def _as_call(entry: Entry) -> dict[str, Any]:
    """A request of staff, decided or completed."""
    method = _text(entry.get("method"))
    decision = entry.get("decision")
    trace, rule = trace_id(entry), _text(entry.get("rule"))
    request_id, status = _text(entry.get("request_id")), entry.get("status")
    code = status if isinstance(status, int) else None
    microseconds = entry.get("duration_us")
    return _event(
        entry,
        _API,
        _METHODS.get(method or "", _OTHER),
        *("kind", "client_ip", "user_agent", "request_id", "path", "host", "rule", "traceparent"),
        actor=_actor(entry),
        api=without_none(
            {
                "operation": " ".join(filter(None, (method, _text(entry.get("path"))))) or event_code(entry),
                "request": None if request_id is None else {"uid": request_id},
                "response": None if code is None else {"code": code},
            }
        ),
        src_endpoint=_source(entry),
        dst_endpoint=None if "upstream" not in entry else {"svc_name": plain(entry["upstream"])},
        http_request=_request(entry, method, request_id),
        http_response=None
        if code is None
        else without_none({"code": code, "body_length": _count(entry, "bytes_sent")}),
        resources=[{"type": "agent", "uid": plain(entry["subject"])}] if "subject" in entry else None,
        duration=microseconds // 1000 if isinstance(microseconds, int) else None,
        trace=None if trace is None else {"uid": trace},
        profiles=[*(("security_control",) if decision else ()), *(("trace",) if trace else ())] or None,
        **_control(entry, decision, rule),
    )


def _control(entry: Entry, decision: Any, rule: str | None) -> dict[str, Any]:
    """Return what the profile of a security control adds."""
    if decision is None:
        return {}
    allowed = decision == "allow"
    policy = None if rule is None else {"name": rule}
    return {
        "action_id": 1 if allowed else 2,
        "disposition_id": _ALLOWED if allowed else _disposition(plain(entry.get("reason", ""))),
        "authorizations": [without_none({"decision": plain(decision), "policy": policy})],
    }


def _disposition(reason: str) -> int:
    if reason in _NO_LONGER:
        return _REVOKED
    if reason in _FAULTS:
        return _ERROR
    if reason.startswith(("token_", "proof_", "cookie_", "staff_")):
        return _UNAUTHORIZED
    return _BLOCKED


def _as_switch(entry: Entry) -> dict[str, Any]:
    """The beginning or the end of an assumption."""
    began = entry.get("kind") == "token" or entry.get("reason") in _BEGINNINGS or entry.get("decision") == "deny"
    switch = {"account_switch_type_id": _IMPERSONATE} if began else {}
    expires = milliseconds(entry.get("expires_at"))
    session = without_none(
        {
            "uid": _text(entry.get("assumption")),
            "issuer": _text(part(entry, "actor").get("issuer")),
            "expiration_time": expires or None,
            "expiration_reason": None if began else _text(entry.get("reason")),
        }
    )
    subject = _text(entry.get("subject"))
    return _event(
        entry,
        _AUTHENTICATION,
        _ACCOUNT_SWITCH if began else _LOGOFF,
        *("kind", "subject", "client_ip", "user_agent", "request_id", "assumption", "expires_at"),
        actor=_actor(entry),
        user={"uid": subject} if subject else {"name": _nobody(entry)},
        session=session or None,
        service={"name": PRODUCT},
        is_remote=True,
        src_endpoint=_source(entry),
        http_request=_request(entry, None, _text(entry.get("request_id"))),
        **switch,
    )


def _as_staff(entry: Entry) -> dict[str, Any]:
    """What happens to one of the vendor's people: signed in or out, locked or unlocked."""
    reason = plain(entry.get("reason", ""))
    if "decision" not in entry and reason not in ("signed_in", "signed_out"):
        return _as_change(entry)
    return _event(
        entry,
        _AUTHENTICATION,
        _LOGOFF if reason == "signed_out" else _LOGON,
        *("kind", "client_ip", "user_agent", "request_id"),
        actor=_actor(entry),
        user=_user(entry),
        service={"name": PRODUCT},
        is_remote=True,
        src_endpoint=_source(entry),
        http_request=_request(entry, None, _text(entry.get("request_id"))),
    )


def _as_change(entry: Entry) -> dict[str, Any]:
    """A change of something that is managed."""
    kind = plain(entry.get("kind", "unknown"))
    field = _NAMES.get(kind, "")
    uid = _text(entry.get(field))
    if kind == "staff":
        uid = _text(part(entry, "actor").get("subject"))
    named = {"uid": uid} if uid else {"name": plain(entry.get("account", kind))}
    return _event(
        entry,
        _ENTITY,
        _CHANGES.get(plain(entry.get("reason", "")), _OTHER),
        *("kind", "by", "granted_by", "stated_reason", "client_ip", "request_id"),
        actor=_operator(entry),
        entity={"type": "assumption_grant" if kind == "grant" else kind, **named},
        comment=_text(entry.get("stated_reason")),
        src_endpoint=_source(entry) if "client_ip" in entry else None,
        http_request=_request(entry, None, _text(entry.get("request_id"))),
    )


def _as_log(entry: Entry) -> dict[str, Any]:
    """What happens to the journal itself, or to what is made of it; also whatever is of no known kind."""
    kind, reason = plain(entry.get("kind", "")), plain(entry.get("reason", ""))
    return _event(
        entry,
        _LOG,
        _LOG_ACTIVITIES.get(kind) or _LOG_ACTIVITIES.get(reason, _OTHER),
        *("by",),
        actor=_operator(entry),
        log_name="locum journal",
        log_provider=plain(entry.get("origin", "")),
        log_type_id=2,
    )


def _as_store(entry: Entry) -> dict[str, Any]:
    """What happens to the gateway."""
    return _event(entry, _LIFECYCLE, _OTHER, app=_product(), actor=None)


_BUILDERS: dict[str, Callable[[Entry], dict[str, Any]]] = {
    "decision": _as_call,
    "completion": _as_call,
    "token": _as_switch,
    "assumption": _as_switch,
    "staff": _as_staff,
    "grant": _as_change,
    "grant_request": _as_change,
    "account": _as_change,
    "client": _as_change,
    "key": _as_change,
    "kill_switch": _as_change,
    "store": _as_store,
}


def _metadata(entry: Entry, profiles: list[str] | None) -> dict[str, Any]:
    sequence = entry.get("seq")
    return without_none(
        {
            "version": VERSION,
            "product": _product(),
            "uid": event_id(entry),
            "event_code": event_code(entry),
            "sequence": sequence if isinstance(sequence, int) else None,
            "correlation_uid": _text(entry.get("assumption")),
            "tenant_uid": _text(entry.get("account")),
            "log_name": "locum journal",
            "log_provider": _text(entry.get("origin")),
            "original_time": _text(entry.get("at")),
            "profiles": profiles,
        }
    )


def _product() -> dict[str, str]:
    return {"name": PRODUCT, "vendor_name": PRODUCT, "version": product_version()}


def _actor(entry: Entry) -> dict[str, Any]:
    issuer, client = part(entry, "actor").get("issuer"), entry.get("client_id")
    sid = entry.get("assumption")
    return without_none(
        {
            "user": _user(entry),
            "idp": None if issuer is None else {"uid": plain(issuer)},
            "app_uid": _text(client),
            "session": None if sid is None else {"uid": plain(sid)},
        }
    )


def _user(entry: Entry) -> dict[str, Any]:
    actor = part(entry, "actor")
    if not actor:
        return {"name": _nobody(entry), "type_id": 0}
    groups = actor.get("groups")
    return without_none(
        {
            "uid": _text(actor.get("subject")),
            "name": plain(actor.get("name") or actor.get("subject") or _nobody(entry)),
            "type_id": 1,
            "groups": [{"name": plain(group)} for group in groups] if isinstance(groups, list) and groups else None,
        }
    )


def _operator(entry: Entry) -> dict[str, Any]:
    who = entry.get("by") or entry.get("granted_by")
    return _actor(entry) if who is None else {"user": {"name": plain(who), "type_id": 0}}


def _nobody(entry: Entry) -> str:
    return "erased" if entry.get("erased") else "unknown"


def _source(entry: Entry) -> dict[str, str]:
    ip = entry.get("client_ip")
    if is_address(ip):
        return {"ip": plain(ip)}
    return {"name": _nobody(entry) if ip is None else plain(ip)}


def _request(entry: Entry, method: str | None, request_id: str | None) -> dict[str, Any] | None:
    host, path = host_name(entry.get("host")), _text(entry.get("path"))
    # A URL needs its path, or all of itself.
    url = without_none({"path": path, "hostname": host}) if path is not None else None
    request = {
        "uid": request_id,
        "http_method": method if method in _KNOWN_METHODS else None,
        "url": url,
        "user_agent": _text(entry.get("user_agent")),
        "body_length": _count(entry, "bytes_received"),
    }
    return without_none(request) or None


def _count(entry: Entry, name: str) -> int | None:
    value = entry.get(name)
    return value if isinstance(value, int) else None


def _text(value: Any) -> str | None:
    return None if value is None else plain(value)
