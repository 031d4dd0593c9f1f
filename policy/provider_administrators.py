"""Who of an account's people is an administrator, read off the verified claims of a provider of the customer's own."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique
from json import dumps
from typing import Any

from policy.administrators import Person
from policy.grants import Administrator
from policy.model import AccountId
from policy.staff import SignInPolicy, weakness
from policy.texts import one_line

_LONGEST_NAME = 128
_MOST_BYTES = 8192  # a session is kept with them, and nobody fills the disk by sign-ins
_SUBJECT = re.compile(r"[!-~](?:[ -~]{0,253}[!-~])?", re.ASCII)  # OpenID Connect Core 1.0 section 2: 255 of ASCII


@unique
class Barred(StrEnum):
    """Why somebody is no administrator; the first that holds."""

    SUBJECT_ODD = "subject_odd"
    """By this `sub` nobody can be told from others."""
    CLAIMS_LONG = "claims_long"
    """What would be kept of them is longer than 8 KB."""
    ON_BEHALF = "on_behalf"
    """Somebody else acts in this person's place, or may."""
    OTHER_ACCOUNT = "other_account"
    """The provider does not say that they are of this account."""
    CLAIM_MISSING = "claim_missing"
    """The claim that tells administrators is not there."""
    CLAIM_ODD = "claim_odd"
    """It is neither a text nor a list of texts."""
    NOT_ADMINISTRATOR = "not_administrator"
    """It has no value that makes one."""
    ADDRESS_UNPROVED = "address_unproved"
    """It is their mail address, and the provider does not say that they have proved to have it."""
    SIGN_IN_WEAK = "sign_in_weak"
    """They have not signed in as they must have, or too long ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdministratorTerms:
    """Whom the claims of one provider make an administrator."""

    claim: str
    """The claim that tells: a text or a list of texts, of which one has to be one of `values`, to the letter."""
    values: frozenset[str]
    account_claim: str = ""
    """The claim that has to be the account's name; empty: everybody of the provider is of the account."""
    role: str
    """The role that an administrator then has."""
    policy: SignInPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAdministrator:
    """Somebody whom the provider knows, and who may do nothing here."""

    name: str
    """For people to read; never compared."""
    why: Barred


def read_administrator(
    claims: Mapping[str, Any], terms: AdministratorTerms, *, account: AccountId, now: datetime
) -> Person | NoAdministrator:
    """Return who verified claims speak of, as an administrator of `account` if they say so in exactly one way.

    They are known by `name_person`.
    """
    said, subject = claims.get("name"), str(claims["sub"])
    name = (one_line(said, _LONGEST_NAME) if isinstance(said, str) else "") or one_line(subject, _LONGEST_NAME)
    why = _bars(claims, terms, account, now)
    if why is not None:
        return NoAdministrator(name=name, why=why)
    who = Administrator(id=name_person(str(claims["iss"]), subject), roles={"": terms.role})
    return Person(administrator=who, name=name)


def name_person(issuer: str, subject: str) -> str:
    """Return by what somebody is known: `<issuer>#<subject>`, and no issuer has that sign.

    No other two claims together are never anybody else's (OpenID Connect Core 1.0 section 5.7).
    """
    return f"{issuer}#{subject}"


def is_subject(subject: Any) -> bool:
    """Tell whether a `sub` is one that can go on the record: 255 letters of ASCII at the most, without odd spaces."""
    return isinstance(subject, str) and _SUBJECT.fullmatch(subject) is not None


def _bars(claims: Mapping[str, Any], terms: AdministratorTerms, account: AccountId, now: datetime) -> Barred | None:
    if not is_subject(claims["sub"]):
        return Barred.SUBJECT_ODD
    if len(dumps(claims, ensure_ascii=False).encode("utf-8", "replace")) > _MOST_BYTES:
        return Barred.CLAIMS_LONG
    if "act" in claims or "may_act" in claims:
        return Barred.ON_BEHALF
    if terms.account_claim and claims.get(terms.account_claim) != account:
        return Barred.OTHER_ACCOUNT
    why = _lacks(claims, terms)
    if why is None and weakness(claims, terms.policy, now) is not None:
        return Barred.SIGN_IN_WEAK
    return why


def _lacks(claims: Mapping[str, Any], terms: AdministratorTerms) -> Barred | None:
    found = claims.get(terms.claim)
    if found is None:
        return Barred.CLAIM_MISSING
    values = found if isinstance(found, list) else [found]
    if not all(isinstance(value, str) for value in values):
        return Barred.CLAIM_ODD
    if terms.values.isdisjoint(values):
        return Barred.NOT_ADMINISTRATOR
    # Anybody may have called themselves so, where the provider lets them (OpenID Connect Core 1.0 section 5.1).
    if terms.claim == "email" and claims.get("email_verified") is not True:
        return Barred.ADDRESS_UNPROVED
    return None
