"""What the configuration holds; each key's meaning, unit and reason stand in `config.example.toml`."""

from pathlib import Path
from typing import Literal

import msgspec

from policy.model import Permission


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


class Server(Section, frozen=True, kw_only=True):
    """Where Locum listens, and where it keeps what it must not lose."""

    issuer: str
    listen: str = "127.0.0.1:8080"
    admin_listen: str = "127.0.0.1:8081"
    data_directory: str = "data"
    trusted_proxies: tuple[str, ...] = ()
    shutdown_seconds: float = 10.0


class Accounts(Section, frozen=True, kw_only=True):
    """How a request tells which account it is for."""

    host: str
    source: Literal["host", "header", "fixed"] = "host"
    header: str = ""
    fixed: str = ""


class Upstream(Section, frozen=True, kw_only=True):
    """The app behind Locum."""

    url: str
    profile: str
    audience: str = "helpdesk"
    connect_timeout_seconds: float = 5.0
    response_timeout_seconds: float = 60.0
    idle_timeout_seconds: float = 60.0
    max_connections: int = 256
    bind_assertions: bool = False
    forwarded_for: Literal["append", "keep"] = "append"


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
