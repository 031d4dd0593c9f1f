"""What every command needs: the configuration, and a loop for what waits."""

import getpass
from collections.abc import Coroutine
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from gateway.config.model import Config

# A process that runs one command is mostly its imports: here they stand where they are needed, and what the commands
# have in common that need a store is in `gateway.cli.office`.

T = TypeVar("T")


by_option = click.option(
    "--as",
    "by",
    default=getpass.getuser,
    metavar="WHO",
    help="Who does it, for the record; by default your login name.",
)


class Context:
    """The configuration, read when it is first asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def config(self) -> "Config":
        """The checked configuration; raises ConfigError."""
        from gateway.config.load import load  # noqa: PLC0415 - see above

        return load(self._path)

    @property
    def journal_directory(self) -> Path:
        """Where the journal is."""
        return self.config.journal_directory

    @property
    def journal_key(self) -> Path:
        """Where the public key of the journal's checkpoints is."""
        return self.config.journal_key


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine on its own loop."""
    import asyncio  # noqa: PLC0415 - see above

    import uvloop  # noqa: PLC0415 - see above

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)
