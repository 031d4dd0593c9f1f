"""What of a command's errors is told in one line, and by which exit code."""

import click

from gateway.audit.log import JournalError
from gateway.config.model import ConfigError
from gateway.stores.store import StoreConflict, StoreError

EX_CONFIG = 78  # sysexits.h: something was found in an unconfigured or misconfigured state


def tell(error: Exception) -> int | None:
    """Tell an error that is none of the program's, and return the exit code; None, and nothing said, for any other."""
    match error:
        case ConfigError():
            click.echo(f"locum: configuration: {error}", err=True)
            return EX_CONFIG
        case StoreError() | StoreConflict() | JournalError():
            click.echo(f"locum: {error}", err=True)
            return 1
        case _:
            return None
