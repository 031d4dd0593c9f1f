"""The page "Now" of the security team's console: what it shows, and what operators do there."""

import asyncio
import re
from dataclasses import replace
from hashlib import sha256
from html import unescape
from importlib import resources

from gateway.console.security.live import MOST_OF_ONE, MOST_STREAMS
from policy.model import AccountType, ActorId
from tests.live_world import caught_up
from tests.patience import PATIENCE_SECONDS
from tests.security_world import PATH, open_guard, security
from tests.store_examples import begin

HOSTILE = "<script>alert(1)</script>\"' \u202e&amp;"


async def _until(ask):
    """Ask until it is so: a store's change is heard of by another task."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await ask():  # noqa: ASYNC110 - nothing to wait on
            await asyncio.sleep(0.02)


async def _open(guard, *, account="acme", **more):
    """Have somebody stand in; returns the token."""
    return await guard.world.token(account=account, **more)


async def test_it_shows_who_stands_in_and_what_accounts_allow(tmp_path):
    """Over all accounts: who, for whom, ticket, reason; grants with who gave them; trials apart; and counts."""
    async with open_guard(tmp_path) as guard:
        world = guard.world
        await world.add_account("globex")
        await world.add_account("tria", AccountType.TRIAL)
        await world.add_account("silent")
        for account in ("acme", "globex"):
            await world.choose("week", ("read", "write"), account=account)
        await _open(guard)
        await _open(guard, account="globex", actor_token=world.actor_token("erin", name="Erin Example"))
        await guard.enter()
        text = (await guard.page()).text
        for said in ("Erin Example", "dana", "maria", "SUP-1", "cannot reproduce", "tickets:read", "owner", "tria"):
            assert said in text, said
        assert "silent" not in text
        assert re.search(r"<strong>2</strong> live assumptions", text)
        assert re.search(r"<strong>2</strong> live grants", text)
        assert re.search(r"<strong>1</strong> trial account\b", text)
        for query, there, gone in (
            ("?q=erin+example", "Erin Example", "dana"),
            ("?q=EXAMPLE+globex", "Erin Example", "dana"),
            ("?account=acme", "dana", "Erin Example"),
        ):
            found = (await guard.page(f"{PATH}{query}")).text
            assert there in found.partition("<tbody>")[2]
            assert gone not in found.partition("<tbody>")[2]
        assert "Nobody whom this search finds" in (await guard.page(f"{PATH}?q=nobody+at+all")).text


async def test_what_is_over_is_not_shown(tmp_path):
    """Neither what ended nor what its grant does not carry any more: live means live."""
    async with open_guard(tmp_path) as guard:
        world = guard.world
        await world.choose("week")
        await _open(guard)
        await guard.enter()
        assert "<strong>1</strong> live assumption" in (await guard.page()).text
        await world.choose("off")
        await _until(lambda: _shows(guard, "<strong>0</strong> live assumptions"))
        await world.choose("day")
        await _until(lambda: _shows(guard, "<strong>1</strong> live grant"))
        assert "<strong>0</strong> live assumptions" in (await guard.page()).text
        world.clock.forward(hours=25)
        await guard.enter("again")
        assert "<strong>0</strong> live grants" in (await guard.page()).text


async def _shows(guard, said):
    return said in (await guard.page()).text


async def test_hostile_names_are_shown_as_they_are(tmp_path):
    """Whatever staff, tickets and reasons are called, no tag of theirs is one of the page's, and none breaks a form."""
    async with open_guard(tmp_path) as guard:
        world = guard.world
        await world.choose("week")
        await _open(
            guard,
            actor_token=world.actor_token("dana", name=HOSTILE),
            detail={"ticket": HOSTILE, "reason": HOSTILE},
        )
        await guard.enter("boss", "operate")
        page = await guard.page(f"{PATH}?q=%22%3E%3Cimg+src%3Dx%3E&account=%27%22%3Cb%3E")
        assert b"<script>alert" not in page.body
        assert b"<img" not in page.body
        page = await guard.page()
        assert b"<script>alert" not in page.body
        assert HOSTILE.replace("\u202e", r"\u202e") in unescape(page.body.decode()), "what would turn it is spelled"
        [assumption] = re.findall(r'name="assumption" value="([^"]+)"', page.text)
        assert 303 == (await guard.do("end", assumption=assumption)).status


