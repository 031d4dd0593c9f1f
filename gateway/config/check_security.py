"""What the types of the section `[console.security]` cannot say."""

from typing import Final

from gateway.config.check_sign_in import check_client
from gateway.config.model import Config, ConfigError
from gateway.config.security import ConsoleSecurity, SecuritySignIn
from gateway.config.urls import is_safe
from gateway.loopback import LOOPBACK
from gateway.origin import Origin

_WHERE: Final = "console.security"
_MOST: Final = {"idle_seconds": 86400, "absolute_seconds": 7 * 86400, "sign_in_tries": 1000}


def check_security(config: Config, admin_host: str) -> None:
    """Raise ConfigError unless the security team can sign in safely; `admin_host` is where the listener is bound."""
    section = config.console.security
    if section is None:
        return
    _check_origin(section, admin_host)
    for name, most in _MOST.items():
        if not 0 < getattr(section, name) <= most:
            raise ConfigError(f"{_WHERE}.{name}: must be above 0 and at most {most}")
    if section.sign_in is not None:
        _check_sign_in(section, section.sign_in)


def _check_origin(section: ConsoleSecurity, admin_host: str) -> None:
    if not section.origin:
        if admin_host not in LOOPBACK:
            raise ConfigError(
                f"{_WHERE}.origin: server.admin_listen is not this machine's loopback: say by which https origin people"
                " reach the console"
            )
        return
    try:
        origin = Origin.of(section.origin)
    except ValueError:
        origin = None
    if origin is None or not section.origin.isascii() or origin.text != section.origin:
        raise ConfigError(f"{_WHERE}.origin: must be an origin such as https://locum.vendor.example, without a path")
    if not is_safe(section.origin):
        raise ConfigError(f"{_WHERE}.origin: must be https; http is for this machine's own loopback only")


def _check_sign_in(section: ConsoleSecurity, sign_in: SecuritySignIn) -> None:
    where = f"{_WHERE}.sign_in"
    check_client(sign_in, where)
    if not section.origin:
        raise ConfigError(f"{_WHERE}.origin: the identity provider sends people back there, so it has to be said")
    if sign_in.issuer and not is_safe(sign_in.issuer):
        raise ConfigError(f"{where}.issuer: must be an https URL; http is for this machine's own loopback only")
    if not (sign_in.auditors or sign_in.operators):
        raise ConfigError(
            f"{where}.auditors: without a value of `{sign_in.roles_claim}` here or in `operators` nobody"
            " could ever sign in"
        )
    for name in ("auditors", "operators"):
        if "" in getattr(sign_in, name):
            raise ConfigError(f"{where}.{name}: an empty value is nobody's")
    if not sign_in.roles_claim:
        raise ConfigError(f"{where}.roles_claim: name the claim that says who is what")
    if sign_in.max_age_seconds is not None and sign_in.max_age_seconds <= 0:
        raise ConfigError(f"{where}.max_age_seconds: must be above 0, or left out")
