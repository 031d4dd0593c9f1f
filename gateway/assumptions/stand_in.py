"""The page from which staff stand in: finding the account, how it stands, the form, and what they have open."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from aiohttp import web
from markupsafe import Markup

from gateway.assumptions.finding import Finder
from gateway.assumptions.mending import TOO_OFTEN, Wrong, mend
from gateway.assumptions.standing import Standing, choices
from gateway.assumptions.typed import Typed
from gateway.pages.render import Pages
from gateway.pages.words import PERMISSIONS
from gateway.proxy.triage import is_account_name
from gateway.refusals import REFUSALS
from gateway.staff.sign_in.home import HomePart
from gateway.staff.sign_in.returning import HOME
from gateway.staff.sign_in.visitors import Visitor
from gateway.stores.store import StoreError
from policy.model import Deny, DenyReason
from policy.routes import Profile

BEGIN: Final = "/.locum/assumptions"
FIELDS: Final = ("account", "agent", "ticket", "reason")
_MOST_OTHERS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What was found of the account that is asked about."""

    standing: Standing | None = None
    listed: Sequence[Standing] = ()
    """What else has that text in its id; all there is, where no account has it as its id."""
    more: str = ""
    """Where there is more of these; empty: that is all."""
    cut_short: bool = False
    said: str = ""
    """Why nothing is told of any account now."""


class AccountPart(Protocol):
    """What can be done about an account beside beginning there."""

    async def show(
        self, visitor: Visitor, standing: Standing, typed: Typed, *, wanted: bool, wrong: Wrong | None
    ) -> Markup:
        """Return it for the account that the page shows, empty if there is nothing; raises StoreError.

        `wanted`: the person has come for it; `wrong`: what they sent, this or another form, was refused.
        """


class StandIn:
    """The whole of the home page but its frame; nothing is begun before a form is sent."""

    def __init__(
        self,
        *,
        pages: Pages,
        finder: Finder,
        profile: Profile,
        beside: Sequence[HomePart],
        asking: AccountPart | None = None,
        required: Mapping[str, bool],
        kept_by_app: bool,
    ) -> None:
        """Show the parts `beside` it; `required` are the fields that cannot be left out."""
        self._pages = pages
        self._finder = finder
        self._scopes = profile.scopes
        self._beside = beside
        self._asking = asking
        self._required = required
        self._kept_by_app = kept_by_app

    async def show(self, request: web.Request, visitor: Visitor) -> Markup:
        """Return it as a link asks for it; raises StoreError."""
        query = request.query
        account, agent, ticket, reason = (query.get(name, "").strip() for name in FIELDS)
        typed = Typed(account=account.lower(), agent=agent, ticket=ticket, reason=reason)
        if not typed.account:
            scene = Scene()
        elif await self._finder.may_look(visitor.signed_in.staff):
            after = await self._place(visitor, query.get("after", ""))
            scene = await self._find(visitor, typed, listed="list" in query, after=after)
        else:
            scene = Scene(said=TOO_OFTEN)
        return await self._render(request, visitor, typed, scene, asks="ask" in query)

    async def again(
        self, request: web.Request, visitor: Visitor, typed: Typed, wrong: Wrong, *, asks: bool = False
    ) -> web.Response:
        """Answer a form that was refused with the page, as it was filled in, and what to do.

        Of an account that the person may not know of it is said that there is none, whatever the reason was. Raises
        StoreError for who `asks`; who begins gets the form all the same.
        """
        try:
            found = await self._finder.look(typed.account, visitor.signed_in.staff)
            if found is None and wrong.tells:
                wrong = mend(Deny(reason=DenyReason.UNKNOWN_ACCOUNT), request_id=wrong.request_id)
            scene = Scene(standing=found) if isinstance(found, Standing) else Scene()
            part = await self._render(request, visitor, typed, scene, wrong=wrong, asks=asks)
        except StoreError:
            if asks:
                raise
            wrong = mend(Deny(reason=DenyReason.STORE_UNAVAILABLE), request_id=wrong.request_id)
            part = self._draw(visitor, typed, Scene(), wrong=wrong)
        return self._pages.page(
            "home.html", status=wrong.status, scripts=True, visitor=visitor, parts=[part], sign_in="", refused=True
        )

    async def _place(self, visitor: Visitor, after: str) -> str:
        """Return behind which account to go on: one that this person was shown, or the beginning.

        Or what lies behind any text that they choose would tell of the accounts that they may not know of.
        """
        if not after or not is_account_name(after):
            return ""
        return after if isinstance(await self._finder.look(after, visitor.signed_in.staff), Standing) else ""

    async def may_ask(self, visitor: Visitor) -> bool:
        """Count one more question about an account, as a look is; raises StoreError."""
        return await self._finder.may_look(visitor.signed_in.staff)

    async def _find(self, visitor: Visitor, typed: Typed, *, listed: bool, after: str) -> Scene:
        staff = visitor.signed_in.staff
        standing = None if listed else await self._finder.look(typed.account, staff)
        if isinstance(standing, DenyReason):
            title = REFUSALS[standing].title
            return Scene(said=f"{title[:1].upper()}{title[1:]}.")
        found = await self._finder.search(typed.account, staff, after=after)
        if standing is None:
            more = typed.link(typed.account, list="1", after=found.after) if found.after else ""
            return Scene(listed=found.standings, more=more, cut_short=found.cut_short)
        others = [one for one in found.standings if one.account != standing.account]
        more = typed.link(typed.account, list="1") if found.after or len(others) > _MOST_OTHERS else ""
        return Scene(standing=standing, listed=others[:_MOST_OTHERS], more=more)

    async def _render(
        self,
        request: web.Request,
        visitor: Visitor,
        typed: Typed,
        scene: Scene,
        *,
        wrong: Wrong | None = None,
        asks: bool,
    ) -> Markup:
        standing, asking = scene.standing, Markup("")
        if standing is not None and self._asking is not None:
            asking = await self._asking.show(visitor, standing, typed, wanted=asks, wrong=wrong)
        beside = [await part.show(request, visitor) for part in self._beside]
        return self._draw(visitor, typed, scene, wrong=wrong, asks=asks, asking=asking, beside=beside)

    def _draw(
        self,
        visitor: Visitor,
        typed: Typed,
        scene: Scene,
        *,
        wrong: Wrong | None,
        asks: bool = False,
        asking: Markup | None = None,
        beside: Sequence[Markup] = (),
    ) -> Markup:
        standing = scene.standing
        return self._pages.part(
            "stand_in.html",
            begin=BEGIN,
            home=HOME,
            visitor=visitor,
            typed=typed,
            scene=scene,
            standing=standing,
            begins=not asks and (standing.is_open if standing else wrong is not None and wrong.field != "find"),
            wrong=wrong,
            asking=asking or Markup(""),
            scopes=choices(self._scopes, standing, typed.scopes),
            permissions=PERMISSIONS,
            required=self._required,
            kept_by_app=self._kept_by_app,
            beside=beside,
        )
