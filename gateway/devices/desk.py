"""Device requests in the store: one-time values, changed by whoever has read them as they are and redeemed once."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import msgspec

from gateway.clock import Clock
from gateway.devices.codes import digest_of_device, digest_of_user, new_device_code, new_user_code
from gateway.stores.store import Store, StoreConflict, StoreError
from policy.asking import GrantRequest, GrantRequestId, Wish, read_wish
from policy.devices import LIFETIME, WAITS, DeviceRequest, DeviceState, PollError, Word, poll, settle
from policy.exchange import ExchangeError, ExchangeRequest
from policy.model import ClientId
from policy.scopes import format_scopes, parse_scopes

KEPT_LONGER: Final = timedelta(minutes=5)
"""So long a device that comes too late is told so, before it is told that nobody knows it."""
_MOST_TRIES = 5
_MOST_SECONDS = 10.0


class DeviceDesk:
    """Takes device requests, shows them to staff, and gives each to its device once."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def open(
        self, client: ClientId, asked: ExchangeRequest, *, address: str, user_agent: str, wish: Wish | None = None
    ) -> tuple[str, DeviceRequest]:
        """Keep a new request and return its device code; with a `wish`, so long as the customer may be waited for.

        Raises StoreError.
        """
        now = self._clock()
        device_code = new_device_code()
        digest = digest_of_device(device_code)
        for _ in range(_MOST_TRIES):
            request = DeviceRequest(
                client=client,
                asked=asked,
                user_code=new_user_code(),
                address=address,
                user_agent=user_agent,
                asked_at=now,
                expires_at=now + LIFETIME,
                wish=wish,
            )
            last = request.expires_at if wish is None else now + WAITS
            try:
                # First what people type, which is not so long that it could not be another's.
                await self._store.add_one_time(
                    digest_of_user(request.user_code), digest.hex(), expires_at=request.expires_at, now=now
                )
            except StoreConflict:
                continue
            await self._store.add_one_time(digest, _encode(request), expires_at=last + KEPT_LONGER, now=now)
            return device_code, request
        raise StoreError("no user code is free")

    async def find(self, user_code: str) -> DeviceRequest | None:
        """Return the request that waits for staff under a code; None if none does any more. Raises StoreError."""
        found = await self._find(user_code)
        return None if found is None else found[1]

    async def settle(
        self, user_code: str, word: Word, *, session: bytes = b"", asked: GrantRequest | None = None
    ) -> bool:
        """Store what a staff member says, see `policy.devices.settle`; False if it is too late for it.

        Raises StoreError.
        """
        found = await self._find(user_code)
        if found is None:
            return False
        return await self._change(
            found[0], lambda request: settle(request, word, now=self._clock(), session=session, asked=asked)
        )

    async def poll(self, device_code: str, client: ClientId) -> PollError | DeviceRequest | None:
        """Return what a device is told that asks; the request if its token may be fetched; None if it has none.

        It may be fetched as well if the account was asked (`DeviceState.ASKED`) and has approved by now. Raises
        StoreError.
        """
        digest = digest_of_device(device_code)
        for _ in range(_MOST_TRIES):
            now = self._clock()
            known = await self._store.find_one_time(digest, now=now)
            request = None if known is None else _decode(known)
            if known is None or request is None or request.client != client:
                return None
            error, then = poll(request, now=now)
            if then is request or await self._store.swap_one_time(digest, _encode(then), known=known, now=now):
                return then if error is PollError.ASKED else error or request
        return PollError.SLOW_DOWN

    async def redeem(self, device_code: str) -> DeviceRequest | None:
        """Return an approved request and forget it, once however many ask; raises StoreError.

        Call it for one that `poll` has returned, which stays approved until it is forgotten.
        """
        text = await self._store.redeem(digest_of_device(device_code), now=self._clock())
        return None if text is None else _decode(text)

    async def withdraw(self, device_code: str, client: ClientId) -> DeviceRequest | None:
        """Forget a request because its device wants nothing any more; returns it, None if there was none.

        Raises StoreError.
        """
        digest, now = digest_of_device(device_code), self._clock()
        known = await self._store.find_one_time(digest, now=now)
        if known is None or _decode(known).client != client:
            return None
        text = await self._store.redeem(digest, now=now)
        return None if text is None else _decode(text)

    async def _find(self, user_code: str) -> tuple[bytes, DeviceRequest] | None:
        now = self._clock()
        pointer = await self._store.find_one_time(digest_of_user(user_code), now=now)
        digest = b"" if pointer is None else bytes.fromhex(pointer)
        known = await self._store.find_one_time(digest, now=now) if digest else None
        request = None if known is None else _decode(known)
        if request is None or request.state is not DeviceState.PENDING or now >= request.expires_at:
            return None
        return digest, request

    async def _change(self, digest: bytes, change: Callable[[DeviceRequest], DeviceRequest | None]) -> bool:
        # The device asks all the time, and each time the request may be another one; staff have the last word.
        loop = asyncio.get_running_loop()
        until = loop.time() + _MOST_SECONDS
        while loop.time() < until:
            now = self._clock()
            known = await self._store.find_one_time(digest, now=now)
            then = None if known is None else change(_decode(known))
            if known is None or then is None:
                return False
            if await self._store.swap_one_time(digest, _encode(then), known=known, now=now):
                return True
        raise StoreError("the device request changes all the time")


