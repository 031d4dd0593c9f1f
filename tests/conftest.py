"""What holds for the whole suite: in CI no test may be skipped."""

import asyncio
import os

import pytest
import uvloop


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
    if os.environ.get("CI") == "true":
        config.pluginmanager.register(NoSkips())


def pytest_asyncio_loop_factories(item):
    """Run on uvloop as the gateway does; a module that sets BOTH_LOOPS runs on asyncio's own loop as well."""
    factories = {"uvloop": uvloop.new_event_loop}
    if getattr(item.module, "BOTH_LOOPS", False):
        # The two differ in when and how a lost connection is told.
        factories["asyncio"] = asyncio.new_event_loop
    return factories
