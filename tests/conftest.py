"""What holds for the whole suite: in CI no test may be skipped."""

import os

import pytest


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
