"""What browsers hold of assumptions: the claims that a cookie stands for, and the app's own cookies, kept from them."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import msgspec

from gateway import cookie_names
from gateway.clock import Clock
from gateway.grants.facts import FactCache
from gateway.origin import Origin, is_seen
from gateway.proxy.cookies import CookieCredential, OurCookies
from gateway.proxy.headers import values
from gateway.proxy.jar import Jar, parse_set, set_lines
from gateway.proxy.sealing import Seal
from gateway.proxy.wire import Headers, RequestHead, ResponseHead
from gateway.stores.browsing import EMPTY_JAR, StoredJar
from gateway.stores.store import Store, StoreError
from gateway.tasks import Tasks
from policy.claims import LONGEST_BROWSER, ClaimsError, check_token
from policy.model import AssumptionClaims, Deny, DenyReason

log = logging.getLogger(__name__)

_MOST_TRIES = 8
# What the app's pages have stored is about an agent whose place nobody takes any more. Cookies are named one by one:
# those that this browser had before are somebody's own. (W3C Clear Site Data)
_NOTHING_LEFT: Final = (b"Clear-Site-Data", b'"cache", "storage"')
_LONGEST_TOUCH: Final = timedelta(minutes=1)
# What no later request with the same cookie can get over.
_FINAL = frozenset({
    DenyReason.COOKIE_UNKNOWN, DenyReason.COOKIE_IDLE, DenyReason.TOKEN_EXPIRED, DenyReason.ASSUMPTION_ENDED,
    DenyReason.ASSUMPTION_UNKNOWN, DenyReason.GRANT_OFF, DenyReason.GRANT_REVOKED, DenyReason.GRANT_EXPIRED,
    DenyReason.WRONG_ACCOUNT, DenyReason.STAFF_DISABLED, DenyReason.STAFF_UNKNOWN, DenyReason.STAFF_SIGNED_OUT,
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Farewell:
    """What goes with the refusal that tells a person that their assumption in this browser is over."""

    lines: Headers
    """Take the cookie away, so that this is said once."""
    go_on_at: str
    """Where another one can be begun."""


class Browsers:
    """Reads claims off a cookie's digest, never off anything else that a browser says."""

    def __init__(
        self,
        store: Store,
        facts: FactCache,
        *,
        issuer: str,
        idle: timedelta,
        script_cookies: frozenset[str],
        gives_cookies: bool = True,
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        """Let an assumption end that no browser has used for `idle`; claims must be those of `issuer`.

        The app's `script_cookies` are shown to its scripts in the browser, too. Without `gives_cookies` whoever comes
        with a token gets none of the app's.
        """
        origin = Origin.of(issuer)
        self._store = store
        self._facts = facts
        self._issuer = issuer
        self._scheme = origin.scheme.encode("ascii")
        self._staff_origin = origin.text
        self._idle = idle
        self._touch_after = min(_LONGEST_TOUCH, idle / 10)
        self._clock = clock
        self._tasks = tasks
        self._touching: set[bytes] = set()
        self.cookies = OurCookies(secure=origin.secure)
        """What finds them in a request."""
        self.withholds: Callable[[bytes], bool] = self.cookies.is_set if gives_cookies else lambda _value: True
        """Tells of a `Set-Cookie` line of the app's whether staff must not get it, whatever it is called."""
        self._secure = origin.secure
        self._shown = script_cookies
        names = (cookie_names.named(cookie_names.ASSUMPTION, secure=origin.secure), *sorted(script_cookies))
        self.dropping: Headers = (
            *((b"Set-Cookie", _set_line(name, "", 0, secure=origin.secure)) for name in names),
            _NOTHING_LEFT,
        )
        """What takes every cookie of an assumption away from a browser, and whatever else the app has left there."""

    async def admit(self, credential: CookieCredential) -> AssumptionClaims | Deny:
        """Return what a token of that assumption would say, or why the cookie says nothing; raises StoreError."""
        held = self._facts.browser_at_hand(credential.digest) or await self._facts.browser(credential.digest)
        now = self._clock()
        if held is None:
            return Deny(reason=DenyReason.COOKIE_UNKNOWN)
        if now >= held.expires_at:
            return Deny(reason=DenyReason.ASSUMPTION_ENDED)
        try:
            claims = parse_claims(held.claims, issuer=self._issuer)
        except ClaimsError:
            return Deny(reason=DenyReason.COOKIE_UNKNOWN)
        return Deny(reason=DenyReason.COOKIE_IDLE) if now - held.seen_at >= self._idle else claims

    def note_use(self, credential: CookieCredential) -> None:
        """Put off the end that comes when nobody uses it, since a request was permitted: what is refused is no use."""
        digest = credential.digest
        held = self._facts.browser_at_hand(digest)
        if digest in self._touching or (held is not None and self._clock() - held.seen_at < self._touch_after):
            return
        self._touching.add(digest)
        self._tasks.start(self._touch(digest), name="note that a browser's assumption is used")

    def is_own_page(self, headers: Headers) -> bool:
        """Tell whether the browser says that a page of the very host that is asked has sent the request.

        Our cookie comes by itself, whoever's page it is. What says nothing is no browser of today.
        """
        hosts, sites = values(headers, b"host"), values(headers, b"sec-fetch-site")
        origins = values(headers, b"origin")
        if len(hosts) != 1 or len(sites) > 1 or len(origins) > 1 or not (sites or origins):
            return False
        own = b"%b://%b" % (self._scheme, hosts[0].lower())
        return (not sites or sites[0] == b"same-origin") and (not origins or origins[0] == own)

    def farewell(self, head: RequestHead, deny: Deny) -> Farewell | None:
        """Return what to say with a refusal if the request is a person's who stood in by a cookie and cannot any more.

        Not to a script, an image or a frame: the next request would be an ordinary one, and nobody would have been
        told.
        """
        if deny.reason not in _FINAL or not is_seen(head.method, head.headers):
            return None
        found = self.cookies.find(head.headers)
        if found is None or found.assumption in (None, DenyReason.AMBIGUOUS_HEADER):
            return None
        return Farewell(lines=self.dropping, go_on_at=f"{self._staff_origin}/.locum/")

    async def hold(self, credential: CookieCredential, target: bytes, *, until: datetime) -> "HeldCookies":
        """Return the app's cookies for one request of an assumption that ends at `until`; raises StoreError.

        They are in the store and read for each request, so that what one worker was given, every worker sends.
        """
        stored = await self._store.find_jar(credential.digest)
        if stored is None:
            raise StoreError("the assumption of this browser has been forgotten meanwhile")
        now = self._clock()
        seal = Seal(credential)
        jar = _open(stored, seal)
        return HeldCookies(
            self._store,
            credential.digest,
            stored,
            seal=seal,
            target=target,
            line=jar.line(target, now=now),
            show=partial(_show, names=self._shown, target=target, now=now, until=until, secure=self._secure),
            clock=self._clock,
        )

    async def _touch(self, digest: bytes) -> None:
        try:
            await self._store.touch_browser(digest, at=self._clock())
            self._facts.forget_browser(digest)
        except StoreError as exc:
            log.warning("that an assumption is used could not be noted; it may end early: %s", exc)
        finally:
            self._touching.discard(digest)


class HeldCookies:
    """The app's cookies for one request of an assumption, and what its answer makes of them."""

    def __init__(
        self,
        store: Store,
        digest: bytes,
        stored: StoredJar,
        *,
        seal: Seal,
        target: bytes,
        line: bytes,
        show: Callable[[Headers], Headers],
        clock: Clock,
    ) -> None:
        self.lines: Headers = ((b"Cookie", line),) if line else ()
        """The `Cookie` line for the app, if there is one."""
        self.shown = show
        """Returns what of an answer's lines its scripts in the browser have to see."""
        self._store = store
        self._digest = digest
        self._seal = seal
        self._target = target
        self._stored = stored
        self._clock = clock

    async def keep(self, answer: ResponseHead) -> None:
        """Hold what the app sets, before anything of its answer is passed on; the next request may come elsewhere.

        If it cannot be held, the app has to do without, and the answer passes all the same.
        """
        lines = set_lines(answer.headers)
        if not lines:
            return
        try:
            if not await self._keep(lines):
                log.warning("the app's cookies could not be held: the assumption is over, or too much is set at a time")
        except StoreError as exc:
            log.warning("the app's cookies could not be held: %s", exc)

    async def _keep(self, lines: Sequence[bytes]) -> bool:
        stored: StoredJar | None = self._stored
        for _ in range(_MOST_TRIES):
            if stored is None:
                return False
            jar = _open(stored, self._seal)
            before, text = jar.write(), jar.take(lines, self._target, now=self._clock()).write()
            if text == before:
                return True
            sealed = StoredJar(text=self._seal.close(text), version=stored.version + 1)
            if await self._store.save_jar(self._digest, sealed):
                return True
            # Another answer was faster: what it has set counts as well.
            await asyncio.sleep(0)
            stored = await self._store.find_jar(self._digest)
        return False


def parse_claims(text: str, *, issuer: str) -> AssumptionClaims:
    """Return what a token would say that a browser holds an assumption for; raises ClaimsError."""
    try:
        payload = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as exc:
        raise ClaimsError("the claims are no JSON object") from exc
    return check_token(payload, issuer=issuer, longest=LONGEST_BROWSER)


def _show(
    headers: Headers, *, names: frozenset[str], target: bytes, now: datetime, until: datetime, secure: bool
) -> Headers:
    """Return the lines that set the `names` for scripts; in the browser none of them outlives `until`."""
    if not names:
        return ()
    shown = []
    for line in set_lines(headers):
        cookie = parse_set(line, target, now=now)
        if cookie is not None and cookie.name in names:
            ends_at = min(until, cookie.ends_at or until)
            seconds = max(0, int((ends_at - now).total_seconds()))
            shown.append((b"Set-Cookie", _set_line(cookie.name, cookie.value, seconds, secure=secure, script=True)))
    return tuple(shown)


def _set_line(name: str, value: str, seconds: int, *, secure: bool, script: bool = False) -> bytes:
    end = f"{'' if script else '; HttpOnly'}; SameSite=Lax{'; Secure' if secure else ''}"
    return f"{name}={value}; Max-Age={seconds}; Path=/{end}".encode("latin-1")


def _open(stored: StoredJar, seal: Seal) -> Jar:
    try:
        return Jar() if stored.text == EMPTY_JAR else Jar.read(seal.open(stored.text))
    except (msgspec.MsgspecError, ValueError) as exc:
        raise StoreError("the jar of an assumption cannot be read") from exc
