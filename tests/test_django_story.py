"""The main job as people see it: staff work in a real helpdesk, in a browser, while and as far as a customer lets them."""

import json

import pytest

from gateway.demo.django_helpdesk.runner import PASSWORD
from tests.patience import within

pytest_plugins = ["tests.django_story_world"]
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="session")]

SEATS = ("users", "sessions", "logins")
# From the end of the command that revokes to the first refusal.
CUT_SECONDS = 1.0


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/dashboard/", "Printer on floor 3"),
        ("/tickets/1/", "prints blank pages"),
        ("/tickets/", "Invoice for October"),
    ],
)
async def test_pages_look_as_the_agent_sees_them(chain, path, says):
    """A page comes whole, with its style sheets, scripts, images and rows, greets the agent, and needs nothing else."""
    refused = len(chain.world.records(decision="deny"))
    async with chain.staff() as visit:
        page = await visit.open(path)
        await visit.page.get_by_text(says).first.wait_for()

        assert 200 == page.status
        assert "Maria" == await visit.person()
        # What the style sheet says of a navigation bar; without one it would be a block.
        assert ("flex", "sticky") == (
            await visit.style("nav.navbar", "display"),
            await visit.style("nav.navbar", "position"),
        )
        assert [] == visit.faults + [response.url for response in visit.responses if response.status >= 400]
        assert {"document", "stylesheet", "script", "image"} <= {it.request.resource_type for it in visit.responses}
        assert all(response.url.startswith(f"{chain.origin}/") for response in visit.responses)
    assert refused == len(chain.world.records(decision="deny"))


async def test_the_page_may_ask_the_rest_api(chain):
    """A script on the page gets the tickets with the page's own identity."""
    async with chain.staff() as visit:
        await visit.open("/dashboard/")
        status, text = await visit.fetch("GET", "/api/tickets/")

    assert 200 == status
    assert {1, 2, 3} <= {ticket["id"] for ticket in json.loads(text)["results"]}


async def test_a_reply_is_refused_while_only_reading_is_allowed(chain):
    """Sending the form shows our page with what is missing, and nothing is written."""
    async with chain.staff() as visit:
        answer = await visit.reply(1, "Never written")

        assert 403 == answer.status
        assert "text/html; charset=utf-8" == answer.headers["content-type"]
        assert "Not let through" == await visit.page.locator("h1").inner_text()
        shown = await visit.page.locator("body").inner_text()
        assert "insufficient_scope" in shown
        assert "Needed: tickets:write" in shown
    assert [] == chain.authors("Never written")


@pytest.mark.parametrize("link", ["/tickets/1/hold/", "/tickets/3/?take"])
async def test_a_link_that_writes_is_refused_while_only_reading_is_allowed(chain, link):
    """The method says GET, the app would put the ticket on hold, or give it to the agent."""
    before = chain.rows("SELECT * FROM helpdesk_ticket")
    async with chain.staff() as visit:
        answer = await visit.open(link)
        shown = await visit.page.locator("body").inner_text()

    assert 403 == answer.status
    assert "insufficient_scope" in shown
    assert before == chain.rows("SELECT * FROM helpdesk_ticket")


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
async def test_a_harmless_method_deletes_no_ticket(chain, method):
    """Django's delete view acts on them without a CSRF token, so even staff who may write are refused."""
    async with chain.staff("write", scope="tickets:read tickets:write") as visit:
        await visit.open("/tickets/3/")
        status, _ = await visit.fetch(method, "/tickets/3/delete/")

    assert 403 == status
    assert [(3,)] == chain.rows("SELECT id FROM helpdesk_ticket WHERE id = 3")


async def test_a_permitted_reply_is_the_agents_in_the_app_and_the_staff_members_on_the_record(chain):
    """The form in the browser works with its CSRF token; the app names maria, the journal dana."""
    async with chain.staff("write", scope="tickets:read tickets:write") as visit:
        answer = await visit.reply(2, "The address is on the list now")
        shown = await visit.page.locator("#followup-tab-pane").inner_text()

    assert (200, f"{chain.origin}/tickets/2/") == (answer.status, answer.url)
    assert "The address is on the list now" in shown
    assert [(2, "maria")] == chain.authors("The address is on the list now")
    [record] = chain.world.records(method="POST", path="/tickets/2/update/", decision="allow")
    assert ("dana", "maria", "acme", "SUP-1") == (
        record["actor"]["subject"],
        record["subject"],
        record["account"],
        record["ticket"],
    )


async def test_an_agent_signs_in_and_out_as_ever_while_staff_are_in(chain):
    """Two browsers, one with a session of the app's and one with an assumption, do not touch each other."""
    async with chain.staff() as dana, chain.visit() as jonas:
        await dana.open("/dashboard/")
        await jonas.open("/dashboard/")
        await jonas.page.locator("#username").fill("jonas")
        await jonas.page.locator("#password").fill(PASSWORD)
        signed_in = await jonas.submit("form button[type=submit]")

        assert (200, f"{chain.origin}/dashboard/") == (signed_in.status, signed_in.url)
        assert "Jonas" == await jonas.person()
        assert {"csrftoken", "sessionid"} == await jonas.cookies()
        await dana.open("/dashboard/")
        assert "Maria" == await dana.person()

        await jonas.page.locator("#userDropdown").click()
        await jonas.submit("form[action='/logout/'] button")
        await jonas.open("/dashboard/")
        assert "/login/" in jonas.page.url
        assert "sessionid" not in await jonas.cookies()
        await dana.open("/dashboard/")
        assert "Maria" == await dana.person()
        assert "sessionid" not in await dana.cookies()


async def test_no_user_session_or_login_comes_of_a_visit(chain):
    """Reading, writing and being refused leave the app's own counts as they were, and no session in the browser."""
    before = await chain.helpdesk.counts()
    async with chain.staff("write", scope="tickets:read tickets:write") as visit:
        for path in ("/dashboard/", "/tickets/", "/reports/", "/kanban/"):
            assert 200 == (await visit.open(path)).status
        for path in ("/login/", "/logout/", "/admin/", "/settings/"):
            assert 403 == (await visit.open(path)).status
        assert 200 == (await visit.reply(1, "Have you tried another cartridge?")).status
        cookies = await visit.cookies()
    after = await chain.helpdesk.counts()

    assert {"csrftoken"} == cookies
    assert [before[name] for name in SEATS] == [after[name] for name in SEATS]
    assert before["followups"] + 1 == after["followups"]


async def test_the_customer_ends_it_and_the_next_page_is_refused(chain):
    """Once the answer to "off" is there, not one more page comes."""
    async with chain.staff() as visit:
        assert 200 == (await visit.open("/tickets/1/")).status
        assert 200 == (await chain.world.choose("off"))[0]
        answer = await visit.open("/tickets/1/")
        shown = await visit.page.locator("body").inner_text()

    assert 403 == answer.status
    assert "grant_revoked" in shown
    assert "The account has ended the assumption" in shown


async def test_the_command_line_ends_it_from_another_process(chain):
    """The running gateway sees the change in the store that they share; here its facts never grow old by themselves."""
    async with chain.staff() as visit:
        with chain.ticks.stopped():
            assert 200 == (await visit.open("/dashboard/")).status
            assert "turned_off" in await chain.locum("grant", "set", "acme", "off", "--as", "owner")
            async with within(CUT_SECONDS):
                while (answer := await visit.fetch("GET", "/dashboard/"))[0] == 200:
                    pass

    assert 403 == answer[0]
    assert "grant_revoked" == json.loads(answer[1])["reason"]
