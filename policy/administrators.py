"""Who somebody of a customer is, read off the app's own answer to "who am I" by a field map."""

import re
from dataclasses import dataclass
from typing import Any

from policy.documents import Odd, OddError, find, parse, read_name
from policy.grants import Administrator
from policy.model import AccountId, Roles

# One line, so that a name cannot look like two people's, or turn the text around it.
_LINE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]{1,256}")
_ONLY = ""
"""Where an app tells one role for all of its products."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonFields:
    """Where each fact stands in an answer, as a JSON pointer (RFC 6901); empty: the answers do not hold it."""

    user: str
    roles: str
    name: str = ""
    account: str = ""
    acting: str = ""
    """What says that somebody else acts in this person's place: null or false if nobody does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody of the account, by the app's word."""

    administrator: Administrator
    name: str
    """For people to read; never compared."""


def read_person(body: bytes, fields: PersonFields, *, account: AccountId) -> Person | Odd | None:
    """Return who an answer says is asking; None if it is somebody of another account.

    A member that the map names has to be there. What is odd is refused as a whole.
    """
    try:
        return _read(parse(body), fields, account)
    except OddError as exc:
        return exc.odd


def _read(document: Any, fields: PersonFields, account: AccountId) -> Person | None:
    user = _line(read_name(find(document, fields.user), fields.user, of="a user"), fields.user)
    name = find(document, fields.name) if fields.name else None
    roles = _roles(find(document, fields.roles), fields.roles)
    acting = find(document, fields.acting) if fields.acting else None
    if fields.account and read_name(find(document, fields.account), fields.account, of="an account") != account:
        return None
    return Person(
        administrator=Administrator(id=user, roles=roles, is_acting_staff=acting is not None and acting is not False),
        name=user if name is None else _line(name, fields.name),
    )


def _roles(found: Any, pointer: str) -> Roles:
    """Return the role in each product: of an object by product, a list of them, or one alone; null is none."""
    if isinstance(found, dict):
        by_product = found
    else:
        items = found if isinstance(found, list) else [found]
        by_product = {_ONLY if len(items) == 1 else str(place): role for place, role in enumerate(items)}
    roles = {product: role for product, role in by_product.items() if role is not None}
    if not all(isinstance(role, str) for role in roles.values()):
        raise OddError(f"`{pointer}` is neither a role nor roles by product")
    return roles


def _line(text: Any, pointer: str) -> str:
    if not isinstance(text, str) or _LINE.fullmatch(text) is None:
        raise OddError(f"`{pointer}` is not a text of one line")
    return text
