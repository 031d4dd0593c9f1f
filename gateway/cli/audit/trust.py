"""The options that say whom to trust: a public key, and checkpoints that were kept elsewhere."""

from pathlib import Path

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.audit.evidence.checkpoint import split_notes
from gateway.audit.evidence.making import read_public_key
from gateway.config.model import ConfigError

CONFIGURED = ""
"""What `--database` is where no URL stands behind it."""


def split_held(content: bytes) -> list[bytes]:
    """Return the checkpoints of a file, as `<origin>.checkpoint`, a history, or `/.locum/log/checkpoint` gives them.

    Raises CheckpointError.
    """
    return split_notes(content.rstrip(b"\n") + b"\n\n")


def _configured_key() -> str | None:
    """Return the key beside the configured store; whoever does not trust this machine brings their own copy."""
    context = click.get_current_context()
    try:
        configured = getattr(context.obj, "journal_directory", None)
    except ConfigError:
        return None
    is_ours = context.params.get("journal") == configured or context.params.get("database") == CONFIGURED
    if configured is None or not is_ours:
        return None
    key: Path = context.obj.journal_key
    return str(key) if key.is_file() else None


def _read_key(_context: click.Context, _parameter: click.Parameter, path: Path | None) -> Ed25519PublicKey | None:
    if path is None:
        return None
    try:
        return read_public_key(path)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


public_key_option = click.option(
    "--public-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=_configured_key,
    callback=_read_key,
    help="The key that signs the checkpoints, in PEM; by default this installation's own.",
)
