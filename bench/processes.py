"""The processes of a run: started on a core, waited for, and ended by their id whatever happens."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from bench.cpu import family, started_on

_START_SECONDS = 20.0
_STOP_SECONDS = 5.0


class Fault(Exception):
    """The run cannot go on; the message says why."""


def free_port() -> int:
    """Return a port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def serving(
    command: Sequence[str],
    *,
    port: int,
    cores: Collection[int],
    directory: Path,
    environment: Mapping[str, str] | None = None,
    said: bytes = b"",
) -> AsyncIterator[int]:
    """Run a server until the block ends; yields its process id once `port` accepts and it has printed `said`.

    Raises Fault if that does not come.
    """
    log = directory / f"{Path(command[0]).name}-{port}.log"
    with log.open("wb") as output, started_on(cores):
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=directory,
            # What it leaves behind when it is ended with force goes with the directory.
            env={**os.environ, "TMPDIR": str(directory), **(environment or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # A session of its own: Ctrl-C comes to us only.
            start_new_session=True,
        )
    try:
        await _accepting(process, port, log, said)
        yield process.pid
    finally:
        await end(process)


async def run(command: Sequence[str], *, directory: Path, seconds: float) -> str:
    """Return what a command that ends by itself printed; raises Fault if it fails or takes too long."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=directory,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate()
    except TimeoutError:
        raise Fault(f"`{command[0]}` took longer than {seconds:g} seconds") from None
    finally:
        await end(process)
    if process.returncode != 0:
        raise Fault(f"`{command[0]}` failed: {_last_line(err or out)}")
    return (out or err).decode()


async def end(process: asyncio.subprocess.Process) -> None:
    """End a process and all that it started, with force after a while."""
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        # By their ids, because some have a session of their own.
        for pid in family(process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await process.wait()


async def _accepting(process: asyncio.subprocess.Process, port: int, log: Path, said: bytes) -> None:
    try:
        async with asyncio.timeout(_START_SECONDS):
            while process.returncode is None:
                if await _accepts(port) and _has_said(log, said):
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise Fault(f"`{log.stem}` does not accept connections: {_last_line_of(log)}") from None
    raise Fault(f"`{log.stem}` ended at once: {_last_line_of(log)}")


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


def _has_said(log: Path, said: bytes) -> bool:
    return said in log.read_bytes()


def _last_line_of(log: Path) -> str:
    return _last_line(log.read_bytes())


def _last_line(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
