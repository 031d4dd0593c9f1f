"""The bodies that receivers of each kind expect, and what is read in their answers."""

import json

import pytest

from tests.sink_world import CANARY, Receiver, firsts, http_outlet, sinking, write_records


def _sent(tmp_path, shape, count=3, *, script=(), packed=False, **fields):
    write_records(tmp_path / "journal", count, **fields)
    with Receiver(script) as receiver, sinking(tmp_path, http_outlet(receiver, shape=shape, packed=packed)) as sink:
        receiver.until(lambda: sink.status.sent >= count)
    return receiver


@pytest.mark.parametrize("packed", [False, True])
def test_an_array_is_one_document(tmp_path, packed):
    """With the credential, the headers of the configuration and, if wanted, in gzip."""
    receiver = _sent(tmp_path, "json", packed=packed)
    assert [0, 1, 2] == [one["seq"] for one in json.loads(receiver.bodies[0])]
    head = receiver.heads[0]
    assert head.startswith("POST /in?x=1 HTTP/1.1\r\nHost: localhost:")
    for line in (f"Authorization: {CANARY}", "X-Tenant: t1", "Content-Type: application/json"):
        assert f"\r\n{line}" in head
    assert packed is ("Content-Encoding: gzip" in head)


def test_splunk_gets_events(tmp_path):
    """HTTP Event Collector: objects one behind the other, with their time in seconds."""
    receiver = _sent(tmp_path, "splunk_hec")
    events = [json.loads(line) for line in receiver.bodies[0].splitlines()]
    assert [(1795435200.0 + seq, "locum", "locum:jsonl", "node", seq) for seq in range(3)] == [
        (one["time"], one["source"], one["sourcetype"], one["host"], one["event"]["seq"]) for one in events
    ]


def test_a_hostile_origin_is_no_event_of_its_own(tmp_path):
    """What stands outside of the record in a body is written as JSON as well."""
    receiver = _sent(tmp_path, "splunk_hec", 1, path='"}\n{"event":1}')
    (line,) = receiver.bodies[0].splitlines()
    assert '"}\n{"event":1}' == json.loads(line)["event"]["path"]


def _items(*statuses):
    items = [{"create": {"_id": "x", "status": status, "error": {"type": "t"}}} for status in statuses]
    return lambda _body: (200, json.dumps({"errors": any(s >= 300 for s in statuses), "items": items}).encode())


def _bulk(body):
    lines = body.splitlines()
    assert 0 == len(lines) % 2
    return [
        (json.loads(action)["create"]["_id"], json.loads(record))
        for action, record in zip(lines[::2], lines[1::2], strict=True)
    ]


def _all_created(body):
    return _items(*[201] * len(_bulk(body)))(body)


def test_elastic_gets_documents_of_their_own_names(tmp_path):
    """Each is created under its record's leaf hash, so that one that comes twice is there once."""
    receiver = _sent(tmp_path, "elastic_bulk", script=[_all_created])
    pairs = _bulk(receiver.bodies[0])
    assert [0, 1, 2] == [record["seq"] for _, record in pairs]
    assert {64} == {len(name) for name, _ in pairs}
    assert 3 == len({name for name, _ in pairs})


