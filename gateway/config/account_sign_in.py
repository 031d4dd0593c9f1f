"""What `[[console.account.sign_in]]` holds; each key's meaning, unit and reason stand in `config.example.toml`."""

from gateway.config.section import Secret, Section


class AccountSignIn(Section, frozen=True, kw_only=True):
    """How the administrators of a customer's accounts sign in at its own provider, and whom which claim makes one."""

    issuer: str
    client_id: str
    accounts: tuple[str, ...] = ()
    client_secret: Secret | None = None
    client_key: Secret | None = None
    client_key_id: str = ""
    scopes: tuple[str, ...] = ("openid", "profile")
    userinfo_claims: tuple[str, ...] = ()
    claim: str = "groups"
    administrators: tuple[str, ...] = ()
    account_claim: str = ""
    require_acr: tuple[str, ...] = ()
    require_amr: tuple[str, ...] = ()
    max_age_seconds: int | None = None
    idle_seconds: int = 900
    absolute_seconds: int = 3600
