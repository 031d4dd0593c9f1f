"""`locum run`: the gateway itself."""

import logging
from functools import partial

import click

from gateway.app import START_ERRORS
from gateway.cli.context import Context, run_async
from gateway.config.load import load
from gateway.config.model import Config, ConfigError
from gateway.workers.alone import Read, run_alone
from gateway.workers.supervisor import Supervisor, WorkersFailed, count_workers
from gateway.workers.worker import NotAWorker, run_worker

_FORMAT = "%(asctime)s %(levelname)s %(process)d %(name)s %(message)s"


@click.command()
@click.option("--worker", is_flag=True, hidden=True, help="Serve what the supervisor at the other end orders.")
@click.pass_context
def run(context: click.Context, *, worker: bool) -> None:
    """Run the gateway until it is told to stop by SIGTERM or SIGINT; SIGHUP renews the configuration."""
    logging.basicConfig(level=logging.INFO, format=_FORMAT)
    try:
        if worker:
            context.exit(0 if run_async(run_worker()) else 1)
        ours: Context = context.obj
        run_async(_run(ours.config, partial(load, context.find_root().params["path"])))
    except ConfigError:
        raise
    except (*START_ERRORS, WorkersFailed, NotAWorker) as exc:
        raise click.ClickException(f"cannot run: {exc}") from exc


async def _run(config: Config, read: Read) -> None:
    count = count_workers(config)
    if count == 1:
        await run_alone(config, read, _announce)
    else:
        await Supervisor(config, read, count=count).run(_announce)


def _announce(public_url: str, admin_url: str) -> None:
    click.echo(f"locum: {public_url} for everybody, {admin_url} for administration", err=True)
