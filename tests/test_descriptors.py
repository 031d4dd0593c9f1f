"""No process runs out of files because its limit was left low: it raises it, or says that it is too low."""

import asyncio
import resource
import sys
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE

import pytest

from gateway.config.load import build
from gateway.descriptors import wanted
from tests.gateway_world import document
from tests.process_world import open_process_world

PROJECT = Path(__file__).parent.parent
SCRIPT = """
import logging, resource, sys
from pathlib import Path
from gateway.descriptors import raise_limit
from tests.test_descriptors import configured
logging.basicConfig()
resource.setrlimit(resource.RLIMIT_NOFILE, (256, int(sys.argv[2])))
raise_limit(configured(Path(sys.argv[1])))
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def configured(directory, **sections):
    wanted = document(directory, upstream="http://127.0.0.1:9", issuer="https://idp.example")
    return build(wanted | sections, {}, base=directory)


@contextmanager
def low_limit(soft):
    """Whatever is started meanwhile begins with it."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def limit_of(pid):
    """Return the soft limit of another process, as the kernel writes it."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line.split()[3] for line in lines if line.startswith("Max open files"))


@pytest.mark.parametrize("workers", [1, 2])
async def test_every_process_that_serves_raises_its_limit(tmp_path, workers):
    """To the hard one, from whatever it was started with, and says nothing if that is enough."""
    async with open_process_world(tmp_path) as world:
        with low_limit(512) as hard:
            async with world.running(workers=workers) as running:
                serving = [running.pid] if workers == 1 else running.workers()
                assert workers == len(serving)
                assert {str(hard)} == {limit_of(pid) for pid in serving}
                complaints = [line for line in running.lines if "files and sockets" in line]
                assert (hard < wanted(configured(tmp_path))) == bool(complaints)


async def test_a_hard_limit_that_is_too_low_is_said(tmp_path):
    """With both figures; what there is to be had is had in any case."""
    hard = 4096
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), str(hard)]
    process = await asyncio.create_subprocess_exec(*command, cwd=PROJECT, stdout=PIPE, stderr=PIPE)
    out, said = await asyncio.wait_for(process.communicate(), 20)
    assert f"{hard} {hard}\n" == out.decode()
    most = wanted(configured(tmp_path))
    assert f"may have {hard} files" in said.decode()
    assert f"use up to {most}" in said.decode()


def test_what_is_wanted_is_what_the_limits_let_in(tmp_path):
    """Each key that allows one more connection raises it by that."""
    base = wanted(configured(tmp_path))
    upstream = document(tmp_path, upstream="http://127.0.0.1:9", issuer="https://idp.example")["upstream"]
    other = {"path": "/chat", "url": "http://127.0.0.1:8"}
    asked = {"source": "http", "http": {"url": "https://{account}.desk.example/", "max_connections": 9}}
    assert base + 1 == wanted(configured(tmp_path, limits={"max_connections": 10_001}))
    assert base + 1 == wanted(configured(tmp_path, limits={"max_in_flight": 4097}))
    assert base + 1 == wanted(configured(tmp_path, upstream=upstream | {"max_connections": 257}))
    assert base + 1 == wanted(configured(tmp_path, upstream=upstream | {"max_websockets": 1025}))
    assert base + 1280 == wanted(configured(tmp_path, upstreams=[other]))
    assert base + 9 == wanted(configured(tmp_path, grants=asked))
    assert base + 7 == wanted(
        configured(tmp_path, store={"url": "postgresql://x@y/z?sslmode=disable", "max_connections": 7})
    )
