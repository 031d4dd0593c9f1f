"""An account's own part of the log: its administrators find what staff did there, and how each assumption went."""

import json
import re

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from locum_verify import receipt as checker

from gateway.console.account.log_story import Kept, tell
from gateway.console.account.log_view import WHY, why
from policy.model import DenyReason
from tests.console_world import PATH
from tests.journals import NOON
from tests.log_world import LOG, done, index, look, open_reader, receipt, requests, send, whats, write


@pytest.fixture
async def olivia(tmp_path):
    async with open_reader(tmp_path) as customer:
        await customer.choose("week", ["test_tickets"])
        yield customer


async def test_everything_that_staff_did_is_listed(olivia):
    """The newest first: who, for whom, what, when, for which ticket, and why it was refused, in plain words."""
    sid = await done(
        olivia.world,
        ("GET", "/tickets/1"),
        ("POST", "/tickets/1/reply"),
        ("DELETE", "/admin/x"),
        detail={"ticket": "SUP-7"},
    )
    page = await look(olivia)
    assert (200, "no-store") == (page.status, page.headers["cache-control"])
    assert ["DELETE /admin/x", "POST /tickets/1/reply", "GET /tickets/1"] == whats(page)[:3]
    assert {"Began", "Setting: enabled, week"} == set(whats(page)[3:])
    for said in ("Staff never may do this in a customer’s place.", "This assumption was not begun for that.", "SUP-7"):
        assert said in page.text
    assert 4 == page.text.count(f'href="{LOG}/{sid}"')
    assert 4 == page.text.count("for <bdi>maria</bdi>")


FILTERS = {
    "staff=dana": 4, "staff=DANA": 4, "staff=erin": 1, "staff=nobody": 0, "decision=deny": 2, "decision=allow": 4,
    "ticket=SUP-7": 4, "ticket=sup-8": 1, "path=%2Ftickets": 2, "path=%2Ftickets%2F2": 0, "path=%2Fadmin": 1, "q=refund": 4,
    "q=refund+-method%3AGET": 3, "q=kind%3Adecision&decision=allow": 1, "q=%22cannot+refund%22": 4, "from=2026-01-01": 6,
    "from=2099-01-01": 0, "to=2099-01-01": 6, "to=2001-01-01": 0, "staff=dana&decision=deny&path=%2Fadmin": 1,
    "q=route%3Aadmin": 1, "": 6,
}  # fmt: skip


async def test_each_filter_finds_what_it_says(olivia):
    """Alone, together, and in the language that auditors have; upper and lower case are the same."""
    world = olivia.world
    seven = {"ticket": "SUP-7", "reason": "cannot refund"}
    await done(world, ("GET", "/tickets/1"), ("POST", "/tickets/1/reply"), ("DELETE", "/admin/x"), detail=seven)
    await done(world, detail={"ticket": "SUP-8"}, actor_token=world.actor_token("erin"))
    for query, count in FILTERS.items():
        page = await look(olivia, f"?{query}")
        assert (200, count) == (page.status, len(whats(page))), query
    page = await look(olivia, "?decision=deny&q=refund")
    staff = re.search(r'<a href="([^"]+)"><bdi>dana</bdi>', page.text)[1]
    assert f"{LOG}?q=refund&staff=dana&decision=deny" == staff, "a name leads to what they did of what is looked for"


async def test_what_cannot_be_read_is_said_and_stays_as_it_was_typed(olivia):
    """What to write instead stands at the form; the log is not asked, and nothing is on the record of it."""
    for query in (
        "q=actr%3Adana",
        "q=%22open",
        "from=tomorrow",
        "path=tickets",
        "decision=maybe",
        "before=x",
        "q=a&q=b",
    ):
        page = await look(olivia, f"?{query}")
        assert (400, True) == (page.status, 'role="alert"' in page.text), query
    assert 'value="actr:dana"' in (await look(olivia, "?q=actr%3Adana")).text
    assert [] == olivia.world.records(kind="audit")


