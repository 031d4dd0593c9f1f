"""`locum assume`: standing in for an agent from a staff member's own machine; needs no configuration."""

import errno
import json
import os
import re
import sys
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from gateway.cli.assume_asking import (
    CUSTOMER_DECLINED,
    CustomerDeclined,
    NoAnswerYet,
    asking_options,
    tell_asked,
)
from gateway.clock import utc_now
from gateway.config.model import ConfigError
from gateway.remote import running
from gateway.remote.server import Codes, Refused, Server, ServerFault, Token, Wish
from gateway.remote.signals import Signals
from gateway.remote.tokens import Said, Unreadable, read
from gateway.remote.waiting import NotAnswered, Stopped, wait_for_token

CLIENT = "locum-cli"
_TOKEN = "LOCUM_TOKEN"  # noqa: S105 - a name
_SERVER = "LOCUM_SERVER"
# What the gateway's operator has to mend, not whoever has typed the command.
_OPERATORS = frozenset({"invalid_client", "unauthorized_client"})
_NOT_SHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
F = TypeVar("F", bound=Callable[..., Any])


class _Assume(click.Group):
    """A group whose first command need not be named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take what names no command for the options of `begin`."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["begin", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Assume, no_args_is_help=False)
def assume() -> None:
    """Stand in for an agent of an account, after you have approved it in the browser.

    `locum assume --server URL --account A --agent X …` prints a token, or runs a command with it: see
    `locum assume begin --help`.
    """


def _server_options(command: F) -> F:
    client = click.option(
        "--client", envvar="LOCUM_CLIENT", metavar="NAME", help=f"The gateway's public client; {CLIENT} if not given."
    )
    server = click.option(
        "--server", envvar=_SERVER, metavar="URL", help=f"Where staff sign in; or {_SERVER} in the environment."
    )
    return server(client(command))


@assume.command()
@_server_options
@click.option("--account", required=True, help="The customer's account.")
@click.option("--agent", required=True, help="The agent's id in the app.")
@click.option("--ticket", default="", help="The ticket that this is for.")
@click.option("--reason", default="", help="Why it has to be done; the customer may read it.")
@click.option("--scope", "scopes", multiple=True, help="May be given twice; without any, what only reads.")
@asking_options
@click.option("--open", "in_browser", is_flag=True, help="Open the page in the browser of this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print all that is answered with the token.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND …]")
def begin(
    *,
    server: str | None,
    client: str | None,
    account: str,
    agent: str,
    ticket: str,
    reason: str,
    scopes: tuple[str, ...],
    ask_duration: str | None,
    ask_permissions: tuple[str, ...],
    wait_minutes: int | None,
    in_browser: bool,
    as_json: bool,
    command: tuple[str, ...],
) -> None:
    """Ask for an assumption, wait until you have approved it, and print its token.

    With a COMMAND, run that with the token as LOCUM_TOKEN in its environment instead, end the assumption when it
    ends, and pass its exit code on.

    With --ask the exit code is 3 if the customer was asked and has not answered yet, and 4 if they have declined.
    """
    if as_json and command:
        raise click.UsageError("--json prints the token; a COMMAND gets it in its environment")
    if ask_duration is None and (ask_permissions or wait_minutes):
        raise click.UsageError("--ask-for and --wait go with --ask: say for how long the customer is asked")
    wish = Wish(
        account=account,
        agent=agent,
        ticket=ticket,
        reason=reason,
        scopes=scopes,
        ask_duration=ask_duration or "",
        ask_permissions=ask_permissions,
    )
    with Signals() as signals:
        gateway = _server(server, client, is_over=lambda: bool(signals.came))
        codes = _asked(lambda: gateway.ask(wish))
        with _told_or_taken_back(gateway, codes.device_code):
            _tell(codes, in_browser=in_browser)
        try:
            customer_seconds = 60.0 * (wait_minutes or 0)
            tell = partial(tell_asked, gateway.url, account, wait_minutes)
            token = _asked(
                lambda: wait_for_token(gateway, codes, signals, customer_seconds=customer_seconds, tell=tell)
            )
        except NotAnswered as exc:
            raise NoAnswerYet("the customer has not answered yet; what they were asked for goes on waiting") from exc
        except Stopped as exc:
            raise click.ClickException("stopped; the gateway knows that nothing is wanted any more") from exc
        with _told_or_taken_back(gateway, token.access_token):
            click.echo(f"You stand in for {agent} of {account} for {token.expires_in // 60} minutes at most.", err=True)
            if not command:
                _print(json.dumps(msgspec.to_builtins(token)) if as_json else token.access_token)
        if command:
            sys.exit(_run(gateway, token, command, signals))


@assume.command()
@_server_options
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    metavar="FILE",
    help=f"Holds the token; without it, {_TOKEN} in the environment does. `-` is the standard input.",
)
def end(server: str | None, client: str | None, token_file: Path | None) -> None:
    """End the assumption that a token is for; it is worth nothing any more."""
    text, said = _token(token_file)
    _asked(lambda: _server(server or said.iss, client or said.client_id).take_back(text))
    click.echo(f"{_shown(said.sid)}: ended", err=True)


@assume.command()
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    metavar="FILE",
    help=f"Holds the token; without it, {_TOKEN} in the environment does. `-` is the standard input.",
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def show(token_file: Path | None, *, as_json: bool) -> None:
    """Say what a token says: who stands in for whom, and until when; the exit code is 1 once that is over.

    Nobody is asked, so an assumption that was ended early looks like one that goes on.
    """
    _, said = _token(token_file)
    over = utc_now() >= said.expires_at
    shown: dict[str, str | list[str]] = {
        "actor": said.act.sub,
        "agent": said.sub,
        "account": said.detail("account"),
        "ticket": said.detail("ticket"),
        "until": f"{said.expires_at:%Y-%m-%dT%H:%M:%SZ}",
        "scopes": said.scope.split(),
        "session": said.sid,
        "server": said.iss,
    }
    if as_json:
        click.echo(json.dumps(shown | {"over": over}))
    else:
        for name, value in shown.items():
            click.echo(f"{name}: {_shown(' '.join(value) if isinstance(value, list) else value)}")
    if over:
        raise click.ClickException("the token has expired: ask for a new one with `locum assume`")


def _server(url: str | None, client: str | None, *, is_over: Callable[[], bool] = lambda: False) -> Server:
    if not url:
        raise click.UsageError(f"say where staff sign in: --server https://assume.vendor.example, or {_SERVER}")
    try:
        return Server(url, client=client or CLIENT, is_over=is_over)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc


T = TypeVar("T")


def _asked(question: Callable[[], T]) -> T:
    """Return the answer, or end the command with what to do."""
    try:
        return question()
    except Refused as exc:
        if exc.error in _OPERATORS:
            raise ConfigError(
                f"{exc}; the gateway's operator has to run `locum client add NAME --public --role device` and to let"
                " staff sign in with a browser"
            ) from exc
        if exc.error == CUSTOMER_DECLINED:
            raise CustomerDeclined(str(exc)) from exc
        raise click.ClickException(f"{exc} ({exc.error})") from exc
    except ServerFault as exc:
        raise click.ClickException(str(exc)) from exc


def _tell(codes: Codes, *, in_browser: bool) -> None:
    address = codes.verification_uri_complete or codes.verification_uri
    click.echo(f"Open {address}", err=True)
    click.echo(f"and approve it if it shows this code: {codes.user_code}", err=True)
    click.echo(f"Waiting for {codes.expires_in // 60} minutes at most; Ctrl-C stops it.", err=True)
    if in_browser and not webbrowser.open(address):
        click.echo("No browser could be opened here.", err=True)


@contextmanager
def _told_or_taken_back(gateway: Server, text: str) -> Iterator[None]:
    """Take a token or device code back that could not be shown to anybody, and end the command."""
    try:
        yield
    except (OSError, ValueError) as exc:
        if sys.stdout is not None:
            # What is still held to be written would fail again at the exit.
            with suppress(OSError, ValueError), Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
        _asked(lambda: gateway.take_back(text))
        raise click.ClickException(f"this could not be shown, and so was taken back: {exc}") from exc


def _print(text: str) -> None:
    if sys.stdout is None:
        raise OSError(errno.EBADF, "the standard output is closed")
    click.echo(text)


def _run(gateway: Server, token: Token, command: tuple[str, ...], signals: Signals) -> int:
    try:
        return running.run(command, {_TOKEN: token.access_token, _SERVER: gateway.url}, signals)
    except OSError as exc:
        click.echo(f"locum: {command[0]}: {exc.strerror or exc}", err=True)
        return running.NOT_FOUND if isinstance(exc, FileNotFoundError) else running.NOT_RUNNABLE
    finally:
        try:
            gateway.take_back(token.access_token)
        except (Refused, ServerFault) as exc:
            click.echo(f"locum: the assumption could not be ended, and ends by itself: {exc}", err=True)


def _token(path: Path | None) -> tuple[str, Said]:
    if path is None:
        text = os.environ.get(_TOKEN, "")
        if not text:
            raise click.UsageError(f"give the token with --token-file, or as {_TOKEN} in the environment")
    else:
        with click.open_file(str(path), encoding="utf-8", errors="replace") as file:
            text = file.read(32 * 1024)
    try:
        return text.strip(), read(text.strip())
    except Unreadable as exc:
        raise click.ClickException("that is no assumption token") from exc


def _shown(text: str) -> str:
    return _NOT_SHOWN.sub("?", text)
