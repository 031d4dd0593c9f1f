"""What people do in every story: ask for a token, choose a duration, send a request, be cut off."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

from gateway.demo.story.play import Act, Got
from gateway.demo.story.scene import Answer, Person, Scene
from gateway.demo.story.stream import open_stream
from gateway.tokens.compact import read_compact

OWNER = Person(id="owner", roles={"support": "owner"})
LIMIT_SECONDS = 1.0
"""Within this a change has to have taken effect everywhere."""
_PATIENCE_SECONDS = 10.0
_POLL_SECONDS = 0.005


def exchange(scope: str, *, subject: str = "maria", account: str = "acme", keep: str = "") -> Act[Any]:
    """Dana asks for an assumption token, which is kept under a name if there is one."""

    async def act(scene: Scene[Any]) -> Got:
        answer = await scene.exchange(scope, subject=subject, account=account)
        if answer.status != 200:
            return Got(text=answer.outcome, note=answer.said)
        scene.tokens[keep] = str(answer.document["access_token"])
        claims = read_compact(scene.tokens[keep]).payload
        text = f"200 sub={claims['sub']} act={claims['act']['sub']} scope={claims['scope']}"
        return Got(text=text, note=f"lives for {answer.document['expires_in']} s")

    return act


def choose(
    duration: str, permissions: Sequence[str] = ("read",), *, by: Person = OWNER, account: str = "acme"
) -> Act[Any]:
    """Somebody of the customer chooses a duration and permissions."""

    async def act(scene: Scene[Any]) -> Got:
        answer = await scene.choose(duration, permissions, by=by, account=account)
        return Got(text=describe_change(answer), note=answer.said or f"ends {end_of(answer)}")

    return act


def describe_change(answer: Answer) -> str:
    """Return what a choice did, and the setting that came of it."""
    if answer.status != 200:
        return answer.outcome
    document = answer.document
    held = ", ".join(document["permissions"])
    return f"{document['change']}: {document['assumption_duration']}" + (f", {held}" if held else "")


def end_of(answer: Answer) -> str:
    """Return when the setting ends."""
    return str(answer.document.get("assumption_expiration") or "when it is switched off")


def call(
    method: str,
    target: str,
    *,
    using: str = "read",
    account: str = "acme",
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
    look: Callable[[Answer], str] | None = None,
    **body: Any,
) -> Act[Any]:
    """Dana sends a request with the token of that name; `look` says what was seen in an answer of the app."""

    async def act(scene: Scene[Any]) -> Got:
        before = scene.reached()
        answer = await scene.send(
            method, target, token=scene.tokens[using], account=account, headers=headers, form=form, **body
        )
        text = answer.outcome
        if "reason" in answer.document and scene.reached() != before:
            text += ", but it reached the helpdesk"
        if look is not None and answer.status < 400:
            text += f" {look(answer)}"
        return Got(text=text, note=answer.said)

    return act


async def stop_requests(scene: Scene[Any], token: str, target: str, change: Callable[[], Awaitable[object]]) -> Got:
    """Make a change, then ask again and again until the answer is a refusal, and say after how long it was."""
    started = perf_counter()
    await change()
    refusal, refused_at = await _until_refused(scene, token, target)
    after = refused_at - started
    within = f"within {LIMIT_SECONDS:.0f} s" if after <= LIMIT_SECONDS else "too late"
    return Got(text=f"next request {refusal.outcome} {within}", note=f"after {1000 * after:.1f} ms")


async def cut_stream(
    scene: Scene[Any], token: str, change: Callable[[], Awaitable[object]], *, account: str = "acme"
) -> Got:
    """Make a change while a stream of events is open, and say how long it and the next request still worked."""
    async with open_stream(scene.gateway.public_url, host=scene.host(account), token=token) as stream:
        started = perf_counter()
        await change()
        refusal, refused_at = await _until_refused(scene, token, "/tickets/1", account=account)
        async with asyncio.timeout(_PATIENCE_SECONDS):
            ended_at = await stream.ended
        late = stream.bytes_after(refused_at)
    scene.cut += 1
    cut, refused = ended_at - started, refused_at - started
    within = f"within {LIMIT_SECONDS:.0f} s" if max(cut, refused) <= LIMIT_SECONDS else "too late"
    text = f"stream cut, {late} bytes after, next request {refusal.outcome}, {within}"
    return Got(text=text, note=f"stream after {1000 * cut:.1f} ms, request after {1000 * refused:.1f} ms")


async def _until_refused(scene: Scene[Any], token: str, target: str, *, account: str = "acme") -> tuple[Answer, float]:
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while True:
            answer = await scene.send("GET", target, token=token, account=account)
            if answer.status != 200:
                return answer, perf_counter()
            await asyncio.sleep(_POLL_SECONDS)
