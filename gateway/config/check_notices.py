"""What the types of the section `[notices]` cannot say."""

import ipaddress

from gateway.config.model import Config, ConfigError
from gateway.config.notices import Notices, NoticesMail
from gateway.config.section import Secret
from gateway.loopback import LOOPBACK
from gateway.telling.addresses import is_mail, is_webhook
from gateway.telling.secret import is_secret

_WHERE = "notices"
_LEAST_SECRET_BYTES = 32
_MOST_SECONDS = 15.0
_MOST_DIGEST_SECONDS = 3600.0
_MOST_HOURS = 24.0 * 14


def check_notices(config: Config) -> None:
    """Raise ConfigError."""
    notices = config.notices
    if notices is None:
        return
    if notices.mail is not None:
        _check_mail(notices.mail)
    _check_security(notices)
    hooks = notices.webhooks
    if hooks.secret is not None and len(hooks.secret.reveal().encode()) < _LEAST_SECRET_BYTES:
        raise ConfigError(f"{_WHERE}.webhooks.secret: must have at least {_LEAST_SECRET_BYTES} bytes")
    for index, text in enumerate(hooks.private_networks):
        try:
            ipaddress.ip_network(text)
        except ValueError as exc:
            raise ConfigError(f"{_WHERE}.webhooks.private_networks[{index}]: {exc}") from exc
    if not 0 < hooks.timeout_seconds <= _MOST_SECONDS:
        raise ConfigError(f"{_WHERE}.webhooks.timeout_seconds: must be above 0 and at most {_MOST_SECONDS:g}")
    if not 0 <= notices.digest_seconds <= _MOST_DIGEST_SECONDS:
        raise ConfigError(f"{_WHERE}.digest_seconds: must be at least 0 and at most {_MOST_DIGEST_SECONDS:g}")
    if not 0 < notices.give_up_hours <= _MOST_HOURS:
        raise ConfigError(f"{_WHERE}.give_up_hours: must be above 0 and at most {_MOST_HOURS:g}")


def _check_mail(mail: NoticesMail) -> None:
    where = f"{_WHERE}.mail"
    if not mail.host or not mail.host.isascii() or not mail.host.isprintable() or " " in mail.host:
        raise ConfigError(f"{where}.host: must be the name or the address of a mail relay")
    if not 0 < mail.port < 65536:
        raise ConfigError(f"{where}.port: must be above 0 and at most 65535")
    if not is_mail(mail.sender):
        raise ConfigError(f"{where}.sender: must be one mail address in ASCII, without a name")
    if not mail.sender_name.isprintable():
        raise ConfigError(f"{where}.sender_name: must be one line of text")
    if mail.security == "none" and mail.host not in LOOPBACK:
        raise ConfigError(f"{where}.security: without TLS only a relay on this machine's own loopback can be used")
    if bool(mail.user) != (mail.password is not None):
        raise ConfigError(f"{where}.user: goes with a `password` or a `password_file`")
    if not 0 < mail.timeout_seconds <= _MOST_SECONDS:
        raise ConfigError(f"{where}.timeout_seconds: must be above 0 and at most {_MOST_SECONDS:g}")


def _check_security(notices: Notices) -> None:
    security, where = notices.security, f"{_WHERE}.security"
    for index, address in enumerate(security.mail):
        if not is_mail(address):
            raise ConfigError(f"{where}.mail[{index}]: must be one mail address in ASCII, without a name")
    if security.mail and notices.mail is None:
        raise ConfigError(f"{where}.mail: needs a relay: see [notices.mail]")
    if security.webhook and not is_webhook(security.webhook):
        raise ConfigError(f"{where}.webhook: must be an https URL in ASCII, or http to this machine's own loopback")
    if bool(security.webhook) != (security.webhook_secret is not None):
        raise ConfigError(f"{where}.webhook: goes with a `webhook_secret` or a `webhook_secret_file`")
    if security.webhook_secret is not None and not _is_secret(security.webhook_secret):
        raise ConfigError(f"{where}.webhook_secret: must be `whsec_` and 24 to 64 random bytes in base64")


def _is_secret(secret: Secret) -> bool:
    return is_secret(secret.reveal())
