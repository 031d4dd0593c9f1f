"""The access log's pages: what is found, what it looks like, and that all of it stands in the address."""

import html
import json
import re
from collections import Counter
from datetime import timedelta
from html.parser import HTMLParser

import pytest

from gateway.audit.index.overview import HOUR
from gateway.console.security.chart import HEIGHT, WIDTH, draw
from gateway.console.security.log_query import DAY, AskedWrongly, read_asked, write_term
from tests.journals import NOON
from tests.security_log_world import make_entries, open_security_log

NOW = round((NOON + timedelta(days=2)).timestamp() * 1e6)
LOG = "/console/log"


@pytest.fixture
async def world(tmp_path):
    async with open_security_log(tmp_path) as world:
        yield world


def paths_of(page):
    """Return the paths that the rows of a page say."""
    return [int(number) for number in re.findall(r"<bdi>GET /tickets/(\d+)</bdi>", page)]


def link_of(page, text):
    """Return where a link with this text leads."""
    found = re.search(rf'<a [^>]*href="([^"]*)"[^>]*>{re.escape(text)}</a>', page)
    return html.unescape(found[1]) if found else None


class _Parser(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.tags, self.inline = Counter(), []

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.inline += [name for name, _ in attrs if name == "style" or name.startswith("on")]


async def test_the_page_shows_what_is_found(world):
    """The newest first, with a picture, what it can be narrowed by, and a form that takes it away."""
    status, page = await world.get(LOG)
    assert 200 == status
    assert list(range(59, 9, -1)) == paths_of(page)
    assert "60 records" in page
    assert "51 permitted" in page
    assert "9 refused" in page
    parsed = _Parser()
    parsed.feed(page)
    assert [] == parsed.inline
    assert 1 == parsed.tags["svg"]
    assert 1 == parsed.tags["h1"]
    policy = world.last.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


async def test_pages_lead_both_ways(world):
    """Each record is on one page, whichever way somebody goes."""
    _, first = await world.get(LOG)
    _, second = await world.get(link_of(first, "Older"))
    assert list(range(9, -1, -1)) == paths_of(second)
    assert link_of(second, "Older") is None
    _, back = await world.get(link_of(second, "Newer"))
    assert paths_of(first) == paths_of(back)
    assert link_of(back, "Older") is not None
    assert LOG == link_of(back, "Newest")


async def test_a_search_is_its_address(world):
    """What was typed, the time and the choices stand in every link that goes on from there."""
    asked = {"q": 'actor:person1 "-decision:deny"', "from": "2026-11-23T12:00", "to": "2026-11-23T13:00", "ends": "1"}
    _, page = await world.get(LOG, **asked)
    expected = [number for number in range(59, -1, -1) if number % 4 == 1 and number % 7]
    assert expected == paths_of(page)
    live = link_of(page, "Live")
    assert "actor%3Aperson1" in live
    assert "from=2026-11-23T12%3A00" in live
    assert 'value="2026-11-23T13:00"' in page
    narrowed = link_of(page, "<bdi>person1</bdi>")
    assert narrowed is None or "person1" in narrowed


async def test_one_click_narrows_and_one_excludes(world):
    """By each value that is there, and the same click can be taken back."""
    _, page = await world.get(LOG)
    refused = re.search(r'<li><a href="([^"]*)"[^>]*><bdi>Refused</bdi></a> <span class="count">9</span>', page)
    _, narrowed = await world.get(html.unescape(refused[1]))
    assert [number for number in range(59, -1, -1) if number % 7 == 0] == paths_of(narrowed)
    undo = re.search(r'href="([^"]*)"[^>]*>undo<span class="hidden"> Decision', narrowed)
    assert LOG == html.unescape(undo[1])
    excluded = re.search(r'href="([^"]*)"[^>]*>not<span class="hidden"> Decision Refused', page)
    _, rest = await world.get(html.unescape(excluded[1]))
    assert "51 records" in rest


async def test_the_most_refused_rules_and_the_most_active_staff_are_named(world):
    """With how often, most of all first; each leads to those records, and what is not refused counts for no rule."""
    more = [entry | {"seq": 100 + number} for number, entry in enumerate(make_entries(60)) if number % 4 == 2]
    refused = [entry | {"decision": "deny", "rule": "users.write"} for entry in more[:12]]
    world.add(*refused, *more[12:])
    _, page = await world.get(LOG)
    rules, staff = (
        re.search(rf"<h2>{title}</h2><ol class=\"top-list\">(.*?)</ol>", page)[1]
        for title in ("Most refused rules", "Most active staff")
    )
    found = [re.findall(r'<bdi>([^<]+)</bdi>.*?<span class="count">(\d+)</span>', one) for one in (rules, staff)]
    assert [("users.write", "12"), ("tickets.read", "9")] == found[0][:2]
    assert ("person2", "30") == found[1][0]
    assert {("person0", "15"), ("person1", "15"), ("person3", "15")} == set(found[1][1:])
    _, narrowed = await world.get(link_of(rules, "<bdi>users.write</bdi>"))
    assert 12 == len(paths_of(narrowed))
    _, narrowed = await world.get(link_of(staff, "<bdi>person2</bdi>"))
    assert {2} == {number % 4 for number in paths_of(narrowed)}


async def test_a_bar_leads_to_its_time(world):
    """The picture is a way in: what a bar counts is what its link finds."""
    _, page = await world.get(LOG, **{"from": "2026-11-23T12:00", "to": "2026-11-23T13:00"})
    bars = re.findall(r'<th scope="row"><a href="([^"]*)">[^<]*</a></th><td>(\d+)</td><td>(\d+)</td>', page)
    assert 60 == len(bars)
    address, permitted, refused = bars[7]
    _, minute = await world.get(html.unescape(address))
    assert int(permitted) + int(refused) == 1
    assert [7] == paths_of(minute)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"q": "colour:red"}, "`colour:` is no qualifier"),
        ({"q": 'actor:"dana'}, "close the quotation"),
        ({"q": "x" * 601}, "longer than 600"),
        ({"from": "yesterday"}, "2026-11-23T15:04"),
        ({"from": "2026-11-24", "to": "2026-11-23"}, "later than the beginning"),
        ({"range": "1y"}, "the time is one of"),
    ],
)
async def test_what_cannot_be_searched_is_said_at_the_box(world, asked, said):
    """In words, with what was typed left as it is, and nothing is on the record."""
    status, page = await world.get(LOG, **asked)
    assert 400 == status
    assert said in html.unescape(page)
    assert f'value="{asked.get("q", "")}"' in html.unescape(page)
    assert [] == world.recorded()


