"""`locum run`: the gateway itself."""

import logging
from functools import partial

import click

from gateway.cli.context import Context, run_async
from gateway.config.load import load
from gateway.config.model import Config, ConfigError
from gateway.starting import START_ERRORS
from gateway.workers import collector
from gateway.workers.orders import NotAWorker
from gateway.workers.stopping import Read
from gateway.workers.supervisor import Supervisor, WorkersFailed, count_workers

_FORMAT = "%(asctime)s %(levelname)s %(process)d %(name)s %(message)s"


@click.command()
@click.option("--worker", is_flag=True, hidden=True, help="Serve what the supervisor at the other end orders.")
@click.pass_context
def run(context: click.Context, *, worker: bool) -> None:
    """Run the gateway until it is told to stop by SIGTERM or SIGINT; SIGHUP renews the configuration."""
    logging.basicConfig(level=logging.INFO, format=_FORMAT)
    try:
        if worker:
            context.exit(0 if _work() else 1)
        ours: Context = context.obj
        read = partial(load, context.find_root().params["path"])
        count = count_workers(ours.config)
        if count == 1:
            _serve(ours.config, read)
        else:
            collector.begin()
            run_async(_supervise(ours.config, read, count))
    except ConfigError:
        raise
    except (*START_ERRORS, WorkersFailed, NotAWorker) as exc:
        raise click.ClickException(f"cannot run: {exc}") from exc


# A whole gateway is imported by whoever serves, and not by whoever only keeps those.


def _work() -> bool:
    from gateway.workers.worker import run_worker  # noqa: PLC0415 - see above

    collector.begin()
    return run_async(run_worker())


def _serve(config: Config, read: Read) -> None:
    from gateway.workers.alone import run_alone  # noqa: PLC0415 - see above

    collector.begin()
    run_async(run_alone(config, read, _announce))


async def _supervise(config: Config, read: Read, count: int) -> None:
    await Supervisor(config, read, count=count).run(_announce)


def _announce(public_url: str, admin_url: str) -> None:
    click.echo(f"locum: {public_url} for everybody, {admin_url} for administration", err=True)
