"""Sessions of the security team's console, each known by a digest that no other session has."""

from datetime import timedelta
from typing import Final

from gateway.clock import Clock
from gateway.console import sessions
from gateway.stores.once import Redeeming

_PLACE: Final = b"security console"


class Sessions(sessions.Sessions):
    """Those of the one console that there is."""

    def __init__(self, store: Redeeming, clock: Clock, *, idle: timedelta, absolute: timedelta) -> None:
        """End a session that is not used for `idle`, and any after `absolute`."""
        super().__init__(store, clock, place=_PLACE, idle=idle, absolute=absolute)


def session_of(value: str) -> bytes:
    """Return by what the store knows the session of a cookie's value; empty for what we never make."""
    return sessions.session_of(value, _PLACE)


def form_token_of(value: str) -> str:
    """Return the form token of a session's cookie: nobody without the cookie can make it, and it is not the cookie."""
    return sessions.form_token_of(value, _PLACE)
