"""One process that serves, told by signals."""

import asyncio
import logging
import signal

from gateway.app import Gateway, open_gateway
from gateway.config.model import Config
from gateway.descriptors import raise_limit
from gateway.starting import START_ERRORS
from gateway.tasks import Tasks
from gateway.workers import collector
from gateway.workers.fixed import settle
from gateway.workers.hang_up import hear
from gateway.workers.stopping import Announce, Read, Stopping

log = logging.getLogger(__name__)


async def run_alone(config: Config, read: Read, announce: Announce) -> None:
    """Serve until SIGTERM or SIGINT; a second one cuts what is under way. Raises one of START_ERRORS if it cannot.

    SIGHUP renews the configuration; if the new one is not right, the old one stays and the log says why.
    """
    loop, stopping, hang_up = asyncio.get_running_loop(), Stopping(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.ask)
    hear(hang_up.set)
    raise_limit(config)
    outer, inner = Tasks(), Tasks()
    try:
        async with open_gateway(config) as gateway:
            collector.spare()
            look_when_going_on(gateway)
            announce(gateway.public_url, gateway.admin_url)
            gateway.keep_index(inner)
            outer.start(stopping.then(gateway.cut), name="cut when told")
            inner.start(_renew(gateway, read, hang_up), name="renew the configuration")
            await stopping.asked.wait()
            await inner.close()
    finally:
        await inner.close()
        await outer.close()


def look_when_going_on(gateway: Gateway) -> None:
    """Have a process that was stopped and goes on (SIGCONT) look at what is open, for what has changed meanwhile."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGCONT, gateway.follower.look_at_all)


async def _renew(gateway: Gateway, read: Read, hang_up: asyncio.Event) -> None:
    while True:
        await hang_up.wait()
        hang_up.clear()
        try:
            await gateway.renew(settle(gateway.config, read()))
        except START_ERRORS as exc:
            log.error("the new configuration is refused, the old one stays in force: %s", exc)  # noqa: TRY400 - the operator's
        except Exception:
            log.exception("the new configuration could not be put in force")
        else:
            log.info("the new configuration is in force")
