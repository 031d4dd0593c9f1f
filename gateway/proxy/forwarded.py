"""What the app is told of the connection that a request came by: the client's address, and the scheme.

Apps fold header names, so whatever a client sends that may be taken for a line which we state stays behind.
"""

from collections.abc import Callable
from typing import Final

from gateway.proxy import names
from gateway.proxy.headers import Lines
from gateway.proxy.names import fold
from gateway.proxy.wire import Headers

_ADDRESS: Final = b"x-forwarded-for"
_SCHEME: Final = b"x-forwarded-proto"
_HTTPS: Final = (b"X-Forwarded-Proto", b"https")
_SCHEMES: Final = frozenset({b"http", b"https"})


class Forwarding:
    """States what the app is told, of customers and of staff."""

    def __init__(self, *, states: bool, tls: bool, trusts: Callable[[str], bool]) -> None:
        """Unless it `states` anything, what came goes on as it is; `tls` is whether clients come by https.

        `trusts` tells of a peer whether it is a proxy in front that may speak for a client.
        """
        self._states = states
        self._tls = tls
        self._trusts = trusts

    def for_customer(self, lines: Lines, kinds: int, peer: str) -> Lines:
        """Return the lines of a customer's request with what we state; `kinds` are those of its names.

        The peer's address is put behind the last `X-Forwarded-For`, or in a line of its own at the end. By TLS the
        scheme is `https`, unless a trusted proxy says another.
        """
        if not self._states or not peer:
            return lines
        states_scheme = self._tls and not (kinds & names.HEARSAY and self._trusts(peer) and _says_scheme(lines))
        if kinds & names.HEARSAY:
            lines = [line for line in lines if not _may_be_taken_for_ours(line[0], scheme=states_scheme)]
        _add_address(lines, peer.encode("ascii"))
        if states_scheme:
            lines.append(_HTTPS)
        return lines

    def for_staff(self, headers: Headers, kinds: int, peer: str) -> Lines:
        """Return the lines to add to a staff member's request, of which nothing of the kind goes on by itself.

        Apps that insist on https would send staff from one place to the same for ever, were they not told.
        """
        if kinds & names.HEARSAY and self._trusts(peer):
            said = [line for line in headers if fold(line[0]) == _SCHEME]
            if said:
                return said if len(said) == 1 and said[0][1] in _SCHEMES else []
        return [_HTTPS] if self._states and self._tls else []


def _says_scheme(lines: Lines) -> bool:
    return any(fold(name) == _SCHEME for name, _ in lines)


def _may_be_taken_for_ours(name: bytes, *, scheme: bool) -> bool:
    folded = fold(name)
    if folded == _ADDRESS:
        return name.lower() != _ADDRESS
    return scheme and folded == _SCHEME


def _add_address(lines: Lines, address: bytes) -> None:
    for index in range(len(lines) - 1, -1, -1):
        name, value = lines[index]
        if name.lower() == _ADDRESS:
            lines[index] = (name, value + b", " + address)
            return
    lines.append((b"X-Forwarded-For", address))
