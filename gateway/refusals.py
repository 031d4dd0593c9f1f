"""How each refusal looks outside; the only table from reasons to HTTP and OAuth."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

from gateway import problems
from policy.model import Deny, DenyReason
from policy.scopes import format_scopes

REALM = "locum"

Said = Sequence[tuple[str, str]]
"""Parameters of a challenge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What one reason becomes."""

    status: int
    title: str
    """For people: what happened and what to do next."""
    oauth: str = "invalid_request"
    """The error at the token endpoint (RFC 8693 section 2.2.2)."""
    bearer: str | None = None
    """The error in `WWW-Authenticate` (RFC 6750 section 3.1, RFC 9470 section 3); None: no such header."""
    scheme: str = "Bearer"
    """How the credential has to be sent: also `DPoP` (RFC 9449 section 7.1)."""


_TRY_LATER = "could not be checked just now, so staff are kept out; try again in a moment"

REFUSALS: dict[DenyReason, Refusal] = {
    DenyReason.KILL_SWITCH: Refusal(
        status=403, title="all account assumption is stopped by the operator of this gateway: ask there"
    ),
    DenyReason.TOKEN_MISSING: Refusal(
        status=401, title="this needs an assumption token: exchange one first", bearer=""
    ),
    DenyReason.TOKEN_INVALID: Refusal(
        status=401, title="the token is not a valid one of this gateway: exchange a new one", bearer="invalid_token"
    ),
    DenyReason.TOKEN_EXPIRED: Refusal(
        status=401, title="the token has expired: exchange a new one", bearer="invalid_token"
    ),
    DenyReason.COOKIE_UNKNOWN: Refusal(
        status=403, title="the assumption in this browser is over, or was never begun: begin a new one"
    ),
    DenyReason.COOKIE_IDLE: Refusal(
        status=403, title="the assumption in this browser was not used for too long: begin a new one"
    ),
    DenyReason.PROOF_MISSING: Refusal(
        status=401,
        title="the token is for the holder of a key only: prove it with each request",
        oauth="invalid_dpop_proof",
        bearer="invalid_token",
        scheme="DPoP",
    ),
    DenyReason.PROOF_INVALID: Refusal(
        status=401,
        title="the proof of the token's key does not fit the request: make one for each request",
        oauth="invalid_dpop_proof",
        bearer="invalid_dpop_proof",
        scheme="DPoP",
    ),
    DenyReason.PROOF_NONCE: Refusal(
        status=401,
        title="the proof of the token's key was not made for now: make it with the nonce of this answer",
        oauth="use_dpop_nonce",
        bearer="use_dpop_nonce",
        scheme="DPoP",
    ),
    DenyReason.WRONG_ACCOUNT: Refusal(
        status=403, title="the token is for another account's host", oauth="invalid_target", bearer="invalid_token"
    ),
    DenyReason.UNKNOWN_ACCOUNT: Refusal(status=403, title="there is no such account, or it cannot be assumed"),
    DenyReason.ACCOUNT_SUSPENDED: Refusal(status=403, title="the account is suspended"),
    DenyReason.GRANT_OFF: Refusal(
        status=403, title="account assumption is off: an administrator of the account has to enable it"
    ),
    DenyReason.GRANT_REVOKED: Refusal(
        status=403, title="the account has ended the assumption: ask an administrator of the account"
    ),
    DenyReason.GRANT_EXPIRED: Refusal(
        status=403, title="the time that the account allowed is over: ask an administrator of the account"
    ),
    DenyReason.GRANT_STALE: Refusal(status=503, title="the store is older than the token; " + _TRY_LATER),
    DenyReason.STAFF_UNKNOWN: Refusal(status=403, title="the staff member is not known here"),
    DenyReason.STAFF_DISABLED: Refusal(status=403, title="the staff member has been locked out"),
    DenyReason.STAFF_NOT_ALLOWED: Refusal(status=403, title="no rule lets this staff member stand in"),
    DenyReason.STAFF_AUTHENTICATION_WEAK: Refusal(
        status=401, title="sign in again, more strongly", bearer="insufficient_user_authentication"
    ),
    DenyReason.STAFF_SIGNED_OUT: Refusal(
        status=401,
        title="the identity provider has ended that sign-in: sign in again",
        bearer="insufficient_user_authentication",
    ),
    DenyReason.TOO_MANY_ASSUMPTIONS: Refusal(
        status=403, title="the staff member has as many assumptions open as they may: end one, or wait until one ends"
    ),
    DenyReason.AGENT_INVALID: Refusal(status=400, title="that cannot be an agent's id"),
    DenyReason.AGENT_UNKNOWN: Refusal(status=403, title="the app knows no such agent in this account"),
    DenyReason.AGENT_IS_ACTOR: Refusal(status=403, title="nobody stands in for themselves"),
    DenyReason.AGENT_ADMINISTRATOR: Refusal(
        status=403, title="the agent is an administrator of the account, and the account lets staff stand in for agents"
    ),
    DenyReason.ASSUMPTION_UNKNOWN: Refusal(status=403, title="the assumption is not known: start a new one"),
    DenyReason.ASSUMPTION_ENDED: Refusal(status=403, title="the assumption has ended: start a new one"),
    DenyReason.AMBIGUOUS_TARGET: Refusal(status=400, title="the request target can be read in more than one way"),
    DenyReason.AMBIGUOUS_HEADER: Refusal(status=400, title="a header that decides is there twice or half hidden"),
    DenyReason.FORGED_HEADER: Refusal(status=400, title="a header claims an identity that only the gateway may state"),
    DenyReason.METHOD_NOT_ALLOWED: Refusal(status=403, title="the method is never passed on for staff"),
    DenyReason.METHOD_OVERRIDE: Refusal(status=403, title="the request asks for another method or path in disguise"),
    DenyReason.CROSS_SITE: Refusal(
        status=403, title="a page of another site has sent this, or nothing says that it was one of this host"
    ),
    DenyReason.BODY_NOT_ALLOWED: Refusal(status=400, title="a request that only reads must not carry a body"),
    DenyReason.UPGRADE_NOT_ALLOWED: Refusal(status=403, title="staff may not change to another protocol here"),
    DenyReason.NO_ROUTE_RULE: Refusal(status=403, title="the app's profile has no rule for this, so it is refused"),
    DenyReason.NEVER_ALLOWED: Refusal(status=403, title="this is never done for a customer"),
    DenyReason.INSUFFICIENT_SCOPE: Refusal(
        status=403,
        title="the token does not reach that far",
        oauth="invalid_scope",
        bearer="insufficient_scope",
    ),
    DenyReason.PERMISSION_NOT_GRANTED: Refusal(
        status=403,
        title="the account does not allow that: ask an administrator of the account",
        oauth="invalid_scope",
        bearer="insufficient_scope",
    ),
    DenyReason.EXCHANGE_MALFORMED: Refusal(status=400, title="this is not a token exchange that is served here"),
    DenyReason.EXCHANGE_CHAINED: Refusal(status=403, title="whoever acts for somebody already cannot stand in"),
    DenyReason.INVALID_TARGET: Refusal(
        status=400, title="the audience is not this account's host", oauth="invalid_target"
    ),
    DenyReason.INVALID_SCOPE: Refusal(
        status=400, title="a scope is not one that the app's profile knows", oauth="invalid_scope"
    ),
    DenyReason.TICKET_MISSING: Refusal(
        status=400, title="name the ticket that this is for", oauth="invalid_authorization_details"
    ),
    DenyReason.REASON_MISSING: Refusal(
        status=400, title="say why the account has to be assumed", oauth="invalid_authorization_details"
    ),
    DenyReason.STORE_UNAVAILABLE: Refusal(status=503, title="the account's setting " + _TRY_LATER),
    DenyReason.STORE_STALE: Refusal(
        status=503,
        title="the store is an older copy of itself, so staff are kept out; the operator has to run `locum recover`",
    ),
    DenyReason.JOURNAL_UNAVAILABLE: Refusal(
        status=503, title="this could not be recorded, so it is not done; try again in a moment"
    ),
    DenyReason.ISSUER_UNAVAILABLE: Refusal(status=503, title="staff's sign-in " + _TRY_LATER),
    DenyReason.APP_UNAVAILABLE: Refusal(
        status=503, title="the app was asked whether the agent exists; that " + _TRY_LATER
    ),
}


_OVER = (
    "<p>This browser stands in for nobody any more. Whatever it opens here from now on, it opens as an ordinary"
    " visitor.</p><p><a href='{}'>Begin a new assumption</a></p>"
)


def problem(deny: Deny, *, request_id: str) -> bytes:
    """Return the refusal as problem details (RFC 9457); `type` is stable for each reason."""
    refusal = REFUSALS[deny.reason]
    more: dict[str, object] = {"reason": str(deny.reason), "request_id": request_id}
    if deny.detail:
        more["detail"] = deny.detail
    if deny.rule:
        more["rule"] = deny.rule
    if deny.needs:
        more["needs"] = format_scopes(deny.needs)
    return problems.build(f"refusal:{deny.reason}", title=refusal.title, status=refusal.status, **more)


def page(deny: Deny, *, request_id: str, go_on_at: str | None = None) -> bytes:
    """Return the refusal as a small page for browsers; it loads nothing.

    `go_on_at` is for whoever stood in by this browser and does so no more: where another assumption can be begun.
    """
    refusal = REFUSALS[deny.reason]
    detail = f"<p>{html.escape(deny.detail)}</p>" if deny.detail else ""
    needs = f"<p>Needed: <code>{html.escape(format_scopes(deny.needs))}</code></p>" if deny.needs else ""
    over = "" if go_on_at is None else _OVER.format(html.escape(go_on_at))
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        "<title>Not let through</title><main><font face=sans-serif>"
        f"<h1>Not let through</h1><p>{html.escape(refusal.title.capitalize())}.</p>{detail}{needs}{over}"
        f"<p><small>{deny.reason} · {html.escape(request_id)}</small></p></font></main></html>"
    ).encode()


def headers(deny: Deny, said: Said = ()) -> list[tuple[bytes, bytes]]:
    """Return the header lines that belong to a refusal: the challenge, when to come back, and no storing.

    `said` are more parameters of the challenge, if there is one; their values need no escape.
    """
    refusal = REFUSALS[deny.reason]
    lines = [(b"Cache-Control", b"no-store")]
    if refusal.bearer is not None:
        lines.append((b"WWW-Authenticate", _challenge(refusal, deny, said).encode("ascii")))
    if refusal.status == 503:
        lines.append((b"Retry-After", b"1"))
    return lines


def _challenge(refusal: Refusal, deny: Deny, said: Said) -> str:
    """Return a challenge; without a credential it carries no error (RFC 6750 section 3.1)."""
    parts = [f'{refusal.scheme} realm="{REALM}"']
    if refusal.bearer:
        parts.append(f'error="{refusal.bearer}"')
    if deny.needs:
        parts.append(f'scope="{format_scopes(deny.needs)}"')
    parts += [f'{name}="{value}"' for name, value in said]
    return ", ".join(parts)
