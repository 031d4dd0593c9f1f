"""Where the security team's console is: by which names of this host it may be asked for at all."""

from aiohttp import web

from gateway.loopback import LOOPBACK
from gateway.origin import Origin


class Place:
    """Knows the origin of the console.

    A page of elsewhere can have its own name lead here (DNS rebinding), but not have browsers say another one: so what
    is asked for by any name but the configured one, or this machine's own loopback where none is, is not answered.
    """

    def __init__(self, origin: str) -> None:
        """Without an `origin` it is this machine's loopback, by whichever port a tunnel leads here."""
        self._origin = Origin.of(origin) if origin else None

    @property
    def text(self) -> str:
        """The configured origin; empty if it is the loopback."""
        return self._origin.text if self._origin else ""

    @property
    def secure(self) -> bool:
        """Whether its cookies are `Secure` and have the prefix; they are not on loopback alone."""
        return self._origin is not None and self._origin.secure

    def asked(self, request: web.Request) -> Origin | None:
        """Return the origin by which a request asks, None if that is not one of ours."""
        hosts = request.headers.getall("Host", [])
        if self._origin is not None:
            return self._origin if self._origin.is_named_by(hosts) else None
        return _loopback(hosts[0]) if len(hosts) == 1 else None


def _loopback(host: str) -> Origin | None:
    try:
        origin = Origin.of(f"http://{host.lower()}")
    except ValueError:
        return None
    name = host.lower()[1:].partition("]")[0] if host.startswith("[") else host.lower().partition(":")[0]
    # Nothing but a name and a port, so that what is compared is what the browser sends.
    plain = origin.host == host.lower() or f"{origin.host}:80" == host.lower()
    return origin if plain and name in LOOPBACK else None
