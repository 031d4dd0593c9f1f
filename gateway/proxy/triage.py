"""What kind of request this is: whose account's, and does it claim, or have, to be a staff member's."""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from gateway.config.check import Network, parse_network
from gateway.config.model import Accounts, Catch, Config
from gateway.proxy import names
from gateway.proxy.headers import nominated, values
from gateway.proxy.names import fold
from gateway.proxy.remembered import Remembered
from gateway.proxy.wire import Headers, RequestHead
from gateway.tokens.signing import BEFORE_OURS, OUR_BEGINNING, TokenVerifier
from policy.model import AccountId, DenyReason

_ACCOUNT = re.compile(rb"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LONGEST_REMEMBERED = 256  # a host name has 253 characters at the most
_SCHEME = re.compile(rb"(?:bearer|dpop) +", re.IGNORECASE)
# How nearly every credential of ours looks; the rest is looked at word by word.
_PLAIN = re.compile(rb"(?i:bearer|dpop) +(" + BEFORE_OURS + OUR_BEGINNING + rb"[A-Za-z0-9._-]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """The assumption token of a request, unverified."""

    token: str
    dpop: bool = False
    """Whether it was sent as one that is bound to a key (RFC 9449 section 7.1)."""

    def __repr__(self) -> str:
        """Hide the token."""
        return "Credential(…)"


def is_trusted(peer: str, networks: tuple[Network, ...]) -> bool:
    """Tell whether `peer` is one of the proxies in front that may speak for a client."""
    return bool(networks) and bool(peer) and any(ipaddress.ip_address(peer) in network for network in networks)


def trusting(config: Config) -> Callable[[str], bool]:
    """Return what tells of an address whether `is_trusted` holds for it under a configuration."""
    networks = tuple(parse_network(text, "server.trusted_proxies") for text in config.server.trusted_proxies)
    return partial(is_trusted, networks=networks)


class AccountReader:
    """Reads which account a request is for, as configured."""

    def __init__(self, accounts: Accounts, trusted: tuple[Network, ...]) -> None:
        self._source = accounts.source
        self._fixed = AccountId(accounts.fixed)
        self._header = accounts.header.lower().encode("ascii")
        self._trusted = trusted
        self._pattern = accounts.host.lower()
        before, _, after = self._pattern.encode("ascii").partition(b"{account}")
        self._before, self._after = before, after
        self._by_host = Remembered(self._of_host, longest=_LONGEST_REMEMBERED)

    def host_of(self, account: AccountId) -> str:
        """Return the account's host, which is the audience of its tokens."""
        return self._pattern.replace("{account}", account)

    def has(self, host: bytes) -> bool:
        """Tell whether a host, in lower case and without a port, is or could be an account's."""
        if self._source == "fixed":
            return host == self.host_of(self._fixed).encode("ascii")
        return host == self._pattern.encode("ascii") or self._of_host(host) is not None

    def lines_for(self, account: AccountId) -> Headers:
        """Return the lines by which a request of our own says which account it is for."""
        host = (b"Host", self.host_of(account).encode("ascii"))
        return (host, (self._header, account.encode("ascii"))) if self._source == "header" else (host,)

    def read(self, head: RequestHead, peer: str) -> AccountId | None:
        """Return the account that the request is for, or None if it does not say so in exactly one way."""
        match self._source:
            case "fixed":
                return self._fixed
            case "header":
                found = values(head.headers, self._header)
                # The same name in other spellings would be another answer for the app.
                same = sum(fold(name) == fold(self._header) for name, _ in head.headers)
                if len(found) != 1 or same != 1 or not is_trusted(peer, self._trusted):
                    return None
                return _account(found[0])
            case "host":
                hosts = values(head.headers, b"host")
                return self._by_host[hosts[0]] if len(hosts) == 1 else None

    def _of_host(self, host: bytes) -> AccountId | None:
        name = name_of(host)
        if not (name.startswith(self._before) and name.endswith(self._after)):
            return None
        return _account(name[len(self._before) : len(name) - len(self._after)])


class CatchRules:
    """Requests that must be staff's, whatever credential they bring or lack."""

    def __init__(self, rules: tuple[Catch, ...]) -> None:
        self._rules = [
            (
                fold(rule.header.encode("ascii")),
                name_of(rule.host.encode("ascii")),
                parse_network(rule.network, "catch.network") if rule.network else None,
            )
            for rule in rules
        ]

    def fit(self, head: RequestHead, peer: str) -> bool:
        """Tell whether every condition of some rule fits."""
        return bool(self._rules) and any(self._fits(rule, head, peer) for rule in self._rules)

    def _fits(self, rule: tuple[bytes, bytes, Network | None], head: RequestHead, peer: str) -> bool:
        header, host, network = rule
        if header and not any(fold(name) == header for name, _ in head.headers):
            return False
        if host and not names_host(head.headers, host):
            return False
        return network is None or (bool(peer) and ipaddress.ip_address(peer) in network)


def find_credential(headers: Headers, kinds: int, verifier: TokenVerifier) -> Credential | DenyReason | None:
    """Return the assumption token, None if there is none of ours, or why it cannot be told which one counts.

    `kinds` are those of the headers' names, all together. A token of ours anywhere but in `Authorization` is refused,
    so that it reaches neither the app nor a log. A bearer token of another issuer is the app's own business.
    """
    lines: list[tuple[bytes, bytes]] = []
    if not kinds & names.AUTHORIZATION:
        elsewhere = any(OUR_BEGINNING in value for _, value in headers)
    else:
        lines = [(name.lower(), value) for name, value in headers if fold(name) == b"authorization"]
        elsewhere = any(OUR_BEGINNING in value for name, value in headers if fold(name) != b"authorization")
    if elsewhere:
        return DenyReason.AMBIGUOUS_HEADER
    return _read_authorization(lines, headers, verifier) if lines else None


def _read_authorization(
    lines: list[tuple[bytes, bytes]], headers: Headers, verifier: TokenVerifier
) -> Credential | DenyReason | None:
    plain = _PLAIN.fullmatch(lines[0][1])
    if plain is None and not any(verifier.is_ours(word) for _, value in lines for word in _tokens(value)):
        return None
    if len(lines) > 1 or lines[0][0] != b"authorization" or b"authorization" in nominated(headers):
        return DenyReason.AMBIGUOUS_HEADER
    if plain is not None:
        return Credential(token=plain[1].decode("ascii"), dpop=_is_dpop(lines[0][1]))
    value = lines[0][1]
    if _SCHEME.match(value) is None or b"," in value:
        return DenyReason.AMBIGUOUS_HEADER
    return Credential(token=_SCHEME.sub(b"", value, count=1).decode("latin-1"), dpop=_is_dpop(value))


def _is_dpop(value: bytes) -> bool:
    """Tell which of the two schemes it is."""
    return value[:1] in b"dD"


def _tokens(value: bytes) -> list[str]:
    """Return every word of a header that could be a token of ours, however it is wrapped."""
    return [word for word in re.split(r"[\s,;\"']+", value.decode("latin-1")) if word.count(".") or len(word) > 40]


def name_of(host: bytes) -> bytes:
    """Return the name in a Host header: lower case, without the port and the root's dot."""
    return re.sub(rb":[0-9]{0,5}\Z", b"", host.lower()).removesuffix(b".")


def names_host(headers: Headers, host: bytes) -> bool:
    """Tell whether a request names exactly this host, in lower case and without a port."""
    return [name_of(value) for value in values(headers, b"host")] == [host]


def is_account_name(name: str) -> bool:
    """Tell whether a host could name this account."""
    return name.isascii() and _ACCOUNT.fullmatch(name.encode("ascii")) is not None


def _account(name: bytes) -> AccountId | None:
    return AccountId(name.decode("ascii")) if _ACCOUNT.fullmatch(name) else None
