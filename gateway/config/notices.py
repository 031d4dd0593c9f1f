"""What the section `[notices]` holds; each key's meaning, unit and reason stand in `config.example.toml`."""

from pathlib import Path
from typing import Final, Literal, get_args

from msgspec.structs import replace

from gateway.config.section import Secret, Section

EventName = Literal["setting", "begun", "ended", "asked", "kill_switch", "evidence", "contacts"]
EVENTS: Final[tuple[EventName, ...]] = get_args(EventName)


class NoticesMail(Section, frozen=True, kw_only=True):
    """The relay that takes our mails (RFC 6409), and from whom they are."""

    host: str
    sender: str
    sender_name: str = "Locum"
    port: int = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str = ""
    password: Secret | None = None
    ca: str = ""
    timeout_seconds: float = 10.0


class NoticesWebhooks(Section, frozen=True, kw_only=True):
    """How accounts' webhooks are signed and reached."""

    secret: Secret | None = None
    """Each address has a secret of its own, which is made of this one."""
    private_networks: tuple[str, ...] = ()
    ca: str = ""
    timeout_seconds: float = 10.0


class NoticesSecurity(Section, frozen=True, kw_only=True):
    """Whom of the vendor is told, and of what."""

    mail: tuple[str, ...] = ()
    webhook: str = ""
    webhook_secret: Secret | None = None
    events: tuple[EventName, ...] = EVENTS


class Notices(Section, frozen=True, kw_only=True):
    """Who is told what happens."""

    mail: NoticesMail | None = None
    webhooks: NoticesWebhooks = NoticesWebhooks()
    security: NoticesSecurity = NoticesSecurity()
    templates: str = ""
    digest_seconds: float = 60.0
    give_up_hours: float = 96.0


def resolve_notices(notices: Notices | None, base: Path) -> Notices | None:
    """Return the section with its relative paths counted from `base`."""
    if notices is None:
        return None
    mail, hooks = notices.mail, notices.webhooks
    if mail is not None and mail.ca:
        mail = replace(mail, ca=str(base / mail.ca))
    if hooks.ca:
        hooks = replace(hooks, ca=str(base / hooks.ca))
    templates = str(base / notices.templates) if notices.templates else ""
    return replace(notices, mail=mail, webhooks=hooks, templates=templates)
