"""What the people of a story can reach, over sockets: the gateway's two ports, the app's, and the issuer's tokens."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import aiohttp
import yarl
from multidict import CIMultiDictProxy

from gateway.app import Gateway
from gateway.config.model import Config
from gateway.demo.issuer import DemoIssuer
from gateway.demo.story.clock import StoryClock
from policy.exchange import AGENT_ID, GRANT_TYPE

A = TypeVar("A")

ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
STAFF_AUDIENCE = "locum"
STAFF_GROUP = "support"
SECURITY_CLIENT, SECURITY_GROUP = "locum-security", "security"
HELPDESK, SUPPORT_TOOL = "helpdesk", "support-tool"
"""The two programs that call the gateway's APIs: the app's back end for its customers, the vendor's tool for staff."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody of a customer, with a role in each product."""

    id: str
    roles: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response, whole."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        """The JSON object in the body; empty if there is none."""
        try:
            document = json.loads(self.body)
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}

    @property
    def outcome(self) -> str:
        """The status, with the reason if it is a refusal of the gateway's."""
        return f"{self.status} {self.document.get('reason', '')}".strip()

    @property
    def said(self) -> str:
        """What a refusal says to people."""
        document = self.document if "reason" in self.document else {}
        return str(document.get("error_description") or document.get("detail") or document.get("title") or "")


@dataclass(slots=True, kw_only=True)
class Scene(Generic[A]):
    """A running gateway before a running app, and what the story has come to so far."""

    app: A
    """The helpdesk behind the gateway."""
    app_url: str
    app_seconds: float
    """How long it took until the helpdesk answered, its set-up included."""
    config: Config
    gateway: Gateway
    issuer: DemoIssuer
    clock: StoryClock
    folder: Path
    secrets: Mapping[str, str]
    http: aiohttp.ClientSession
    reached: Callable[[], int]
    """Counts the assumed requests that have reached the helpdesk, where it can tell."""
    tokens: dict[str, str] = field(default_factory=dict)
    """Assumption tokens by the name under which a step keeps them."""
    refused: int = 0
    """How many requests of staff and of administrators the gateway has refused."""
    cut: int = 0
    """How many open streams it has cut."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """What must be the same at the end, as the app counted it at first."""

    def host(self, account: str = "acme") -> str:
        """Return the host name under which an account's helpdesk is reached."""
        return self.config.accounts.host.replace("{account}", account)

    def account_url(self, path: str, account: str = "acme") -> str:
        """Return the address under which a browser has a page of an account's host."""
        return f"http://{self.host(account)}:{self.gateway.public_url.rpartition(':')[2]}{path}"

    async def exchange(
        self,
        scope: str,
        *,
        subject: str = "maria",
        account: str = "acme",
        actor: str = "dana",
        name: str | None = None,
        ticket: str = "SUP-1",
    ) -> Answer:
        """Let dana, or somebody else of the vendor's support, ask to stand in for an agent (RFC 8693)."""
        detail = {"type": "account_assumption", "account": account, "ticket": ticket, "reason": "widget not loading"}
        form = {
            "grant_type": GRANT_TYPE,
            "subject_token": subject,
            "subject_token_type": AGENT_ID,
            "actor_token": self.issuer.token(actor, audience=STAFF_AUDIENCE, groups=(STAFF_GROUP,), name=name),
            "actor_token_type": ID_TOKEN,
            "audience": self.host(account),
            "scope": scope,
            "authorization_details": json.dumps([detail]),
        }
        url = f"{self.gateway.public_url}/.locum/oauth/token"
        return self._note(await self.fetch("POST", url, headers=self._basic(SUPPORT_TOOL), data=form))

    async def choose(
        self, duration: str, permissions: Sequence[str] = ("read",), *, by: Person, account: str = "acme"
    ) -> Answer:
        """Let somebody of the customer choose a duration; the app's back end passes it on."""
        administrator = {"id": by.id, "roles": dict(by.roles)}
        wish = {"assumption_duration": duration, "permissions": list(permissions), "administrator": administrator}
        return self._note(await self.fetch("PUT", self._setting(account), headers=self._basic(HELPDESK), json=wish))

    async def setting(self, account: str = "acme") -> Answer:
        """Return the account's setting, as its helpdesk would show it."""
        return await self.fetch("GET", self._setting(account), headers=self._basic(HELPDESK))

    async def send(
        self,
        method: str,
        target: str,
        *,
        token: str | None = None,
        account: str = "acme",
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        **body: Any,
    ) -> Answer:
        """Send one request to the gateway's public port; with `token`, as a staff member."""
        sent = {"Host": self.host(account), **(headers or {})}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        answer = await self.fetch(method, self.gateway.public_url + target, headers=sent, data=form, **body)
        return self._note(answer) if token is not None else answer

    async def fetch(self, method: str, url: str, **options: Any) -> Answer:
        """Send one request anywhere, its target byte for byte; no redirect is followed, no cookie kept."""
        address = yarl.URL(url, encoded=True)
        async with self.http.request(method, address, allow_redirects=False, **options) as response:
            return Answer(status=response.status, headers=response.headers, body=await response.read())

    def _note(self, answer: Answer) -> Answer:
        # The reason tells the gateway's own refusals from those of the app.
        self.refused += answer.status >= 400 and "reason" in answer.document
        return answer

    def _setting(self, account: str) -> str:
        return f"{self.gateway.admin_url}/api/v1/accounts/{account}/assumption"

    def _basic(self, client: str) -> dict[str, str]:
        credentials = base64.b64encode(f"{client}:{self.secrets[client]}".encode()).decode()
        return {"Authorization": f"Basic {credentials}"}
