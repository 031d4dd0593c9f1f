"""What the section `[audit]` holds; each key's meaning, unit and reason stand in `config.example.toml`."""

from pathlib import Path
from typing import Literal

from msgspec.structs import replace

from gateway.config.section import Secret, Section
from gateway.config.sinks import Sink, resolve_sink


class Witness(Section, frozen=True, kw_only=True):
    """Somebody who is shown every checkpoint, so that no history can be made anew behind their back."""

    name: str
    kind: Literal["http", "file"]
    url: str = ""
    token: Secret | None = None
    ca_file: str = ""
    key: str = ""
    path: str = ""
    every_seconds: float = 1.0


class AccountRetention(Section, frozen=True, kw_only=True):
    """What holds for one account instead; None for what holds for all."""

    account: str
    days: int | None = None
    mib: int | None = None


class RetentionSection(Section, frozen=True, kw_only=True):
    """How long the content of the journal is kept."""

    days: int = 0
    account_mib: int = 0
    accounts: tuple[AccountRetention, ...] = ()


class Audit(Section, frozen=True, kw_only=True):
    """The journal."""

    segment_mib: int = 64
    checkpoint_seconds: float = 1.0
    durability: Literal["process", "power"] = "process"
    patience_seconds: float = 0.5
    publish_checkpoints: bool = True
    index: bool = True
    verify_hours: float = 24.0
    retention: RetentionSection = RetentionSection()
    witnesses: tuple[Witness, ...] = ()
    sinks: tuple[Sink, ...] = ()


def resolve_audit(audit: Audit, base: Path) -> Audit:
    """Return the section with its relative paths counted from `base`."""
    return replace(
        audit,
        witnesses=tuple(_resolve_witness(witness, base) for witness in audit.witnesses),
        sinks=tuple(resolve_sink(sink, base) for sink in audit.sinks),
    )


def _resolve_witness(witness: Witness, base: Path) -> Witness:
    paths = {name: str(base / path) for name in ("path", "ca_file") if (path := getattr(witness, name))}
    return replace(witness, **paths)