class _Stored(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A request as it is kept."""

    client: str
    account: str
    agent: str
    audience: str
    ticket: str
    reason: str
    scopes: str
    user_code: str
    address: str
    user_agent: str
    asked_at: datetime
    expires_at: datetime
    interval: float
    polled_at: datetime | None
    state: DeviceState
    session: bytes
    # Left out where there is none, so that a node of an earlier version reads what is nothing new to it.
    duration: str = ""
    permissions: tuple[str, ...] = ()
    asked_customer: str = ""


def _encode(request: DeviceRequest) -> str:
    asked = request.asked
    stored = _Stored(
        client=request.client,
        account=asked.account,
        agent=asked.subject,
        audience=asked.audience,
        ticket=asked.ticket,
        reason=asked.reason,
        scopes=format_scopes(asked.scopes),
        user_code=request.user_code,
        address=request.address,
        user_agent=request.user_agent,
        asked_at=request.asked_at,
        expires_at=request.expires_at,
        interval=request.interval.total_seconds(),
        polled_at=request.polled_at,
        state=request.state,
        session=request.session,
        duration=request.wish.duration if request.wish else "",
        permissions=tuple(sorted(request.wish.permissions)) if request.wish else (),
        asked_customer=request.asked_customer or "",
    )
    return msgspec.json.encode(stored).decode("utf-8")


def _decode(text: str) -> DeviceRequest:
    """Return what was stored; raises StoreError for what we have not written."""
    try:
        stored = msgspec.json.decode(text, type=_Stored)
        scopes = parse_scopes(stored.scopes)
        wish = None if not stored.duration else _wish(stored)
    except (ValueError, ExchangeError) as exc:
        raise StoreError("a device request cannot be read") from exc
    return DeviceRequest(
        client=ClientId(stored.client),
        asked=ExchangeRequest(
            actor_token="",
            subject=stored.agent,
            audience=stored.audience,
            account=stored.account,
            ticket=stored.ticket,
            reason=stored.reason,
            scopes=scopes,
        ),
        user_code=stored.user_code,
        address=stored.address,
        user_agent=stored.user_agent,
        asked_at=stored.asked_at,
        expires_at=stored.expires_at,
        interval=timedelta(seconds=stored.interval),
        polled_at=stored.polled_at,
        state=stored.state,
        session=stored.session,
        wish=wish,
        asked_customer=GrantRequestId(stored.asked_customer) if stored.asked_customer else None,
    )


def _wish(stored: _Stored) -> Wish:
    return read_wish(
        account=stored.account,
        permissions=stored.permissions,
        duration=stored.duration,
        ticket=stored.ticket,
        reason=stored.reason,
    )
