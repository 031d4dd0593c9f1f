"""The root command: which configuration, which command, and what the exit code says."""

import os
from pathlib import Path
from typing import Any

import click

from gateway.audit.log import JournalError
from gateway.cli.account import account
from gateway.cli.assumption import assumption
from gateway.cli.audit import audit
from gateway.cli.client import client
from gateway.cli.config import config
from gateway.cli.context import Context
from gateway.cli.demo import demo
from gateway.cli.grant import grant
from gateway.cli.policy import policy
from gateway.cli.run import run
from gateway.cli.staff import staff
from gateway.config.model import ConfigError
from gateway.stores.store import StoreConflict, StoreError

EX_CONFIG = 78  # sysexits.h: something was found in an unconfigured or misconfigured state


class Root(click.Group):
    """Turns our errors into one line and an exit code: 78 for the configuration, 1 for the rest."""

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
    context.obj = Context(path)


for command in (account, assumption, audit, client, config, demo, grant, policy, run, staff):
    cli.add_command(command)
