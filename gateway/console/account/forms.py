"""What the forms of the account's page have in common: how each is read, admitted and answered when it fails."""

from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

from gateway.audit.log import JournalError
from gateway.bodies import FormError, read_form
from gateway.console.account.admission import Admission, Visit
from gateway.console.account.door import PATH
from gateway.console.account.view import DURATIONS, KEEP, PERMISSIONS
from gateway.grants.certain import Uncertain
from gateway.grants.service import UnknownAccount
from gateway.pages.render import Pages
from gateway.stores.store import StoreError
from policy.model import Deny, DenyReason, Duration, Permission

_MOST_FORM_BYTES = 8 * 1024

Fields = Sequence[tuple[str, str]]
Work = Callable[[web.Request, Visit, Fields], Awaitable[web.Response]]


def answering(work: Work, *, admission: Admission, pages: Pages) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return the handler of a form: `work` is done for whoever may have sent it, and whatever fails is said."""

    async def serve(request: web.Request) -> web.Response:
        try:
            fields = await read_form(request, _MOST_FORM_BYTES)
            visit = await admission.for_form(request, fields)
            return visit if isinstance(visit, web.Response) else await work(request, visit, fields)
        except FormError as exc:
            said = f"This is no form of ours: {exc}."
            return pages.message("Nothing was done", said, status=400, again=PATH)
        except UnknownAccount:
            return pages.message("Nothing was done", "Locum does not know this account.", status=404)
        except Uncertain:
            said = "It is not known whether that was done: look at how it is now."
            return pages.message("Look again", said, status=503, again=PATH)
        except StoreError:
            return pages.refusal(Deny(reason=DenyReason.STORE_UNAVAILABLE), again=PATH)
        except JournalError:
            return pages.refusal(Deny(reason=DenyReason.JOURNAL_UNAVAILABLE), again=PATH)

    return serve


def read_one(fields: Fields, name: str) -> str:
    """Return the value of a field that has to be there once; raises FormError."""
    found = [value for key, value in fields if key == name]
    if len(found) != 1:
        raise FormError(f"`{name}` must be there once")
    return found[0]


def read_epoch(fields: Fields) -> int:
    """Return the account's epoch as it was when the form was shown; raises FormError."""
    epoch = read_one(fields, "epoch")
    if not (epoch.isascii() and epoch.isdigit() and len(epoch) <= 18):
        raise FormError("`epoch` must be a number")
    return int(epoch)


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
