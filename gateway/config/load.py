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

from gateway.config.check import check
from gateway.config.model import Config, ConfigError, Secret, Section

_PREFIX = "LOCUM__"


def load(path: Path, environment: Mapping[str, str] = os.environ) -> Config:
    """Return the checked configuration, or raise ConfigError."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"`{path}`: cannot be read: {getattr(exc, 'strerror', None) or exc}") from exc
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"`{path}`: not TOML: {exc}") from exc
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
        message, _, where = str(exc).partition(" - at `$.")
        raise ConfigError(f"{where.rstrip('`') or 'config'}: {message[:1].lower()}{message[1:]}") from exc
    check(config)
    return _resolve(config, base)


def _override(document: dict[str, Any], name: str, environment: Mapping[str, str]) -> None:
    """Put one environment variable into the document, read as the key's own type."""
    path = name.removeprefix(_PREFIX).lower().split("__")
    table, struct = document, Config
    for section in path[:-1]:
        field = next((f for f in msgspec.structs.fields(struct) if f.name == section), None)
        if field is None or not (isinstance(field.type, type) and issubclass(field.type, Section)):
            raise ConfigError(f"{'.'.join(path)}: unknown section, set by the environment variable `{name}`")
        table, struct = table.setdefault(section, {}), field.type  # type: ignore[assignment]  # narrowed just above
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
        table[key] = tomllib.loads(f"v = {text}")["v"] if text[:1] in ("[", "{", '"') else _scalar(text, kind)
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
    for field in msgspec.structs.fields(struct):
        table = document.get(field.name)
        if isinstance(field.type, type) and issubclass(field.type, Section) and isinstance(table, dict):
            _read_secrets(table, field.type, base, f"{where}{field.name}.")
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


def _is_secret(kind: Any) -> bool:
    return kind is Secret or Secret in get_args(kind)


def _decode(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise ValueError("Expected a text")


def _resolve(config: Config, base: Path) -> Config:
    directory = str(base / config.server.data_directory)
    upstream = config.upstream
    if upstream.profile.endswith(".toml"):
        upstream = msgspec.structs.replace(upstream, profile=str(base / upstream.profile))
    server = msgspec.structs.replace(config.server, data_directory=directory)
    return msgspec.structs.replace(config, server=server, upstream=upstream)
