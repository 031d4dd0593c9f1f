"""A story: chapters of steps, each with what it should give, played in order."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Generic, TypeVar

import aiohttp
import msgspec

from gateway.audit.log import JournalError
from gateway.demo.django_helpdesk.runner import HelpdeskError
from gateway.demo.story.scene import Scene
from gateway.stores.store import StoreError

A = TypeVar("A")

# What a step may meet when an earlier one did not give what it should; anything else is a fault of the demo itself.
_BREAKS = (aiohttp.ClientError, OSError, LookupError, ValueError, HelpdeskError, StoreError, JournalError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """What a step gave; `text` is compared with what was expected, the rest is for people."""

    text: str
    note: str = ""
    """What was measured or said, in this run."""
    lines: tuple[str, ...] = ()


Act = Callable[[Scene[A]], Awaitable[Got]]


@dataclass(frozen=True, slots=True)
class Step(Generic[A]):
    """One thing that somebody does, and what must come of it; positional, so that a story reads like a table."""

    id: str
    title: str
    expected: str
    act: Act[A]


@dataclass(frozen=True, slots=True)
class Chapter(Generic[A]):
    """The steps that show one fact of the model."""

    title: str
    steps: Sequence[Step[A]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A step that was played."""

    number: int
    id: str
    chapter: str
    title: str
    expected: str
    got: str
    ok: bool
    milliseconds: float
    """How long the step took, all its requests together."""
    note: str = ""
    lines: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        return msgspec.json.encode(self).decode()


async def play(chapters: Sequence[Chapter[A]], scene: Scene[A]) -> AsyncIterator[Told]:
    """Play every step, also after one that failed, and yield each as soon as it is over."""
    steps = [(chapter, step) for chapter in chapters for step in chapter.steps]
    for number, (chapter, step) in enumerate(steps, start=1):
        started = perf_counter()
        got = await _act(step, scene)
        yield Told(
            number=number,
            id=step.id,
            chapter=chapter.title,
            title=step.title,
            expected=step.expected,
            got=got.text,
            ok=got.text == step.expected,
            milliseconds=round(1000 * (perf_counter() - started), 3),
            note=got.note,
            lines=got.lines,
        )


async def _act(step: Step[Any], scene: Scene[Any]) -> Got:
    try:
        return await step.act(scene)
    except _BREAKS as exc:
        return Got(text=f"broke off: {type(exc).__name__}: {exc}")
