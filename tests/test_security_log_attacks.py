"""What visitors, and those of whom the log tells, can try at the access log's pages."""

import csv
import html
import re
from datetime import timedelta
from html.parser import HTMLParser

import pytest

from gateway.console.security.export_order import Order
from tests.journals import NOON
from tests.security_log_world import ACCOUNTS, make_entries, open_security_log, progress_of
from tests.test_log_api import ATTACKS

LOG = "/console/log"
HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "\u202egnp.exe\u2066\u2069\u200b\u061c",
    "=HYPERLINK(\"http://attacker.example\")",
    "@SUM(1)",
    "-1+1|cmd",
    "\r\nSet-Cookie: a=b",
    "a\x00b\x1b[31m",
    "</textarea></title></svg></pre>",
    "account:globex -decision:allow",
    "x" * 65_536,
    "\ufeff😀" * 5,
    "//attacker.example/x",
    "..",
)  # fmt: skip


def _hostile():
    """Records in which every text is what an attacker would have it be."""
    for number, text in enumerate(HOSTILE):
        yield {
            "kind": "decision", "decision": "deny", "at": (NOON + timedelta(minutes=number)).isoformat(),
            "origin": "node", "seq": number, "account": text, "subject": text, "reason": text, "method": text,
            "path": f"/{text}", "rule": text, "assumption": text, "ticket": text, "request_id": text,
            "stated_reason": text, "user_agent": text, "client_ip": text, "client_id": text, "status": text,
            "actor": {"issuer": text, "name": text, "subject": text, text[:40]: text}, text[:40]: text,
        }  # fmt: skip


class _Tags(HTMLParser):
    """Tells which elements, attributes and addresses a page has."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.addresses, self.text = set(), set(), [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses += [value for name, value in attrs if name in ("href", "src", "action")]

    def handle_data(self, data):
        self.text.append(data)


def _check(page):
    """Nothing in a page is anything but text that we have written or made harmless."""
    found = _Tags(page)
    assert not {"img", "iframe", "object", "style"} & found.tags
    assert not [name for name in found.attributes if name.startswith("on") or name == "style"]
    assert "/.locum/static/security_log.js" in found.addresses
    for address in found.addresses:
        assert address.startswith(("/console", "/.locum/static/", "#main")), address
        assert "\n" not in address
        assert len(address) < 6000
    text = "".join(found.text)
    assert not re.search(
        "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]", text
    )
    assert "49" not in re.findall(r"\b49\b", text)
    return found


@pytest.fixture
async def hostile(tmp_path):
    async with open_security_log(tmp_path, entries=_hostile()) as world:
        yield world


async def test_no_value_is_more_than_text(hostile):
    """On any page, in any place, and of no page's length is the value's the only bound."""
    status, page = await hostile.get(LOG, range="all")
    assert 200 == status
    _check(page)
    assert len(page) < 600_000
    rows = re.findall(r'<td data-label="Time \(UTC\)"><a href="([^"]*)"', page)
    assert len(HOSTILE) == len(rows)
    for address in rows:
        status, shown = await hostile.get(address)
        assert 200 == status
        _check(shown)
    for text in HOSTILE:
        status, page = await hostile.get(LOG, q=text[:5000])
        assert status in (200, 400)
        _check(page)
        _check((await hostile.get(f"{LOG}/tail", q=text[:5000]))[1])
    assert "Set-Cookie" not in hostile.last.headers


async def test_every_link_of_a_hostile_page_works(hostile):
    """What narrows, excludes, pages or shows asks for what it says, and never ends in a fault of ours."""
    _, page = await hostile.get(LOG, range="all")
    for address in sorted({one for one in _Tags(page).addresses if one.startswith(LOG)}):
        status, shown = await hostile.get(address)
        assert status in (200, 404, 405), address
        if re.search(r"q=(?!(%27)?-)", address) and "/tail" not in address:
            assert 200 == status, address
            assert "Nothing is found" not in shown, address


async def test_no_cell_of_an_export_is_computed(hostile):
    """Not by the spreadsheet that opens it, wherever a cell begins."""
    status, text, _ = await hostile.post(f"{LOG}/export", format="csv", range="all")
    assert 200 == status
    rows = list(csv.reader(text.splitlines()))
    assert len(HOSTILE) == len(rows) - 1
    for cell in (cell for row in rows for cell in row):
        assert not re.match(r"\s*[=+@\-\t\r]", cell), cell
    assert "\x1b" not in text
    for form in ("jsonl", "ocsf"):
        status, text, _ = await hostile.post(f"{LOG}/export", format=form, range="all")
        assert (200, len(HOSTILE)) == (status, len(text.splitlines()))
        assert text.isascii()


@pytest.fixture
async def world(tmp_path):
    async with open_security_log(tmp_path) as world:
        yield world


OWN = [entry["seq"] for entry in make_entries() if entry.get("account") == "acme"]


def _of_others(page):
    """Return whose canaries, agents and tickets a page has that are not acme's."""
    seqs = {int(number) for number in re.findall(r"/tickets/(\d+)<", page)}
    names = set(re.findall(r"agent-[A-Za-z]+ ?", html.unescape(page))) | set(re.findall(r"globex", page))
    return seqs - set(OWN), {name for name in names if name != "agent-acme"}


