"""What the section `[console.security]` holds; each key's meaning, unit and reason stand in `config.example.toml`."""

from gateway.config.section import Secret, Section


class SecuritySignIn(Section, frozen=True, kw_only=True):
    """How the security team signs in: OpenID Connect's code flow with PKCE, and which claim makes whom what."""

    client_id: str
    issuer: str = ""
    client_secret: Secret | None = None
    client_key: Secret | None = None
    client_key_id: str = ""
    scopes: tuple[str, ...] = ("openid", "profile")
    userinfo_claims: tuple[str, ...] = ()
    roles_claim: str = "groups"
    auditors: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    require_acr: tuple[str, ...] = ()
    require_amr: tuple[str, ...] = ()
    max_age_seconds: int | None = None


class ConsoleSecurity(Section, frozen=True, kw_only=True):
    """The security team's console on the admin listener."""

    origin: str = ""
    idle_seconds: int = 1800
    absolute_seconds: int = 28_800
    sign_in_tries: int = 20
    sign_in: SecuritySignIn | None = None