async def test_a_record_is_shown_whole(world):
    """Every field, in words and as JSON, and from each name to everything else of it."""
    _, page = await world.get(LOG)
    address = re.search(r'<td data-label="Time \(UTC\)"><a href="([^"]*)"', page)[1]
    status, shown = await world.get(address)
    assert 200 == status
    entry = list(make_entries())[59]
    text = html.unescape(re.search(r'<pre class="json"[^>]*>(.*?)</pre>', shown, re.DOTALL)[1])
    assert entry == json.loads(text)
    for name in ("person3", "s-3"):
        assert f"q=actor%3A{name}" in shown
    assert "/console/log/assumption/as_None" in shown
    for missing in (
        f"{LOG}/record/1",
        f"{LOG}/record/{2**63 - 1}",
        f"{LOG}/record/{'9' * 5000}",
        f"{LOG}/assumption/{'a' * 129}",
    ):
        assert 404 == (await world.get(missing))[0]


async def test_an_assumption_is_told_from_its_beginning(world):
    """Who, for whom, where, and each step with how it ended; what was silent for long is said."""
    world.add(
        {
            "kind": "completion", "account": "acme", "assumption": "as_acme", "completes": 54, "origin": "node",
            "request_id": "req_54", "ended": "cut", "status": 200, "seq": 60,
            "at": (NOON + timedelta(minutes=54, seconds=1)).isoformat(timespec="microseconds"),
        },
        {
            "kind": "assumption", "reason": "ended", "account": "acme", "assumption": "as_acme", "origin": "node",
            "by": "admin-1", "seq": 61, "at": (NOON + timedelta(minutes=90)).isoformat(timespec="microseconds"),
        },
    )  # fmt: skip
    status, page = await world.get(f"{LOG}/assumption/as_acme")
    assert 200 == status
    steps = re.findall(r'<bdi class="mono">GET /tickets/(\d+)</bdi>', page)
    assert steps == sorted(steps, key=int)
    assert "as_acme" in page
    assert "→ 200, cut" in page
    assert "Nothing for 32 minutes" in page
    assert "by admin-1" in page
    assert 404 == (await world.get(f"{LOG}/assumption/as_nowhere"))[0]


async def test_how_an_exchange_ended_stands_beside_it(world):
    """The answer of what was let through comes from another record, which the list itself leaves out."""
    world.add(
        {
            "kind": "completion", "account": "globex", "assumption": "as_globex", "completes": 8, "origin": "node",
            "request_id": "req_8", "ended": "client_gone", "status": 207, "seq": 60,
            "at": (NOON + timedelta(minutes=8, seconds=1)).isoformat(timespec="microseconds"),
        }
    )  # fmt: skip
    _, page = await world.get(LOG, q="path:/tickets/8")
    assert '<td data-label="Answer">207, client gone</td>' in page
    assert "60 records" in (await world.get(LOG))[1]
    assert "61 records" in (await world.get(LOG, ends="1"))[1]
    assert "1 record<" in (await world.get(LOG, q="kind:completion"))[1]


