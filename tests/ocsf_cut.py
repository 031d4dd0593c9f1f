"""A cut of the OCSF 1.8.0 schema: the classes, objects and attributes that we write, and a reader that judges by it.

Facts only: names, types, what is required, closed lists, and which of several attributes one at least must be there.
An attribute is `type`, `type[]` for a list, with `!` where it is required.

It is a cut by hand: of the compiled schema, the attributes that we write and all that is required without a profile that
we do not claim (`cloud` and `osint` have one each); `string_t` and what is made of it is `string`, `port_t` is `integer`,
`object_t` the object's name. It was compared by a program, name by name, on 2026-11-23 with the export of the published
version 1.8.0 (https://schema.ocsf.io/1.8.0/export/v2/schema, as ocsf-json-schema 1.2.0 carries it): types, requirements,
activities, what one at least must be there, and closed lists. All agree but two: `action_id` is narrower here, with the
values that we use alone; and the export spells the class 1008 `event_log_actvity`. For another version, compare again.
"""

import re

BASE = {
    "activity_id": "integer!", "activity_name": "string", "category_name": "string", "category_uid": "integer!",
    "class_name": "string", "class_uid": "integer!", "count": "integer", "duration": "long", "end_time": "timestamp",
    "message": "string", "metadata": "metadata!", "raw_data": "string", "severity": "string", "severity_id": "integer!",
    "start_time": "timestamp", "status": "string", "status_code": "string", "status_detail": "string",
    "status_id": "integer", "time": "timestamp!", "timezone_offset": "integer", "type_name": "string",
    "type_uid": "long!", "unmapped": "object",
}  # fmt: skip
IAM = {
    "actor": "actor", "http_request": "http_request", "http_response": "http_response",
    "src_endpoint": "network_endpoint",
}  # fmt: skip
CLASSES = {
    1008: {
        "name": "event_log_activity",
        "activities": {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 99},
        "one_of": ("log_file", "log_name", "log_provider", "log_type", "log_type_id"),
        "attributes": {
            "actor": "actor", "device": "device", "dst_endpoint": "network_endpoint", "file": "file",
            "log_name": "string", "log_provider": "string", "log_type": "string", "log_type_id": "integer",
            "src_endpoint": "network_endpoint",
        },
    },
    3002: {
        "name": "authentication",
        "activities": {0, 1, 2, 3, 4, 5, 6, 7, 99},
        "one_of": ("service", "dst_endpoint"),
        "attributes": IAM
        | {
            "account_switch_type": "string", "account_switch_type_id": "integer", "auth_protocol": "string",
            "auth_protocol_id": "integer", "dst_endpoint": "network_endpoint", "is_cleartext": "boolean",
            "is_mfa": "boolean", "is_new_logon": "boolean", "is_remote": "boolean", "logon_type": "string",
            "logon_type_id": "integer", "service": "service", "session": "session", "user": "user!",
        },
    },
    3004: {
        "name": "entity_management",
        "activities": {*range(14), 99},
        "one_of": (),
        "attributes": IAM
        | {
            "access_mask": "integer", "access_list": "string[]", "comment": "string", "entity": "managed_entity!",
            "entity_result": "managed_entity",
        },
    },
    6002: {
        "name": "application_lifecycle",
        "activities": {0, 1, 2, 3, 4, 5, 6, 7, 8, 99},
        "one_of": (),
        "attributes": {"app": "product!"},
    },
    6003: {
        "name": "api_activity",
        "activities": {0, 1, 2, 3, 4, 99},
        "one_of": (),
        "attributes": {
            "actor": "actor!", "api": "api!", "dst_endpoint": "network_endpoint", "http_request": "http_request",
            "http_response": "http_response", "resources": "resource_details[]", "src_endpoint": "network_endpoint!",
        },
    },
}  # fmt: skip
PROFILES = {
    "security_control": {
        "action": "string", "action_id": "integer", "authorizations": "authorization[]", "disposition": "string",
        "disposition_id": "integer", "is_alert": "boolean", "policy": "policy",
    },
    "trace": {"trace": "trace"},
}  # fmt: skip
_ENTITY = {"name": "string", "uid": "string"}
OBJECTS = {
    "actor": (
        {
            "app_name": "string", "app_uid": "string", "authorizations": "authorization[]", "idp": "idp",
            "invoked_by": "string", "session": "session", "user": "user",
        },
        ("process", "user", "invoked_by", "session", "app_name", "app_uid"),
    ),
    "api": (
        {
            "group": "group", "operation": "string!", "request": "request", "response": "response",
            "service": "service", "version": "string",
        },
        (),
    ),
    "authorization": ({"decision": "string", "policy": "policy"}, ()),
    "group": (_ENTITY | {"desc": "string", "domain": "string", "privileges": "string[]", "type": "string"}, ("name", "uid")),
    "http_request": (
        {
            "args": "string", "body_length": "integer", "http_method": "string", "length": "integer",
            "referrer": "string", "uid": "string", "url": "url", "user_agent": "string", "version": "string",
        },
        (),
    ),
    "http_response": (
        {
            "body_length": "integer", "code": "integer!", "content_type": "string", "latency": "integer",
            "length": "integer", "message": "string", "status": "string",
        },
        (),
    ),
    "idp": (_ENTITY | {"domain": "string", "issuer": "string", "tenant_uid": "string"}, ("name", "uid")),
    "managed_entity": (
        _ENTITY | {"group": "group", "policy": "policy", "type": "string", "type_id": "integer", "user": "user"},
        ("name", "uid", "device", "group", "org", "policy", "user"),
    ),
    "metadata": (
        {
            "correlation_uid": "string", "event_code": "string", "labels": "string[]", "log_level": "string",
            "log_name": "string", "log_provider": "string", "logged_time": "timestamp", "original_time": "string",
            "product": "product!", "profiles": "string[]", "sequence": "integer", "tenant_uid": "string",
            "uid": "string", "version": "string!",
        },
        (),
    ),
    "network_endpoint": (
        _ENTITY | {"domain": "string", "hostname": "string", "ip": "ip", "port": "integer", "svc_name": "string"},
        ("ip", "uid", "name", "hostname", "svc_name", "instance_uid", "interface_uid", "interface_name", "domain"),
    ),
    "policy": (_ENTITY | {"desc": "string", "type": "string", "version": "string"}, ("name", "type", "uid")),
    "product": (_ENTITY | {"vendor_name": "string", "version": "string"}, ("name", "uid")),
    "request": ({"flags": "string[]", "uid": "string!"}, ()),
    "resource_details": (_ENTITY | {"owner": "user", "type": "string"}, ("name", "uid")),
    "response": ({"code": "integer", "error": "string", "error_message": "string", "message": "string"}, ()),
    "service": (_ENTITY | {"labels": "string[]", "version": "string"}, ("name", "uid")),
    "session": (
        {
            "count": "integer", "created_time": "timestamp", "expiration_reason": "string",
            "expiration_time": "timestamp", "is_mfa": "boolean", "is_remote": "boolean", "issuer": "string",
            "terminal": "string", "uid": "string",
        },
        (),
    ),
    "trace": ({"duration": "long", "flags": "string[]", "uid": "string!"}, ()),
    "url": (
        {
            "domain": "string", "hostname": "string", "path": "string", "port": "integer", "query_string": "string",
            "scheme": "string", "url_string": "string",
        },
        ("url_string", "path"),
    ),
    "user": (
        _ENTITY
        | {
            "display_name": "string", "domain": "string", "email_addr": "string", "full_name": "string",
            "groups": "group[]", "type": "string", "type_id": "integer", "uid_alt": "string",
        },
        ("account", "name", "uid"),
    ),
}  # fmt: skip
LISTS = {
    "severity_id": {0, 1, 2, 3, 4, 5, 6, 99},
    "status_id": {0, 1, 2, 99},
    "account_switch_type_id": {0, 1, 2, 99},
    "action_id": {0, 1, 2},
    "disposition_id": {*range(28), 99},
    "log_type_id": {0, 1, 2, 99},
    "http_method": {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"},
    "category_uid": {1, 3, 6},
}
OF_USER = {0, 1, 2, 3, 4, 99}
_IP = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
_KINDS = {"integer": int, "long": int, "timestamp": int, "string": str, "boolean": bool, "ip": str, "object": dict}


def faults(event):
    """Everything in which an event is not of its class; none is what is wanted."""
    found = []
    known = CLASSES.get(event.get("class_uid"))
    if known is None:
        return [f"no class {event.get('class_uid')}"]
    attributes = BASE | known["attributes"]
    for profile in event.get("metadata", {}).get("profiles", ()):
        attributes = attributes | PROFILES[profile]
    _judge(event, attributes, known["one_of"], "", found)
    if event.get("activity_id") not in known["activities"]:
        found.append(f"activity_id {event.get('activity_id')}")
    if event.get("category_uid") != event["class_uid"] // 1000:
        found.append("category_uid")
    if event.get("type_uid") != event["class_uid"] * 100 + event.get("activity_id", -1):
        found.append("type_uid")
    if event.get("metadata", {}).get("version") != "1.8.0":
        found.append("metadata.version")
    if event.get("activity_id") == 99 and not event.get("activity_name"):
        found.append("activity_name is wanted for another activity")
    return found


def _judge(value, attributes, one_of, where, found):
    for name, kind in attributes.items():
        if kind.endswith("!") and name not in value:
            found.append(f"{where}{name} is required")
    if one_of and not set(one_of) & set(value):
        found.append(f"{where or 'event'}: one of {one_of}")
    for name, item in value.items():
        if name not in attributes:
            found.append(f"{where}{name} is unknown")
        else:
            _judge_one(item, attributes[name].rstrip("!"), f"{where}{name}", found)


def _judge_one(value, kind, where, found):
    if kind.endswith("[]"):
        if not isinstance(value, list) or not value:
            found.append(f"{where} is no list, or an empty one")
            return
        for item in value:
            _judge_one(item, kind[:-2], where, found)
        return
    if kind in OBJECTS:
        if not isinstance(value, dict):
            found.append(f"{where} is no object")
            return
        _judge(value, *OBJECTS[kind], f"{where}.", found)
        return
    wanted = _KINDS[kind]
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        found.append(f"{where}: {value!r} is no {kind}")
    elif kind == "ip" and _IP.fullmatch(value) is None:
        found.append(f"{where}: {value!r} is no address")
    elif kind == "timestamp" and not 0 <= value < 10**14:
        found.append(f"{where}: {value!r} is no time in milliseconds")
    name = where.rpartition(".")[2]
    allowed = OF_USER if where.endswith("user.type_id") else LISTS.get(name)
    if allowed is not None and value not in allowed:
        found.append(f"{where}: {value!r}")
