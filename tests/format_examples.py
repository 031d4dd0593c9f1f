"""Entries of every kind, as the journal gives them, and texts that somebody might slip into one."""

HOSTILE = {
    "a line": "x\nforged",
    "a return": "x\r\nforged",
    "an escape": "\x1b[31mred",
    "a nul": "x\x00y",
    "quotes": "\"',;|\\",
    "the end of JSON": '"}\n{"leaf":"',
    "cef": "a=b|c\\=d suser=root",
    "cef's escapes": "a\\nb\\|c",
    "right to left": "\u202egnp.exe",
    "line separator": "a\u2028b\u2029c\x85d",
    "byte order mark": "\ufeffx",
    "isolates": "\u2066x\u2069",
    "a formula": "=cmd|' /C calc'!A0",
    "a plus": "+1+1",
    "a minus": "-2+3",
    "an at": "@SUM(A1)",
    "a tab": "\t=1+1",
    "a wide formula": "\uff1d1+1",
    "spaces before it": "  =1+1",
    "our mark": "'=1",
    "a backslash": "C:\\temp\\u000a",
    "emoji": "\U0001f600 \U000e0001",
    "nothing": "",
    "a space": " ",
    "64 KiB": "A" * 65536,
}
ACTOR = {"groups": ["support"], "issuer": "https://idp.vendor.example", "name": "Dana", "subject": "dana"}
_COMMON = {"at": "2026-11-23T12:00:00.000001Z", "origin": "gateway", "seq": 7}
_ASSUMED = {
    "account": "acme", "actor": ACTOR, "assumption": "as-1", "client_id": "browser", "client_ip": "203.0.113.7",
    "grant_epoch": 3, "grant_id": "g-1", "granted_by": "owner", "stated_reason": "cannot log in", "subject": "maria",
    "ticket": "SUP-1", "token_id": "jti-1", "user_agent": "Mozilla/5.0",
}  # fmt: skip
_REQUEST = {
    "host": "acme.helpdesk.example:8443", "method": "GET", "path": "/tickets/1", "query_names": ["page"],
    "request_id": "r-1", "rule": "tickets-read", "scopes": ["tickets:read"],
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "upstream": "http://127.0.0.1:9000",
}  # fmt: skip
ENTRIES = {
    "allowed": {**_COMMON, **_ASSUMED, **_REQUEST, "kind": "decision", "decision": "allow"},
    "denied": {
        **_COMMON, **_ASSUMED, **_REQUEST, "kind": "decision", "decision": "deny", "reason": "grant_revoked",
        "status": 403,
    },
    "a stranger": {
        **_COMMON, "kind": "decision", "decision": "deny", "reason": "token_missing", "method": "BREW",
        "path": "/", "client_ip": "2001:db8::1",
    },
    "a stranger of no address": {**_COMMON, "kind": "decision", "decision": "deny", "reason": "token_invalid"},
    "completed": {
        **_COMMON, "kind": "completion", "account": "acme", "assumption": "as-1", "completes": 6, "ended": "complete",
        "bytes_received": 10, "bytes_sent": 2000, "duration_us": 1500, "request_id": "r-1", "status": 200,
    },
    "cut": {
        **_COMMON, "kind": "completion", "account": "acme", "assumption": "as-1", "completes": 6, "ended": "cut",
        "duration_us": 1, "reason": "grant_off", "request_id": "r-1",
    },
    "token": {**_COMMON, **_ASSUMED, "kind": "token", "decision": "allow", "scopes": ["tickets:read"]},
    "token denied": {**_COMMON, "kind": "token", "decision": "deny", "reason": "grant_off", "actor": ACTOR},
    "entered": {**_COMMON, **_ASSUMED, "kind": "assumption", "decision": "allow", "reason": "entered"},
    "ended": {**_COMMON, **_ASSUMED, "kind": "assumption", "reason": "ended", "by": "dana"},
    "signed in": {**_COMMON, "kind": "staff", "decision": "allow", "reason": "signed_in", "actor": ACTOR},
    "signed out": {**_COMMON, "kind": "staff", "reason": "signed_out", "actor": ACTOR, "by": "https://idp.example"},
    "locked": {**_COMMON, "kind": "staff", "reason": "locked", "actor": ACTOR, "by": "root"},
    "enabled": {
        **_COMMON, "kind": "grant", "decision": "allow", "reason": "enabled", "account": "acme", "grant_id": "g-1",
        "granted_by": "owner", "duration": "day", "expires_at": "2026-11-24T12:00:00+00:00", "permissions": ["read"],
    },
    "not enabled": {
        **_COMMON, "kind": "grant", "decision": "deny", "reason": "not_administrator", "account": "acme",
        "granted_by": "maria",
    },
    "turned off": {**_COMMON, "kind": "grant", "reason": "turned_off", "account": "acme", "grant_id": "g-1"},
    "asked": {
        **_COMMON, "kind": "grant_request", "decision": "allow", "reason": "asked", "account": "acme", "actor": ACTOR,
        "grant_request": "ask_1", "ticket": "SUP-1", "stated_reason": "the export is empty", "duration": "week",
        "permissions": ["read", "test_tickets"], "expires_at": "2026-11-27T12:00:00+00:00", "request_id": "r-1",
    },
    "declined": {
        **_COMMON, "kind": "grant_request", "reason": "declined", "account": "acme", "actor": ACTOR, "by": "owner",
        "grant_request": "ask_1", "ticket": "SUP-1", "client_id": "console", "client_ip": "203.0.113.7",
    },
    "account": {**_COMMON, "kind": "account", "reason": "added_trial", "account": "acme", "by": "root"},
    "client": {**_COMMON, "kind": "client", "reason": "added", "client_id": "console", "by": "root"},
    "key": {**_COMMON, "kind": "key", "reason": "rotated", "key_id": "k1", "by": "root"},
    "kill switch": {**_COMMON, "kind": "kill_switch", "reason": "on", "by": "root", "stated_reason": "incident"},
    "store": {**_COMMON, "kind": "store", "reason": "recovered", "by": "root"},
    "torn": {**_COMMON, "kind": "journal", "reason": "torn_tail", "segment": "gateway-000000000000.jsonl", "offset": 9},
    "altered": {**_COMMON, "kind": "journal", "reason": "history_altered"},
    "exported": {**_COMMON, "kind": "audit", "reason": "exported", "by": "root"},
    "erasure": {**_COMMON, "kind": "erasure", "by": "root", "stated_reason": "asked"},
    "retention": {**_COMMON, "kind": "retention", "segment": "gateway-000000000000.jsonl", "count": 5},
    "gap": {**_COMMON, "kind": "sink", "reason": "gap", "through": 9, "count": 3, "why": "gone"},
    "erased": {**_COMMON, "kind": "decision", "decision": "allow", "method": "POST", "path": "/x", "erased": ["actor"]},
    "of a kind to come": {**_COMMON, "kind": "novelty", "reason": "new", "field": {"deep": [1, None, True, 0.5]}},
}  # fmt: skip
