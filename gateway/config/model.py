"""What the configuration holds; each key's meaning, unit and reason stand in `config.example.toml`."""

import math
from dataclasses import fields
from pathlib import Path
from typing import Literal

import msgspec

from gateway.proxy.listener import ListenerLimits
from gateway.proxy.pool import PoolLimits
from policy.model import Permission

# Where the limits are enforced their defaults stand, too, with the reasons.
_LISTENER = ListenerLimits()
_POOL = PoolLimits()


class ConfigError(Exception):
    """The operator's fault: a key is unknown, missing or of the wrong kind; the message starts with its path."""


class Secret:
    """A text that never shows in a log, an error or a traceback."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself; call it only where it is used."""
        return self._text

    def __repr__(self) -> str:
        """Hide the text."""
        return "Secret(…)"


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


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
    trusted_proxies: tuple[str, ...] = ()
    shutdown_seconds: float = 10.0
    workers: int | Literal["auto"] = 1
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
    max_in_flight: int = _LISTENER.max_in_flight
    tls_handshake_timeout_seconds: float = 10.0

    @property
    def listener(self) -> ListenerLimits:
        """As the listener takes them."""
        return ListenerLimits(**{field.name: getattr(self, field.name) for field in fields(ListenerLimits)})


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
    response_timeout_seconds: float = _POOL.response_timeout_seconds
    idle_timeout_seconds: float = _POOL.idle_timeout_seconds
    request_stall_timeout_seconds: float = _POOL.request_stall_timeout_seconds
    queue_timeout_seconds: float = _POOL.queue_timeout_seconds
    unreachable_pause_seconds: float = _POOL.unreachable_pause_seconds
    max_connections: int = _POOL.max_connections
    max_idle_connections: int = _POOL.max_idle
    max_idle_age_seconds: float = _POOL.max_idle_age_seconds
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
            response_timeout_seconds=self.response_timeout_seconds,
            idle_timeout_seconds=self.idle_timeout_seconds,
            request_stall_timeout_seconds=self.request_stall_timeout_seconds,
            queue_timeout_seconds=self.queue_timeout_seconds,
            unreachable_pause_seconds=self.unreachable_pause_seconds,
            max_connections=self.max_connections,
            max_idle=self.max_idle_connections,
            max_idle_age_seconds=self.max_idle_age_seconds,
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
    plain: dict[str, str] = msgspec.field(default_factory=dict)
    strip: tuple[str, ...] = ()


class Catch(Section, frozen=True, kw_only=True):
    """A request that fits this must be staff's, and so needs an assumption token."""

    header: str = ""
    host: str = ""
    network: str = ""


class StaffRuleTable(Section, frozen=True, kw_only=True):
    """Who of the vendor's people may stand in, and how far."""

    permissions: tuple[Permission, ...]
    subject: str | None = None
    group: str | None = None
    claim: str | None = None
    value: str | None = None


class StaffSection(Section, frozen=True, kw_only=True):
    """The vendor's identity provider and its people."""

    issuer: str
    audience: str
    rules: tuple[StaffRuleTable, ...]
    groups_claim: str = "groups"
    require_acr: tuple[str, ...] = ()
    require_amr: tuple[str, ...] = ()
    max_age_seconds: int | None = None


class Tokens(Section, frozen=True, kw_only=True):
    """The assumption token."""

    lifetime_seconds: int = 900
    require_ticket: bool = True
    require_reason: bool = True
    signing_key: Secret | None = None


class Grants(Section, frozen=True, kw_only=True):
    """Who may change a grant, and how old a fact may be."""

    administrator_roles: tuple[str, ...] = ("owner", "admin")
    trial_permissions: tuple[Permission, ...] = (Permission.READ,)
    fact_ttl_seconds: float = 2.0
    absent_ttl_seconds: float = 1.0


class Audit(Section, frozen=True, kw_only=True):
    """The journal."""

    segment_mib: int = 64
    checkpoint_seconds: float = 1.0


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
    grants: Grants = Grants()
    audit: Audit = Audit()

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
