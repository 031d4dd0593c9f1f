"""What the forms of the account's page have in common: how each is read, admitted and answered when it fails."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway.audit.log import JournalError
from gateway.bodies import Fields, FormError, read_one
from gateway.console.account.admission import Admission, Visit
from gateway.console.account.door import PATH
from gateway.console.account.form_shares import FormShares
from gateway.console.account.view import KEEP
from gateway.console.forms import FAULTS, read_form, say
from gateway.grants.service import UnknownAccount
from gateway.pages.render import Pages
from gateway.pages.words import DURATIONS, PERMISSIONS
from gateway.stores.store import StoreError
from policy.model import Deny, DenyReason, Duration, Permission

Work = Callable[[web.Request, Visit, Fields], Awaitable[web.Response]]


def answering(
    work: Work, *, admission: Admission, pages: Pages, shares: FormShares, keeps_staff_out: bool = False
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return the handler of a form: `work` is done for whoever may have sent it, and whatever fails is said.

    Each counts as one of theirs in `shares`; an administrator's that only `keeps_staff_out` is never too many.
    """

    async def carry_out(request: web.Request) -> web.Response:
        fields = await read_form(request)
        visit = await admission.for_form(request, fields)
        if isinstance(visit, web.Response):
            return visit
        if not (keeps_staff_out and admission.is_administrator(visit)) and not shares.take(visit):
            return _too_many(pages)
        return await work(request, visit, fields)

    async def serve(request: web.Request) -> web.Response:
        try:
            return await carry_out(request)
        except FAULTS as exc:
            return say(pages, exc, again=PATH)
        except UnknownAccount:
            return pages.message("Nothing was done", "Locum does not know this account.", status=404)
        except StoreError:
            return pages.refusal(Deny(reason=DenyReason.STORE_UNAVAILABLE), again=PATH)
        except JournalError:
            return pages.refusal(Deny(reason=DenyReason.JOURNAL_UNAVAILABLE), again=PATH)

    return serve


def _too_many(pages: Pages) -> web.Response:
    # Not on the record, which would cost the same again.
    said = "You, or others of your account, have sent very many forms here just now, so nothing was done."
    hint = "Try again in a minute. Turning off and ending are possible at any time."
    page = pages.message("Too many at once", said, hint, status=429, again=PATH)
    page.headers["Retry-After"] = "60"
    return page


def read_duration(fields: Fields) -> tuple[Duration, bool]:
    """Return what was chosen, and whether the end is to stay where it is; raises FormError."""
    chosen = read_one(fields, "duration")
    if chosen == KEEP:
        # Which it is makes no difference, but that it is not off.
        return Duration.ALWAYS, True
    if chosen not in DURATIONS:
        raise FormError(f"`duration` must be one of {', '.join(DURATIONS)}")
    return Duration(chosen), False


def read_permissions(fields: Fields) -> frozenset[Permission]:
    """Return what staff may do, looking always included; raises FormError."""
    chosen = [value for name, value in fields if name == "permission"]
    if not set(chosen) <= set(PERMISSIONS):
        raise FormError(f"`permission` must be some of {', '.join(PERMISSIONS)}")
    return frozenset({Permission.READ, *map(Permission, chosen)})
