"""Brings notices by webhook, signed, and to nobody inside unless the operator says so."""

import http.client
import ipaddress
import socket
import ssl
from collections.abc import Sequence
from typing import Final

from gateway.audit.sinks.outlet import Unreachable
from gateway.audit.sinks.sockets import connect, cut_after
from gateway.clock import Clock
from gateway.config.section import Secret
from gateway.config.urls import split_url
from gateway.stores.outbox import Target
from gateway.telling.addresses import is_webhook
from gateway.telling.courier import Never, NotNow, NotThis, Parcel
from gateway.telling.secret import derive, sign
from gateway.telling.wording import Wording

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_IP = ipaddress.IPv4Address | ipaddress.IPv6Address
_GONE: Final = 410
_REFUSED: Final = range(400, 500)
_LATER: Final = frozenset({401, 404, 405, 407, 408, 409, 425, 429})
"""Of these, what says nothing against the words: it is about the place, or about the time."""
_MOST_ANSWER_BYTES: Final = 64 * 1024
# The same IPv4 address, as IPv6 writes it behind a translator (RFC 6052 section 2.1).
_TRANSLATED: Final = ipaddress.IPv6Network("64:ff9b::/96")
# All unicast addresses that were given out (RFC 4291 section 2.4, IANA): what is elsewhere is local, or leads there.
_GIVEN_OUT: Final = ipaddress.IPv6Network("2000::/3")
# Global as the registry has it, and still no stranger's: what a cloud answers its guests on, what providers use among
# themselves, and relays to wherever an address says (RFC 7526).
_INNER: Final = (
    ipaddress.IPv4Network("168.63.129.16/32"),
    ipaddress.IPv4Network("192.0.0.0/24"),
    ipaddress.IPv4Network("192.88.99.0/24"),
)


class WebhookCourier:
    """Implements Courier: one POST for each notice."""

    most = 1
    pause_seconds = 0.0

    def __init__(
        self,
        wording: Wording,
        *,
        own: Target | None,
        own_secret: Secret | None,
        secret: Secret | None,
        networks: Sequence[Network],
        tls: ssl.SSLContext,
        seconds: float,
        clock: Clock,
    ) -> None:
        """`own` is the operator's own, wherever it is; every other must be outside, or in one of `networks`."""
        self._wording = wording
        self._own, self._own_secret = own, own_secret
        self._secret = secret
        self._networks = networks
        self._tls = tls
        self._seconds = seconds
        self._clock = clock

    def bring(self, parcel: Parcel) -> None:
        """See `Courier.bring`."""
        url = parcel.target.address
        parts = split_url(url)
        if parts is None or not is_webhook(url):
            raise Never("that is no address of a webhook")
        secret = self._secret_of(parcel)
        if secret is None:
            raise NotNow("no secret is configured to sign it: give notices.webhooks.secret")
        [notice] = parcel.notices
        body = self._wording.document(notice, is_bare=parcel.is_bare)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        where = host if parcel.target == self._own else self._outside(host, port)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection = http.client.HTTPConnection(host, port)
        try:
            connection.sock = connect(
                where,
                port,
                tls=self._tls if parts.scheme == "https" else None,
                server_name=host,
                seconds=self._seconds,
            )
            headers = sign(secret, notice.id, int(self._clock().timestamp()), body)
            status = self._post(connection, target, headers, body)
        except Unreachable as error:
            raise NotNow(str(error)) from None
        except (OSError, http.client.HTTPException) as error:
            raise NotNow(f"the exchange broke off: {type(error).__name__}") from None
        finally:
            connection.close()
        _judge(status)

    def _secret_of(self, parcel: Parcel) -> Secret | None:
        if parcel.target == self._own:
            return self._own_secret
        return self._secret and derive(self._secret, parcel.notices[0].account, parcel.target.address)

    def _post(self, connection: http.client.HTTPConnection, target: str, headers: dict[str, str], body: bytes) -> int:
        assert connection.sock is not None  # noqa: S101 - set by the caller
        with cut_after(self._seconds, connection.sock):
            connection.request("POST", target, body, headers)
            response = connection.getresponse()
            response.read(_MOST_ANSWER_BYTES)
        return response.status

    def _outside(self, host: str, port: int) -> str:
        """Return the one address that is connected to: looked up once, so that what was judged is what is used.

        Raises NotNow: a name may mean something else tomorrow.
        """
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise NotNow("its name is not known") from None
        addresses = [str(each[4][0]) for each in found]
        allowed = [each for each in addresses if is_outside(each) or self._is_allowed(each)]
        if len(allowed) < len(addresses) or not allowed:
            raise NotNow("its address is an inner one: see notices.webhooks.private_networks")
        return allowed[0]

    def _is_allowed(self, address: str) -> bool:
        ip = _ip(address)
        return ip is not None and any(ip in network for network in self._networks)


def is_outside(address: str) -> bool:
    """Tell whether an address is one that anybody may reach: neither private, local, nor a way around to one."""
    ip = _ip(address)
    if ip is None or ip.is_multicast:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        return ip.is_global and ip in _GIVEN_OUT and ip.sixtofour is None and ip.teredo is None
    return ip.is_global and not any(ip in network for network in _INNER)


def _ip(address: str) -> _IP | None:
    """Return an address, of IPv4 in whatever notation; None for what is none, or has a zone of its own."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.scope_id:
            return None
        if ip in _TRANSLATED:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        return ip.ipv4_mapped or ip
    return ip


def _judge(status: int) -> None:
    if 200 <= status < 300:
        return
    if status == _GONE:
        raise Never("it answers 410: nobody is there any more")
    if 300 <= status < 400:
        raise NotNow(f"it answers {status}: a redirect is not followed")
    if status in _REFUSED and status not in _LATER:
        raise NotThis(f"it answers {status}", for_good=False)
    raise NotNow(f"it answers {status}")