async def test_thousands_are_shown_a_page_at_a_time(tmp_path):
    """Each is on one page, the counts are of all, and a page that there is not says so."""
    async with open_guard(tmp_path) as guard:
        world = guard.world
        await world.choose("week")
        await _open(guard)
        [one] = await world.gateway.store.list_assumptions(at=world.clock.now)
        for number in range(120):
            await begin(world.gateway.store, replace(one, id=f"sid-{number}", ticket=f"T{number:03}"))
        await guard.enter()
        seen = []
        for number in (1, 2, 3):
            page = await guard.page(f"{PATH}?page={number}&q=cannot")
            assert "<strong>121</strong> live assumptions" in page.text
            assert f"Page {number} of 3" in page.text
            seen += re.findall(r"<bdi>(T[0-9]{3})</bdi>", page.text)
        assert [f"T{number:03}" for number in range(120)] == sorted(seen)
        for odd in ("4", "0", "-1", "x", "9" * 30):
            assert 200 == (await guard.page(f"{PATH}?page={odd}")).status


async def test_an_operator_ends_one_and_all(tmp_path):
    """What is ended is refused at once, on the record with who did it; the rest goes on until all are ended."""
    async with open_guard(tmp_path) as guard:
        world = guard.world
        await world.add_account("globex")
        for account in ("acme", "globex"):
            await world.choose("week", account=account)
        tokens = []
        for account in ("acme", "acme", "globex"):
            tokens.append(await _open(guard, account=account))
            world.clock.forward(seconds=1)
        first, second, third = tokens
        await guard.enter("boss", "operate")
        assert 200 == (await world.get(first))[0]
        ids = re.findall(r'name="assumption" value="([^"]+)"', (await guard.page()).text)
        assert 3 == len(ids)
        answer = await guard.do("end", assumption=ids[0])
        assert answer.headers["location"].startswith(f"{PATH}?said=ended.")
        assert "Ended. That person is out." in (await guard.page(answer.headers["location"])).text
        again = await guard.do("end", assumption=ids[0])
        assert "said=over." in again.headers["location"]
        assert 403 == (await world.get(first))[0]
        assert 200 == (await world.get(second))[0]
        ended = await guard.do("end-all", q="", account="acme", confirm="yes", back=f"{PATH}?account=acme")
        assert ended.headers["location"].startswith(f"{PATH}?account=acme&said=all-ended.")
        assert 403 == (await world.get(second))[0]
        assert [ids[2]] == re.findall(r'name="assumption" value="([^"]+)"', (await guard.page()).text)
        await guard.do("end-all", q="", account="", confirm="yes")
        assert "Nobody" in (await guard.page()).text
        assert 403 == (await world.get(third))[0]
        records = world.records(kind="assumption", reason="ended")
        assert {("boss", "boss")} == {(record["by"], record["client_id"]) for record in records}
        assert 3 == len(records)


async def test_an_operator_turns_a_grant_off_as_the_vendors_operator(tmp_path):
    """The customer's history says so; nobody but the customer turns it on again; a trial has nothing to turn off."""
    async with open_guard(tmp_path) as guard:
        world = guard.world
        await world.add_account("tria", AccountType.TRIAL)
        await world.choose("week")
        token = await _open(guard)
        await guard.enter("boss", "operate")
        assert "said=off." in (await guard.do("off", account="acme", confirm="yes")).headers["location"]
        assert 403 == (await world.get(token))[0]
        [event, _] = await world.gateway.store.list_changes("acme")
        assert ("turned_off", "operator:boss") == (event.change, event.by)
        [record] = world.records(kind="grant", reason="turned_off")
        assert ("allow", "operator:boss", "boss") == (record["decision"], record["granted_by"], record["client_id"])
        assert "said=was-off." in (await guard.do("off", account="acme", confirm="yes")).headers["location"]
        assert 409 == (await guard.do("off", account="tria", confirm="yes")).status
        assert 404 == (await guard.do("off", account="nobody", confirm="yes")).status


async def test_a_setting_that_the_app_keeps_is_turned_off_there(tmp_path):
    """Ours would be overwritten by the app's next answer, so there is no such button, and the form is refused."""

    def change(document):
        security(document)
        document["grants"] = {"source": "http", "http": {"url": "http://127.0.0.1:9/accounts/{account}"}}

    async with open_guard(tmp_path, change=change) as guard:
        await guard.enter("boss", "operate")
        assert 409 == (await guard.do("off", account="acme", confirm="yes")).status


