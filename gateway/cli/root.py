"""The root command: which configuration, which command, and what the exit code says."""

import gc
import importlib
import os
from pathlib import Path
from typing import Any

import click

from gateway.audit.log import JournalError
from gateway.cli.context import Context
from gateway.config.model import ConfigError
from gateway.stores.store import StoreConflict, StoreError
from gateway.workers import hang_up

EX_CONFIG = 78  # sysexits.h: something was found in an unconfigured or misconfigured state


_RUN = "run"
_COMMANDS = frozenset(
    {
        "account",
        "assume",
        "assumption",
        "audit",
        "client",
        "config",
        "contacts",
        "db",
        "demo",
        "grant",
        "keys",
        "kill-switch",
    }
    | {"notices", "policy", "recover", _RUN, "selftest", "staff"}
)


class Root(click.Group):
    """Turns our errors into one line and an exit code: 78 for the configuration, 1 for the rest.

    A command's module is imported when somebody asks for it: the gateway is ten times as much as what most need.
    """

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names of the commands, each of which has a module of its own."""
        return sorted(_COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """Return a command, or None if there is none of that name."""
        if name not in _COMMANDS:
            return None
        module = name.replace("-", "_")
        command: click.Command = getattr(importlib.import_module(f"gateway.cli.{module}"), module)
        if name != _RUN:  # which has more to import
            gc.enable()
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except ConfigError as exc:
            click.echo(f"locum: configuration: {exc}", err=True)
            ctx.exit(EX_CONFIG)
        except (StoreError, StoreConflict, JournalError) as exc:
            click.echo(f"locum: {exc}", err=True)
            ctx.exit(1)


@click.group(cls=Root)
@click.option(
    "--config",
    "path",
    metavar="FILE",
    type=click.Path(path_type=Path),
    default=lambda: os.environ.get("LOCUM_CONFIG", "config.toml"),
    help="The configuration; by default LOCUM_CONFIG, or config.toml.",
)
@click.version_option(package_name="locum", prog_name="locum")
@click.pass_context
def cli(context: click.Context, path: Path) -> None:
    """Let support staff stand in for a customer's agent: only while the customer allows it, on the record."""
    if context.invoked_subcommand != _RUN:
        hang_up.let_through()
    context.obj = Context(path)
