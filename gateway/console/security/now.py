"""The page "Now": `GET /console`, who stands in for whom, what accounts allow, and the kill-switch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from aiohttp import web

from gateway.console.notes import Notes
from gateway.console.security.frame import Frame
from gateway.console.security.live import LIVE_STREAM
from gateway.console.security.marks import Marks
from gateway.console.security.scene import Scene, Scenes
from gateway.console.security.visit import PATH, Visit
from gateway.pages.words import PERMISSIONS

T = TypeVar("T")

END: Final = f"{PATH}/end"
END_ALL: Final = f"{PATH}/end-all"
OFF: Final = f"{PATH}/off"
SWITCH: Final = f"{PATH}/kill-switch"
PERSON: Final = f"{PATH}/staff"
NOTES: Final = {
    "ended": "Ended. That person is out.",
    "over": "It was over already.",
    "all-ended": "Ended. Everybody whom you have seen there is out.",
    "off": "Account assumption is off for that account. Whoever was in is out.",
    "was-off": "It was off already.",
    "stopped": "All account assumption is stopped.",
    "let-go": "Account assumption goes on, for whoever accounts allow.",
    "was-let-go": "The kill-switch was off already.",
    "person-ended": "Ended. That person is out of every account.",
    "locked": "Locked. That person is out, and cannot stand in until an operator unlocks them.",
}
ON_PAGE: Final = 50
_LONGEST = 200


def whose(visit: Visit) -> tuple[str, ...]:
    """Return by what a session at this console is told from every other."""
    return "console", visit.session.hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What of everything somebody looks at; it stands in the address, and nowhere else."""

    words: str = ""
    account: str = ""
    page: int = 1
    grants: int = 1

    @classmethod
    def read(cls, request: web.Request) -> "Filter":
        """Return what the query says, as far as it makes sense."""
        query = request.query
        return cls(
            words=query.get("q", "")[:_LONGEST].strip(),
            account=query.get("account", "")[:_LONGEST].strip(),
            page=_number(query.get("page", "")),
            grants=_number(query.get("grants", "")),
        )

    def address(self, *, page: int | None = None, grants: int | None = None) -> str:
        """Return the page's address with this filter, and maybe at another place of a list."""
        asked: dict[str, str] = {}
        if self.words:
            asked["q"] = self.words
        if self.account:
            asked["account"] = self.account
        for name, value in (("page", page or self.page), ("grants", grants or self.grants)):
            if value > 1:
                asked[name] = str(value)
        return f"{PATH}?{urlencode(asked)}" if asked else PATH

    async def of(self, scene: Scene, visit: Visit) -> Scene:
        """Return what somebody gets to see of a scene: of their one account, if they are limited to it."""
        mine = scene.narrowed(account=visit.account)
        return await mine.narrowed(account=self.account or None).about(self.words)


class NowPage:
    """Shows everything that is live, a page of it at a time."""

    def __init__(self, *, frame: Frame, scenes: Scenes, marks: Marks, notes: Notes[Visit], kept_by_app: bool) -> None:
        """With `kept_by_app` grants are turned off in the app, and not here."""
        self._frame = frame
        self._scenes = scenes
        self._marks = marks
        self._notes = notes
        self._kept_by_app = kept_by_app

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the admin listener that this serves."""
        return [web.get(PATH, self._frame.guarded(self.show), allow_head=False)]

    async def show(self, request: web.Request) -> web.Response:
        """Answer with the page."""
        visit = await self._frame.admission.for_page(request)
        if isinstance(visit, web.Response):
            return visit
        wanted = Filter.read(request)
        # Made before, so that what has changed since is told of once too often rather than never.
        mark = await self._marks.now(visit.account)
        scene = await self._scenes.now()
        seen = await wanted.of(scene, visit)
        inside, allowed = _cut(seen.inside, wanted.page), _cut(seen.allowed, wanted.grants)
        here = wanted.address()
        joined = f"{here}{'&' if '?' in here else '?'}"
        return self._frame.page(
            visit,
            "security_now.html",
            here="now",
            note=self._notes.read(request, visit),
            wanted=wanted,
            again=f"{joined}live=1",
            by_itself=f"{joined}refresh=on",
            refresh=request.query.get("refresh") == "on",
            stream=f"{LIVE_STREAM}?seen={mark}",
            address=here,
            scene=seen,
            inside=inside,
            staff_count=len({one.assumption.actor for one in seen.inside}),
            accounts_count=len({one.assumption.account for one in seen.inside}),
            allowed=allowed,
            permissions=[(each, label) for each, (label, _) in PERMISSIONS.items()],
            inside_pages=_pages(len(seen.inside), wanted.page, lambda page: wanted.address(page=page)),
            allowed_pages=_pages(len(seen.allowed), wanted.grants, lambda page: wanted.address(grants=page)),
            kept_by_app=self._kept_by_app,
            paths={"page": PATH, "end": END, "end_all": END_ALL, "off": OFF, "switch": SWITCH, "person": PERSON},
        )


def _cut(found: Sequence[T], page: int) -> Sequence[T]:
    return found[(page - 1) * ON_PAGE : page * ON_PAGE]


def _pages(count: int, page: int, address: Any) -> dict[str, Any] | None:
    """Return where a list goes on before and behind; None if all of it is on one page."""
    last = max(1, -(-count // ON_PAGE))
    if last == 1 and page == 1:
        return None
    return {
        "page": page,
        "last": last,
        "before": address(min(page - 1, last)) if page > 1 else None,
        "behind": address(page + 1) if page < last else None,
    }


def _number(text: str) -> int:
    return max(1, int(text)) if text.isascii() and text.isdigit() and len(text) <= 6 else 1
