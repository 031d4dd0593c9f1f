"""The store's contract for what browsers hold: assumptions by a cookie, and the app's own cookies."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from policy.model import AccountId, ActorId, AssumptionId

EMPTY_JAR: Final = "[]"
BROWSER_KEPT: Final = timedelta(days=7)
"""How long it stays known after its end what a browser held, so that a page still open there is told why it is refused;
its cookie lives as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserAssumption:
    """An assumption that a browser holds by a cookie; whether it counts is said by the assumption itself."""

    digest: bytes
    """SHA-256 of the 256 random bits in the cookie, which are kept nowhere."""
    assumption: AssumptionId
    claims: str
    """What an assumption token would say, as a JSON object."""
    expires_at: datetime
    """When it ends, however it is used."""
    seen_at: datetime
    """When it was last used, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredJar:
    """The app's own cookies of one assumption, kept from the browser that holds it."""

    text: str
    """Sealed with what only that browser has; EMPTY_JAR for none."""
    version: int

    def __repr__(self) -> str:
        """Hide the cookies."""
        return f"StoredJar(version={self.version})"


class Browsing(Protocol):
    """Every call raises StoreError when the store cannot answer."""

    async def add_browser(self, browser: BrowserAssumption, *, at: datetime) -> None:
        """Add what a browser holds from now on, with an empty jar; raises StoreConflict if the digest is taken.

        What `tidy_browsers` would forget by `at` is forgotten.
        """

    async def find_browser(self, digest: bytes) -> BrowserAssumption | None:
        """Return what a browser holds; whether its time is over is for the caller to see."""

    async def list_held(self, actor: ActorId, account: AccountId, *, at: datetime) -> Sequence[AssumptionId]:
        """Return what an actor has open in an account by a browser, whichever; no token's."""

    async def touch_browser(self, digest: bytes, *, at: datetime) -> None:
        """Note that it was used, if it is still there; `seen_at` only ever moves forwards."""

    async def find_jar(self, digest: bytes) -> StoredJar | None:
        """Return the jar of what a browser holds; None if it holds nothing."""

    async def save_jar(self, digest: bytes, jar: StoredJar) -> bool:
        """Store the jar; False, and nothing is stored, unless the stored version is exactly one below.

        Once the assumption or its grant has been ended, by whatever way, its jar is empty, and stays so; whatever
        else changes of the account but the grant's terms empties it, too.
        """

    async def tidy_browsers(self, *, at: datetime) -> None:
        """Empty the jars of what is over by `at`, or whose grant is; forget what has been over for BROWSER_KEPT.

        Of either some hundreds at a time, the oldest first.
        """
