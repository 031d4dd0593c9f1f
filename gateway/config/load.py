"""One TOML file, overridden by the environment, checked whole before anything starts.

Precedence: environment (`LOCUM__SECTION__KEY`), then the file, then the defaults. A secret `key` may be given as
`key_file` instead. Whatever is wrong is refused with the key's path; nothing unknown is passed over.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec
from msgspec.structs import replace

from gateway.config.audit import resolve_audit
from gateway.config.check import check
from gateway.config.model import Config, ConfigError, UpstreamTls
from gateway.config.notices import resolve_notices
from gateway.config.section import Secret, Section
from gateway.config.words import explain, fields_of, section_of

_PREFIX = "LOCUM__"


def load(path: Path, environment: Mapping[str, str] = os.environ) -> Config:
    """Return the checked configuration, or raise ConfigError."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"`{path}`: cannot be read: {getattr(exc, 'strerror', None) or exc}") from exc
    except tomllib.TOMLDecodeError as exc:
        said = str(exc).replace("Cannot overwrite a value", "a key stands there a second time")
        raise ConfigError(f"`{path}`: not TOML: {said}") from exc
    return build(document, environment, base=path.parent)


def build(document: dict[str, Any], environment: Mapping[str, str], *, base: Path) -> Config:
    """Return the checked configuration from a decoded document; relative paths count from `base`."""
    for name in sorted(environment):
        if name.startswith(_PREFIX):
            _override(document, name, environment)
    _read_secrets(document, Config, base)
    try:
        config = msgspec.convert(document, Config, dec_hook=_decode)
    except msgspec.ValidationError as exc:
        raise ConfigError(explain(exc, Config)) from exc
    check(config)
    return _resolve(config, base)


def _override(document: dict[str, Any], name: str, environment: Mapping[str, str]) -> None:
    """Put one environment variable into the document, read as the key's own type."""
    path = name.removeprefix(_PREFIX).lower().split("__")
    table: Any = document
    struct: type[Section] = Config
    for section in path[:-1]:
        found = next((section_of(f.type) for f in msgspec.structs.fields(struct) if f.name == section), None)
        if found is None:
            raise ConfigError(f"{'.'.join(path)}: unknown section, set by the environment variable `{name}`")
        table, struct = table.setdefault(section, {}), found
        if not isinstance(table, dict):
            raise ConfigError(f"{section}: must be a table, so that `{name}` can set a key of it")
    fields = {f.name: f.type for f in msgspec.structs.fields(struct)}
    key = path[-1]
    stem = key.removesuffix("_file")
    if _is_secret(fields.get(stem)):
        _override_secret(table, key, stem, name, environment)
        return
    kind = fields.get(key)
    if kind is None:
        raise ConfigError(f"{'.'.join(path)}: unknown key, set by the environment variable `{name}`")
    text = environment[name]
    try:
        # A text may begin with a bracket, as `{account}.example` and `[::1]:80` do; in quotes it is one, too.
        structured = text[:1] == '"' or (text[:1] in ("[", "{") and kind is not str)
        table[key] = tomllib.loads(f"v = {text}")["v"] if structured else _scalar(text, kind)
    except (msgspec.ValidationError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError(f"{'.'.join(path)}: `{name}` does not fit: {exc}") from exc


def _override_secret(table: dict[str, Any], key: str, stem: str, name: str, environment: Mapping[str, str]) -> None:
    """Put in a secret as it is, or the file that holds it; what the file gave in the other form gives way."""
    other, other_name = (f"{stem}_file", f"{name}_FILE") if key == stem else (stem, name[: -len("_FILE")])
    if other_name not in environment:
        table.pop(other, None)
    table[key] = environment[name]


def _scalar(text: str, kind: Any) -> Any:
    return msgspec.to_builtins(msgspec.convert(text, kind, strict=False))


def _read_secrets(document: dict[str, Any], struct: type[Section], base: Path, where: str = "") -> None:
    for field in fields_of(struct):
        section = section_of(field.type)
        for place, table in _tables(document.get(field.name), f"{where}{field.name}"):
            if section is not None:
                _read_secrets(table, section, base, f"{place}.")
        if not _is_secret(field.type) or (name := f"{field.name}_file") not in document:
            continue
        if field.name in document:
            raise ConfigError(f"{where}{name}: give either this or `{field.name}`, not both")
        document[field.name] = read_secret(base / str(document.pop(name)), f"{where}{name}")


def read_secret(path: Path, where: str) -> str:
    """Return a secret file's text, or raise ConfigError: it must be readable, and not by everybody."""
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{where}: `{path}` cannot be read: {getattr(exc, 'strerror', None) or exc}") from exc
    if mode & 0o007:
        raise ConfigError(f"{where}: `{path}` is readable by everybody: chmod 600 it")
    if not text:
        raise ConfigError(f"{where}: `{path}` is empty")
    return text


def _tables(value: Any, where: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the table that a key holds, or each of an array of them, with its path."""
    if isinstance(value, dict):
        return [(where, value)]
    rows = value if isinstance(value, list) else []
    return [(f"{where}[{number}]", row) for number, row in enumerate(rows) if isinstance(row, dict)]


def _is_secret(kind: Any) -> bool:
    return kind is Secret or Secret in get_args(kind)


def _decode(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise ValueError("Expected a text")


def _resolve(config: Config, base: Path) -> Config:
    """Return the configuration with its relative paths counted from `base`."""
    server, upstream = config.server, config.upstream
    server_tls = server.tls
    if server_tls is not None:
        server_tls = replace(
            server_tls, certificate=_path(base, server_tls.certificate), key=_path(base, server_tls.key)
        )
    grants = config.grants
    if grants.http is not None:
        grants = replace(grants, http=replace(grants.http, tls=_resolve_tls(grants.http.tls, base)))
    profile = _path(base, upstream.profile) if upstream.profile.endswith(".toml") else upstream.profile
    return replace(
        config,
        server=replace(server, data_directory=str(base / server.data_directory), tls=server_tls),
        grants=grants,
        audit=resolve_audit(config.audit, base),
        notices=resolve_notices(config.notices, base),
        upstream=replace(upstream, profile=profile, tls=_resolve_tls(upstream.tls, base)),
        upstreams=tuple(replace(other, tls=_resolve_tls(other.tls, base)) for other in config.upstreams),
    )


def _resolve_tls(tls: UpstreamTls | None, base: Path) -> UpstreamTls | None:
    if tls is None:
        return None
    return replace(tls, ca=_path(base, tls.ca), certificate=_path(base, tls.certificate), key=_path(base, tls.key))


def _path(base: Path, path: str) -> str:
    return str(base / path) if path else ""
