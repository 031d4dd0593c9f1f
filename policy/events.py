"""What the identity provider may tell us about its people: the claims of a logout token and of a security event token.

The signature has been verified by whoever calls; here each claim is looked at. What does not have exactly the shape
that its standard asks for is refused, except that members which nobody asks about are passed over.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from policy.model import AccountId, ActorId
from policy.times import LEEWAY, is_time

LOGOUT = "http://schemas.openid.net/event/backchannel-logout"
_CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
SESSION_REVOKED = f"{_CAEP}session-revoked"
ASSURANCE_CHANGED = f"{_CAEP}assurance-level-change"
_RISC = "https://schemas.openid.net/secevent/risc/event-type/"
ENDING = frozenset(
    {
        SESSION_REVOKED,
        ASSURANCE_CHANGED,
        f"{_CAEP}token-claims-change",
        f"{_CAEP}credential-change",
        f"{_RISC}sessions-revoked",
        f"{_RISC}account-disabled",
        f"{_RISC}account-purged",
    }
)
"""The events that end what a person has begun; any other is taken note of, and does nothing.

Three of them say that what is known of a person may hold no more. What holds instead is believed from an ID token only,
so it takes a new sign-in. An assurance that has grown ends nothing: whoever steps up would be signed out by it.
"""


# OpenID Connect Back-Channel Logout 1.0 section 4.1: the type is recommended, and most providers leave it out.
_LOGOUT_TYPES = (None, "jwt", "logout+jwt")


class NoticeError(ValueError):
    """The notice is not one that we accept; `code` says why in the words of RFC 8935 section 2.4."""

    def __init__(self, message: str, *, code: str = "invalid_request") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeTerms:
    """Whose notices count, for whom they must be, and how old one may be."""

    issuer: str
    audience: str
    max_age: timedelta
    also: frozenset[str] = frozenset()
    """Other clients of ours there: a logout token may be for one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What a verified token says."""

    id: str
    """Its `jti`: unique among the issuer's (RFC 7519 section 4.1.7)."""
    event: str
    issued_at: datetime
    person: ActorId | None = None
    """Whose assumptions have to end; None: nobody's."""
    account: AccountId | None = None
    """The only account in which they have to end; None: every one."""
    session: str = ""
    """The session at the issuer, its `sid`, where nothing else says whose assumptions have to end."""


def is_type(header: Mapping[str, Any], *types: str | None) -> bool:
    """Tell whether `typ` is one of these lower-case types; None stands for no `typ`.

    Media types have no case, and `application/` may be left out (RFC 7515 section 4.1.9).
    """
    said = header.get("typ")
    if not isinstance(said, str):
        return None in types and "typ" not in header
    return said.lower().removeprefix("application/") in types


def read_logout(header: Mapping[str, Any], claims: Mapping[str, Any], terms: NoticeTerms, *, now: datetime) -> Notice:
    """Return whom a logout token signs out, or raise NoticeError.

    Checked is what OpenID Connect Back-Channel Logout 1.0 sections 2.4 and 2.6 ask for, `iat`, `exp`, `aud` and `jti`
    as strictly as of an ID token.
    """
    if not is_type(header, *_LOGOUT_TYPES):
        raise NoticeError("it is not a logout token by its `typ`")
    if not any(claims.get("aud") in (audience, [audience]) for audience in (terms.audience, *terms.also)):
        raise NoticeError("it is for another audience", code="invalid_audience")
    issued_at = _read_origin(claims, terms, now)
    if now >= _time(claims, "exp"):
        raise NoticeError("it has expired")
    if "nonce" in claims:
        raise NoticeError("it has a `nonce`, as ID tokens have")
    event, _ = _read_event(claims)
    if event != LOGOUT:
        raise NoticeError("its event is not a logout")
    subject, session = (_text(claims, name) if name in claims else None for name in ("sub", "sid"))
    id_ = _text(claims, "jti")
    if subject is not None:
        # All of theirs: what was begun in one of their sessions is not told apart from the rest.
        person = ActorId(issuer=terms.issuer, subject=subject)
        return Notice(id=id_, event=event, issued_at=issued_at, person=person)
    if session is None:
        raise NoticeError("it lacks `sub` or `sid`")
    return Notice(id=id_, event=event, issued_at=issued_at, session=session)