async def test_the_kill_switch_needs_a_reason_and_a_yes(tmp_path):
    """Then it stops everything at once, and says by whom and why; letting go needs the same."""
    async with open_guard(tmp_path) as guard:
        world = guard.world
        await world.choose("week")
        token = await _open(guard)
        await guard.enter("boss", "operate")
        good = {"set": "on", "reason": "incident 7", "confirm": "yes"}
        for wrong in ({"reason": " "}, {"reason": "a\nb"}, {"reason": "x" * 501}, {"confirm": "no"}, {"set": "maybe"}):
            assert 400 == (await guard.do("kill-switch", **(good | wrong))).status
        assert 200 == (await world.get(token))[0]
        assert 303 == (await guard.do("kill-switch", **good)).status
        await caught_up(world)
        assert 403 == (await world.get(token))[0]
        page = (await guard.page()).text
        assert "All account assumption is stopped" in page
        assert "incident 7" in page
        assert 303 == (await guard.do("kill-switch", **(good | {"set": "off"}))).status
        await caught_up(world)
        assert 200 == (await world.get(token))[0]
        assert "said=was-let-go." in (await guard.do("kill-switch", **(good | {"set": "off"}))).headers["location"]
        records = world.records(kind="kill_switch")
        assert [("on", "boss"), ("off", "boss")] == [(record["reason"], record["by"]) for record in records]


async def test_a_staff_member_is_ended_and_locked_out(tmp_path):
    """In every account; who is locked cannot begin again, and another person of the same account goes on."""
    async with open_guard(tmp_path) as guard:
        world = guard.world
        await world.choose("week")
        issuer = world.issuer.issuer
        tokens = [await _open(guard), await _open(guard)]
        erins = await _open(guard, actor_token=world.actor_token("erin"))
        await guard.enter("boss", "operate")
        assert 400 == (await guard.do("staff", issuer=issuer, subject="dana", do="end", confirm="no")).status
        assert 400 == (await guard.do("staff", issuer=issuer, subject="dana", do="praise", confirm="yes")).status
        assert 303 == (await guard.do("staff", issuer=issuer, subject="dana", do="end", confirm="yes")).status
        assert [403, 403] == [(await world.get(token))[0] for token in tokens]
        tokens.append(await _open(guard))
        assert 303 == (await guard.do("staff", issuer=issuer, subject="dana", do="lock", confirm="yes")).status
        assert 403 == (await world.get(tokens[-1]))[0]
        assert 200 == (await world.get(erins))[0]
        assert 400 <= (await world.ask(scope="tickets:read"))[0]
        [record] = world.records(kind="staff", reason="locked")
        assert ("boss", "dana") == (record["by"], record["actor"]["subject"])
        assert (await world.gateway.store.find_staff(ActorId(issuer=issuer, subject="dana"))).disabled
        elsewhere = {"issuer": "https://elsewhere.example", "subject": "dana"}
        assert 404 == (await guard.do("staff", **elsewhere, do="lock", confirm="yes")).status


async def test_a_note_is_shown_to_nobody_else(tmp_path):
    """A link that says that something was done is worth nothing that we did not make, or made for another session."""
    async with open_guard(tmp_path) as guard:
        await guard.enter("boss", "operate")
        other = await guard.another().enter("other", "operate")
        place = (await guard.do("kill-switch", set="on", reason="x", confirm="yes")).headers["location"]
        said = "All account assumption is stopped.\n"
        assert f'role="status">{said.strip()}' in (await guard.page(place)).text
        for wrong in (place[:-1], place.replace("stopped", "let-go"), f"{PATH}?said=stopped", f"{PATH}?said=."):
            assert 'class="note" role="status">A' not in (await guard.page(wrong)).text
        assert 'class="note" role="status">A' not in (await other.page(place)).text


async def _stream(guard, seen):
    """Open the page's stream; returns its reader and writer, behind the head."""
    reader, writer = await asyncio.open_connection("127.0.0.1", guard.port)
    cookie = f"{guard.cookie_name}={guard.cookie}"
    head = (
        f"GET {PATH}/live?seen={seen} HTTP/1.1\r\nHost: {guard.host}\r\nConnection: close\r\nCookie: {cookie}\r\n\r\n"
    )
    writer.write(head.encode())
    assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
    await reader.readuntil(b"retry: 2000\n\n")
    return reader, writer


