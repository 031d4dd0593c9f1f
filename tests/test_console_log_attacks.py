"""The account's log against those who must not read it, and against what strangers have written into it."""

import json
import re
from datetime import timedelta
from urllib.parse import urlencode

import pytest

from tests.browser_world import ASSUMPTION, Browser
from tests.console_world import BEN, OLIVIA, PATH, Customer, asked
from tests.log_world import LOG, USUAL, done, index, look, open_reader, receipt, send, whats, write

PLACES = ("", "/{sid}", "/{sid}/receipt", "/as_0123456789abcdef", "?q=account%3Aglobex", "?before=9")
ITSELF = (f"{PATH}/live/log?seen=0", f"{PATH}/live/last")


@pytest.fixture
async def olivia(tmp_path):
    async with open_reader(tmp_path) as customer:
        await customer.choose("week", ["write"])
        yield customer


@pytest.fixture
async def both(olivia):
    """Something done in acme, and something in globex, whose every word is a canary."""
    world = olivia.world
    await world.choose("week", account="globex")
    world.acme = await done(world, ("GET", "/tickets/1"))
    detail = {"ticket": "CANARY-7", "reason": "canary of globex"}
    world.globex = await done(
        world, ("GET", "/tickets/4711"), account="globex", detail=detail, actor_token=world.actor_token("canary-erin")
    )
    await world.gateway.journal.checkpoint()
    return olivia


# Other accounts.


async def test_another_accounts_assumption_cannot_be_told_from_none(both):
    """Its timeline and its receipt look like those of what never was, to the byte; the record of asking is acme's own."""
    world = both.world
    for way in (look, receipt, lambda customer, path: look(customer, f"{path}?page=2")):
        slash = "" if way is receipt else "/"
        theirs = await way(both, f"{slash}{world.globex}")
        nothing = await way(both, f"{slash}as_00000000000000000000")
        assert (404, theirs.status) == (nothing.status, nothing.status)
        assert theirs.body == nothing.body
    assert {"acme"} == {one["account"] for one in world.records(kind="audit")}
    gina = Customer(world, session="s-gina", account="globex")
    page = await look(gina, f"/{world.globex}")
    assert ["Began", "GET /tickets/4711"] == whats(page)


QUERIES = [
    "account:globex", "-account:acme", "account:acme", "canary*", "canary", "4711", "path:/tickets/4711", "actor:canary-erin",
    "ticket:CANARY-7", "-refund", "after:1999-01-01", "-before:1999-01-01", '"globex\') OR (\'acme"', "globex OR acme",
    "NEAR(canary globex)", "kind:decision", "-kind:grant", "origin:gateway", "marks MATCH 'x'", "' UNION SELECT 1'",
]  # fmt: skip


async def test_no_query_and_no_cursor_shows_another_account(both):
    """Whatever is typed, the account of the host is asked for beside it."""
    world = both.world
    for query in [*QUERIES, f"sid:{world.globex}"]:
        for cursor in ("", str(2**62)):
            while 422 == (answer := await both.ask(f"{LOG}?{_encoded(q=query, before=cursor)}")).status:
                pass  # it took longer than a search may, which is the machine's doing
            assert answer.status in (200, 400), query
            shown = answer.text.split('<ol class="log">')[-1] if '<ol class="log">' in answer.text else ""
            for word in ("CANARY", "canary", "4711", "globex"):
                assert word not in shown, query
    newer = await both.ask(f"{PATH}/live/last")
    assert {world.acme} == set(json.loads(newer.body))


def _encoded(**fields):
    return urlencode(fields)


async def test_what_a_token_was_tried_at_elsewhere_stays_there(both):
    """That acme's token was sent to globex's host is acme's record; whose host it was, and what was asked there, is not."""
    world = both.world
    token = await world.token(detail={"ticket": "SUP-9"})
    world.clock.forward(seconds=1)
    assert 403 == await send(world, token, "GET", "/tickets/815?canary=1", account="globex")
    index(world)
    [record] = world.records(reason="wrong_account")
    assert ("acme", "globex") == (record["account"], record["asked_account"])
    for page in (await look(both), await look(both, f"/{record['assumption']}")):
        assert "Was sent to an address that is not your account’s." in page.text
        for word in ("globex", "815", "canary"):
            assert word not in page.text
    for query in ("globex", "815", "path:/tickets/815", "route:x", "-globex ticket:SUP-9", "-815 ticket:SUP-9"):
        page = await both.ask(f"{LOG}?{_encoded(q=query)}")
        assert "A request" not in whats(page), f"{query} would tell what may not be shown"
    assert "A request" in whats(await look(both, "?ticket=SUP-9"))


# Who may look.


