"""The claims we sign: built for the signer, and checked when a token comes back.

Signature, algorithm and header are the signer's to check; what the payload may say is checked here, member by
member. What does not have exactly the expected shape is not ours.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from policy.model import (
    AccountId,
    ActorId,
    AgentId,
    Assumption,
    AssumptionClaims,
    AssumptionId,
    ClientId,
    GrantId,
    Permit,
    TokenId,
)
from policy.scopes import ScopeError, format_scopes, parse_scopes
from policy.times import is_time

TOKEN_TYPE = "at+jwt"  # RFC 9068 section 2.1  # noqa: S105 - a media type
ASSERTION_TYPE = "locum-assertion+jwt"
DETAILS_TYPE = "account_assumption"
LONGEST_TOKEN = timedelta(minutes=15)
LONGEST_BROWSER = timedelta(hours=12)
"""What a browser holds is looked up at each request, and may live for a working day."""
LONGEST_ASSERTION = timedelta(seconds=60)

_TEXTS = ("iss", "aud", "sub", "client_id", "jti", "sid", "scope")
_TIMES = ("iat", "nbf", "exp")
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)  # SHA-256 in base64url


class ClaimsError(ValueError):
    """The payload is not one that we sign."""


def build_token(
    assumption: Assumption,
    *,
    issuer: str,
    audience: str,
    client: ClientId,
    token_id: TokenId,
    grant_epoch: int,
    authentication: Mapping[str, Any],
    now: datetime,
    expires_at: datetime,
    key: str | None = None,
) -> dict[str, Any]:
    """Return the claims of an assumption token (RFC 9068 section 2.2, RFC 8693 section 4.1).

    `authentication` holds those of `acr`, `amr` and `auth_time` that staff's own sign-in gave. With the thumbprint of a
    `key` the token is for its holder only (RFC 7800 section 3.1, RFC 9449 section 6.1).
    """
    return {
        "iss": issuer,
        "aud": audience,
        "sub": assumption.subject,
        "act": {"sub": assumption.actor.subject, "iss": assumption.actor.issuer},
        "client_id": client,
        "scope": format_scopes(assumption.scopes),
        "sid": assumption.id,
        "jti": token_id,
        "iat": int(now.timestamp()),
        "nbf": int(now.timestamp()),
        "exp": int(expires_at.timestamp()),
        "authorization_details": [describe(assumption, audience=audience, grant_epoch=grant_epoch)],
        **authentication,
        **({} if key is None else {"cnf": {"jkt": key}}),
    }


def describe(assumption: Assumption, *, audience: str, grant_epoch: int) -> dict[str, Any]:
    """Return the authorization details that were really granted (RFC 9396 section 7)."""
    return {
        "type": DETAILS_TYPE,
        "identifier": assumption.grant_id,
        "locations": [audience],
        "account": assumption.account,
        "ticket": assumption.ticket,
        "grant_epoch": grant_epoch,
    }


def check_token(
    payload: Mapping[str, Any], *, issuer: str, longest: timedelta = LONGEST_TOKEN, signed_by: str | None = None
) -> AssumptionClaims:
    """Return what a token of ours says, or raise ClaimsError. Time has not been looked at.

    The signature has been verified with the key `signed_by`; None for claims that needed none.
    """
    for name in _TEXTS:
        if not isinstance(payload.get(name), str):
            raise ClaimsError(f"`{name}` is missing or not a text")
    for name in _TIMES:
        if not is_time(payload.get(name)):
            raise ClaimsError(f"`{name}` is missing or not a time")
    if payload["iss"] != issuer:
        raise ClaimsError("`iss` is another issuer")
    if payload["exp"] - payload["iat"] > longest.total_seconds() or payload["nbf"] != payload["iat"]:
        raise ClaimsError("it would live longer than we ever let a token live")
    act = payload.get("act")
    # One level only: a chain of actors is never issued, so it is never accepted (RFC 8693 section 4.1).
    if not isinstance(act, Mapping) or set(act) != {"sub", "iss"} or not all(isinstance(v, str) for v in act.values()):
        raise ClaimsError("`act` does not name one actor")
    details = payload.get("authorization_details")
    if not isinstance(details, list) or len(details) != 1 or not isinstance(details[0], Mapping):
        raise ClaimsError("`authorization_details` is not one entry")
    return _read(payload, act, details[0], key=_read_key(payload), signed_by=signed_by)


def _read_key(payload: Mapping[str, Any]) -> str | None:
    """Return the key that the token is bound to; a binding that is not understood is none that may be passed over."""
    if "cnf" not in payload:
        return None
    bound = payload["cnf"]
    if not isinstance(bound, Mapping) or set(bound) != {"jkt"}:
        raise ClaimsError("`cnf` does not name one key")
    if not isinstance(bound["jkt"], str) or _THUMBPRINT.fullmatch(bound["jkt"]) is None:
        raise ClaimsError("`cnf` does not name one key")
    return str(bound["jkt"])


def _read(
    payload: Mapping[str, Any],
    act: Mapping[str, str],
    detail: Mapping[str, Any],
    *,
    key: str | None,
    signed_by: str | None,
) -> AssumptionClaims:
    account, grant, epoch = detail.get("account"), detail.get("identifier"), detail.get("grant_epoch")
    amr = payload.get("amr")
    if detail.get("type") != DETAILS_TYPE or not isinstance(account, str) or not isinstance(grant, str):
        raise ClaimsError("`authorization_details` does not name an account and a grant")
    if type(epoch) is not int:
        raise ClaimsError("`grant_epoch` is not a number")
    try:
        scopes = parse_scopes(payload["scope"])
    except ScopeError as exc:
        raise ClaimsError("`scope` is not a list of scopes") from exc
    return AssumptionClaims(
        token_id=TokenId(payload["jti"]),
        client=ClientId(payload["client_id"]),
        account=AccountId(account),
        audience=payload["aud"],
        subject=AgentId(payload["sub"]),
        actor=ActorId(issuer=act["iss"], subject=act["sub"]),
        assumption=AssumptionId(payload["sid"]),
        grant_id=GrantId(grant),
        grant_epoch=epoch,
        scopes=scopes,
        issued_at=datetime.fromtimestamp(payload["iat"], UTC),
        expires_at=datetime.fromtimestamp(payload["exp"], UTC),
        key=key,
        acr=acr if isinstance(acr := payload.get("acr"), str) else None,
        amr=frozenset(method for method in amr if isinstance(method, str)) if isinstance(amr, list) else frozenset(),
        signed_by=signed_by,
    )


def build_assertion(
    permit: Permit,
    *,
    issuer: str,
    audience: str,
    assertion_id: str,
    now: datetime,
    lifetime: timedelta,
    bound_to: tuple[str, str] | None = None,
) -> dict[str, Any]:
    """Return the claims that tell the app who is there; they end with the permit, and within 60 seconds.

    `bound_to` is the request's method and URI where the app wants each assertion to fit one request only
    (the names `htm` and `htu` are those of RFC 9449 section 4.2; the URI here keeps its query).
    """
    expires_at = min(now + min(lifetime, LONGEST_ASSERTION), permit.ends_at)
    claims: dict[str, Any] = {
        "iss": issuer,
        "aud": audience,
        "sub": permit.subject,
        "act": {"sub": permit.actor.subject, "iss": permit.actor.issuer},
        "sid": permit.assumption,
        "account": permit.account,
        "scope": format_scopes(permit.scopes),
        "grant_id": permit.grant_id,
        "seat": "none",
        "jti": assertion_id,
        "iat": int(now.timestamp()),
        "exp": int(expires_at.timestamp()),
    }
    if bound_to is not None:
        claims["htm"], claims["htu"] = bound_to
    return claims