@pytest.mark.parametrize(
    ("answer", "given_up", "again_from"),
    [
        (_items(201, 201, 201), 0, None),
        (_items(409, 201, 409), 0, None),
        (_items(201, 400, 201), 1, None),
        (_items(400, 400, 201), 2, None),
        (_items(201, 429, 201), 0, 1),
        (_items(201, 503, 400), 0, 1),
        (_items(201, 400, 429), 1, 2),
        (_items(429, 201, 201), 0, 0),
        (_items(403, 403, 403), 0, 0),
        (_items(201, 201), 0, 0),
        (lambda _body: (200, b'{"took":1}'), 0, 0),
        (lambda _body: (200, b"<html>"), 0, 0),
        (lambda _body: (200, b'{"errors":true,"items":[{},{},{}]}'), 0, 0),
    ],
)
def test_what_elastic_says_of_each_record_counts(tmp_path, answer, given_up, again_from):
    """There already is delivered; a mapping that it does not fit is given up; from what may come later on all is sent again."""
    write_records(tmp_path / "journal", 3)
    bodies = []

    def otherwise(body):
        bodies.append(_bulk(body))
        return _all_created(body)

    with Receiver([answer]) as receiver:
        receiver.otherwise = otherwise
        with sinking(tmp_path, http_outlet(receiver, shape="elastic_bulk")) as sink:
            receiver.until(lambda: sink.status.sent + sink.status.refused >= 3 and sink.cursor.exists())
    resent = [record["seq"] for body in bodies for _, record in body if record["kind"] != "sink"]
    told = [record["seq"] for body in bodies for _, record in body if record["kind"] == "sink"]
    assert list(range(3 if again_from is None else again_from, 3)) == resent
    assert (given_up, 3 - given_up, given_up) == (sink.status.refused, sink.status.sent, len(told))


def test_opentelemetry_gets_log_records(tmp_path):
    """OTLP/HTTP in JSON: numbers as texts, nanoseconds, the trace in hexadecimal, the record as the body."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    receiver = _sent(tmp_path, "otlp", traceparent=f"00-{trace}-00f067aa0ba902b7-01")
    (resource,) = json.loads(receiver.bodies[0])["resourceLogs"]
    assert {"key": "service.name", "value": {"stringValue": "locum"}} in resource["resource"]["attributes"]
    (scope,) = resource["scopeLogs"]
    assert "locum.audit" == scope["scope"]["name"]
    record = scope["logRecords"][1]
    assert ("1795435201000001000", 9, "INFO", "locum.decision.allow", trace) == tuple(
        record[name] for name in ("timeUnixNano", "severityNumber", "severityText", "eventName", "traceId")
    )
    body = {one["key"]: one["value"] for one in record["body"]["kvlistValue"]["values"]}
    assert ({"intValue": "1"}, {"stringValue": "GET"}) == (body["seq"], body["method"])


def test_what_opentelemetry_rejects_is_not_sent_again(tmp_path):
    """It says how many, never which, and that they must not come again: counted, and told of where others are taken."""

    def partial(_body):
        return 200, json.dumps({"partialSuccess": {"rejectedLogRecords": "2", "errorMessage": "no"}}).encode()

    write_records(tmp_path / "journal", 3)
    with Receiver([partial]) as receiver, sinking(tmp_path, http_outlet(receiver, shape="otlp")) as sink:
        receiver.until(lambda: sink.status.sent + sink.status.refused >= 3)
    assert (2, 1, 2) == (sink.status.refused, sink.status.sent, receiver.asked)
    # No record is named of which that is not known.
    said = receiver.bodies[-1].decode()
    for name, value in (("count", 2), ("seq", 0), ("through", 2)):
        assert f'{{"key":"{name}","value":{{"intValue":"{value}"}}}}' in said


def test_a_long_answer_is_not_read(tmp_path):
    """A receiver cannot fill our memory."""
    huge = b" " * (9 * 1024 * 1024)
    receiver = _sent(tmp_path, "elastic_bulk", script=[lambda _body: (200, huge), _all_created])
    assert 2 == receiver.asked


def test_order_is_kept_over_partial_failures(tmp_path):
    """An answer that takes some and not others, again and again: each record comes, in order."""

    def flaky(body):
        count = len(_bulk(body))
        return _items(*[201] * ((count + 1) // 2), *[503] * (count // 2))(body)

    write_records(tmp_path / "journal", 40)
    taken = []

    def otherwise(body):
        pairs = _bulk(body)
        taken.extend(("node", record["seq"]) for _, record in pairs[: (len(pairs) + 1) // 2])
        return flaky(body)

    with Receiver() as receiver:
        receiver.otherwise = otherwise
        with sinking(tmp_path, http_outlet(receiver, shape="elastic_bulk")):
            receiver.until(lambda: ("node", 39) in taken)
    assert list(range(40)) == firsts(taken, "node")
