"""What keeps whoever stands in out of the console: they never act as the customer towards Locum itself."""

import re
from dataclasses import replace
from typing import Final
from urllib.parse import unquote_to_bytes

from policy.routes import METHODS, Profile, RouteRule

PATH: Final = "/.locum/account"
WHY: Final = "staff who stand in can never open, extend or approve anything"
_PREFIX = PATH.encode("ascii")
_RULE = RouteRule(
    id="locum.account",
    methods=frozenset({"*"}),
    path=re.compile(rf"(?i:{re.escape(PATH)}).*", re.DOTALL),
    scope=None,
    never=WHY,
)


def without_staff(profile: Profile) -> Profile:
    """Return the profile with a rule that never lets staff to the console, whatever its own rules say."""
    rules = (*profile.rules, _RULE)
    by_method = {method: tuple(rule for rule in rules if rule.speaks_of(method)) for method in METHODS}
    return replace(profile, rules=rules, by_method=by_method, _matched={})


def may_lead_there(target: bytes) -> bool:
    """Tell whether somebody may take a request target for the console's, in whatever spelling."""
    return unquote_to_bytes(target).lower().startswith(_PREFIX)