async def test_nobody_else_reads_the_log(both):
    """No agent, no stranger, nobody of another account, nobody without a session; in each place, and by itself."""
    world = both.world
    world.app.people["s-ben"] = BEN
    readers = [Customer(world, session=name) for name in ("s-ben", "s-gina", "s-none")]
    for place in PLACES:
        for reader in readers:
            answer = await look(reader, place.format(sid=world.acme))
            assert (403, "no-store", []) == (answer.status, answer.headers["cache-control"], whats(answer))
            assert "SUP-1" not in answer.text
        assert 403 == (await look(both, place.format(sid=world.acme), cookie="")).status
    for target in ITSELF:
        for reader in readers:
            assert 403 == (await reader.ask(target)).status
        assert 403 == (await both.ask(target, cookie="")).status
    assert [] == world.records(kind="audit")


async def test_staff_who_stand_in_never_read_it(both):
    """With an administrator's session beside their cookie or token, or one that the app made for them."""
    world = both.world
    staff = Browser(world)
    await staff.stand_in()
    token = await world.token(detail={"ticket": "SUP-9"})
    world.app.people["s-taken"] = OLIVIA | {"act": {"sub": "dana"}}
    before = len(asked(world))
    for place in [*(f"{LOG}{place}" for place in PLACES), *ITSELF]:
        target = place.format(sid=world.acme)
        for cookie, lines in (
            (f"session=s-olivia; {ASSUMPTION}={staff.held}", ()),
            (f"{ASSUMPTION}={staff.held}; session=s-olivia; {ASSUMPTION}={'x' * 43}", ()),
            ("session=s-olivia", (f"Authorization: Bearer {token}",)),
            ("session=s-taken", ()),
        ):
            answer = await both.ask(target, *lines, cookie=cookie)
            assert answer.status in (400, 403), target
            assert "SUP-1" not in answer.text
    assert before + 1 >= len(asked(world)), "only the taken session was asked about"
    assert [] == world.records(kind="audit")


async def test_lines_that_only_the_front_says_change_nothing(both):
    """Nor do two sessions in one line give anybody another account."""
    gina = Customer(both.world, session="s-gina")
    for line in ("X-Locum-Account: globex", "X_Locum_Account: globex", "X-Forwarded-Host: globex.helpdesk.example"):
        assert 403 == (await look(gina, "", line)).status
    for cookie in ("session=s-gina; session=s-olivia", "session=s-none; session=s-gina"):
        page = await look(both, "", cookie=cookie)
        assert "4711" not in page.text


async def test_nothing_but_reading_is_served(both):
    """Every other method is refused, also with a form's token."""
    form = await both.form()
    for place in ("", f"/{both.world.acme}", f"/{both.world.acme}/receipt"):
        for method in ("POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"):
            assert 405 == (await both.ask(f"{LOG}{place}", method=method)).status
        answer = await both.post(f"log{place}", form.items())
        assert 405 == answer.status


@pytest.mark.parametrize(
    "lines",
    [("Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty"), ("Sec-Fetch-Dest: iframe",), ("Sec-Fetch-Dest: image",)],
)
async def test_no_script_and_no_frame_gets_it(both, lines):
    """Nor does another site have a receipt made, or listen."""
    for place in PLACES[:3]:
        assert 403 == (await both.ask(f"{LOG}{place.format(sid=both.world.acme)}", *lines)).status
    for site in ("cross-site", "same-site"):
        answer = await look(both, f"/{both.world.acme}/receipt", f"Sec-Fetch-Site: {site}")
        assert (403, True) == (answer.status, "cross_site" in answer.text)
        for target in ITSELF:
            assert 403 == (await both.ask(target, f"Sec-Fetch-Site: {site}")).status
    assert [] == both.world.records(kind="audit")


async def test_the_pages_run_nothing_of_others(both):
    """No inline script or style, a policy that allows none, nothing from elsewhere, and no cookie."""
    for place in PLACES[:2]:
        page = await look(both, place.format(sid=both.world.acme))
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'")
        assert page.text.count("<script") == page.text.count('<script src="/.locum/static/') == 1
        assert [] == page.set_cookies
        for inline in ("<style", " style=", " onclick", "javascript:", "http://", "https://"):
            assert inline not in page.text, inline


# What strangers have written.

HOSTILE = "\"><script>alert(1)</script><b x='"
BIDI = "safe\u202etxt.exe\u2066\u200b\x1b[31m\x00\n"


async def test_what_strangers_have_written_stays_text(olivia):
    """Names, tickets, reasons, targets and programs; nothing of it is markup, or turns round what stands beside it."""
    world = olivia.world
    token = world.actor_token("dana", name=HOSTILE)
    sid = await done(
        world,
        ("GET", "/tickets/1?<script>alert(1)</script>=%22%3E%3Cscript%3E"),
        ("GET", "/tickets/%3Cscript%3Ealert(1)%3C%2Fscript%3E"),
        ("GET", f"/{'a' * 6000}"),
        actor_token=token,
        detail={"ticket": HOSTILE, "reason": HOSTILE},
        agent=HOSTILE + "\udcff\udced\udca0\udc80",
    )
    for page in (
        await look(olivia),
        await look(olivia, f"/{sid}"),
        await olivia.page(),
        await look(olivia, "?q=alert"),
    ):
        raw = page.body.decode()
        assert "<script>alert" not in raw
        assert "&lt;script&gt;" in raw, "it is there, as text"
        assert max(map(len, re.findall(r"<bdi>([^<]*)</bdi>", raw))) < 2000


