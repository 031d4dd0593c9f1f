"""What happens in the story before the demo helpdesk, beyond the moves that every story has."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median
from time import perf_counter

from gateway.audit.evidence.checkpoint import NoteSigner
from gateway.audit.writing.journal import Journal
from gateway.console.account.door import PATH
from gateway.demo.assertion import HEADER
from gateway.demo.helpdesk import DemoHelpdesk
from gateway.demo.story.browser import Browser
from gateway.demo.story.customer import Customer
from gateway.demo.story.inbox import Inbox
from gateway.demo.story.moves import LIMIT_SECONDS, OWNER, cut_stream, describe_change, end_of
from gateway.demo.story.play import Got
from gateway.demo.story.scene import Answer, Scene
from gateway.demo.story.stream import open_stream
from gateway.grants.service import GrantService
from gateway.stores.sqlite import open_sqlite
from gateway.tasks import Tasks
from policy.model import AccountId

_COLD, _WARM = 5, 25
_OLDER_THAN_ANY_FACT = timedelta(seconds=3)
_LAST_MOMENT = timedelta(seconds=2)
_FORGED = {"X-Forwarded-User": "owner", "Remote-User": "owner", "X-Auth-Request-Email": "owner@acme.example"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Backstage:
    """What only the demo itself can look at: the helpdesk's memory, ben, who works on, and three people's browsers.

    And what a program of the customer's is told by webhook.
    """

    desk: DemoHelpdesk
    tasks: Tasks
    inbox: Inbox
    ben: Customer = field(default_factory=Customer)
    owner: Browser = field(default_factory=Browser)
    dana: Browser = field(default_factory=Browser)
    sam: Browser = field(default_factory=Browser)

    def assumed(self) -> list[Mapping[str, str]]:
        """Return the headers of the requests with an assertion that have reached the helpdesk, by lower-case name."""
        every = [{n.decode().lower(): v.decode("latin-1") for n, v in seen.headers} for seen in self.desk.seen]
        return [headers for headers in every if HEADER.lower() in headers]


async def count_seats(scene: Scene[Backstage]) -> Got:
    """Let the owner and ben sign in, and ben start to work; then note what must not change."""
    if (status := await scene.app.ben.sign_in(scene)) != 303:
        return Got(text=f"ben cannot sign in: {status}")
    await scene.app.owner.open(scene, scene.account_url(scene.app.desk.invite("acme", "owner", then=PATH)))
    scene.app.tasks.start(scene.app.ben.work(scene), name="ben works on")
    scene.counts = await _figures(scene)
    return Got(text=_seats(scene.counts), note=_people(scene.counts))


async def compare_seats(scene: Scene[Backstage]) -> Got:
    """Count again."""
    figures = await _figures(scene)
    same = "all" if figures == scene.counts else "not"
    return Got(text=f"{_seats(figures)}, {same} as before", note=_people(figures))


async def look_at_ben(scene: Scene[Backstage]) -> Got:
    """Ask whether ben has noticed anything."""
    ben = scene.app.ben
    text = "never disturbed" if ben.requests and not ben.odd else f"disturbed: {', '.join(ben.odd[:3]) or 'he stopped'}"
    return Got(text=text, note=f"{ben.requests} requests")


async def compare_latency(scene: Scene[Backstage]) -> Got:
    """Get a ticket with the facts to be fetched, then from the cache, and compare with the helpdesk asked directly."""
    cold, warm, straight = [], [], []
    for _ in range(_COLD):
        scene.clock.forward(_OLDER_THAN_ANY_FACT)
        cold.append(await _time_ticket(scene))
    for _ in range(_WARM):
        warm.append(await _time_ticket(scene))
        straight.append(await _time_ticket(scene, straight=True))
    times = [median(each) for each in (straight, cold, warm)]
    note = "straight {:.2f} ms, added {:.2f} ms from the store, {:.2f} ms from the cache"
    return Got(text="200 each time", note=note.format(times[0], times[1] - times[0], times[2] - times[0]))


async def send_forged_names(scene: Scene[Backstage]) -> Got:
    """Claim to be the owner, in the headers of other proxies."""
    answer = await scene.send("GET", "/whoami", token=scene.tokens["read"], headers=_FORGED)
    arrived = scene.app.assumed()[-1]
    left = [name for name in _FORGED if name.lower() in arrived]
    return Got(text=f"{answer.outcome} {whoami(answer)}, {', '.join(left) or 'none of them'} arrived")


async def send_tampered(scene: Scene[Backstage]) -> Got:
    """Change one letter of a token's signature."""
    token = scene.tokens["read"]
    middle = len(token) - 40
    other = "A" if token[middle] != "A" else "B"
    before = scene.reached()
    answer = await scene.send("GET", "/tickets/1", token=f"{token[:middle]}{other}{token[middle + 1 :]}")
    reached = "" if scene.reached() == before else ", but it reached the helpdesk"
    return Got(text=answer.outcome + reached, note=answer.said)


