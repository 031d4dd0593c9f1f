"""SIGHUP at the wrong moment: a gateway that is only just starting is not ended by it, and does not forget it."""

import asyncio
import signal
import sys

import pytest

from tests.patience import PATIENCE_SECONDS
from tests.process_world import Running, open_process_world
from tests.started import environment

# What the imports come by, first to last.
MODULES = ["click.core", "gateway.cli.root", "gateway.config.load"]


async def started(world, *words):
    """Start the command line so that it tells of each import; return the process."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-X",
        "importtime",
        "-m",
        "gateway",
        *words,
        cwd=world.directory,
        env=environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.fixture
async def world(tmp_path):
    async with open_process_world(tmp_path) as world:
        yield world


@pytest.mark.parametrize(("workers", "module"), [*((1, module) for module in MODULES), (2, MODULES[2])])
async def test_a_hang_up_while_it_is_imported_is_a_reload_later(world, workers, module):
    """It serves, and the signal has not been forgotten."""
    world.configure(workers=workers)
    process = await started(world, "run")
    running = Running(process, world.gateway)
    try:
        await running.says(f" {module}")
        running.send(signal.SIGHUP)
        await running.says("for everybody")
        await running.says("the new configuration is in force")
        assert 200 == (await world.get())[0]
        running.send(signal.SIGTERM)
        assert 0 == await running.ends()
    finally:
        if process.returncode is None:
            process.kill()
            await running.ends()


async def test_another_command_ends_when_its_terminal_closes(world):
    """Held back for a moment only: nobody wants a `tail -f` that outlives its terminal."""
    world.configure()
    assert 0 == (await world.told("account", "add", "else"))[0]
    process = await world.locum("audit", "tail", "-n", "1", "--follow")
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await process.stdout.readline()
            process.send_signal(signal.SIGHUP)
            await process.communicate()
        assert -signal.SIGHUP == process.returncode
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
