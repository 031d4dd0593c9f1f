"""What an app's own answer says of an account's setting: read by a field map, or refused with the reason.

Any JSON object can be read. Only what the map documents counts: a member that the map names has to be there, and its
value has to be one of the listed ones. What is odd is refused as a whole, never read halfway.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from policy.documents import Odd, OddError, find, parse, read_name
from policy.model import AccountId, AccountType, Duration, Pairs, Permission
from policy.rules import is_attribute

T = TypeVar("T")

# RFC 3339 section 5.6, with an offset; a leap second is no time that `datetime` knows.
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]((?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9])(\.[0-9]{1,18})?"
    r"([Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """Where each fact stands in an answer, as a JSON pointer (RFC 6901); empty: the answers do not hold it."""

    account: str = ""
    assumable: str = ""
    duration: str = ""
    expires_at: str = ""
    permissions: str = ""
    account_type: str = ""
    suspended: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """By name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The app's words and what they mean here; no other word counts.

    JSON's `true` and `false` are looked up as these words, which a text can never be.
    """

    assumable: Mapping[str, bool]
    duration: Mapping[str, Duration]
    permissions: Mapping[str, Permission]
    account_type: Mapping[str, AccountType]
    suspended: Mapping[str, bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How an app's answers are read."""

    fields: Fields
    words: Words
    permissions: frozenset[Permission]
    """What staff may do where the answers do not say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What the app says of an account; by default that nobody is let in."""

    type: AccountType = AccountType.PAID
    suspended: bool = False
    duration: Duration = Duration.OFF
    expires_at: datetime | None = None
    permissions: frozenset[Permission] = frozenset()
    attributes: Pairs = frozenset()
    """Of the account."""

    def is_on(self, now: datetime) -> bool:
        """Tell whether the customer of a paid account lets staff in at `now`."""
        return self.duration is not Duration.OFF and (self.expires_at is None or now < self.expires_at)


def read_setting(body: bytes, form: Form, *, account: AccountId) -> Setting | Odd:
    """Return what an answer to the question about `account` says.

    `assumable: false` beats everything, a trial beats a duration, and a time beats the name of a duration: for a day,
    a week, a month and a year the answer has to say when it ends, because nobody else knows when it began.
    """
    try:
        return _read(parse(body), form, account)
    except OddError as exc:
        return exc.odd


def read_account(body: bytes, pointer: str) -> str | Odd:
    """Return the account that a notice names at `pointer`."""
    try:
        return read_name(find(parse(body), pointer), pointer, of="an account")
    except OddError as exc:
        return exc.odd


def read_roles(body: bytes, pointer: str) -> frozenset[str] | Odd:
    """Return an agent's roles, in the app's words: one, a list of them, or an object with one for each product."""
    try:
        return _roles(find(parse(body), pointer), pointer)
    except OddError as exc:
        return exc.odd


def _roles(found: Any, pointer: str) -> frozenset[str]:
    roles = list(found.values()) if isinstance(found, dict) else found if isinstance(found, list) else [found]
    if not all(isinstance(role, str) and role for role in roles):
        raise OddError(f"`{pointer}` is neither a role nor a list of roles")
    return frozenset(roles)


def _read(document: Any, form: Form, account: AccountId) -> Setting:
    fields, words = form.fields, form.words
    if fields.account and read_name(find(document, fields.account), fields.account, of="an account") != account:
        raise OddError(f"`{fields.account}` names another account")
    assumable = _word(document, fields.assumable, words.assumable, absent=True)
    kind = _word(document, fields.account_type, words.account_type, absent=AccountType.PAID)
    attributes = _read_attributes(document, fields.attributes)
    off = Setting(suspended=_word(document, fields.suspended, words.suspended, absent=False), attributes=attributes)
    if not assumable:
        return off
    # Read for a trial as well, for which it says nothing: an answer that is odd anywhere gives nothing.
    duration = _word(document, fields.duration, words.duration, absent=Duration.ALWAYS)
    if kind is AccountType.TRIAL:
        return replace(off, type=kind, duration=Duration.ALWAYS)
    if duration is Duration.OFF:
        return off
    return replace(
        off,
        duration=duration,
        expires_at=_read_end(document, fields.expires_at, duration),
        permissions=_read_permissions(document, form) | {Permission.READ},
    )


def _word(document: Any, pointer: str, words: Mapping[str, T], *, absent: T) -> T:
    return _look_up(find(document, pointer), pointer, words) if pointer else absent


def _look_up(value: Any, pointer: str, words: Mapping[str, T]) -> T:
    if isinstance(value, bool):
        word = "true" if value else "false"
    elif isinstance(value, str) and value not in ("true", "false"):
        word = value
    else:
        raise OddError(f"`{pointer}` is neither a word nor true or false")
    if word not in words:
        raise OddError(f"`{pointer}` is none of the values that are documented")
    return words[word]


def _read_permissions(document: Any, form: Form) -> frozenset[Permission]:
    pointer = form.fields.permissions
    if not pointer:
        return form.permissions
    found = find(document, pointer)
    if not isinstance(found, list):
        raise OddError(f"`{pointer}` is not a list")
    return frozenset(_look_up(item, pointer, form.words.permissions) for item in found)


def _read_attributes(document: Any, pointers: Mapping[str, str]) -> Pairs:
    """Return the attributes that the account has: a text, or true or false as these words; null is none."""
    attributes = {}
    for name, pointer in pointers.items():
        value = find(document, pointer) if pointer else None
        if isinstance(value, bool):
            value = "true" if value else "false"
        if value is not None:
            if not isinstance(value, str) or not is_attribute(name, value):
                raise OddError(f"`{pointer}` is not a text of one line")
            attributes[name] = value
    return frozenset(attributes.items())


def _read_end(document: Any, pointer: str, duration: Duration) -> datetime | None:
    found = find(document, pointer) if pointer else None
    if found is not None:
        return _read_time(found, pointer)
    if duration is not Duration.ALWAYS:
        raise OddError(f"the duration is `{duration}`, and nothing says when it ends")
    return None


def _read_time(value: Any, pointer: str) -> datetime:
    """Return a time: RFC 3339 with its offset, or whole seconds since 1970; parts of a microsecond are dropped."""
    try:
        if isinstance(value, int) and not isinstance(value, bool):
            # Milliseconds would lie beyond the calendar, so they are never taken for seconds.
            return _EPOCH + timedelta(seconds=value)
        if isinstance(value, str) and (found := _TIME.fullmatch(value)) is not None:
            day, time, fraction, offset = found.groups()
            spelled = f"{day}T{time}{(fraction or '.0')[:7].ljust(7, '0')}{offset.upper().replace('Z', '+00:00')}"
            return datetime.fromisoformat(spelled).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise OddError(f"`{pointer}` is not a time such as 2027-01-31T23:59:59Z")
