"""What the types of `[[audit.sinks]]` cannot say."""

import re

from gateway.audit.search.query import Query, QueryError
from gateway.config.model import ConfigError
from gateway.config.sinks import Sink
from gateway.config.urls import is_in_the_open, split_url
from gateway.loopback import LOOPBACK

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}", re.ASCII)
_MOST_RECORDS = 5000
_MOST_SECONDS = 300
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # RFC 9110 section 5.6.2
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?", re.ASCII)
_OURS = frozenset({"content-type", "content-length", "content-encoding", "transfer-encoding", "host", "user-agent"})
_ADDRESS = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?!0+$)[0-9]{1,5}", re.ASCII)
# By kind: what has to be there, and what else may be.
_NEEDED = {"stdout": "", "file": "path", "syslog": "address", "http": "url", "otlp": "url"}
_SENT = frozenset({"url", "shape", "gzip", "credential", "credential_header", "headers", "tls", "plaintext"})
_TAKEN = {
    "stdout": frozenset[str](),
    "file": frozenset({"path"}),
    "syslog": frozenset({"address", "tls", "plaintext", "timeout_seconds"}),
    "http": _SENT | {"timeout_seconds"},
    "otlp": _SENT - {"shape"} | {"timeout_seconds"},
}
_OF_ALL = frozenset({"name", "kind", "format", "filter", "batch_records"})
_ARE_JSON = ("jsonl", "ocsf", "ecs")


def check_sinks(sinks: tuple[Sink, ...]) -> None:
    """Raise ConfigError."""
    names: dict[str, int] = {}
    for index, sink in enumerate(sinks):
        where = f"audit.sinks[{index}]"
        if _NAME.fullmatch(sink.name) is None:
            raise ConfigError(f"{where}.name: must be 1 to 48 of a-z, 0-9, `_` and `-`: a file is called so")
        if (twin := names.setdefault(sink.name, index)) != index:
            raise ConfigError(f"{where}.name: is that of audit.sinks[{twin}]; each keeps its place under its own name")
        _check_keys(sink, where)
        _check_numbers(sink, where)
        _check_form(sink, where)
        if sink.kind in ("http", "otlp"):
            _check_http(sink, where)
        if sink.kind == "syslog":
            _check_syslog(sink, where)
        _check_tls(sink, where)


def _check_keys(sink: Sink, where: str) -> None:
    needed = _NEEDED[sink.kind]
    if needed and not getattr(sink, needed):
        raise ConfigError(f"{where}.{needed}: a sink of the kind `{sink.kind}` needs it")
    default = Sink(name=sink.name, kind=sink.kind)
    for name in Sink.__struct_fields__:
        known = name in _OF_ALL or name in _TAKEN[sink.kind]
        if not known and getattr(sink, name) != getattr(default, name):
            raise ConfigError(f"{where}.{name}: says nothing to a sink of the kind `{sink.kind}`: leave it out")


def _check_numbers(sink: Sink, where: str) -> None:
    if not 0 < sink.timeout_seconds <= _MOST_SECONDS:
        raise ConfigError(f"{where}.timeout_seconds: must be above 0 and at most {_MOST_SECONDS}")
    if not 0 < sink.batch_records <= _MOST_RECORDS:
        raise ConfigError(f"{where}.batch_records: must be above 0 and at most {_MOST_RECORDS}")


def _check_form(sink: Sink, where: str) -> None:
    if sink.kind in ("http", "otlp") and sink.format not in _ARE_JSON:
        raise ConfigError(f"{where}.format: over HTTP it has to be one of {', '.join(_ARE_JSON)}")
    if sink.kind == "syslog" and sink.format == "csv":
        raise ConfigError(
            f"{where}.format: csv needs a first line that names its columns, which syslog has no place for"
        )
    try:
        Query.parse(sink.filter)
    except QueryError as exc:
        raise ConfigError(f"{where}.filter: {exc}") from exc


def _check_http(sink: Sink, where: str) -> None:
    # Never repeated in a message: a path can be a credential.
    if (parts := split_url(sink.url)) is None:
        raise ConfigError(f"{where}.url: must be an http or https URL with a host, without a user and a fragment")
    if is_in_the_open(parts):
        if sink.credential is not None:
            raise ConfigError(f"{where}.url: must be https, or the credential goes to whoever listens")
        _check_plaintext(sink, f"{where}.url")
    lines = dict(sink.headers)
    if sink.credential is not None:
        lines[sink.credential_header] = sink.credential.reveal()
    for name, value in lines.items():
        key = f"{where}.credential_header" if name == sink.credential_header else f"{where}.headers"
        if _HEADER_NAME.fullmatch(name) is None or name.lower() in _OURS:
            raise ConfigError(f"{key}: names a header that a sink cannot set")
        if _HEADER_VALUE.fullmatch(value) is None:
            raise ConfigError(f"{key}: holds a value that no header can have")


def _check_syslog(sink: Sink, where: str) -> None:
    if _ADDRESS.fullmatch(sink.address) is None or int(sink.address.rpartition(":")[2]) > 65535:
        raise ConfigError(f"{where}.address: must be host:port, such as logs.example:6514")
    host = sink.address.rpartition(":")[0].strip("[]")
    if sink.tls is None and host not in LOOPBACK:
        _check_plaintext(sink, f"{where}.tls")


def _check_plaintext(sink: Sink, where: str) -> None:
    if not sink.plaintext:
        raise ConfigError(
            f"{where}: use TLS; or set plaintext = true, and whoever sits in between reads what is recorded of people"
        )


def _check_tls(sink: Sink, where: str) -> None:
    tls = sink.tls
    if tls is None:
        return
    if sink.url.startswith("http:"):
        raise ConfigError(f"{where}.tls: goes with a URL that begins with https:")
    if bool(tls.certificate) != bool(tls.key):
        raise ConfigError(f"{where}.tls: `certificate` and `key` go together")
    for name in ("ca", "certificate", "key"):
        if "-----BEGIN" in getattr(tls, name):
            raise ConfigError(f"{where}.tls.{name}: give the path of a PEM file, not what is in it")