ODD = [
    HOSTILE,
    BIDI,
    "\ud800",
    "x" * 65_536,
    "é" * 70_000,
    None,
    7,
    -1.5,
    True,
    [],
    [[]],
    [HOSTILE, 1, None],
    {},
    {"a": HOSTILE},
]
ODD_FIELDS = (
    "actor", "at", "by", "count", "decision", "duration", "erased", "expires_at", "granted_by", "grant_id", "kind", "method", "path",
    "query_names", "query_values", "reason", "request_id", "rule", "stated_reason", "status", "subject", "ticket", "client_id",
    "asked_account", "ended", "completes", "bytes_sent", "duration_us",
)  # fmt: skip


async def test_a_record_of_any_shape_is_shown_or_left_out(olivia):
    """Whatever a field holds, of whatever length: each page answers, and stays text."""
    world = olivia.world
    entries = []
    for field in ODD_FIELDS:
        for value in ODD:
            at = (world.clock.now - timedelta(hours=1) + timedelta(seconds=len(entries))).isoformat()
            entry = {"at": at, "seq": len(entries)} | USUAL | {field: value}
            if field in ("ended", "completes", "bytes_sent", "duration_us", "status"):
                entry |= {"kind": "completion", "completes": len(entries) - 1} | {field: value}
            entries.append(entry)
    write(world, entries)
    places = [
        "/as_odd",
        *(f"/as_odd?page={number}" for number in range(2, 6)),
        "?staff=dana",
        "?q=kind%3Acompletion",
        "",
    ]
    shown = 0
    for place in places:
        page = await look(olivia, place)
        assert 200 == page.status, place
        raw = page.body.decode()
        assert "<script>alert" not in raw
        assert not set(raw) & set("\u202e\u2066\u200b\x1b\x00")
        assert len(raw) < 400_000
        shown += len(whats(page))
    assert 250 < shown


async def test_odd_ids_and_odd_bytes_in_the_address_are_answered(olivia):
    """With a page that says so, and no fault of ours; no name of a file or header is made of them."""
    index(olivia.world)
    for place in (
        "/..", "/%2e%2e%2fcheckpoint", "/a%0d%0aSet-Cookie:x=1", "/%22;filename=x", f"/{'a' * 129}", "/as_%C3%A9", "/%00",
        "/<script>alert(1)</script>", "/as%20x", "/-x", "/as_x/receipt/x",
    ):  # fmt: skip
        for way in ("", "/receipt"):
            answer = await look(olivia, f"{place}{way}")
            assert answer.status in (400, 403, 404), place
            assert ("set-cookie" in answer.headers, "content-disposition" in answer.headers) == (False, False)
            assert b"<script>alert" not in answer.body
    for query in (
        "q=\xff",
        "q=%FF",
        "q=%ED%A0%80",
        "staff=%00",
        "q=%E2%80%AE",
        f"q={'a' * 700}",
        "ticket=%3Cscript%3Ealert(1)",
        "seen=1",
    ):
        answer = await look(olivia, f"?{query}")
        assert answer.status in (200, 400), query
        assert b"<script>alert" not in answer.body


async def test_what_was_erased_is_said_to_be(olivia):
    """And is not taken for what never was."""
    at = olivia.world.clock.now.isoformat()
    entry = {**USUAL, "assumption": "as_gone", "seq": 0, "at": at, "erased": ["actor", "agent", "words"]}
    del entry["actor"], entry["subject"]
    write(olivia.world, [entry])
    page = await look(olivia, "/as_gone")
    assert (200, "None") == (page.status, str(re.search("not known|none given", page.text, re.IGNORECASE)))
    assert 6 == page.text.count("<bdi>Erased</bdi>"), "who, for whom, ticket and reason"


# Faults.


async def test_what_cannot_be_recorded_is_not_shown(both):
    """No list, no timeline, no receipt; and whoever is a customer of the app notices nothing."""
    await both.world.gateway.journal.close()
    for place in PLACES[:3]:
        answer = await look(both, place.format(sid=both.world.acme))
        assert (503, True, []) == (answer.status, "could not be recorded" in answer.text, whats(answer))
    assert 200 == (await both.ask("/tickets/1")).status


async def test_without_the_store_it_is_said(both):
    """The list needs none; the rest says that it has to wait, and nothing is a fault of ours."""
    await both.world.gateway.store.close()
    for place in PLACES[:3]:
        answer = await look(both, place.format(sid=both.world.acme))
        assert answer.status in (200, 503), place
    assert 503 == (await both.ask(f"{PATH}/live/last")).status
    assert 200 == (await both.ask("/tickets/1")).status


async def test_without_the_section_there_is_no_log(tmp_path):
    """Nobody is asked who they are, and nothing is served."""
    async with open_reader(tmp_path, change=lambda document: document.pop("console")) as olivia:
        for target in [*(f"{LOG}{place}" for place in PLACES), *ITSELF]:
            assert 404 == (await olivia.ask(target.format(sid="as_x"))).status
        assert [] == asked(olivia.world)
