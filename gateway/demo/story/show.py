"""One run of the demo, from the empty folder to the exit code."""

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import TypeVar

import click
import uvloop

from gateway.console.account.door import PATH
from gateway.demo.django_helpdesk.runner import HelpdeskError
from gateway.demo.story import django, helpdesk
from gateway.demo.story.folder import FolderError, open_folder
from gateway.demo.story.moves import OWNER
from gateway.demo.story.play import Chapter, play
from gateway.demo.story.scene import Scene
from gateway.demo.story.stage import Ports, free_port, open_django_helpdesk, open_helpdesk
from gateway.demo.story.text import heading, line
from gateway.demo.story.visit import invite
from gateway.starting import START_ERRORS

A = TypeVar("A")

_INTERRUPTED = 130  # what a shell reports of a process that SIGINT has ended


class ShowError(Exception):
    """The demo cannot be shown; the message says what to do."""


def show(upstream: str, directory: Path, *, port: int, admin_port: int, stay: bool, as_json: bool) -> int:
    """Tell the story before `demo` or `django-helpdesk` and return the exit code; raises ShowError.

    0: every step gave what it should; 1: one did not; 130: interrupted in the middle. With `stay` the gateway runs on
    until SIGINT or SIGTERM. A port that is taken is replaced by a free one, which is said.
    """
    try:
        with open_folder(directory) as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            public = free_port(port)
            ports = Ports(public=public, admin=free_port(admin_port, taken=public))
            for wanted, found in ((port, ports.public), (admin_port, ports.admin)):
                if wanted not in (0, found):
                    click.echo(f"port {wanted} is taken, so {found} is used", err=True)
            return runner.run(_Show(folder, ports, as_json=as_json).run(upstream, stay=stay))
    except (FolderError, HelpdeskError, *START_ERRORS) as exc:
        raise ShowError(str(exc)) from exc


class _Show:
    """What is told of a run, and how it ends."""

    def __init__(self, folder: Path, ports: Ports, *, as_json: bool) -> None:
        self._folder = folder
        self._ports = ports
        self._as_json = as_json
        self._started = perf_counter()
        self._code = _INTERRUPTED

    async def run(self, upstream: str, *, stay: bool) -> int:
        """Open the stage, tell the story, stay if asked to, and return the exit code."""
        show = asyncio.get_running_loop().create_task(self._play(upstream, stay=stay), name="the demo")
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, show.cancel)
        try:
            await show
        except asyncio.CancelledError:
            self._say("\nended")
        return self._code

    async def _play(self, upstream: str, *, stay: bool) -> None:
        if upstream == "demo":
            async with open_helpdesk(self._folder, self._ports) as scene:
                self._say("the demo's clock starts 25 hours ago, so that a grant of One day can be seen to end")
                await self._tell(scene, helpdesk.STORY)
                link = scene.app.desk.invite("acme", OWNER.id, then=PATH)
                await self._stay(scene, page="/tickets/1", form="/tickets/1/reply", customer=link, stay=stay)
            return
        self._say("django-helpdesk is being set up, which takes half a minute the first time")
        async with open_django_helpdesk(self._folder, self._ports) as real:
            await self._tell(real, django.STORY)
            await self._stay(real, page="/dashboard/", form="/tickets/1/update/", stay=stay)

    async def _tell(self, scene: Scene[A], story: Sequence[Chapter[A]]) -> None:
        public, admin = scene.gateway.public_url, scene.gateway.admin_url
        self._say(f"gateway {public} · its admin listener {admin} · the helpdesk, hidden behind it, {scene.app_url}")
        chapter, outcomes = "", []
        async for told in play(story, scene):
            outcomes.append(told.ok)
            if self._as_json:
                click.echo(told.to_json())
                continue
            if told.chapter != chapter:
                chapter = told.chapter
                click.echo(heading(chapter))
            click.echo(line(told, seconds=perf_counter() - self._started))
        self._say(f"\n{sum(outcomes)} of {len(outcomes)} steps gave what they should")
        self._code = 0 if all(outcomes) else 1

    async def _stay(self, scene: Scene[A], *, page: str, form: str, stay: bool, customer: str = "") -> None:
        if stay:
            self._say(await invite(scene, page=page, form=form, customer=customer))
            await asyncio.Event().wait()

    def _say(self, text: str) -> None:
        """Say something beside the story, which has standard output to itself where machines read it."""
        click.echo(text, err=self._as_json)
