"""`[[audit.sinks]]`: what it takes, and what it refuses with the key's path."""

import pytest

from gateway.config.load import build
from tests.test_config import BASE, document, refusal

FILE = {"name": "a", "kind": "file", "path": "out.jsonl"}
HTTP = {"name": "a", "kind": "http", "url": "https://siem.example/in"}
SYSLOG = {"name": "a", "kind": "syslog", "address": "logs.example:6514", "tls": {}}
TAKEN = {
    "a file": FILE,
    "the standard output": {"name": "out-1", "kind": "stdout", "format": "cef"},
    "splunk": {**HTTP, "shape": "splunk_hec", "credential": "Splunk x", "gzip": True, "format": "ocsf"},
    "a filter": {**FILE, "filter": "actor:dana -decision:allow"},
    "plain to this machine": {**HTTP, "url": "http://127.0.0.1:8088/in", "credential": "x"},
    "plain on purpose": {**HTTP, "url": "http://collector/in", "plaintext": True},
    "plain syslog on purpose": {"name": "a", "kind": "syslog", "address": "[2001:db8::1]:514", "plaintext": True},
    "syslog over TLS": {**SYSLOG, "tls": {"ca": "ca.pem", "certificate": "c.pem", "key": "k.pem"}},
    "opentelemetry": {"name": "a", "kind": "otlp", "url": "https://otel.example/v1/logs"},
}
REFUSED = {
    "no name": ({**FILE, "name": ""}, "name: must be 1 to 48"),
    "a path for a name": ({**FILE, "name": "../x"}, "name: must be 1 to 48"),
    "a file without one": ({"name": "a", "kind": "file"}, "path: a sink of the kind `file` needs it"),
    "a url for a file": ({**FILE, "url": "https://x.example/"}, "url: says nothing to a sink of the kind `file`"),
    "a shape of otlp": ({**HTTP, "kind": "otlp", "shape": "ndjson"}, "shape: says nothing"),
    "a time limit of a file": ({**FILE, "timeout_seconds": 5}, "timeout_seconds: says nothing"),
    "csv over http": ({**HTTP, "format": "csv"}, "format: over HTTP"),
    "csv over syslog": ({**SYSLOG, "format": "csv"}, "format: csv needs a first line"),
    "a filter of nothing we know": ({**FILE, "filter": "actr:dana"}, "filter: "),
    "no url": ({**HTTP, "url": "siem.example"}, "url: must be an http or https URL"),
    "a user in the url": ({**HTTP, "url": "https://user:canary@siem.example/"}, "url: must be an http"),
    "a port of none": ({**HTTP, "url": "https://siem.example:0/"}, "url: must be an http"),
    "plain elsewhere": ({**HTTP, "url": "http://siem.example/in"}, "url: use TLS; or set plaintext"),
    "a credential in the clear": (
        {**HTTP, "url": "http://siem.example/in", "plaintext": True, "credential": "canary"},
        "url: must be https, or the credential goes",
    ),
    "a credential of two lines": ({**HTTP, "credential": "canary\r\nX: y"}, "credential_header: holds a value"),
    "a header of ours": ({**HTTP, "headers": {"Content-Length": "1"}}, "headers: names a header"),
    "syslog without TLS": ({"name": "a", "kind": "syslog", "address": "logs.example:514"}, "tls: use TLS"),
    "no port": ({**SYSLOG, "address": "logs.example"}, "address: must be host:port"),
    "a port too high": ({**SYSLOG, "address": "logs.example:70000"}, "address: must be host:port"),
    "half a certificate": ({**SYSLOG, "tls": {"key": "k.pem"}}, "tls: `certificate` and `key`"),
    "a key in the file": ({**SYSLOG, "tls": {"ca": "-----BEGIN canary"}}, "tls.ca: give the path"),
    "tls without it": ({**HTTP, "url": "http://localhost/in", "tls": {}}, "tls: goes with a URL"),
    "no time": ({**HTTP, "timeout_seconds": 0.0}, "timeout_seconds: must be above 0"),
    "too much time": ({**HTTP, "timeout_seconds": 301.0}, "timeout_seconds: must be above 0"),
    "no record": ({**FILE, "batch_records": 0}, "batch_records: must be above 0"),
    "too many": ({**FILE, "batch_records": 5001}, "batch_records: must be above 0"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_sink_that_says_what_it_needs_is_taken(name):
    """Paths count from the file's own place."""
    (sink,) = build(document("audit", {"sinks": [TAKEN[name]]}), {}, base=BASE).audit.sinks
    assert sink.path in ("", str(BASE / "out.jsonl"))


@pytest.mark.parametrize("name", REFUSED)
def test_a_sink_that_cannot_be_meant_is_refused(name):
    """With the path of the key, and never with a credential."""
    sink, why = REFUSED[name]
    said = refusal(document("audit", {"sinks": [sink]}))
    assert said.startswith(f"audit.sinks[0].{why}"), said
    assert "canary" not in said


def test_two_of_a_name_are_refused():
    """Each keeps its place under its own."""
    said = refusal(document("audit", {"sinks": [FILE, HTTP]}))
    assert said.startswith("audit.sinks[1].name: is that of audit.sinks[0]")


def test_a_credential_may_stand_in_a_file_of_its_own(tmp_path):
    """Of each sink its own, readable by nobody else; it shows in no text of the configuration."""
    (tmp_path / "token").write_text("Splunk canary\n")
    (tmp_path / "token").chmod(0o600)
    wanted = document("audit", {"sinks": [FILE, {**HTTP, "name": "b", "credential_file": "token"}]})
    config = build(wanted, {}, base=tmp_path)
    assert "Splunk canary" == config.audit.sinks[1].credential.reveal()
    assert "canary" not in repr(config)
