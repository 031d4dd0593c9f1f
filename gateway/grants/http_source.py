"""The app as the source of grants: its own setting is asked for, and what it says is kept in the store as history."""

import asyncio
import logging
import secrets
import ssl
from collections.abc import Callable
from dataclasses import fields as dataclass_fields
from urllib.parse import quote

import aiohttp
import yarl

from gateway.asking import open_asker
from gateway.audit.log import JournalError
from gateway.bodies import read_at_most
from gateway.clock import Clock
from gateway.config.model import GrantsHttp, UpstreamTls
from gateway.grants.service import GrantService
from gateway.stores.store import AccountRecord, Store, StoreConflict, StoreError
from gateway.tls import upstream_context
from policy.documents import Odd
from policy.grants import adopt
from policy.model import Account, AccountId, GrantId
from policy.setting import Fields, Form, Setting, Words, read_setting

log = logging.getLogger(__name__)

BY_APP = "app"
"""Who gave a grant that the app's setting gave, in the history and the journal."""

_MOST_BYTES = 64 * 1024
_MOST_TRIES = 3
_GONE = Setting()


class AppSetting:
    """Asks the app what it says of an account.

    One connection, one request, one answer: see `gateway.asking`. No redirect is followed.
    """

    def __init__(self, config: GrantsHttp, http: aiohttp.ClientSession) -> None:
        self._url = config.url
        self._http = http
        self._form = read_form(config)
        self._server_name = config.tls.server_name if config.tls is not None else ""
        self._headers = {"Accept": "application/json", "Accept-Encoding": "identity", **config.headers}
        if config.credential is not None:
            self._headers[config.credential_header] = config.credential.reveal()

    async def ask(self, account: AccountId) -> Setting | None:
        """Return what the app says, or None if it says that there is no such account.

        Raises StoreError for everything else that it may answer, and if it does not.
        """
        try:
            body = await self._fetch(account)
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise StoreError(f"the app cannot be asked for an account's setting: {type(exc).__name__}") from exc
        if body is None:
            return None
        said = read_setting(body, self._form, account=account)
        if isinstance(said, Odd):
            raise StoreError(f"the app's answer is odd: {said.reason}")
        return said

    async def _fetch(self, account: AccountId) -> bytes | None:
        address = yarl.URL(self._url.replace("{account}", quote(account, safe="")), encoded=True)
        name = self._server_name or None
        async with self._http.get(
            address, headers=self._headers, allow_redirects=False, server_hostname=name
        ) as response:
            if response.status == 404:
                return None
            if response.status != 200:
                raise StoreError(f"the app answered {response.status}")
            if response.content_type != "application/json" or "Content-Encoding" in response.headers:
                raise StoreError("the app's answer is not application/json, sent as it is")
            body = await read_at_most(response.content, _MOST_BYTES)
            if body is None:
                response.close()
                raise StoreError(f"the app's answer is longer than {_MOST_BYTES} bytes")
            return body


class HttpSource:
    """The accounts as the app keeps them; the store has their epochs, the ids of their grants and their history.

    What the app does not say now is not known: what was stored is never an answer by itself.
    """

    def __init__(
        self,
        app: AppSetting,
        *,
        store: Store,
        grants: GrantService,
        is_account: Callable[[AccountId], bool],
        timeout_seconds: float,
        clock: Clock,
        changed: Callable[[AccountRecord], object],
    ) -> None:
        """Call `changed` for each change that the app's answers made, so that what is open here is cut at once."""
        self._app = app
        self._store = store
        self._grants = grants
        self._is_account = is_account
        self._timeout = timeout_seconds
        self._clock = clock
        self._changed = changed

    async def find_account(self, account: AccountId) -> AccountRecord | None:
        """See `AccountSource`; what is returned is in the store by then, under an epoch of its own."""
        if not self._is_account(account):
            return None
        until = asyncio.get_running_loop().time() + self._timeout
        for _ in range(_MOST_TRIES):
            before, said = await self._ask(account, until)
            try:
                return await self._adopt(account, before, said)
            except StoreConflict:
                # Somebody was told something else meanwhile: only an answer from now on can tell who is right.
                continue
            except JournalError as exc:
                raise StoreError("what the app says could not be recorded") from exc
        raise StoreError("the account changes all the time: try again")

    async def _ask(self, account: AccountId, until: float) -> tuple[AccountRecord | None, Setting | None]:
        """Return what is stored and what the app says, in this order.

        An answer is adopted only if nothing was stored since it was asked for, so an old one never undoes a newer one.
        """
        try:
            async with asyncio.timeout_at(until):
                return await self._store.find_account(account), await self._app.ask(account)
        except TimeoutError as exc:
            log.warning("the app did not say in time what the setting of %s is", account)
            raise StoreError("the app did not answer in time") from exc
        except StoreError as exc:
            log.warning("the setting of %s is not known: %s", account, exc)
            raise

    async def _adopt(
        self, account: AccountId, before: AccountRecord | None, said: Setting | None
    ) -> AccountRecord | None:
        """Store what differs, each change on the record; raises StoreConflict if somebody else stored some."""
        if before is None:
            if said is None:
                return None
            new = Account(id=account, type=said.type, suspended=said.suspended)
            await self._grants.add(new, by=BY_APP)
            before = AccountRecord(account=new, grant=None)
        while (
            change := adopt(
                before.account,
                before.grant,
                said or _GONE,
                by=BY_APP,
                new_id=GrantId(f"grant_{secrets.token_hex(8)}"),
                now=self._clock(),
            )
        ) is not None:
            if not await self._grants.adopt(change, before, by=BY_APP):
                raise StoreConflict(f"the account `{account}` has changed meanwhile")
            before = AccountRecord(account=change.account, grant=change.grant)
            self._changed(before)
        return before if said is not None else None


def read_form(config: GrantsHttp) -> Form:
    """Return how the answers are read."""
    fields, words = config.fields, config.words
    return Form(
        fields=Fields(**{each.name: getattr(fields, each.name) for each in dataclass_fields(Fields)}),
        words=Words(**{each.name: getattr(words, each.name) for each in dataclass_fields(Words)}),
        permissions=frozenset(config.permissions),
    )


def open_http(config: GrantsHttp) -> aiohttp.ClientSession:
    """Return the way to the app's setting, connected to nothing yet; raises ConfigError for a file that cannot be used.

    Whoever opens it closes it.
    """
    return open_asker(most=config.max_connections, tls=read_tls(config), unpack=False)


def read_tls(config: GrantsHttp) -> ssl.SSLContext | None:
    """Return whom the app has to be, or None without TLS; raises ConfigError."""
    secure = config.url.lower().startswith("https:")
    return upstream_context(config.tls or UpstreamTls(), "grants.http.tls") if secure else None
