"""The page that an account's administrators see who are not signed in at their own provider, or are none there."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from gateway.console.account.customer_sign_in import SIGN_IN, SIGN_OUT, CustomerSignIn
from gateway.console.account.door import PATH
from gateway.pages.render import Pages
from policy.provider_administrators import Barred, NoAdministrator

_LONGEST_RETURN: Final = 500
# A page of ours, in letters that every parser reads alike: no empty segment, none of dots alone, nothing escaped but in
# the query.
_RETURN: Final = re.compile(
    r"/\.locum/account(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*(?:\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?", re.ASCII
)
WHY: Final[Mapping[Barred, str]] = {
    Barred.SUBJECT_ODD: "Your identity provider names you in a way that cannot go on the record.",
    Barred.CLAIMS_LONG: "Your identity provider says too much of you (over 8 KB): have it send fewer groups.",
    Barred.ON_BEHALF: "Nobody signs in here on behalf of somebody else.",
    Barred.OTHER_ACCOUNT: "Your identity provider does not say that you belong to this account.",
    Barred.CLAIM_MISSING: "Your identity provider does not say whether you are an administrator.",
    Barred.CLAIM_ODD: "What your identity provider says of administrators cannot be read.",
    Barred.NOT_ADMINISTRATOR: "Your identity provider does not count you among the administrators of this account.",
    Barred.ADDRESS_UNPROVED: "Your identity provider does not say that your mail address is really yours.",
    Barred.SIGN_IN_WEAK: "You have not signed in as strongly as you must, or too long ago: sign in again.",
}
"""For people; the record has the word itself."""


def read_return(text: str) -> str:
    """Return the address, byte for byte, if it is a page of the account that a sign-in may lead back to."""
    if len(text) > _LONGEST_RETURN or _RETURN.fullmatch(text) is None or text.startswith((SIGN_IN, SIGN_OUT)):
        return PATH
    return text


def sign_in_page(
    pages: Pages,
    sign_in: CustomerSignIn,
    *,
    return_to: str = PATH,
    barred: NoAdministrator | None = None,
    note: str = "",
    farewell: str | None = None,
    status: int = 403,
) -> web.Response:
    """Return the page with the way to the provider; whoever is `barred` there is asked anew who they are."""
    asked = {} if return_to == PATH else {"return": return_to}
    if barred is not None:
        asked["fresh"] = "1"
    return pages.page(
        "account_customer_sign_in.html",
        status=status,
        account=sign_in.account,
        provider=sign_in.provider_name,
        begin=f"{SIGN_IN}?{urlencode(asked)}" if asked else SIGN_IN,
        name=barred.name if barred else "",
        why=WHY[barred.why] if barred else "",
        code=str(barred.why) if barred else "",
        note=note,
        farewell=farewell,
    )
