"""What the body of an HTTP batch looks like, and what is read in the answer: an array, lines, Splunk, Elastic, OTLP."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import msgspec

from gateway.audit.formats.ecs import trace_id
from gateway.audit.formats.severity import severity
from gateway.audit.formats.text import event_code, microseconds, plain, product_version, to_line
from gateway.audit.sinks.outlet import NOT_AS_IT_IS, Encoded, Sent, Unreachable

_LINES = "application/x-ndjson"
_JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One shape; `read` is given what came with a 2xx, and says what of the batch was taken."""

    content_type: str
    body: Callable[[list[Encoded], str], bytes]
    """From a batch and the name of the format it is in."""
    read: Callable[[bytes, int], Sent]


def _taken(_answer: bytes, count: int) -> Sent:
    return Sent(count)


def _array(batch: list[Encoded], _form: str) -> bytes:
    return b"[" + b",".join(one.line for one in batch) + b"]"


def _lines(batch: list[Encoded], _form: str) -> bytes:
    return b"".join(one.line + b"\n" for one in batch)


def _splunk(batch: list[Encoded], form: str) -> bytes:
    """Events of Splunk's HTTP Event Collector, one behind the other."""
    return b"\n".join(
        b'{"time":%.3f,"source":"locum","sourcetype":"locum:%s","host":%s,"event":%s}'
        % (
            microseconds(one.entry.get("at")) / 1e6,
            form.encode(),
            msgspec.json.encode(plain(one.entry.get("origin", ""))),
            one.line,
        )
        for one in batch
    )


def _elastic(batch: list[Encoded], _form: str) -> bytes:
    """Actions of Elastic's `_bulk`: each creates a document of its own name, so that one sent twice is there once."""
    return b"".join(b'{"create":{"_id":%s}}\n%s\n' % (msgspec.json.encode(one.id), one.line) for one in batch)


class _Outcome(msgspec.Struct):
    status: int


class _Answer(msgspec.Struct):
    items: list[dict[str, _Outcome]] | None = None
    errors: bool = True


_THERE: Final = 409


def _read_elastic(answer: bytes, count: int) -> Sent:
    """Return what became of each; the rest is sent again from the first one on that may be taken later."""
    try:
        decoded = msgspec.json.decode(answer, type=_Answer)
    except msgspec.DecodeError as error:
        raise Unreachable("what it answers is not what _bulk answers") from error
    if decoded.items is None and not decoded.errors:
        return Sent(count)
    if decoded.items is None or len(decoded.items) != count:
        raise Unreachable("what it answers does not speak of each record")
    refused = []
    for index, item in enumerate(decoded.items):
        status = next((outcome.status for outcome in item.values()), 500)
        if status in NOT_AS_IT_IS:
            refused.append(index)
        elif status >= 300 and status != _THERE:
            if index == 0:
                raise Unreachable(f"it answers {status} for a record")
            return Sent(index, tuple(refused))
    return Sent(count, tuple(refused))


_SEVERITIES = {1: (9, "INFO"), 2: (10, "INFO2"), 3: (13, "WARN"), 4: (17, "ERROR")}
"""OpenTelemetry's numbers (logs data model, severity fields)."""


def _otlp(batch: list[Encoded], form: str) -> bytes:
    """An ExportLogsServiceRequest in the JSON encoding of protobuf, as OTLP/HTTP has it."""
    scope = {"name": "locum.audit", "version": product_version()}
    records = [_log_record(one, form) for one in batch]
    return to_line(
        {
            "resourceLogs": [
                {
                    "resource": {"attributes": [_attribute("service.name", "locum")]},
                    "scopeLogs": [{"scope": scope, "logRecords": records}],
                }
            ]
        }
    )


def _log_record(one: Encoded, form: str) -> dict[str, Any]:
    number, word = _SEVERITIES[severity(one.entry)]
    record = {
        "timeUnixNano": str(microseconds(one.entry.get("at")) * 1000),
        "severityNumber": number,
        "severityText": word,
        "eventName": f"locum.{event_code(one.entry)}",
        "body": _value(msgspec.json.decode(one.line)),
        "attributes": [_attribute("log.record.uid", one.id), _attribute("locum.format", form)],
    }
    if (trace := trace_id(one.entry)) is not None:
        record["traceId"] = trace
    return record


def _attribute(key: str, value: Any) -> dict[str, Any]:
    return {"key": key, "value": _value(value)}


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": [_attribute(key, item) for key, item in value.items()]}}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": plain(value)}


class _Partial(msgspec.Struct, rename="camel"):
    rejected_log_records: int | str = 0


class _Export(msgspec.Struct, rename="camel"):
    partial_success: _Partial | None = None


def _read_otlp(answer: bytes, count: int) -> Sent:
    """Return what was rejected: how many records, and which of them only if it is all; none may be sent again."""
    try:
        partial = msgspec.json.decode(answer, type=_Export).partial_success if answer else None
        rejected = int(partial.rejected_log_records) if partial is not None else 0
    except (msgspec.DecodeError, ValueError):
        return Sent(count)
    if rejected >= count:
        return Sent(count, tuple(range(count)))
    return Sent(count, unnamed=max(rejected, 0))


SHAPES: Mapping[str, Shape] = MappingProxyType(
    {
        "json": Shape(content_type=_JSON, body=_array, read=_taken),
        "ndjson": Shape(content_type=_LINES, body=_lines, read=_taken),
        "splunk_hec": Shape(content_type=_JSON, body=_splunk, read=_taken),
        "elastic_bulk": Shape(content_type=_LINES, body=_elastic, read=_read_elastic),
        "otlp": Shape(content_type=_JSON, body=_otlp, read=_read_otlp),
    }
)
