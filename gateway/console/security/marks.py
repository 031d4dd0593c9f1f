"""By what a page "Now" and its stream know that what somebody may see there is as it was."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import msgspec

from gateway.clock import Ticks
from gateway.console.security.scene import Scene, Scenes
from policy.model import AccountId

_FRESH_SECONDS: Final = 5.0
"""After that time alone may have changed something; whoever is told of changes alone is told at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    text: str
    position: int
    at: float


class Marks:
    """Texts that are others once what they stand for is another; they are the same in every process."""

    def __init__(self, scenes: Scenes, *, position: Callable[[], int], ticks: Ticks) -> None:
        self._scenes = scenes
        self._position = position
        self._ticks = ticks
        # Only accounts that a client is limited to get in here, so it grows no further than operators want.
        self._made: dict[AccountId, _Made] = {}

    async def now(self, account: AccountId | None) -> str:
        """Return what all accounts, or the one, are like now; raises StoreError.

        Of one account it tells nothing of the others: neither that anything has changed there, nor how often.
        """
        if account is None:
            return str(self._position())
        made = self._made.get(account)
        if made is None or made.position < self._position() or self._ticks() - made.at >= _FRESH_SECONDS:
            at, scene = self._ticks(), await self._scenes.now()
            text = _describe(scene.narrowed(account=account))
            made = self._made[account] = _Made(text=text, position=scene.position, at=at)
        return made.text


def _describe(mine: Scene) -> str:
    said = (
        mine.switch,
        [(one.assumption.id, one.until, one.suspended) for one in mine.inside],
        [(one.grant, one.suspended) for one in mine.allowed],
        mine.trials,
    )
    # In one order in every process, whatever sets are made of.
    return sha256(msgspec.json.encode(said, order="deterministic")).hexdigest()[:32]