async def test_an_open_page_hears_of_changes_and_of_its_end(tmp_path):
    """It hears `changed` after each, without a word of what; once its session is over, the stream ends."""
    async with open_guard(tmp_path) as guard:
        await guard.enter()
        position = re.search(r"seen=([0-9]+)", (await guard.page()).text)[1]
        reader, writer = await _stream(guard, position)
        for duration in ("day", "off"):
            await guard.world.choose(duration)
            assert (await reader.readuntil(b"\n\n")).endswith(b"event: changed\ndata: 1\n\n")
        late, other = await _stream(guard, "0")
        assert (await late.readuntil(b"\n\n")).endswith(b"event: changed\ndata: 1\n\n")
        await guard.do("sign-out")
        for one in (reader, late):
            assert b"event" not in (await one.read()).replace(b"event: changed\ndata: 1\n\n", b"")
        for one in (writer, other):
            one.close()
            await one.wait_closed()


async def test_no_more_streams_than_may_be_are_held(tmp_path):
    """The page asks for itself now and then instead; when one ends, there is room again."""
    async with open_guard(tmp_path) as guard:
        await guard.enter()
        people = [await guard.another().enter(f"person{number}") for number in range(MOST_STREAMS // MOST_OF_ONE)]
        streams = [await _stream(one, "0") for one in people for _ in range(MOST_OF_ONE)]
        assert 503 == (await guard.ask(f"{PATH}/live?seen=0")).status
        for _, writer in streams:
            writer.close()
            await writer.wait_closed()

        async def is_free():
            reader, writer = await asyncio.open_connection("127.0.0.1", guard.port)
            head = (
                f"GET {PATH}/live?seen=0 HTTP/1.1\r\nHost: {guard.host}\r\nCookie: {guard.cookie_name}={guard.cookie}"
            )
            writer.write(f"{head}\r\n\r\n".encode())
            line = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return b"200" in line

        await _until(is_free)


async def test_an_open_page_does_not_hold_up_a_stop(tmp_path):
    """A gateway that ends has its streams end: nothing is under way that would have to be waited for."""

    def change(document):
        security(document)
        document["server"]["shutdown_seconds"] = 60

    async with open_guard(tmp_path, change=change) as guard:
        await guard.enter()
        reader, writer = await _stream(guard, "0")
        await guard.world.gateway.close_doors()
        rest = await reader.read()
        assert rest.endswith(b"0\r\n\r\n"), rest
        writer.close()
        await writer.wait_closed()


async def test_what_cannot_be_recorded_is_not_let_go(tmp_path):
    """Nobody is let in and nothing is let go unless it is on the record; what only takes away is done all the same."""
    async with open_guard(tmp_path) as guard:
        world = guard.world
        await world.choose("week")
        await _open(guard)
        await guard.enter("boss", "operate")
        secret = await guard.add_client("other", "audit")
        token = await guard.form_token()
        await guard.do("kill-switch", set="on", reason="x", confirm="yes")
        journal = world.gateway.journal
        await journal.close()
        assert 503 == (await guard.another().sign_in("other", secret)).status
        fields = {"form_token": token, "set": "off", "reason": "x", "confirm": "yes"}
        assert 503 == (await guard.post("kill-switch", fields)).status
        assert (await world.gateway.store.find_kill_switch()).on
        [one] = await world.gateway.store.list_assumptions(at=world.clock.now)
        assert 303 == (await guard.post("end", {"form_token": token, "assumption": one.id})).status
        assert [] == list(await world.gateway.store.list_assumptions(at=world.clock.now))


async def test_what_pages_load_is_served_where_they_are(tmp_path):
    """The admin listener has the style sheets and scripts, so that no page asks any other host for anything."""
    async with open_guard(tmp_path) as guard:
        for name in ("htmx.min.js", "security.js", "security.css", "locum.css"):
            found = await guard.ask(f"/.locum/static/{name}")
            assert (200, "nosniff") == (found.status, found.headers["x-content-type-options"])
        await guard.enter("boss", "operate")
        page = await guard.page()
        for address in re.findall(r'(?:src|href|action)="([^"]*)"', page.text):
            assert address.startswith(("/", "#main")), address
        assert not re.search(r"<script(?![^>]*src=)|\son[a-z]+=|\sstyle=", page.text)


def test_the_library_is_what_was_looked_at():
    """htmx, byte for byte as its licence file names it; whoever puts another in its place says so there."""
    static = resources.files("gateway.pages").joinpath("static")
    found = sha256(static.joinpath("htmx.min.js").read_bytes()).hexdigest()
    assert "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130" == found
    assert found in static.joinpath("LICENSES.txt").read_text(encoding="utf-8")