def read_event(header: Mapping[str, Any], claims: Mapping[str, Any], terms: NoticeTerms, *, now: datetime) -> Notice:
    """Return what a security event token says, and whom it signs out, or raise NoticeError.

    Checked is what RFC 8417 section 2.2 and the OpenID Shared Signals Framework 1.0 section 4.1 ask for.
    """
    if not is_type(header, "secevent+jwt"):
        raise NoticeError("it is not a security event token by its `typ`")
    audience = claims.get("aud")
    if terms.audience not in (audience if isinstance(audience, list) else [audience]):
        raise NoticeError("it is for another audience", code="invalid_audience")
    issued_at = _read_origin(claims, terms, now)
    for name in ("sub", "exp"):
        if name in claims:
            raise NoticeError(f"it has `{name}`, which keeps other tokens apart from it")
    event, payload = _read_event(claims)
    subject = claims.get("sub_id")
    if not isinstance(subject, Mapping) or not isinstance(subject.get("format"), str):
        raise NoticeError("`sub_id` is missing, or says no `format`")
    person, account = _read_subject(subject, terms) if _ends(event, payload) else (None, None)
    return Notice(id=_text(claims, "jti"), event=event, issued_at=issued_at, person=person, account=account)


def _read_origin(claims: Mapping[str, Any], terms: NoticeTerms, now: datetime) -> datetime:
    """Check what both kinds have in common, and return when the token was issued."""
    if claims.get("iss") != terms.issuer:
        raise NoticeError("it is from another issuer", code="invalid_issuer")
    issued_at = _time(claims, "iat")
    if max(issued_at, _time(claims, "nbf") if "nbf" in claims else issued_at) > now + LEEWAY:
        raise NoticeError("it is from the future: set both clocks by NTP")
    if issued_at < now - terms.max_age:
        raise NoticeError("it is too old")
    return issued_at


def _ends(event: str, payload: Mapping[str, Any]) -> bool:
    # CAEP 1.0 section 3.4: the direction is optional; where it is not told, it may have been either.
    return event in ENDING and not (event == ASSURANCE_CHANGED and payload.get("change_direction") == "increase")


def _read_event(claims: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    events = claims.get("events")
    if not isinstance(events, Mapping) or len(events) != 1:
        raise NoticeError("`events` is not an object with exactly one event")
    [(event, payload)] = events.items()
    if not isinstance(payload, Mapping):
        raise NoticeError("the event is not an object")
    return str(event), payload


def _read_subject(subject: Mapping[str, Any], terms: NoticeTerms) -> tuple[ActorId, AccountId | None]:
    """Return the person whom a subject identifier names, and the account if it is about one only.

    In a complex subject what we do not keep, such as a session or a device, narrows nothing: what is undefined on one
    side matches (OpenID Shared Signals Framework 1.0 section 8.1.3.1).
    """
    if subject["format"] != "complex":
        return _read_person(subject, terms), None
    user, tenant = subject.get("user"), subject.get("tenant")
    if not isinstance(user, Mapping):
        raise NoticeError("the complex subject names no `user`")
    person = _read_person(user, terms)
    if tenant is None and "tenant" not in subject:
        return person, None
    if not isinstance(tenant, Mapping) or set(tenant) != {"format", "id"} or tenant["format"] != "opaque":
        raise NoticeError("`tenant` must be the account's id, in the format `opaque`")
    return person, AccountId(_text(tenant, "id"))


def _read_person(subject: Mapping[str, Any], terms: NoticeTerms) -> ActorId:
    # RFC 9493 section 3.2.4; members that the format does not describe are not allowed (section 3).
    if subject.get("format") != "iss_sub" or set(subject) != {"format", "iss", "sub"}:
        raise NoticeError("a person is known here by `iss` and `sub` only: use the format `iss_sub`")
    if subject["iss"] != terms.issuer:
        raise NoticeError("the person is another issuer's")
    return ActorId(issuer=terms.issuer, subject=_text(subject, "sub"))


def _text(members: Mapping[str, Any], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str) or not value:
        raise NoticeError(f"`{name}` is missing or not a text")
    return value


def _time(claims: Mapping[str, Any], name: str) -> datetime:
    seconds = claims.get(name)
    if not is_time(seconds):
        raise NoticeError(f"`{name}` is missing or not a time in whole seconds")
    return datetime.fromtimestamp(seconds, UTC)