async def test_somebody_of_one_account_sees_nothing_of_another(world):
    """Not by any search, count, facet, cursor or time."""
    for query in (query for query in ATTACKS if "globex" not in query):
        for cursor in ({}, {"before": str(2**62)}, {"after": str(-(2**62))}, {"after": "0"}):
            status, page = await world.get(LOG, visitor="acme", q=query, range="all", ends="1", **cursor)
            assert status in (200, 400), query
            assert (set(), set()) == _of_others(page), query
            total = re.search(r"<h2 id=\"over-time\">(\d+) record", page)
            assert total is None or int(total[1]) <= len(OWN)
    _, page = await world.get(LOG, visitor="acme", range="all")
    assert f"{len(OWN)} records" in page
    for query in ("account:globex", "sid:as_globex", "agent:agent-globex", "globex", "request:req_2"):
        status, page = await world.get(LOG, visitor="acme", q=query, range="all")
        assert 200 == status
        assert "0 records" in page


async def test_a_record_of_another_account_is_as_if_it_were_not_there(world):
    """Its id, which somebody has from elsewhere, tells nothing: the answer is that to an id of nobody's."""
    _, page = await world.get(LOG, range="all")
    _, more = await world.get(LOG, range="all", q="path:/tickets/2")
    addresses = re.findall(r'<td data-label="Time \(UTC\)"><a href="([^"]*)"', page + more)
    unknown = await world.get(f"{LOG}/record/12345", visitor="acme")
    shown = 0
    for address in addresses:
        answer = await world.get(address, visitor="acme")
        shown += answer[0] == 200
        assert answer == unknown or (200 == answer[0] and "canary-of-&#39;acme&#39;" in answer[1])
        assert (set(), set()) == _of_others(answer[1])
    assert shown == len([number for number in OWN if number >= 10])


async def test_an_assumption_of_another_account_is_as_if_it_were_not_there(world):
    """Also one whose id is that of one's own, or differs from it by little."""
    unknown = (await world.get(f"{LOG}/assumption/as_nowhere", visitor="acme"))[0]
    for account in ACCOUNTS:
        sid = f"as_{str(account).strip()}"
        status, page = await world.get(f"{LOG}/assumption/{sid}", visitor="acme")
        assert (200 if sid == "as_acme" else unknown) == status
        assert (set(), set()) == _of_others(page)


async def test_the_end_of_an_exchange_is_told_to_its_own_account_only(world):
    """A completion of another account that claims to be about one's own record tells nothing."""
    at = (NOON + timedelta(minutes=6, seconds=1)).isoformat(timespec="microseconds")
    world.add(
        {
            "kind": "completion", "account": "globex", "assumption": "as_x", "completes": 6, "origin": "node",
            "request_id": "req_6", "ended": "cut", "status": 599, "seq": 60, "at": at,
        }
    )  # fmt: skip
    _, page = await world.get(LOG, visitor="acme", q="path:/tickets/6")
    assert [6] == [int(number) for number in re.findall(r"/tickets/(\d+)<", page)]
    assert "599" not in page
    address = re.search(r'<td data-label="Time \(UTC\)"><a href="([^"]*)"', page)[1]
    assert "599" not in (await world.get(address, visitor="acme"))[1]
    assert "599" in (await world.get(address))[1]


async def test_a_faked_picture_of_the_session_does_not_help(world):
    """Neither two cookies nor one that differs."""
    good = world.headers("all")["Cookie"]
    other = world.headers("acme")["Cookie"]
    for cookie in (f"{good}; {other}", f"{good}x", good[:-1], good.replace("=", "=%20"), good.upper()):
        status, page = await world.get(LOG, visitor=None, headers={"Cookie": cookie})
        assert status in (303, 400, 403), cookie
        assert "canary" not in page


ELSEWHERE = {
    "kind": "decision",
    "decision": "deny",
    "reason": "wrong_account",
    "at": (NOON + timedelta(hours=20)).isoformat(timespec="microseconds"),
    "origin": "node",
    "seq": 5000,
    "account": "acme",
    "asked_account": "globex",
    "assumption": "as_acme",
    "ticket": "SUP-9",
    "host": "globex.helpdesk.example",
    "method": "PATCH",
    "path": "/tickets/815",
    "rule": "secret-route",
}


async def test_where_its_token_was_tried_is_hidden_from_an_accounts_visitor(tmp_path):
    """On the list, in its counts, of the record itself, in an export, few or many, and by no search."""
    async with open_security_log(tmp_path, entries=[*make_entries(30), ELSEWHERE]) as world:
        _, everything = await world.get(LOG, q="ticket:SUP-9", range="all")
        assert "secret-route" in everything
        _, page = await world.get(LOG, visitor="acme", q="ticket:SUP-9", range="all")
        assert "1 record" in page
        [row] = re.findall(r'<td data-label="Time \(UTC\)"><a href="([^"]*)"', page)
        _, shown = await world.get(html.unescape(row), visitor="acme")
        _, few, _ = await world.post(f"{LOG}/export", visitor="acme", format="jsonl", q="ticket:SUP-9", range="all")
        order = Order(
            folder="", form="jsonl", text="ticket:SUP-9", since=None, until=round(world.clock().timestamp() * 1e6),
            ends=True, account="acme", journal=str(world.directory / "journal"),
            index=str(world.directory / "journal-index.sqlite3"), most_rows=10**6, most_bytes=10**9,
        )  # fmt: skip
        id_ = await world.jobs.start("me", order)
        assert "done" == await progress_of(world, id_)
        many = (await world.jobs.find("me", id_)).data.read_text()
        for text in (page, shown, few, many):
            assert "SUP-9" in text
            assert not [word for word in ("globex", "815", "PATCH", "secret-route") if word in text]
        for query in ("globex", "-nothing", "path:/tickets/815", "method:patch", "-route:x"):
            _, page = await world.get(LOG, visitor="acme", q=f"ticket:SUP-9 {query}", range="all")
            assert 'data-label="Time (UTC)"' not in page, query
