"""Makes the witnesses that the configuration names."""

import ssl
from functools import partial
from pathlib import Path

from gateway.audit.hand import Hand
from gateway.audit.witnesses.cosignature import parse_key
from gateway.audit.witnesses.showing import Shown, Witnesses
from gateway.audit.witnesses.target import FileTarget, HttpTarget, Target
from gateway.clock import Ticks
from gateway.config.audit import Witness
from gateway.config.model import Config, ConfigError


def open_witnesses(config: Config, *, ticks: Ticks) -> Witnesses:
    """Return them, not yet shown anything; raises ConfigError."""
    shown = [
        Shown(name=one.name, open=partial(_open, one, _tls(one)), every_seconds=one.every_seconds)
        for one in config.audit.witnesses
    ]
    return Witnesses(config.journal_directory, shown, ticks=ticks)


def _open(witness: Witness, tls: ssl.SSLContext | None, hand: Hand) -> Target:
    if witness.kind == "file":
        return FileTarget(Path(witness.path), hand)
    key = parse_key(witness.key) if witness.key else None
    return HttpTarget(witness.url, token=witness.token, tls=tls, key=key)


def _tls(witness: Witness) -> ssl.SSLContext | None:
    if not witness.ca_file:
        return None
    try:
        return ssl.create_default_context(cafile=witness.ca_file)
    except OSError as error:
        raise ConfigError(f"audit.witnesses: `{witness.ca_file}` cannot be read: {error.strerror}") from error
