"""`locum notices`: what people are still to be told, what they were not, and trying it again now."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from gateway.cli.context import Context, run_async
from gateway.cli.office import open_store
from gateway.clock import utc_now
from gateway.stores.outbox import WAITING, Notice, Pending
from gateway.telling.addresses import shown

_MOST = 1000


@click.group()
def notices() -> None:
    """Look at the notices that nobody was sent yet, and have them tried again."""


@notices.command("list")
@click.option("--account", default="", metavar="ACCOUNT", help="Only those about this account.")
@click.option("--given-up", is_flag=True, help="Those that nobody is sent any more; they are kept for some days.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_obj
def list_notices(context: Context, *, account: str, given_up: bool, as_json: bool) -> None:
    """Show what waits, oldest first: since when, for whom, how often it was tried, and what went wrong last.

    A running gateway sends what is due within a second or two, so in good times there is nothing. A thousand are shown
    at the most.
    """

    async def work() -> tuple[Sequence[Pending], Sequence[Notice]]:
        async with open_store(context.config) as store:
            if given_up:
                return [], await store.list_given_up(account=account, most=_MOST)
            return await store.list_pending(account=account, most=_MOST), []

    pending, over = run_async(work())
    now = utc_now()
    told = [_of_pending(each) for each in pending] + [_of_given_up(each) for each in over]
    for document in told:
        click.echo(json.dumps(document) if as_json else _line(document, now))
    if not told and not as_json:
        click.echo("nothing was given up lately" if given_up else "nothing waits", err=True)


@notices.command()
@click.argument("names", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that waits.")
@click.pass_obj
def retry(context: Context, names: tuple[str, ...], *, everything: bool) -> None:
    """Have notices tried again now, whatever went wrong; a running gateway does so within a second or two.

    Where it is just sending to the same recipient, it does so as soon as that is over, unless they were sent by then.
    What was given up is not tried again: what it said is not kept.
    """
    if bool(names) == everything:
        raise click.UsageError("name notices by their ids, as `locum notices list` shows them, or say --all")

    async def work() -> int:
        async with open_store(context.config) as store:
            return await store.retry_notices(None if everything else names, now=utc_now())

    count, wanted = run_async(work()), len(set(names))
    click.echo(f"{count} of those that wait {'is' if count == 1 else 'are'} due now")
    if not everything and count < wanted:
        raise click.ClickException(
            f"{wanted - count} of the ids are of none that waits: sent meanwhile, given up"
            " (`locum notices list --given-up`), or mistyped"
        )


def _of_pending(pending: Pending) -> dict[str, str | int | None]:
    notice = pending.notice
    return _of(notice) | {
        "recipient": shown(*notice.target) if notice.target.address else None,
        "failures": pending.failures,
        "refused": notice.tries,
        "not_before": _time(pending.not_before),
        "last_error": pending.error or None,
    }


def _of_given_up(notice: Notice) -> dict[str, str | int | None]:
    return _of(notice) | {"about": notice.about}


def _of(notice: Notice) -> dict[str, str | int | None]:
    return {
        "id": notice.id,
        "event": notice.event,
        "account": notice.account or None,
        "channel": notice.target.channel,
        "happened_at": _time(notice.happened_at),
        "outcome": None if notice.outcome == WAITING else notice.outcome,
    }


def _line(told: dict[str, str | int | None], now: datetime) -> str:
    what = f"{told['id']}: {told['event']}{' of ' + str(told['account']) if told['account'] else ''}"
    what += f", {told['happened_at']}, by {told['channel']}"
    if "about" in told:
        return f"{what}: {told['outcome']}; the record has whom (kind notice, about {told['about']})"
    what += f" to {told['recipient']}" if told["recipient"] else ""
    if told["outcome"]:
        return f"{what}: {told['outcome']}, and waits for its record"
    next_ = f"tried again from {told['not_before']} on" if str(told["not_before"]) > _time(now) else "due"
    tries = [f"failed there {told['failures']} times in a row"] if told["failures"] else []
    tries += [f"was refused by itself {told['refused']} times"] if told["refused"] else []
    return "; ".join([f"{what}: {next_}", *tries, *([f"last: {told['last_error']}"] if told["last_error"] else [])])


def _time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