async def test_a_long_list_comes_page_by_page(olivia):
    """Each once, in order, whatever else is looked for, and back to the newest."""
    write(olivia.world, requests(olivia.world, 55))
    first = await look(olivia, "?q=method%3AGET")
    older = re.search(r'href="([^"]+)" rel="next"', first.text)[1]
    second = await look(olivia, older.removeprefix(LOG))
    assert [f"GET /tickets/{number}" for number in range(55, 0, -1)] == whats(first) + whats(second)
    assert ('rel="next"' in second.text, ">Newest</a>" in second.text) == (False, True)


async def test_one_assumption_is_told_from_beginning_to_end(olivia):
    """Who, for whom, ticket, reason, who allowed it; each request with its answer; and how it ended."""
    world = olivia.world
    sid = await done(
        world, ("GET", "/tickets/1"), ("DELETE", "/admin/x"), detail={"ticket": "SUP-7", "reason": "is empty"}
    )
    page = await look(olivia, f"/{sid}")
    assert (200, "no-store") == (page.status, page.headers["cache-control"])
    assert ["Began", "GET /tickets/1", "DELETE /admin/x"] == whats(page)
    text = " ".join(re.sub(r"<[^>]+>", " ", page.text).split())
    for said in (
        "dana in the place of maria", "Ticket SUP-7", "Reason is empty", "Allowed by you", "Requests 1 allowed, 1 refused",
        "End Goes on until", "Answered 200 · 2 bytes ·", "Answered 403",
    ):  # fmt: skip
        assert said in text, said
    world.clock.forward(minutes=7)
    await olivia.do("end", assumption=sid)
    index(world)
    page = await look(olivia, f"/{sid}")
    assert (True, True) == ("Ended by 7" in page.text, "Nothing for 7 minutes" in page.text)
    assert "Ended" == whats(page)[-1]


async def test_how_an_assumption_ended_is_said(olivia):
    """By itself, or because the account turned it off; not ended is said as well."""
    world = olivia.world
    first = await done(world, ("GET", "/tickets/1"))
    world.clock.forward(minutes=20)
    assert "Ended by itself" in (await look(olivia, f"/{first}")).text
    second = await done(world, ("GET", "/tickets/1"))
    assert "Goes on until" in (await look(olivia, f"/{second}")).text
    await olivia.do("off")
    assert "Ended because account assumption was turned off" in (await look(olivia, f"/{second}")).text


async def test_a_long_assumption_has_pages(olivia):
    """The oldest first; the head of it is the same on each."""
    write(olivia.world, requests(olivia.world, 106))
    first, second = await look(olivia, "/as_odd"), await look(olivia, "/as_odd?page=2")
    told = [f"GET /tickets/{number}" for number in range(1, 107)]
    assert (told[:100], told[100:]) == (whats(first), whats(second))
    for page in (first, second):
        assert "106 allowed, 0 refused" in page.text
    for odd in ("0", "99", "-1", "x", "9" * 50):
        assert 200 == (await look(olivia, f"/as_odd?page={odd}")).status


async def test_who_is_in_now_has_a_last_action(olivia):
    """The newest record of each assumption that is open, on the page and for its script."""
    sid = await done(olivia.world, ("GET", "/tickets/1"), ("DELETE", "/admin/x"))
    page = await olivia.page()
    assert re.search(rf'<dd data-last="{sid}"><bdi>DELETE /admin/x</bdi> \(refused\), <time', page.text)
    assert f'href="{LOG}/{sid}"' in page.text
    olivia.world.clock.forward(seconds=5)
    told = await olivia.ask(f"{PATH}/live/last", "Sec-Fetch-Site: same-origin")
    assert ("no-store", {sid}) == (told.headers["cache-control"], set(json.loads(told.body)))
    assert ("DELETE /admin/x", "Refused") == tuple(json.loads(told.body)[sid][name] for name in ("what", "said"))


