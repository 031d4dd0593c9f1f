"""One question to a server, heard out within a time, whatever the server does to make it last."""

import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

GRACE_SECONDS: Final = 5.0
"""So long a question still goes on once nobody wants it any more: what has begun by it could not be ended otherwise."""
_LOOK_SECONDS = 0.05
T = TypeVar("T")


def hear_out(
    question: Callable[[], T], *, seconds: float, is_over: Callable[[], bool], grace: float = GRACE_SECONDS
) -> T:
    """Return what the question returns, or raise what it raises.

    Raises TimeoutError after `seconds`, and `grace` seconds after `is_over` has begun to be true. A thread then goes on
    that ends with the process: a timeout of the socket begins anew with each byte, and a look-up of a name has none.
    """
    given: list[T] = []
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            given.append(question())
        except BaseException as exc:  # noqa: BLE001 - raised below, where it is waited for
            raised.append(exc)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    until, told = time.monotonic() + seconds, False
    while thread.is_alive() and (left := until - time.monotonic()) > 0:
        if not told and is_over():
            told, until = True, min(until, time.monotonic() + grace)
        thread.join(min(_LOOK_SECONDS, left))
    if raised:
        raise raised[0]
    if given:
        return given[0]
    raise TimeoutError("it takes too long")
