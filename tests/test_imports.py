"""What a process of ours has imported: only what it needs, and all of it before anybody waits for an answer."""

import asyncio
import json
import sys

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.patience import PATIENCE_SECONDS
from tests.process_world import open_process_world
from tests.receipt_world import PUBLIC, write
from tests.started import environment

COMMAND = """
import json, sys
from gateway.cli.root import cli
try:
    cli(sys.argv[1:], standalone_mode=False)
finally:
    print(json.dumps(sorted(sys.modules)))
"""

COLLECTOR = """
import gc, json, sys
from gateway.__main__ import main
try:
    main()
finally:
    print(json.dumps([gc.isenabled(), gc.get_freeze_count(), len(gc.get_objects())]))
"""

# Sends what a customer, staff and monitoring do, and tells what was there before and after.
GATEWAY = """
import asyncio, json, sys
from pathlib import Path
from urllib.parse import urlsplit
from gateway.cli import root, run
from gateway.workers import alone, worker
from gateway.app import open_gateway
from gateway.config.load import load

async def get(url, path):
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    lines = f"GET {path} HTTP/1.1", "Host: acme.helpdesk.example", "Accept: text/html", "Connection: close", "", ""
    writer.write("\\r\\n".join(lines).encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.split(None, 2)[1].decode()

async def main():
    async with open_gateway(load(Path("config.toml"))) as gateway:
        before = set(sys.modules)
        statuses = [await get(gateway.public_url, "/tickets/1")]
        for path in "/.locum/account", "/.locum/", "/.locum/device", "/.locum/sign-in":
            statuses.append(await get(gateway.public_url, path))
        for path in "/healthz", "/metrics", "/.locum/security":
            statuses.append(await get(gateway.admin_url, path))
        after = set(sys.modules) - before
    print(json.dumps({"before": sorted(before), "after": sorted(after), "statuses": statuses}))

asyncio.run(main())
"""

MAIL = """
[notices]
[notices.mail]
host = "127.0.0.1"
port = 25
security = "none"
sender = "locum@vendor.example"
[notices.webhooks]
secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
"""


async def _told(directory, script, *words):
    """Return what such a process says last, as JSON."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, *map(str, words)),
        cwd=directory,
        env=environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        out, err = await process.communicate()
    assert 0 == process.returncode, err.decode()
    return out.decode().splitlines(), json.loads(out.decode().splitlines()[-1])


def test_judging_a_journal_needs_no_gateway(tmp_path):
    """No server, no store, no loop: what an auditor runs is its files, the signature and a few lines of text."""
    write(tmp_path / "journal")
    (tmp_path / "key.pem").write_bytes(PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    words = ["audit", "verify", "--journal", "journal", "--public-key", "key.pem"]
    lines, imported = asyncio.run(_told(tmp_path, COMMAND, *words))

    assert "ok" == lines[-2]
    assert {"gateway.audit.evidence.verify", "cryptography", "click"} <= set(imported)
    libraries = {"aiohttp", "asyncio", "asyncpg", "cachetools", "jinja2", "jwt", "prometheus_client", "uvloop"}
    assert set() == set(imported) & (libraries | {"importlib.metadata", "sqlite3", "ssl"})
    assert [] == [name for name in imported if name.startswith(("gateway.app", "gateway.console", "gateway.stores.s"))]


def test_keeping_the_index_needs_no_gateway(tmp_path):
    """Each gateway starts such a process, and the watch over the evidence another: they read files."""
    for module in ("gateway.audit.index.__main__", "gateway.audit.evidence.__main__"):
        script = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
        _, imported = asyncio.run(_told(tmp_path, script))

        assert module in imported
        unused = {"aiohttp", "asyncio", "asyncpg", "click", "jinja2", "jwt", "ssl", "uvloop", "gateway.stores.store"}
        assert set() == set(imported) & unused


async def test_checking_a_configuration_needs_no_pages(tmp_path):
    """What is said in it of consoles, a store and a provider is read without what serves them."""
    async with open_process_world(tmp_path) as world:
        world.configure()
        _, imported = await _told(tmp_path, COMMAND, "config", "check")

    assert "gateway.config.check_console" in imported
    assert set() == set(imported) & {"aiohttp", "asyncpg", "jinja2", "prometheus_client", "sqlite3", "uvloop"}
    assert [] == [name for name in imported if name.startswith(("gateway.app", "gateway.pages", "gateway.console.ac"))]


def test_what_is_imported_is_never_looked_through(tmp_path):
    """Garbage is collected while a command runs and at its end, but not among all that its imports have made."""
    _, (enabled, spared, looked_at) = asyncio.run(_told(tmp_path, COLLECTOR, "policy", "list"))

    assert enabled
    assert 10 * looked_at < spared


@pytest.mark.parametrize("more", ["", MAIL], ids=["bare", "with notices"])
async def test_a_gateway_imports_what_is_configured_and_before_it_answers(tmp_path, more):
    """What nobody has configured is not there; what is needed for an answer is there before the first is asked for."""
    async with open_process_world(tmp_path) as world:
        world.configure(more=more)
        _, told = await _told(tmp_path, GATEWAY)

    before = set(told["before"])
    assert "200" == told["statuses"][0]
    assert not {"500", "502"} & set(told["statuses"])
    assert {"gateway.console.account.page", "gateway.metrics.text", "jinja2"} <= before
    assert [] == [name for name in told["after"] if name.startswith(("gateway", "policy", "aiohttp", "jinja2", "jwt"))]
    # Of the library that a store in PostgreSQL needs, and of those of sinks and of the demo, there is nothing.
    assert set() == before & {"asyncpg", "gateway.audit.sinks.service", "gateway.demo", "gateway.remote", "pytest"}
    mails = {"gateway.telling.running", "gateway.telling.mail", "smtplib"}
    assert (mails if more else set()) == before & mails