async def test_the_receipt_holds_for_the_customers_own_checker(olivia):
    """It is downloaded under a name of ours, and the public key is where the page says."""
    world = olivia.world
    sid = await done(world, ("GET", "/tickets/1"))
    await world.gateway.journal.checkpoint()
    page = await look(olivia, f"/{sid}")
    assert f'href="{LOG}/{sid}/receipt"' in page.text
    answer = await receipt(olivia, sid, "Sec-Fetch-Site: same-origin")
    assert (200, "application/json", f'attachment; filename="{sid}.receipt.json"', "no-store", "nosniff") == (
        answer.status,
        *(
            answer.headers[name]
            for name in ("content-type", "content-disposition", "cache-control", "x-content-type-options")
        ),
    )
    key = await olivia.ask(re.search(r'href="(/\.locum/log/key)"', page.text)[1])
    checker.check(answer.body, load_pem_public_key(key.body), [], [])
    assert {"acme"} == {
        json.loads(one["record"])["account"] for part in json.loads(answer.body)["parts"] for one in part["records"]
    }


async def test_who_has_read_the_log_is_on_the_record(olivia):
    """Once in a while for the same question of the same person; of the query only what is nobody's."""
    world = olivia.world
    sid = await done(world, ("GET", "/tickets/1"))
    for _ in range(2):
        await look(olivia, "?q=actor%3Adana+refund&ticket=SUP-7&decision=allow")
        await look(olivia, f"/{sid}")
        await olivia.ask(f"{PATH}/live/last")
    await look(olivia, f"/{sid}/receipt")
    searched, shown, asked = world.records(kind="audit")
    assert ("searched", "shown", "receipt") == tuple(one["reason"] for one in (searched, shown, asked))
    for one in (searched, shown, asked):
        assert ("acme", "7", "console", "127.0.0.1") == tuple(
            one[name] for name in ("account", "by", "client_id", "client_ip")
        )
    assert ["actor", "text", "decision", "ticket"] == searched["query_names"]
    assert ["decision=allow"] == searched["query_values"]
    assert (sid, sid) == (shown["assumption"], asked["assumption"])
    world.clock.forward(seconds=601)
    await look(olivia, f"/{sid}")
    assert 4 == len(world.records(kind="audit"))
    index(world)
    assert ["Began", "GET /tickets/1"] == whats(await look(olivia, f"/{sid}")), "reading about it is no part of it"
    assert {"Searched this log", "Looked at an assumption in this log", "Asked for a receipt"} <= set(
        whats(await look(olivia, "?q=kind%3Aaudit"))
    )


async def test_without_an_index_the_page_shows_what_it_can(tmp_path):
    """It says what is missing; who is in, what the store knows of an assumption, and receipts are there."""
    async with open_reader(tmp_path, change=lambda wanted: wanted["audit"].update(index=False)) as olivia:
        await olivia.choose("week")
        token = await olivia.world.token(detail={"ticket": "SUP-7"})
        assert 200 == await send(olivia.world, token, "GET", "/tickets/1")
        page = await look(olivia)
        assert (200, True) == (page.status, "keeps no index" in page.text)
        sid = re.search(rf'href="{LOG}/([^"/]+)"', page.text)[1]
        one = await look(olivia, f"/{sid}")
        assert (200, True, True) == (one.status, "SUP-7" in one.text, "cannot be shown step by step" in one.text)
        assert "Last action" not in (await olivia.page()).text
        await olivia.world.gateway.journal.checkpoint()
        assert "application/json" == (await receipt(olivia, sid)).headers["content-type"]
        assert 404 == (await olivia.ask(f"{PATH}/live/log?seen=0")).status
        assert b"{}" == (await olivia.ask(f"{PATH}/live/last")).body


