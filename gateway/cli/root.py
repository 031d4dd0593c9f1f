"""The root command: which configuration, which command, and what the exit code says."""

import importlib
import os
from pathlib import Path
from typing import Any

import click

from gateway.cli.context import Context
from gateway.workers import collector, hang_up

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
            collector.begin()
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as exc:
            # Only who has failed needs to know what there is to fail by, the store above all.
            from gateway.cli.faults import tell  # noqa: PLC0415

            if (code := tell(exc)) is None:
                raise
            ctx.exit(code)


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