async def test_who_asked_is_on_the_record_before_they_see_anything(world):
    """Once for the same question, page by page, with the values that are nobody's."""
    _, page = await world.get(LOG, q="account:acme actor:person1", range="all")
    await world.get(LOG, q="account:acme actor:person1", range="all", before="99999999999999999")
    [searched] = world.recorded()
    assert ("searched", "all", "all") == (searched["reason"], searched["by"], searched["client_id"])
    assert "account=acme" in searched["query_values"]
    assert not [value for value in searched["query_values"] if "person1" in value]
    await world.get(re.search(r'<td data-label="Time \(UTC\)"><a href="([^"]*)"', page)[1])
    assert ["searched", "shown"] == [entry["reason"] for entry in world.recorded()]
    await world.own.close()
    status, refused = await world.get(LOG, q="account:globex")
    assert 503 == status
    assert "/tickets/" not in refused


async def test_without_an_index_the_page_says_so(tmp_path):
    """And what to do about it."""
    async with open_security_log(tmp_path, index=False) as world:
        status, page = await world.get(LOG)
        assert 503 == status
        assert "index = true" in page
        assert 503 == (await world.get(f"{LOG}/tail"))[0]
        assert 503 == (await world.post(f"{LOG}/export", format="csv"))[0]


@pytest.mark.parametrize("path", ["", "/record/1", "/assumption/as_acme", "/tail", "/tail/events", "/export"])
async def test_nobody_sees_anything_without_a_session(world, path):
    """Each page, asked for without a cookie, with one of nobody's, and by a page of elsewhere."""
    world.cookies["nobody"] = "A" * 43
    for visitor in (None, "nobody"):
        status, text = await world.get(LOG + path, visitor=visitor)
        assert status in (303, 403)
        assert "tickets" not in text
    status, text = await world.get(LOG + path, headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"})
    assert 403 == status
    assert 404 == (await world.get(LOG + path, headers={"Host": "attacker.example"}))[0]


def test_the_picture_counts_what_there_is():
    """Nothing is lost where several steps make one bar, and no part stands outside the drawing."""
    over_time = {at * HOUR: Counter({"allow": at % 5, "deny": at % 3, "": 1}) for at in range(100, 5000, 7)}
    chart = draw(over_time, step=HOUR, since=None, until=5001 * HOUR, link=lambda since, until: f"{since}-{until}")
    assert len(chart.bars) <= 130
    expected = Counter()
    for counts in over_time.values():
        expected.update(counts)
    assert expected == Counter({"allow": chart.permitted, "deny": chart.refused, "": chart.other})
    for bar in chart.bars:
        assert 0 <= bar.x <= bar.x + bar.width <= WIDTH
        for _, top, height in bar.parts:
            assert 0 <= top <= top + height <= HEIGHT + 0.02
    assert draw({}, step=HOUR, since=None, until=NOW, link=str) is None
    assert draw({}, step=HOUR, since=NOW, until=NOW, link=str) is None
    empty = draw({}, step=HOUR, since=0, until=DAY, link=lambda _since, _until: "")
    assert (24, []) == (len(empty.bars), empty.table)


@pytest.mark.parametrize(
    "value", ["", "//x", "\x00", "a b", "'", '"', "\\", "-x", "x*", "a:b", "é", "x" * 700, "*", "\n"]
)
@pytest.mark.parametrize("negated", [False, True])
def test_a_term_says_exactly_its_value(value, negated):
    """Whatever a record holds, a link asks for that and nothing else, or there is none."""
    term = write_term("actor", value, negated=negated)
    if term is None:
        return
    asked = read_asked({"q": "method:GET"}, NOW).narrowed("actor", value, negated=negated)
    if asked is not None:
        assert f"{'-' if negated else ''}actor:{value}" == term
        assert "%0A" not in asked or value == "\n"


def test_far_times_are_no_fault():
    """The first and the last year that can be written, and cursors beyond all."""
    for given in ({"from": "0001-01-01"}, {"to": "1960-01-01"}):
        with pytest.raises(AskedWrongly):
            read_asked(given, NOW)
    asked = read_asked({"from": "1970-01-01", "to": "9999-12-31T23:59:59", "before": "9" * 19}, NOW)
    assert asked.before < 2**63 - 1
    assert asked.link()
