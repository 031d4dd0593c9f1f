"""What supervisor and worker say to each other: one JSON object a line, down one pipe and up another.

The configuration goes down with its secrets, so that every worker serves what the supervisor has checked, whenever it
is started. Nobody else can read a pipe. Its end is an order as well: there is no supervisor any more.
"""

from typing import Any

import msgspec

from gateway.config.model import Config
from gateway.config.section import Secret


class NotAWorker(Exception):
    """Nobody who supervises is at the other end of the pipe."""


class Begin(msgspec.Struct, tag="begin", frozen=True, kw_only=True):
    """The first order: serve."""

    origin: str
    config: Config
    fellows: dict[str, str] = {}
    without_store: bool = False
    """Both: see `gateway.state.Post`."""


class Renew(msgspec.Struct, tag="renew", frozen=True, kw_only=True):
    """Serve under another configuration."""

    config: Config


class Stop(msgspec.Struct, tag="stop", frozen=True, kw_only=True):
    """Take no more requests, and end when those under way have; `now` waits for none."""

    now: bool = False


class Ping(msgspec.Struct, tag="ping", frozen=True, kw_only=True):
    """Say that your event loop goes round."""


class Done(msgspec.Struct, tag="done", frozen=True, kw_only=True):
    """The answer to `Begin` and `Renew`: it serves."""

    public_url: str
    admin_url: str


class Refused(msgspec.Struct, tag="refused", frozen=True, kw_only=True):
    """The other answer: it cannot, and why."""

    why: str
    in_config: bool
    """Whether the configuration is to blame."""


class Pong(msgspec.Struct, tag="pong", frozen=True, kw_only=True):
    """The answer to `Ping`, which may come before that to an order given earlier."""


Order = Begin | Renew | Stop | Ping
Reply = Done | Refused | Pong


def encode(message: Order | Reply) -> bytes:
    """Return the message as one line."""
    return msgspec.json.encode(message, enc_hook=_reveal) + b"\n"


def read_order(line: bytes) -> Order:
    """Return the order in a line; raises msgspec.MsgspecError."""
    order: Order = msgspec.json.decode(line, type=Order, dec_hook=_hide)
    return order


def read_reply(line: bytes) -> Reply:
    """Return the reply in a line; raises msgspec.MsgspecError."""
    reply: Reply = msgspec.json.decode(line, type=Reply)
    return reply


def _reveal(value: Any) -> Any:
    if isinstance(value, Secret):
        return value.reveal()
    raise NotImplementedError(type(value).__name__)


def _hide(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise NotImplementedError(kind.__name__)
