"""Logout tokens and security event tokens as a provider would send them, and with whatever a test changes in them."""

from datetime import timedelta

from gateway.staff.notices import Notices
from gateway.tokens.signing import read_jwks
from policy.events import LOGOUT, SESSION_REVOKED, NoticeTerms, read_event, read_logout
from tests.forgery import DROP, NOON, PRIVATE, Forger
from tests.journals import Ticks
from tests.scripted_idp import jwk

IDP = "https://idp.vendor.example"
ME = "locum"
AT = int(NOON.timestamp())
TERMS = NoticeTerms(issuer=IDP, audience=ME, max_age=timedelta(hours=1))


def logout_claims(**changes):
    claims = {
        "iss": IDP,
        "aud": ME,
        "sub": "dana",
        "iat": AT,
        "exp": AT + 120,
        "jti": "bWJq",
        "events": {LOGOUT: {}},
    } | changes
    return {name: value for name, value in claims.items() if value is not DROP}


def event_claims(**changes):
    claims = {
        "iss": IDP,
        "aud": ME,
        "iat": AT,
        "jti": "24c63fb5",
        "sub_id": person(),
        "events": {SESSION_REVOKED: {"event_timestamp": AT, "initiating_entity": "admin", "reason_admin": {"en": "x"}}},
    } | changes
    return {name: value for name, value in claims.items() if value is not DROP}


def person(subject="dana", **changes):
    return {"format": "iss_sub", "iss": IDP, "sub": subject} | changes


def complex_subject(user=None, **members):
    return {"format": "complex", "user": person() if user is None else user} | members


def opaque(identifier):
    return {"format": "opaque", "id": identifier}


KINDS = {"logout": (read_logout, logout_claims, "logout+jwt"), "event": (read_event, event_claims, "secevent+jwt")}


class KnownIssuer:
    """An issuer whose keys are there already: the forger's, as `k1`, and others that a test knows."""

    def __init__(self, others=()):
        self._others = others

    async def keys_for(self, token, *, stranger=False, direct=False):
        assert stranger, "who brings a notice has not authenticated"
        return read_jwks({"keys": [jwk(), *self._others]})


def notices(kind, *, ticks=None, others=()):
    return Notices(KnownIssuer(others), TERMS, KINDS[kind][0], clock=lambda: NOON, ticks=ticks or Ticks())


def forged(kind, *, header=None, sign=None, **changes):
    """A notice signed by the forger; `header` and `changes` replace what a good one says."""
    _, claims, type_ = KINDS[kind]
    good = {"alg": "EdDSA", "kid": "k1", "typ": type_}
    return Forger(private=PRIVATE, key_id="k1").token(claims(**changes), good | (header or {}), sign=sign)
