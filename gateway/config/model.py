"""What the configuration holds; each key's meaning, unit and reason stand in `config.example.toml`."""

import math
from dataclasses import fields
from pathlib import Path
from typing import Literal

import msgspec

from gateway.config.audit import Audit
from gateway.config.console import Console
from gateway.config.notices import Notices
from gateway.config.requests import GrantRequestLimits
from gateway.config.section import Secret, Section
from gateway.proxy.limits import ListenerLimits, PoolLimits
from gateway.stores.postgres.address import Address, parse_url
from gateway.stores.postgres.terms import StoreTerms
from policy.keys import Algorithm
from policy.model import AccountType, Duration, Permission

# Where the limits are enforced their defaults stand, too, with the reasons.
_LISTENER = ListenerLimits()
_POOL = PoolLimits()
_TERMS = StoreTerms()


class ConfigError(Exception):
    """The operator's fault: a key is unknown, missing or of the wrong kind; the message starts with its path."""


class ServerTls(Section, frozen=True, kw_only=True):
    """The certificate of the public listener; paths of PEM files."""

    certificate: str
    key: str
    minimum_version: Literal["1.2", "1.3"] = "1.2"


class Server(Section, frozen=True, kw_only=True):
    """Where Locum listens, and where it keeps what it must not lose."""

    issuer: str
    listen: str = "127.0.0.1:8080"
    admin_listen: str = "127.0.0.1:8081"
    data_directory: str = "data"
    node: str = "gateway"
    trusted_proxies: tuple[str, ...] = ()
    shutdown_seconds: float = 10.0
    workers: int | Literal["auto"] = 1
    worker_deadline_seconds: float = 10.0
    tls: ServerTls | None = None


class Limits(Section, frozen=True, kw_only=True):
    """What clients may take of the public listener: `ListenerLimits`, and what TLS adds to them."""

    header_bytes: int = _LISTENER.header_bytes
    header_lines: int = _LISTENER.header_lines
    header_timeout_seconds: float = _LISTENER.header_timeout_seconds
    idle_timeout_seconds: float = _LISTENER.idle_timeout_seconds
    body_idle_timeout_seconds: float = _LISTENER.body_idle_timeout_seconds
    min_bytes_per_second: float = _LISTENER.min_bytes_per_second
    write_stall_timeout_seconds: float = _LISTENER.write_stall_timeout_seconds
    linger_timeout_seconds: float = _LISTENER.linger_timeout_seconds
    connections_per_peer: int = _LISTENER.connections_per_peer
    max_connections: int = _LISTENER.max_connections
    max_in_flight: int = _LISTENER.max_in_flight
    in_flight_per_peer: int | None = None
    websockets_per_peer: int | None = None
    queue_timeout_seconds: float = _LISTENER.queue_timeout_seconds
    tls_handshakes_per_peer: int = _LISTENER.tls_handshakes_per_peer
    tls_handshake_timeout_seconds: float = 10.0


class Accounts(Section, frozen=True, kw_only=True):
    """How a request tells which account it is for."""

    host: str
    source: Literal["host", "header", "fixed"] = "host"
    header: str = ""
    fixed: str = ""


class UpstreamTls(Section, frozen=True, kw_only=True):
    """Whom the app's certificate must come from and be for, and the one that we show; paths of PEM files."""

    ca: str = ""
    certificate: str = ""
    key: str = ""
    server_name: str = ""


class Upstream(Section, frozen=True, kw_only=True):
    """The app behind Locum."""

    url: str
    profile: str
    audience: str = "helpdesk"
    connect_timeout_seconds: float = _POOL.connect_timeout_seconds
    header_bytes: int = _POOL.header_bytes
    response_timeout_seconds: float = _POOL.response_timeout_seconds
    idle_timeout_seconds: float = _POOL.idle_timeout_seconds
    request_stall_timeout_seconds: float = _POOL.request_stall_timeout_seconds
    queue_timeout_seconds: float = _POOL.queue_timeout_seconds
    unreachable_pause_seconds: float = _POOL.unreachable_pause_seconds
    max_connections: int = _POOL.max_connections
    max_idle_connections: int = _POOL.max_idle
    max_idle_age_seconds: float = _POOL.max_idle_age_seconds
    max_age_seconds: float = _POOL.max_age_seconds
    max_websockets: int = _POOL.max_websockets
    websocket_idle_timeout_seconds: float = 0.0
    bind_assertions: bool = False
    forwarded_for: Literal["append", "keep"] = "append"
    tls: UpstreamTls | None = None

    @property
    def pool(self) -> PoolLimits:
        """The limits as each pool of connections takes them; no time for a silent WebSocket is any time."""
        return PoolLimits(
            connect_timeout_seconds=self.connect_timeout_seconds,
            header_bytes=self.header_bytes,
            response_timeout_seconds=self.response_timeout_seconds,
            idle_timeout_seconds=self.idle_timeout_seconds,
            request_stall_timeout_seconds=self.request_stall_timeout_seconds,
            queue_timeout_seconds=self.queue_timeout_seconds,
            unreachable_pause_seconds=self.unreachable_pause_seconds,
            max_connections=self.max_connections,
            max_idle=self.max_idle_connections,
            max_idle_age_seconds=self.max_idle_age_seconds,
            max_age_seconds=self.max_age_seconds,
            max_websockets=self.max_websockets,
            websocket_idle_timeout_seconds=self.websocket_idle_timeout_seconds or math.inf,
        )


