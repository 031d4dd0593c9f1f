"""What `[[audit.sinks]]` holds; each key's meaning, unit and reason stand in `config.example.toml`."""

from pathlib import Path
from typing import Literal

import msgspec
from msgspec.structs import replace

from gateway.config.section import Secret, Section

FormName = Literal["jsonl", "csv", "ocsf", "ecs", "cef"]


class SinkTls(Section, frozen=True, kw_only=True):
    """Whom the receiver's certificate must come from and be for, and the one that we show; paths of PEM files."""

    ca: str = ""
    certificate: str = ""
    key: str = ""
    server_name: str = ""


class Sink(Section, frozen=True, kw_only=True):
    """Somewhere that records go, and in which format."""

    name: str
    kind: Literal["stdout", "file", "syslog", "http", "otlp"]
    format: FormName = "jsonl"
    filter: str = ""
    path: str = ""
    address: str = ""
    url: str = ""
    shape: Literal["json", "ndjson", "splunk_hec", "elastic_bulk"] = "json"
    gzip: bool = False
    credential: Secret | None = None
    credential_header: str = "Authorization"
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    tls: SinkTls | None = None
    plaintext: bool = False
    timeout_seconds: float = 10.0
    batch_records: int = 500


def resolve_sink(sink: Sink, base: Path) -> Sink:
    """Return a sink with its relative paths counted from `base`."""
    tls = sink.tls
    if tls is not None:
        paths = {name: str(base / path) for name in ("ca", "certificate", "key") if (path := getattr(tls, name))}
        tls = replace(tls, **paths)
    return replace(sink, path=str(base / sink.path) if sink.path else "", tls=tls)
