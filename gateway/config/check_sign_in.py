"""What the types cannot say of staff's sign-in with a browser."""

import re

from gateway.config.account_sign_in import AccountSignIn
from gateway.config.model import Config, ConfigError, SignIn
from gateway.config.security import SecuritySignIn
from gateway.origin import Origin

_WHERE = "staff.sign_in"
_SCOPE = re.compile(r"[!#-\[\]-~]+", re.ASCII)  # RFC 6749 section 3.3
_CLIENT = re.compile(r"[ -~]{1,512}", re.ASCII)  # RFC 6749 appendix A.1
# What says who has signed in, when and how: it is believed with the provider's signature for this very sign-in only.
_SIGNED_ONLY = frozenset(
    {"iss", "sub", "aud", "azp", "exp", "iat", "nbf", "jti", "nonce", "sid", "auth_time", "acr", "amr"}
)
_LONGEST = {"idle_seconds": 86400, "absolute_seconds": 7 * 86400}


def check_sign_in(config: Config) -> None:
    """Raise ConfigError unless staff can sign in safely, if they are to sign in here at all."""
    section = config.staff.sign_in
    if section is None:
        return
    _check_origin(config.server.issuer)
    check_client(section, _WHERE)
    for name, most in _LONGEST.items():
        if not 0 < getattr(section, name) <= most:
            raise ConfigError(f"{_WHERE}.{name}: must be above 0 and at most {most}")


def _check_origin(issuer: str) -> None:
    origin = Origin.of(issuer)  # which it has: whatever cannot be an issuer has been refused before
    if not origin.is_safe:
        raise ConfigError(f"{_WHERE}: goes with a server.issuer of https; http is for this machine's own loopback only")
    if issuer != origin.text:
        raise ConfigError(f"{_WHERE}: staff sign in at server.issuer, which must be `{origin.text}`, without a path")


def check_client(section: SignIn | SecuritySignIn | AccountSignIn, where: str) -> None:
    """Raise ConfigError for what `where` says of us as a client of the provider, if it could be none."""
    if _CLIENT.fullmatch(section.client_id) is None:
        raise ConfigError(f"{where}.client_id: must be printable ASCII, and not empty")
    if section.client_secret is not None and section.client_key is not None:
        raise ConfigError(f"{where}: give `client_secret` or `client_key`, not both")
    if "openid" not in section.scopes:
        raise ConfigError(f"{where}.scopes: `openid` has to be among them")
    for index, name in enumerate(section.userinfo_claims):
        if name in _SIGNED_ONLY:
            raise ConfigError(f"{where}.userinfo_claims[{index}]: `{name}` counts from the ID token alone")
    for index, scope in enumerate(section.scopes):
        if _SCOPE.fullmatch(scope) is None:
            raise ConfigError(f"{where}.scopes[{index}]: `{scope}` is not a scope")
