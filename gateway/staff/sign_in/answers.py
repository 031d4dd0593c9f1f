"""What a provider's answer holds, read to the letter (RFC 6749 section 4.1.2, RFC 9207), and what its errors mean."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

_LONGEST = 8192
_CODE = re.compile(r"[ -~]{1,4096}", re.ASCII)  # RFC 6749 appendix A.11
_ERROR = re.compile(r"[!#-\[\]-~]{1,64}", re.ASCII)
_ONCE = ("code", "state", "iss", "error")

_AGAIN = "Nothing has happened. You can try again."
_SET_UP = (
    "The identity provider does not accept how this gateway is set up there. Ask whoever operates it to check the"
    " client id, its redirect URI and its scopes."
)
_BUSY = "The identity provider cannot answer just now. Try again in a moment."
ERRORS: Final = {
    # RFC 6749 section 4.1.2.1.
    "access_denied": f"The identity provider did not let you sign in here, or you declined. {_AGAIN}",
    "invalid_request": _SET_UP,
    "invalid_scope": _SET_UP,
    "server_error": _BUSY,
    "temporarily_unavailable": _BUSY,
    "unauthorized_client": _SET_UP,
    "unsupported_response_type": _SET_UP,
    # OpenID Connect Core 1.0 section 3.1.2.6, and OpenID Connect Core Unmet Authentication Requirements 1.0.
    "account_selection_required": f"Choose at the identity provider who you are. {_AGAIN}",
    "consent_required": f"The identity provider needs your consent to tell who you are. {_AGAIN}",
    "interaction_required": f"The identity provider needs to ask you something first. {_AGAIN}",
    "login_required": f"You are not signed in at the identity provider. {_AGAIN}",
    "unmet_authentication_requirements": (
        "The identity provider could not sign you in as strongly as staff have to: use a second factor that counts."
    ),
}
"""By the error's code, what a person can do; whatever the provider describes is logged and not shown."""
_UNKNOWN: Final = f"The identity provider answered with an error. {_AGAIN}"


def describe_error(error: str | None) -> tuple[str, str]:
    """Return what a person can do about an error that the provider has answered, and its code if it is a known one."""
    known = error if error in ERRORS else None
    return (ERRORS[known], known) if known is not None else (_UNKNOWN, "")


class AnswerRefused(ValueError):
    """The answer has two readings, or none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderAnswer:
    """What came back by way of the browser; nothing of it is proved yet."""

    state: str
    issuer: str | None
    code: str | None
    """One of this and `error` is there."""
    error: str | None

    def __repr__(self) -> str:
        """Hide the code."""
        return "ProviderAnswer(…)"


def read_answer(query: str) -> ProviderAnswer:
    """Return what the query of a callback says; raises AnswerRefused.

    A parameter that is there twice is refused (RFC 6749 section 3.1); those that nobody asks about are passed over.
    """
    if len(query) > _LONGEST:
        raise AnswerRefused("it is too long")
    try:
        fields = parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=32)
    except ValueError as exc:
        raise AnswerRefused("it is not a query") from exc
    found: dict[str, str] = {}
    for name, value in fields:
        if name in _ONCE and name in found:
            raise AnswerRefused(f"it has `{name}` twice")
        found[name] = value
    code, error, state = found.get("code"), found.get("error"), found.get("state")
    if not state:
        raise AnswerRefused("it has no `state`")
    if (code is None) == (error is None):
        raise AnswerRefused("it must have one of `code` and `error`")
    if code is not None and _CODE.fullmatch(code) is None:
        raise AnswerRefused("its `code` is none")
    if error is not None and _ERROR.fullmatch(error) is None:
        raise AnswerRefused("its `error` is none")
    return ProviderAnswer(state=state, issuer=found.get("iss"), code=code, error=error)
