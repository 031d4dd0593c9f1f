"""How a story is told to people: one line a step, under the chapter's title."""

import click

from gateway.demo.story.play import Told

_MARGIN = 12


def heading(title: str) -> str:
    """Return the line over a chapter."""
    return f"\n{click.style(title, bold=True)}"


def line(told: Told, *, seconds: float) -> str:
    """Return what is printed of a step, `seconds` into the run."""
    mark = click.style("ok", fg="green") if told.ok else click.style("NO", fg="red", bold=True)
    note = click.style(f"  {told.note}", dim=True) if told.note else ""
    text = f"{seconds:6.2f}s {mark}  {told.title} → {click.style(told.got, bold=True)}{note}"
    more = [click.style(f"{'':{_MARGIN}}{each}", dim=True) for each in told.lines]
    if not told.ok:
        more.insert(0, click.style(f"{'':{_MARGIN}}expected: {told.expected}", fg="red"))
    return "\n".join([text, *more])
