"""Waiting for staff to approve: as often as the server says, until they have, or nobody wants it any more."""

from collections.abc import Callable

from gateway.remote.server import Asked, Codes, Refused, Server, ServerFault, Token
from gateway.remote.signals import Signals
from policy.devices import SLOWER, PollError

_LONGEST_PAUSE_SECONDS = 60.0


class Stopped(Exception):
    """The caller wants nothing any more; the server has been told."""


class NotAnswered(Exception):
    """The customer was asked, and has not answered while somebody waited; what they were asked for goes on waiting."""


def wait_for_token(
    server: Server,
    codes: Codes,
    signals: Signals,
    *,
    customer_seconds: float = 0.0,
    tell: Callable[[Asked], None] = lambda _asked: None,
) -> Token:
    """Return the token once there is one; raises Refused, Stopped, NotAnswered, and ServerFault once it is too late.

    RFC 8628 section 3.5. Once the customer was asked, `tell` is called with what for, and they are waited for
    `customer_seconds`. However it ends, nothing of it stays open at the server that this knows of.
    """
    pause, left, fault, asked = float(codes.interval), float(codes.expires_in), None, False
    while left > 0:
        if signals.wait(min(pause, left) if asked else pause):
            _withdraw(server, codes.device_code)
            raise Stopped
        left -= pause
        try:
            token = server.fetch(codes.device_code)
        except ServerFault as exc:
            if signals.came:
                _withdraw(server, codes.device_code)
                said = (
                    "stopped before the gateway had answered: what you have approved may have begun, and ends by itself"
                )
                raise ServerFault(said) from exc
            # Section 3.5: whoever is not answered asks less often.
            pause, fault = min(2 * pause, _LONGEST_PAUSE_SECONDS), exc
            continue
        except Refused as exc:
            if exc.error not in (PollError.PENDING, PollError.SLOW_DOWN) and exc.asked is None:
                raise
            if exc.asked is not None and not asked:
                asked, left = True, customer_seconds
                tell(exc.asked)
            pause = pause if exc.interval is None else max(pause, float(exc.interval))
            pause += SLOWER.total_seconds() if exc.error == PollError.SLOW_DOWN else 0
            continue
        if signals.came:
            _withdraw(server, token.access_token)
            raise Stopped
        return token
    if asked:
        _withdraw(server, codes.device_code)
        raise NotAnswered
    raise fault or Refused(PollError.EXPIRED, "nobody has approved it in time: ask anew")


def _withdraw(server: Server, text: str) -> None:
    try:
        server.take_back(text)
    except (Refused, ServerFault) as exc:
        raise ServerFault(f"the gateway could not be told that nothing is wanted any more: {exc}") from exc
