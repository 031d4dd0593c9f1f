"""What one address may have of the control plane, so that it keeps nobody else from a sign-out, a notice or a token."""

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.proxy.peers import Trusts, network_of
from gateway.proxy.wire import ResponseHead
from gateway.shares import Shares

PER_ADDRESS = 96
"""Requests at a time: more than a whole office has, or an app that tells of many changes at once."""
LONGEST_SECONDS = 30.0
"""For one of them, its body included: more than the slowest provider and app take together."""


def is_stream(head: ResponseHead) -> bool:
    """Tell whether an answer is an event stream, of which `gateway.console.streams` bounds how many there are."""
    return head.status == 200 and any(
        name.lower() == b"content-type" and value.startswith(b"text/event-stream") for name, value in head.headers
    )


class ControlShares:
    """Counts by address; a proxy in front, which is many clients, and a Unix socket have no limit."""

    def __init__(self, trusts: Trusts) -> None:
        self._trusts = trusts
        self._shares = Shares(PER_ADDRESS)

    @contextmanager
    def share(self, address: str) -> Iterator[bool]:
        """Count one more until the block ends; yields whether there was one left."""
        if not address or self._trusts(address):
            yield True
            return
        with self._shares.place(network_of(address)) as is_left:
            yield is_left