class OtherUpstream(Section, frozen=True, kw_only=True):
    """A part of the app that listens elsewhere: the requests to a host, below a path, or both."""

    url: str
    host: str = ""
    path: str = ""
    tls: UpstreamTls | None = None


class Identity(Section, frozen=True, kw_only=True):
    """How the app is told who is there."""

    header: str = "X-Locum-Assertion"
    assertion_seconds: int = 60
    algorithm: Algorithm = "EdDSA"
    plain: dict[str, str] = msgspec.field(default_factory=dict)
    strip: tuple[str, ...] = ()


class Catch(Section, frozen=True, kw_only=True):
    """A request that fits this must be staff's, and so needs an assumption token."""

    header: str = ""
    host: str = ""
    network: str = ""


class StaffRuleTable(Section, frozen=True, kw_only=True):
    """Who of the vendor's people may stand in for whom, and how far: `policy.rules.StaffRule`."""

    permissions: tuple[Permission, ...]
    subject: str | None = None
    group: str | None = None
    groups: tuple[str, ...] = ()
    claims: dict[str, str] = msgspec.field(default_factory=dict)
    amr: tuple[str, ...] = ()
    account_type: AccountType | None = None
    account_attributes: dict[str, str] = msgspec.field(default_factory=dict)
    agent_roles: tuple[str, ...] = ()


class StaffEvents(Section, frozen=True, kw_only=True):
    """What the identity provider may tell of its people: sign-outs and security events."""

    audience: str = ""
    push_token: Secret | None = None
    max_age_seconds: int = 3600


class SignIn(Section, frozen=True, kw_only=True):
    """How staff sign in with a browser: OpenID Connect's code flow with PKCE."""

    client_id: str
    client_secret: Secret | None = None
    client_key: Secret | None = None
    client_key_id: str = ""
    scopes: tuple[str, ...] = ("openid", "profile")
    userinfo_claims: tuple[str, ...] = ()
    idle_seconds: int = 1800
    absolute_seconds: int = 28800


class StaffSection(Section, frozen=True, kw_only=True):
    """The vendor's identity provider and its people."""

    issuer: str
    audience: str
    rules: tuple[StaffRuleTable, ...]
    groups_claim: str = "groups"
    agent_claim: str | None = None
    max_assumptions: int = 10
    require_acr: tuple[str, ...] = ()
    require_amr: tuple[str, ...] = ()
    max_age_seconds: int | None = None
    events: StaffEvents = StaffEvents()
    sign_in: SignIn | None = None


class Tokens(Section, frozen=True, kw_only=True):
    """The assumption token."""

    lifetime_seconds: int = 900
    require_ticket: bool = True
    require_reason: bool = True
    algorithm: Algorithm = "EdDSA"
    signing_key: Secret | None = None


class BrowserBanner(Section, frozen=True, kw_only=True):
    """Whether the app's pages say who stands in for whom."""

    enabled: bool = False


class Browser(Section, frozen=True, kw_only=True):
    """An assumption that staff begin and use with a browser."""

    lifetime_seconds: int = 28_800
    idle_seconds: int = 1_800
    banner: BrowserBanner = BrowserBanner()


class AnswerFields(Section, frozen=True, kw_only=True):
    """Where the app's answer holds each fact: `policy.setting.Fields`; the defaults are Zendesk's."""

    account: str = ""
    assumable: str = "/security_settings/assumable"
    duration: str = "/security_settings/assumption_duration"
    expires_at: str = "/security_settings/assumption_expiration"
    permissions: str = ""
    account_type: str = "/security_settings/assumable_account_type"
    suspended: str = ""
    attributes: dict[str, str] = msgspec.field(default_factory=dict)