async def test_an_index_that_is_behind_or_away_is_said(olivia):
    """How much is not in it; and where it cannot be read, customers of the app notice nothing."""
    world = olivia.world
    sid = await done(world, ("GET", "/tickets/1"))
    token = await world.token()
    for number in range(12):
        await send(world, token, "GET", f"/tickets/{number}")
    page = await look(olivia)
    assert re.search(r"The list is behind: the newest [0-9.]+ kB of the vendor’s whole log", page.text)
    (world.directory / "journal-index.sqlite3").unlink()
    page = await look(olivia)
    assert (503, True) == (page.status, "The list cannot be read now" in page.text)
    page = await look(olivia, f"/{sid}")
    assert (200, True, True) == (page.status, "cannot be shown step by step now" in page.text, "/receipt" in page.text)
    assert 503 == (await look(olivia, "/as_never_was")).status
    assert 200 == (await olivia.page()).status
    assert 200 == (await olivia.ask("/tickets/1")).status


async def test_a_log_of_which_a_part_cannot_be_read_says_so(olivia):
    """The customer is not left to believe that the list is whole; what can be read is in it."""
    world = olivia.world
    await done(world, ("GET", "/tickets/1"))
    assert "cannot be read" not in (await look(olivia)).text
    await send(world, await world.token(), "GET", "/tickets/lost")
    [path] = (world.directory / "journal").glob("gateway-*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    [at] = (at for at, line in enumerate(lines) if b"/tickets/lost" in line)
    with path.open("r+b") as file:
        file.seek(sum(map(len, lines[:at])))
        file.write(b"\0" * (len(lines[at]) - 1))
    await done(world, ("GET", "/tickets/2"))
    page = await look(olivia)
    assert (200, True) == (page.status, "A part of the vendor’s log cannot be read" in page.text)
    seen = whats(page)
    assert ("GET /tickets/2" in seen, "GET /tickets/1" in seen, "GET /tickets/lost" in seen) == (True, True, False)


async def test_without_scripts_the_list_is_loaded_again_by_itself_if_somebody_wants_that(olivia):
    """Not before they say so, and until they stop it; what is looked for stays."""
    await done(olivia.world, ("GET", "/tickets/1"))
    page = await look(olivia, "?decision=allow")
    assert 'http-equiv="refresh"' not in page.text
    wanted = re.search(r'href="([^"]+)">Look again every 30 seconds', page.text)[1]
    page = await look(olivia, wanted.removeprefix(LOG))
    assert (True, ["GET /tickets/1"]) == ('<meta http-equiv="refresh" content="30">' in page.text, whats(page)[:1])
    assert f'href="{LOG}?decision=allow">Stop that' in page.text


ENDS = {
    ("erin", None): "Ended by erin",
    ("dana", "browser"): "Ended by the staff member",
    ("Dana Reyes", None): "Ended by the staff member",
    ("https://login.example", None): "Ended because the staff member was signed out",
    ("dana", "console"): "Ended by dana",
    ("", None): "Ended",
}


@pytest.mark.parametrize(("by", "client"), ENDS)
def test_who_ended_it_is_said(by, client):
    """An administrator whose id is a staff member's is taken for no staff member."""
    actor = {"issuer": "https://login.example", "name": "Dana Reyes", "subject": "dana"}
    usual = {"account": "acme", "assumption": "as_1", "actor": actor, "at": "2026-11-23T12:00:00Z"}
    ended = {"kind": "assumption", "reason": "ended", "by": by, "client_id": client}
    story = tell([usual | {"kind": "token"}, usual | ended], "as_1", first=[], kept=Kept(), now=NOON, page=1)
    assert ENDS[by, client] == story.end


def test_every_reason_is_said_in_plain_words():
    """No code of ours, and no advice to staff."""
    said = {reason: why(str(reason)) for reason in DenyReason}
    assert all(text and text[0].isupper() and "_" not in text and ":" not in text for text in said.values()), said
    assert set(WHY) <= set(DenyReason)
