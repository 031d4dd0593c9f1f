"""Who is there, by the app's own answer: it is shown the caller's cookies, and of the rest what is configured."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from enum import StrEnum, unique
from hashlib import sha256

from cachetools import TLRUCache

from gateway.clock import Ticks
from gateway.config.console import ConsoleAccount
from gateway.console.account.questions import Questions
from gateway.proxy.headers import values
from gateway.proxy.wire import Headers, RequestHead, Upstream, UpstreamFault, UpstreamResponse
from gateway.rarely import Rarely
from policy.administrators import Person, PersonFields, read_person
from policy.documents import Odd
from policy.model import AccountId

log = logging.getLogger(__name__)

_MOST_BYTES = 64 * 1024
_MOST_KEPT = 1024
_ACCEPTED: Headers = ((b"Accept", b"application/json"), (b"Accept-Encoding", b"identity"))
_SIGNED_OUT = frozenset({301, 302, 303, 307, 308, 401, 403})


@unique
class Nobody(StrEnum):
    """Why it is nobody who could be an administrator."""

    SIGNED_OUT = "signed_out"
    """The app knows nobody by these cookies, or nobody of this account."""
    UNKNOWN = "unknown"
    """The app could not be asked, or its answer cannot be read."""


class WhoAmI:
    """Asks the app who sends a request, as it would be asked by the request itself."""

    def __init__(
        self,
        section: ConsoleAccount,
        *,
        upstream: Upstream,
        lines_for: Callable[[AccountId], Headers],
        says_address: bool,
        connections: int,
        ticks: Ticks,
    ) -> None:
        """Ask `upstream`, to which there are so many `connections`.

        `lines_for` an account name it, and with `says_address` the client's address is said.
        """
        fields = section.fields
        self._target = section.who_am_i.encode("ascii")
        self._fields = PersonFields(
            user=fields.user, name=fields.name, account=fields.account, roles=fields.roles, acting=fields.acting
        )
        passed = ["cookie", *section.pass_headers] + ([] if says_address else ["x-forwarded-for"])
        self._passed = [name.lower().encode("ascii") for name in passed]
        self._fixed = tuple((name.encode("ascii"), value.encode("ascii")) for name, value in section.headers.items())
        self._timeout = section.timeout_seconds
        self._upstream = upstream
        self._lines_for = lines_for
        self._says_address = says_address
        self._questions = Questions(connections)
        self._faults = Rarely(log, ticks=ticks)
        kept = section.remember_seconds
        self._ticks = ticks
        self._known: TLRUCache[bytes, tuple[float, Person]] = TLRUCache(
            _MOST_KEPT, ttu=lambda _key, entry, _now: entry[0] + kept, timer=ticks
        )

    async def ask(
        self, account: AccountId, headers: Headers, *, client_ip: str | None, fresh: bool = False
    ) -> Person | Nobody:
        """Return who sends a request with these lines to the account's host; none of them may be our credential.

        Somebody who was found is remembered for some seconds by a digest of what the app was shown; with `fresh` the
        app is asked all the same.
        """
        shown = self._shown(headers, client_ip)
        if not any(name.lower() == b"cookie" for name, _ in shown):
            return Nobody.SIGNED_OUT
        key = _digest(account, shown)
        if not fresh and (kept := self._known.get(key)) is not None:
            return kept[1]
        began = self._ticks()
        found = await self._ask(account, shown, client_ip)
        if isinstance(found, Person):
            self._known[key] = (began, found)
        else:
            self._known.pop(key, None)
        return found

    def _shown(self, headers: Headers, client_ip: str | None) -> list[tuple[bytes, bytes]]:
        shown = [(name, value) for name, value in headers if name.lower() in self._passed]
        if self._says_address and client_ip:
            shown.append((b"X-Forwarded-For", client_ip.encode("ascii")))
        return shown

    async def _ask(
        self, account: AccountId, shown: Sequence[tuple[bytes, bytes]], client_ip: str | None
    ) -> Person | Nobody:
        lines = (*self._lines_for(account), *_ACCEPTED, *self._fixed, *shown)
        head = RequestHead(method=b"GET", target=self._target, headers=lines)
        try:
            async with self._questions.turn(client_ip), asyncio.timeout(self._timeout):
                return await self._send(head, account)
        except TimeoutError:
            self._faults.warning("the app did not say in time who asks for the account's page")
        except UpstreamFault as fault:
            self._faults.warning("the app cannot be asked who asks for the account's page: %s", fault)
        return Nobody.UNKNOWN

    async def _send(self, head: RequestHead, account: AccountId) -> Person | Nobody:
        response = await self._upstream.send(head, None)
        try:
            status = response.head.status
            if status in _SIGNED_OUT:
                return Nobody.SIGNED_OUT
            wrong = f"it answered {status}" if status != 200 else _wrong_kind(response.head.headers)
            body = await _read(response) if wrong is None else None
        finally:
            await response.close()
        if body is None:
            self._faults.warning(
                "who asks for the account's page is not known: %s", wrong or "the app's answer is too long"
            )
            return Nobody.UNKNOWN
        found = read_person(body, self._fields, account=account)
        if isinstance(found, Odd):
            self._faults.warning("the app's answer to who asks for the account's page is odd: %s", found.reason)
            return Nobody.UNKNOWN
        return Nobody.SIGNED_OUT if found is None else found


def _wrong_kind(headers: Headers) -> str | None:
    """Return what is wrong with the lines of an answer that has to be JSON, sent as it is."""
    kinds = [value.partition(b";")[0].strip().lower() for value in values(headers, b"content-type")]
    if kinds != [b"application/json"] or values(headers, b"content-encoding"):
        return "its answer is not application/json, sent as it is"
    return None


async def _read(response: UpstreamResponse) -> bytes | None:
    at_hand = response.at_hand()
    if at_hand is not None:
        return at_hand if len(at_hand) <= _MOST_BYTES else None
    body = bytearray()
    async for part in response.body:
        body += part
        if len(body) > _MOST_BYTES:
            return None
    return bytes(body)


def _digest(account: AccountId, shown: Sequence[tuple[bytes, bytes]]) -> bytes:
    digest = sha256(b"%d:%b" % (len(account.encode()), account.encode()))
    for name, value in shown:
        digest.update(b"%d:%b%d:%b" % (len(name), name.lower(), len(value), value))
    return digest.digest()
