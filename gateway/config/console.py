"""What the section `[console]` holds; each key's meaning, unit and reason stand in `config.example.toml`."""

import msgspec

from gateway.config.account_sign_in import AccountSignIn
from gateway.config.section import Section
from gateway.config.security import ConsoleSecurity


class WhoFields(Section, frozen=True, kw_only=True):
    """Where the app's answer to "who am I" holds each fact: `policy.administrators.PersonFields`."""

    user: str = "/user/id"
    name: str = "/user/name"
    account: str = ""
    roles: str = "/user/role"
    acting: str = ""


class ConsoleAccount(Section, frozen=True, kw_only=True):
    """The page of an account's own administrators: how the app is asked who they are, or where they sign in."""

    who_am_i: str = ""
    fields: WhoFields = WhoFields()
    pass_headers: tuple[str, ...] = ()
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    timeout_seconds: float = 2.0
    remember_seconds: float = 3.0
    sign_in: tuple[AccountSignIn, ...] = ()


class Console(Section, frozen=True, kw_only=True):
    """Pages for people."""

    account: ConsoleAccount | None = None
    security: ConsoleSecurity | None = None

    @property
    def tells_staff(self) -> bool:
        """Whether a session that the app makes of an assertion lets nobody in: its answer says that staff act.

        Where it does not, staff must never hold one: it would be an administrator's, to whoever asks the app.
        """
        return self.account is None or not self.account.who_am_i or bool(self.account.fields.acting)
