"""A pytest plugin for modules that name it in `pytest_plugins`: their async tests run on asyncio's loop and on uvloop."""

import asyncio

import uvloop


def pytest_asyncio_loop_factories(config, item):
    """The two differ in when and how a lost connection is told, so claims about sockets are made on both."""
    if "tests.both_loops" not in getattr(item.module, "pytest_plugins", ()):
        return None
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
