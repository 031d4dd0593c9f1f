"""`locum keys`: which keys sign and count, and how another takes the place of one."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import click
import msgspec

from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Record
from gateway.cli.context import Context, by_option, run_async
from gateway.cli.office import open_office, open_store
from gateway.clock import utc_now
from gateway.config.model import ConfigError
from gateway.stores.store import Store, StoreConflict, StoredKey, StoreError
from gateway.tokens.keys import KeyTerms, read_terms
from gateway.tokens.listing import Listed, list_all
from gateway.tokens.stored import JOURNAL, carry_out, make_all, times_of
from policy import keys as life
from policy.keys import OVERLAP, PUBLISHED_FIRST, KeyRefusal, KeyState, Plan

_LEAST_LEAD = int(PUBLISHED_FIRST.total_seconds())
_MOST_LEAD = 30 * 86400
_REFUSALS = {
    KeyRefusal.UNKNOWN: "there is no key `{}`: see `locum keys list`",
    KeyRefusal.GONE: "the key `{}` is gone: nothing counts that it has signed",
    KeyRefusal.RETIRED: "the key `{}` signs nothing any more: `locum keys list` says how long it counts; --now ends it",
    KeyRefusal.ROTATING: "a new key is published and will sign: `locum keys list` says when",
    KeyRefusal.NEEDED: "the key `{}` signs until one of the configured algorithm may: `locum keys list` says when",
}


@click.group()
def keys() -> None:
    """List the signing keys, replace them, or end one."""


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_obj
def list_keys(context: Context, *, as_json: bool) -> None:
    """Show each key: what it signs, from when to when, and until when that counts."""
    terms = read_terms(context.config)

    async def work() -> list[Listed]:
        async with open_store(context.config) as store:
            return list_all(terms, await store.list_keys(), now=utc_now())

    for one in run_async(work()):
        click.echo(json.dumps(msgspec.to_builtins(one)) if as_json else _describe(one))


@keys.command()
@click.option(
    "--lead",
    type=click.IntRange(_LEAST_LEAD, _MOST_LEAD),
    default=_LEAST_LEAD,
    show_default=True,
    metavar="SECONDS",
    help="How long the new keys are published before they sign; more if an app keeps them for longer.",
)
@by_option
@click.pass_obj
def rotate(context: Context, *, lead: int, by: str) -> None:
    """Publish a new key for each that signs; it takes over by itself, on every node, and no request fails."""
    config, terms = context.config, read_terms(context.config)
    if terms.given:
        raise _given()

    def decide(stored: Sequence[StoredKey], now: datetime) -> Plan:
        return _allowed(life.rotation(times_of(stored), terms.needs, now, lead=timedelta(seconds=lead)), "")

    async def work() -> list[Listed]:
        async with open_office(config) as office:
            return await _change(_Place(office.store, office.journal, terms, by), decide)

    _show(run_async(work()))


@keys.command()
@click.argument("key", metavar="KEY")
@click.option(
    "--now", "at_once", is_flag=True, help="Nothing counts any more that it has signed: it is known to others."
)
@by_option
@click.pass_obj
def retire(context: Context, key: str, *, at_once: bool, by: str) -> None:
    """Have a key sign no more; what it has signed counts until the last of it has ended, unless with --now.

    If it signs, a new one takes its place: published first, or with --now at once.
    """
    config, terms = context.config, read_terms(context.config)

    def decide(stored: Sequence[StoredKey], now: datetime) -> Plan:
        _refuse_others(terms, stored, key)
        judge = life.ending if at_once else life.retirement
        return _allowed(judge(times_of(stored), key, terms.needs, now), key)

    async def work() -> list[Listed]:
        async with open_office(config) as office:
            return await _change(_Place(office.store, office.journal, terms, by), decide, key=key)

    async def work_unrecorded() -> list[Listed]:
        async with open_store(config) as store:
            return await _change(_Place(store, None, terms, by), decide, key=key)

    try:
        _show(run_async(work()))
    except (JournalError, ConfigError, OSError) as exc:
        if not at_once:
            raise
        # Taking power away does not wait for a record that cannot be written.
        _show(run_async(work_unrecorded()))
        raise click.ClickException(f"this is done (key: ended), but not on the record: {exc}") from exc


@dataclass(frozen=True, slots=True)
class _Place:
    """Where keys are changed, and by whom."""

    store: Store
    journal: AuditLog | None
    """None: it cannot be written, and that is no reason not to."""
    terms: KeyTerms
    by: str

    async def record(self, reason: str, key: str) -> None:
        if self.journal is not None:
            await self.journal.append(Record(kind="key", reason=reason, key_id=key, by=self.by), durable=True)


async def _change(
    place: _Place,
    decide: Callable[[Sequence[StoredKey], datetime], Plan],
    *,
    key: str | None = None,
) -> list[Listed]:
    """Carry out what `decide` says, on the record first; return what has become of `key` and of all that are new."""
    now = utc_now()
    plan = decide(await place.store.list_keys(), now)
    made = await make_all(plan, now=now)
    new = [*(each.id for each in made), *(step.key for step in plan.start)]
    if key is not None:
        await place.record("ended" if any(step.key == key for step in plan.end) else "retired", key)
    for each in new:
        await place.record("made" if any(one.id == each for one in made) else "started", each)
    concerned = new if key is None else [key, *new]
    try:
        await carry_out(place.store, plan, made)
    except (StoreError, StoreConflict):
        # Whoever reads the record of it must not take it for done.
        for each in concerned:
            await place.record("failed", each)
        raise
    listed = list_all(place.terms, await place.store.list_keys(), now=now)
    return [one for one in listed if one.id in concerned]


def _allowed(plan: Plan | KeyRefusal, key: str) -> Plan:
    if isinstance(plan, KeyRefusal):
        raise click.ClickException(_REFUSALS[plan].format(key))
    return plan


def _refuse_others(terms: KeyTerms, stored: Sequence[StoredKey], key: str) -> None:
    if any(given.id == key for given in terms.given):
        raise _given()
    if any(entry.id == key and entry.algorithm == JOURNAL for entry in stored):
        raise click.ClickException("this key signs the journal's checkpoints, and is kept for as long as the journal")


def _given() -> click.ClickException:
    first, last = (int(span.total_seconds()) for span in (PUBLISHED_FIRST, OVERLAP))
    return click.ClickException(
        "the keys of tokens.signing_key are changed in that file, with a SIGHUP to every gateway behind each step: put"
        f" the new key behind the others; {first} s later put it in front of them; {last} s after that take the old one"
        " out. One that others may know is taken out at once"
    )


def _show(listed: Sequence[Listed]) -> None:
    for one in listed:
        click.echo(_describe(one))


def _describe(one: Listed) -> str:
    """Return one line on a key."""
    words = [f"{one.id}: {one.algorithm}, {one.source}, {one.state}{_list(one.signs)}"]
    if one.created_at is not None:
        words.append(f"made {_in_words(one.created_at)}")
    if one.signs_from is not None and one.state == KeyState.PUBLISHED:
        words.append(f"signs from {_in_words(one.signs_from)}")
    if one.signs_until is not None:
        words.append(f"signs until {_in_words(one.signs_until)}")
    if one.counts_until is not None:
        words.append(f"counts until {_in_words(one.counts_until)}")
    return "; ".join(words)


def _list(signs: Sequence[str]) -> str:
    return f" {' and '.join(signs)}" if signs else ""


def _in_words(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"
