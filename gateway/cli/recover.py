"""`locum recover`: a store put back from an older copy is trusted again, and nothing of its past comes back."""

from collections import Counter
from pathlib import Path

import click

from gateway.audit.record import Record, record_end
from gateway.cli.context import Context, by_option, run_async
from gateway.cli.office import Office, open_office
from gateway.clock import utc_now
from gateway.grants.mark import RECOVERY_LEAP, read_highest
from gateway.grants.service import ChangeRequest, GrantService
from gateway.tokens.keys import KeyTerms, read_terms
from gateway.tokens.stored import carry_out, make_all, times_of
from policy.grants import Administrator, GrantState, state
from policy.keys import beginning_anew
from policy.model import AccountType, Duration

_ROLE = "operator"
_MOST_POSITION = 2**53  # far below what a store can count to, and beyond all that one does


@click.command()
@click.option(
    "--beyond",
    type=click.IntRange(0, _MOST_POSITION),
    default=0,
    metavar="POSITION",
    help="The highest count of changes that another machine says it has seen; this one's is known.",
)
@by_option
@click.pass_obj
def recover(context: Context, *, beyond: int, by: str) -> None:
    """End every assumption, grant and signing key, then have the gateways trust the store again.

    For a database that was put back from an older copy: what was switched off since is on again in there, and nobody
    knows what. The customers choose anew.
    """
    config = context.config

    async def work() -> Counter[str]:
        async with open_office(config) as office:
            done = Counter(ended=await _end_assumptions(office, by))
            done += await _end_grants(office, by)
            done["keys"] = await _end_keys(office, read_terms(config), by)
            record = Record(kind="store", reason="recovered", by=by)
            await office.journal.append(record, durable=True)
            # Last, because from here on the gateways let in whom the store lets in.
            seen = read_highest(Path(config.server.data_directory))
            await office.store.raise_position(max(seen, beyond) + RECOVERY_LEAP)
        return done

    done = run_async(work())
    click.echo(f"{done['ended']} assumptions ended, {done['off']} grants turned off; the store is trusted again")
    if done["trials"]:
        click.echo(
            f"{done['trials']} accounts are trials in this copy and stay assumable: convert those that pay by now with"
            " `locum account convert`"
        )
    click.echo(f"{done['keys']} signing keys ended, and new ones sign: apps fetch them within a minute")
    click.echo("whether the kill-switch was on is not known: see `locum kill-switch status`")
    click.echo("staff who were locked out since this copy was made are not any more: see `locum staff lock`")


async def _end_assumptions(office: Office, by: str) -> int:
    begun = await office.store.list_assumptions(at=utc_now())
    for one in begun:
        await office.journal.append(record_end(one, by=by), durable=True)
    for actor in {one.actor for one in begun}:
        await office.store.end_assumptions_of(actor, at=utc_now())
    return len(begun)


async def _end_keys(office: Office, terms: KeyTerms, by: str) -> int:
    """End the keys of tokens and assertions, for one of them may have been ended since the copy was made."""
    now = utc_now()
    plan = beginning_anew(times_of(await office.store.list_keys()), terms.needs, now)
    made = await make_all(plan, now=now)
    for reason, keys in (("ended", [step.key for step in plan.end]), ("made", [key.id for key in made])):
        for key in keys:
            await office.journal.append(Record(kind="key", reason=reason, key_id=key, by=by), durable=True)
    await carry_out(office.store, plan, made)
    return len(plan.end)


async def _end_grants(office: Office, by: str) -> Counter[str]:
    grants = GrantService(office.store, office.journal, accepted_roles=frozenset({_ROLE}), clock=utc_now)
    operator = Administrator(id=by, roles={"gateway": _ROLE})
    done = Counter[str]()
    for record in await office.store.list_accounts():
        done["trials"] += record.account.type is AccountType.TRIAL
        if state(record.account, record.grant, utc_now()) is GrantState.ON:
            await grants.choose(
                ChangeRequest(
                    account=record.account.id, duration=Duration.OFF, permissions=frozenset(), administrator=operator
                )
            )
            done["off"] += 1
    return done
