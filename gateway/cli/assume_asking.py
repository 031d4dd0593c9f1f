"""The part of `locum assume` about a customer who has to be asked first: its options, and what is said of it."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from gateway.remote.server import Asked

CUSTOMER_DECLINED: Final = "customer_declined"
_LONGEST_WAIT_MINUTES = 50
"""The gateway keeps what was approved for an hour, of which ten minutes are for approving it."""
_LONG = {"always": "as long as they do not turn it off"} | {
    each: f"one {each}" for each in ("day", "week", "month", "year")
}
F = TypeVar("F", bound=Callable[..., Any])


class NoAnswerYet(click.ClickException):
    """The customer was asked."""

    exit_code = 3


class CustomerDeclined(click.ClickException):
    """The customer has said no."""

    exit_code = 4


def asking_options(command: F) -> F:
    """Give a command `ask_duration`, `ask_permissions` and `wait_minutes`."""
    ask = click.option(
        "--ask",
        "ask_duration",
        type=click.Choice(["day", "week", "month", "year", "always"]),
        help="If the account does not allow it, have its administrators asked to, for so long.",
    )
    ask_for = click.option(
        "--ask-for",
        "ask_permissions",
        type=click.Choice(["read", "test_tickets", "write", "administrators"]),
        multiple=True,
        help="What for, with --ask; may be given twice. Looking is always included.",
    )
    wait = click.option(
        "--wait",
        "wait_minutes",
        type=click.IntRange(1, _LONGEST_WAIT_MINUTES),
        metavar="MINUTES",
        help=f"With --ask: wait so long for their answer, {_LONGEST_WAIT_MINUTES} at the most, and then stand in.",
    )
    return ask(ask_for(wait(command)))


def tell_asked(url: str, account: str, wait_minutes: int | None, asked: Asked) -> None:
    """Say what the customer was asked for, until when that waits, and how to see the answer."""
    what = f"{', '.join(asked.permissions)}, for {_LONG.get(asked.assumption_duration, asked.assumption_duration)}"
    click.echo(f"The administrators of {account} are asked for: {what} ({asked.id}).", err=True)
    click.echo(f"It waits for their answer until {asked.expires_at}: see {url}/.locum/#requests", err=True)
    if wait_minutes:
        click.echo(f"Waiting for {wait_minutes} minutes at most; Ctrl-C stops that, and not the question.", err=True)
    else:
        click.echo("Run this again once they have approved; --wait MINUTES waits for them.", err=True)
