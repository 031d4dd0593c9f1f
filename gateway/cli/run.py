"""`locum run`: the gateway itself."""

import asyncio
import logging
import signal

import click

from gateway.app import START_ERRORS, open_gateway
from gateway.cli.context import Context, run_async
from gateway.config.model import Config, ConfigError


@click.command()
@click.pass_obj
def run(context: Context) -> None:
    """Run the gateway until it is told to stop by SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    run_async(_run(context.config))


async def _run(config: Config) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with open_gateway(config) as gateway:
            click.echo(f"locum: {gateway.public_url} for everybody, {gateway.admin_url} for administration", err=True)
            await stop.wait()
    except ConfigError:
        raise
    except START_ERRORS as exc:
        raise click.ClickException(f"cannot run: {exc}") from exc
