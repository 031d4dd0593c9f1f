"""One day on the pages of all three: dana asks, the owner answers, watches and ends it, and sam looks into the log."""

import asyncio
import csv
from collections.abc import Awaitable, Callable
from time import perf_counter
from urllib.parse import quote

from gateway.console.account.door import PATH
from gateway.console.account.page import CONTACTS
from gateway.console.security.sign_in import BEGIN
from gateway.console.security.visit import PATH as CONSOLE
from gateway.demo.story import staff
from gateway.demo.story.browser import Browser
from gateway.demo.story.desk_acts import Backstage
from gateway.demo.story.moves import LIMIT_SECONDS
from gateway.demo.story.play import Chapter, Got, Step
from gateway.demo.story.scene import Scene

_TICKET = "SUP-7"
# What the index lags behind the journal, many times over.
_PATIENCE_SECONDS = 30.0
_POLL_SECONDS = 0.25
_OVER = "stands in for nobody any more"
_WHO = r'<h2 id="{}">.*?<p class="who">(.*?)</p>'


async def ask(scene: Scene[Backstage]) -> Got:
    """Dana signs in anew, finds acme off, and asks the customer for a day."""
    browser = scene.app.dana
    await staff.sign_in(scene)
    await browser.open(scene, f"{scene.gateway.public_url}/.locum/?account=acme")
    await browser.send(scene, account="acme", duration="day", ticket=_TICKET, reason=staff.REASON)
    return Got(text=browser.text(r'id="asked"[^>]*>\s*<h3>(.*?)</h3>') or browser.heading)


async def name_webhook(scene: Scene[Backstage]) -> Got:
    """The owner has a program of acme's told what happens, and gives it the secret that the page shows then."""
    browser, inbox = scene.app.owner, scene.app.inbox
    await browser.open(scene, scene.account_url(CONTACTS))
    await browser.send(scene, addresses=inbox.url)
    inbox.trust(browser.text(r"<code>(whsec_.*?)</code>"))
    return Got(text=browser.text(r'<p class="note" role="status">(.*?)</p>'), note=inbox.url)


async def be_told(scene: Scene[Backstage]) -> Got:
    """Wait until that program has taken the webhook that says that dana stands in, and look at what it says."""
    inbox = scene.app.inbox
    async with asyncio.timeout(_PATIENCE_SECONDS):
        document = await inbox.told("account_assumption.begun", ticket=_TICKET)
    said = document["data"]
    others = f"{len(inbox.documents)} notices so far, {inbox.refused} without a signature that holds"
    return Got(
        text=f"the customer was told: {said['staff']} stands in for {said['subject']} (signature verified)", note=others
    )


async def approve(scene: Scene[Backstage]) -> Got:
    """The owner reads on the account's page who asks for what, and approves it."""
    browser = scene.app.owner
    await browser.open(scene, scene.account_url(PATH))
    asked = browser.text(_WHO.format("waiting"))
    await browser.send(scene, request=browser.hidden("request"), duration="day")
    state = browser.text(r'<p class="state[^"]*">(.*?)</strong>')
    return Got(text=f"{asked}; {state}", note=browser.text(r'<p class="state[^"]*">(.*?)</p>'))


async def stand_in(scene: Scene[Backstage]) -> Got:
    """Dana stands in as far as that goes."""
    return await staff.stand_in(scene, ticket=_TICKET)


async def watch(scene: Scene[Backstage]) -> Got:
    """The owner sees who is in, and on the page behind that what they have done."""
    browser = scene.app.owner
    await browser.open(scene, scene.account_url(PATH))
    who, sid = browser.text(_WHO.format("inside")), browser.hidden("assumption")

    async def look() -> str:
        await browser.open(scene, scene.account_url(f"{PATH}/log/{sid}"))
        return browser.text(r'<p class="what">(<bdi>GET /tickets/1</bdi>.*?)</p>')

    return Got(text=f"{who}, {await _until(look)}", note=browser.heading)


async def end_it(scene: Scene[Backstage]) -> Got:
    """The owner ends it with the button beside it, and dana's browser is told at its next page."""
    owner, dana = scene.app.owner, scene.app.dana
    await owner.open(scene, scene.account_url(PATH))
    started = perf_counter()
    await owner.send(scene, assumption=owner.hidden("assumption"))
    await dana.open(scene, scene.account_url("/tickets/1"))
    after = perf_counter() - started
    scene.refused += 1
    within = f"within {LIMIT_SECONDS:.0f} s" if after <= LIMIT_SECONDS else "too late"
    said = _OVER if _OVER in dana.page else dana.heading
    return Got(text=f"{said}, {within}", note=f"after {1000 * after:.1f} ms")


async def search(scene: Scene[Backstage]) -> Got:
    """Sam signs in at the console by way of the identity provider, and finds dana's refused request."""
    browser = scene.app.sam
    await browser.open(scene, f"{scene.gateway.admin_url}{BEGIN}")
    await browser.send(scene, person="sam")
    query = quote(f"actor:dana ticket:{_TICKET} decision:deny")

    async def look() -> str:
        await browser.open(scene, f"{scene.gateway.admin_url}{CONSOLE}/log?q={query}")
        found = browser.text(r'<h2 id="over-time">(.*?)</h2>')
        return found if found.startswith("1 ") else ""

    return Got(text=await _until(look) or browser.heading, note=browser.where)


async def export(scene: Scene[Backstage]) -> Got:
    """Sam exports what was found."""
    browser: Browser = scene.app.sam
    answer = await browser.send(scene, format="csv")
    header, *rows = csv.reader(browser.page.splitlines())
    found = [dict(zip(header, row, strict=True)) for row in rows]
    kind = answer.headers["Content-Type"].partition(";")[0]
    return Got(text=f"{kind}: {', '.join(' '.join((one['method'], one['path'])) for one in found)}", note=browser.where)


async def _until(look: Callable[[], Awaitable[str]]) -> str:
    """Return what is seen as soon as it is there; empty if it never is."""
    started = perf_counter()
    while True:
        if (seen := await look()) or perf_counter() - started > _PATIENCE_SECONDS:
            return seen
        await asyncio.sleep(_POLL_SECONDS)


# A table, which the formatter would spread over three times the lines.
# fmt: off
DAY: Chapter[Backstage] = Chapter("A day, on the pages of all three", (
    Step("page-contacts", "the owner has a program of acme's told, by webhook, and gives it the secret",
         "Saved. They are told from now on.", name_webhook),
    Step("page-ask", "dana signs in, finds that acme is off, and asks the customer for a day",
         "You have asked the customer", ask),
    Step("page-approve", "the owner reads it at /.locum/account, and approves it",
         "Dana Reyes asks for: look, one day; On", approve),
    Step("page-stand-in", "dana stands in and opens GET /tickets/1",
         "200 as maria (dana stands in), holding locum-assumption", stand_in),
    Step("page-told", "acme's program gets a webhook, and checks it with that secret",
         "the customer was told: Dana Reyes stands in for maria (signature verified)", be_told),
    Step("page-watch", "the owner sees who is in, and what she did",
         "Dana Reyes stands in for maria, GET /tickets/1 Allowed", watch),
    Step("page-end", "the owner ends it, and dana's next page says so",
         "stands in for nobody any more, within 1 s", end_it),
    Step("console-search", "sam of the vendor's security finds at /console what was refused to her then",
         "1 record", search),
    Step("console-export", "he exports it",
         "text/csv: GET /tickets/1", export),
))
# fmt: on