class AnswerWords(Section, frozen=True, kw_only=True):
    """What the app's words mean: `policy.setting.Words`."""

    assumable: dict[str, bool] = msgspec.field(default_factory=lambda: {"true": True, "false": False})
    duration: dict[str, Duration] = msgspec.field(default_factory=lambda: {str(each): each for each in Duration})
    permissions: dict[str, Permission] = msgspec.field(default_factory=lambda: {str(each): each for each in Permission})
    account_type: dict[str, AccountType] = msgspec.field(
        default_factory=lambda: {"true": AccountType.TRIAL, "false": AccountType.PAID}
    )
    suspended: dict[str, bool] = msgspec.field(default_factory=lambda: {"true": True, "false": False})


class GrantsHttp(Section, frozen=True, kw_only=True):
    """How the app is asked for an account's setting, and how its answer is read."""

    url: str
    credential: Secret | None = None
    credential_header: str = "Authorization"
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    timeout_seconds: float = 0.4
    max_connections: int = 16
    permissions: tuple[Permission, ...] = (Permission.READ,)
    fields: AnswerFields = AnswerFields()
    words: AnswerWords = msgspec.field(default_factory=AnswerWords)
    tls: UpstreamTls | None = None


class GrantsWebhook(Section, frozen=True, kw_only=True):
    """The app's own word that a setting has changed."""

    secret: Secret
    previous_secret: Secret | None = None
    window_seconds: int = 300
    account: str = "/account"


class Grants(Section, frozen=True, kw_only=True):
    """Who keeps the grants, who may change one, and how old a fact may be."""

    source: Literal["own", "http"] = "own"
    http: GrantsHttp | None = None
    webhook: GrantsWebhook | None = None
    administrator_roles: tuple[str, ...] = ("owner", "admin")
    trial_permissions: tuple[Permission, ...] = (Permission.READ,)
    fact_ttl_seconds: float = 2.0
    absent_ttl_seconds: float = 1.0
    requests: GrantRequestLimits = GrantRequestLimits()

    @property
    def kept_by_app(self) -> bool:
        """Whether the app's own setting is the grant, so that nothing is chosen here."""
        return self.source == "http"


class StoreSection(Section, frozen=True, kw_only=True):
    """Where the facts are: the embedded store, or a database that several machines share (`StoreTerms`)."""

    url: Secret | None = None
    """None or empty: the embedded store."""
    migrate: bool = _TERMS.migrate
    timeout_seconds: float = _TERMS.read_seconds
    write_timeout_seconds: float = _TERMS.write_seconds
    min_connections: int = _TERMS.least_connections
    max_connections: int = _TERMS.most_connections

    @property
    def address(self) -> Address | None:
        """Where the shared database is, if there is one; raises ConfigError."""
        if self.url is None or not self.url.reveal():
            return None
        try:
            return parse_url(self.url.reveal())
        except ValueError as exc:
            raise ConfigError(f"store.url: {exc}") from None

    @property
    def terms(self) -> StoreTerms:
        """As the shared store takes them."""
        return StoreTerms(
            read_seconds=self.timeout_seconds,
            write_seconds=self.write_timeout_seconds,
            least_connections=min(self.min_connections, self.max_connections),
            most_connections=self.max_connections,
            migrate=self.migrate,
        )


class Config(Section, frozen=True, kw_only=True):
    """The whole file."""

    server: Server
    accounts: Accounts
    upstream: Upstream
    staff: StaffSection
    upstreams: tuple[OtherUpstream, ...] = ()
    limits: Limits = Limits()
    identity: Identity = Identity()
    catch: tuple[Catch, ...] = ()
    tokens: Tokens = Tokens()
    browser: Browser = Browser()
    grants: Grants = Grants()
    store: StoreSection = StoreSection()
    audit: Audit = Audit()
    console: Console = Console()
    notices: Notices | None = None

    @property
    def listener(self) -> ListenerLimits:
        """The limits as the listener takes them: what is not said of one address is half of what there is for all."""
        limits = {field.name: getattr(self.limits, field.name) for field in fields(ListenerLimits)}
        whole = {
            "in_flight_per_peer": self.upstream.max_connections,
            "websockets_per_peer": self.upstream.max_websockets,
        }
        for name, most in whole.items():
            if limits[name] is None:
                limits[name] = (most + 1) // 2
        return ListenerLimits(**limits)

    @property
    def store_path(self) -> Path:
        """Where the embedded store is."""
        return Path(self.server.data_directory) / "locum.sqlite3"

    @property
    def journal_directory(self) -> Path:
        """Where the journal is."""
        return Path(self.server.data_directory) / "journal"

    @property
    def journal_key(self) -> Path:
        """Where the public key of the journal's checkpoints is put for whoever verifies."""
        return Path(self.server.data_directory) / "journal-key.pem"