async def extend_and_reduce(scene: Scene[Backstage]) -> Got:
    """Choose every duration in turn."""
    answers = [await scene.choose(duration, by=OWNER) for duration in ("week", "month", "year", "always", "day")]
    changes = [describe_change(answer) for answer in answers]
    lines = tuple(f"{change:<24} ends {end_of(answer)}" for change, answer in zip(changes, answers, strict=True))
    return Got(text=", ".join(f"{answer.document['change']}" for answer in answers), lines=lines)


async def turn_off(scene: Scene[Backstage]) -> Got:
    """The owner switches it off while dana watches the stream of events."""
    return await cut_stream(scene, scene.tokens["read"], lambda: scene.choose("off", by=OWNER))


async def expire(scene: Scene[Backstage]) -> Got:
    """Move the clock to a moment before the grant's end, and watch the end come."""
    end = datetime.fromisoformat((await scene.setting()).document["assumption_expiration"])
    scene.clock.forward_to(end - _LAST_MOMENT)
    token = str((await scene.exchange("tickets:read")).document["access_token"])
    async with open_stream(scene.gateway.public_url, host=scene.host(), token=token) as stream:
        due = perf_counter() + (end - scene.clock.utc()).total_seconds()
        async with asyncio.timeout(_LAST_MOMENT.total_seconds() + 10 * LIMIT_SECONDS):
            late = await stream.ended - due
    scene.cut += 1
    request = await scene.send("GET", "/tickets/1", token=token)
    # The token's end is in whole seconds and so a fraction before the grant's.
    scene.clock.forward(timedelta(seconds=1))
    again = await scene.exchange("tickets:read")
    within = "within 1 s of it" if 0 <= late <= LIMIT_SECONDS else "not in time"
    text = f"stream cut {within}, the token {request.outcome}, a new one {again.outcome}"
    return Got(text=text, note=f"cut {1000 * late:.1f} ms after the end, {end:%Y-%m-%d %H:%M:%S} UTC")


async def show_trial(scene: Scene[Backstage]) -> Got:
    """Read a trial's setting as its helpdesk would."""
    scene.clock.catch_up()
    document = (await scene.setting("initech")).document
    kind = "trial" if document["assumable_account_type"] else "paid"
    held = ", ".join(document["permissions"])
    return Got(text=f"{kind}, assumable {document['assumption_duration']}: {held}")


async def convert_trial(scene: Scene[Backstage]) -> Got:
    """The vendor converts the trial, beside the running gateway, while dana watches its stream of events."""
    async with _vendors_office(scene) as grants:
        return await cut_stream(
            scene,
            scene.tokens["trial"],
            lambda: grants.convert(AccountId("initech"), by="billing"),
            account="initech",
        )


def whoami(answer: Answer) -> str:
    """Say whom the helpdesk sees."""
    document = answer.document
    return f"{document['agent']}, by {document['act']['sub']}" if document["act"] else str(document["agent"])


def last_reply(answer: Answer) -> str:
    """Say whose the newest reply on a ticket is."""
    reply = answer.document["replies"][-1]
    return f"{reply['by']} for {reply['for']}"


def title(answer: Answer) -> str:
    """Say what the ticket is called."""
    return str(answer.document["title"])


def found(answer: Answer) -> str:
    """Say how many tickets were found."""
    return f"{len(answer.document['tickets'])} found"


@asynccontextmanager
async def _vendors_office(scene: Scene[Backstage]) -> AsyncIterator[GrantService]:
    """Open the store and a journal beside the running gateway, as `locum account convert` does."""
    config, clock, keys = scene.config, scene.clock.utc, scene.gateway.keys
    store = await open_sqlite(config.store_path)
    try:
        signer = NoteSigner(keys.journal.private, name="cli")
        journal = await Journal.open(
            config.journal_directory,
            origin="cli",
            clock=clock,
            signer=signer,
            patience_seconds=config.audit.patience_seconds,
        )
        try:
            yield GrantService(store, journal, accepted_roles=frozenset(), clock=clock)
        finally:
            await journal.close()
    finally:
        await store.close()


async def _figures(scene: Scene[Backstage]) -> dict[str, int]:
    return (await scene.fetch("GET", f"{scene.app_url}/seats", headers={"Host": scene.host()})).document


def _seats(figures: Mapping[str, int]) -> str:
    return f"{figures['used']} of {figures['total']} seats used"


def _people(figures: Mapping[str, int]) -> str:
    users, logins, sessions = (figures[name] for name in ("users", "logins", "sessions"))
    return f"{users} users, {logins} logins and {sessions} sessions, ben's and the owner's"


async def _time_ticket(scene: Scene[Backstage], *, straight: bool = False) -> float:
    """Return how many milliseconds a ticket takes; straight from the helpdesk, with the gateway's last assertion."""
    asserted = {"Host": scene.host(), HEADER: scene.app.assumed()[-1][HEADER.lower()]} if straight else {}
    started = perf_counter()
    if straight:
        answer = await scene.fetch("GET", f"{scene.app_url}/tickets/1", headers=asserted)
    else:
        answer = await scene.send("GET", "/tickets/1", token=scene.tokens["read"])
    if answer.status != 200:
        raise ValueError(f"the ticket is answered with {answer.outcome}")
    return 1000 * (perf_counter() - started)
