"""Whether what a browser comes back with from the provider belongs to a sign-in that began in it."""

import hmac
from collections.abc import Callable
from datetime import datetime

from aiohttp import web

from gateway.staff.sign_in.answers import AnswerRefused, ProviderAnswer, read_answer
from gateway.staff.sign_in.attempt import Attempt
from gateway.staff.sign_in.provider import Provider
from gateway.staff.sign_in.returning import read_return
from policy.model import Deny

# Of a sign-in that began elsewhere, or too long ago, nothing else can be said.
_BEGIN_AGAIN = (
    "This answer belongs to no sign-in that was begun in this browser within the last ten minutes. Begin again."
)


class Unfit(Exception):
    """The caller's fault: what came back does not belong to a sign-in of this browser; the message is for people."""


async def match(
    request: web.Request,
    provider: Provider,
    cookie: str | Deny | None,
    *,
    now: datetime,
    leads: Callable[[str], str] = read_return,
    place: bytes = b"",
) -> tuple[ProviderAnswer, Attempt]:
    """Return what the provider answered, and the attempt of this browser's `cookie` at `place` that it answers.

    Raises Unfit, and IssuerError if it is not known whether the provider says whose its answers are.
    """
    try:
        answer = read_answer(request.rel_url.raw_query_string)
    except AnswerRefused as exc:
        raise Unfit(f"The answer of the identity provider cannot be read: {exc}. Begin again.") from exc
    if isinstance(cookie, Deny):
        raise Unfit(f"{cookie.detail}.")
    attempt = None if cookie is None else Attempt.read(cookie, leads=leads, place=place)
    if attempt is None or attempt.is_over(now):
        raise Unfit(_BEGIN_AGAIN)
    if not hmac.compare_digest(answer.state.encode("utf-8"), attempt.state.encode("ascii")):
        raise Unfit(_BEGIN_AGAIN)
    await _check_issuer(provider, answer)
    return answer, attempt


async def _check_issuer(provider: Provider, answer: ProviderAnswer) -> None:
    """Raise Unfit if the answer is another provider's, or does not say whose and must (RFC 9207 section 2.4)."""
    if answer.issuer is None:
        if (await provider.endpoints()).names_itself:
            raise Unfit("The answer does not say which identity provider it comes from. Begin again.")
    elif answer.issuer != provider.issuer:
        raise Unfit("The answer comes from another identity provider than was asked. Begin again.")
