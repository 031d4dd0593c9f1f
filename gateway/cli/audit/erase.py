"""`locum audit erase`: taking somebody's personal data out of the journal."""

import click

from gateway.audit.removal.erasure import (
    Erased,
    Erasure,
    Whose,
    of_actor,
    of_agent,
    of_assumption,
    of_giver,
    of_words,
)
from gateway.audit.removal.keeping import held_accounts
from gateway.audit.removal.rotating import have_rotated
from gateway.audit.segment import list_segments
from gateway.cli.context import Context, by_option, run_async
from gateway.cli.office import ORIGIN, open_office
from policy.model import AccountId

_WAIT_SECONDS = 10.0
_MOST_NAMED = 8


@click.command("erase")
@click.option("--actor", nargs=2, metavar="ISSUER SUBJECT", help="A staff member, with the address and the browser.")
@click.option("--agent", nargs=2, metavar="ACCOUNT SUBJECT", help="An agent in whose place somebody stood.")
@click.option(
    "--by", "giver", metavar="WHO", help="An operator, or a customer's administrator, as the records name them."
)
@click.option("--sid", metavar="SID", help="Everybody's data in one assumption, and the words that were given for it.")
@click.option("--record", "place", metavar="ORIGIN:SEQ", help="The words that were given for one record.")
@click.option("--reason", required=True, metavar="TEXT", help="Why, for the record; do not name them here.")
@by_option
@click.pass_obj
def erase_command(
    context: Context,
    *,
    actor: tuple[str, str] | None,
    agent: tuple[str, str] | None,
    giver: str | None,
    sid: str | None,
    place: str | None,
    reason: str,
    by: str,
) -> None:
    """Erase personal data from the journal of this machine; exit with 1 if anything of it is left.

    The records stay, and so does everything that proves them. What a path, a query's name or a host's name says of
    somebody is no field of theirs, and stays. So do words in which somebody is named: those records are listed.
    """
    chosen = _choose(actor, agent, giver, sid, place)
    name = actor[1] if actor else agent[1] if agent else giver
    account = AccountId(agent[0]) if agent else None
    directory = context.journal_directory

    async def work() -> Erased:
        async with open_office(context.config) as office:

            async def close() -> None:
                origins = list_segments(directory)
                await have_rotated(directory, office.journal, origins, own=ORIGIN, seconds=_WAIT_SECONDS)

            erasure = Erasure(
                directory=directory,
                recorder=office.journal,
                held=lambda: held_accounts(office.store),
                close=close,
            )
            return await erasure.erase(chosen, account=account, by=by, why=reason, looks_for=name)

    _show(run_async(work()))


def _choose(
    actor: tuple[str, str] | None, agent: tuple[str, str] | None, giver: str | None, sid: str | None, place: str | None
) -> Whose:
    given = [
        *([of_actor(*actor)] if actor else []),
        *([of_agent(*agent)] if agent else []),
        *([of_giver(giver)] if giver else []),
        *([of_assumption(sid)] if sid else []),
        *([_of_record(place)] if place else []),
    ]
    if len(given) != 1:
        raise click.UsageError(
            "say whose: one of `--actor ISSUER SUBJECT`, `--agent ACCOUNT SUBJECT`, `--by WHO`, `--sid SID`, "
            "`--record ORIGIN:SEQ`"
        )
    return given[0]


def _of_record(place: str) -> Whose:
    origin, _, seq = place.rpartition(":")
    if not origin or not (seq.isascii() and seq.isdigit()):
        raise click.UsageError(f"`--record {place}`: name it as `ORIGIN:SEQ`, such as `cli:17`")
    return of_words(origin, int(seq))


def _show(done: Erased) -> None:
    click.echo(f"erased from {done.lines} records ({done.commitments} commitments)")
    left = [
        *(f"the account `{account}` is under hold: nothing of it was erased" for account in sorted(done.held)),
        *(f"{name} is still written to: run this again" for name in sorted(done.open)[:_MOST_NAMED]),
        *(
            f"{name} ends in a torn line, which may hold some of it: start what writes it, then run this again"
            for name in sorted(done.torn)[:_MOST_NAMED]
        ),
    ]
    if done.plain:
        left.append(f"{done.plain} records of an older version hold it themselves: only retention takes them away")
    for line in left:
        click.echo(f"left: {line}")
    if done.named:
        more = f" and {len(done.named) - _MOST_NAMED} more" if len(done.named) > _MOST_NAMED else ""
        some = ", ".join(done.named[:_MOST_NAMED])
        click.echo(f"the words of {some}{more} hold that name: look at them, and take them with `--record`")
    if not done.is_complete:
        raise click.exceptions.Exit(1)
    click.echo("complete: nothing of it is left in these fields, in the journal of this machine")
