"""A real django-helpdesk believes the assertion and nothing else, and no seat of it is touched."""

import base64
import json
import re
import sqlite3
import time
from contextlib import closing

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.demo.django_helpdesk.runner import PASSWORD, DjangoHelpdesk, HelpdeskNotInstalledError

pytest_plugins = ["tests.django_helpdesk_world"]
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]


@pytest.mark.parametrize(
    "path", ["/dashboard/", "/tickets/", "/tickets/1/", "/reports/", "/kanban/", "/rss/unassigned/"]
)
async def test_an_assertion_opens_the_pages_of_the_agent(desk, path):
    """The helpdesk's own pages come without a login."""
    response = await desk.ask("GET", path)

    assert 200 == response.status
    assert "sessionid" not in response.cookies


async def test_static_files_are_served(desk):
    """A page looks as it should: what it links to under /static/ is there."""
    page = await (await desk.ask("GET", "/dashboard/")).text()
    sheet = re.search(r'href="(/static/[^"]+\.css)"', page)[1]

    assert 200 == (await desk.ask("GET", sheet)).status


async def test_the_rest_api_reads_and_writes_by_assertion(desk):
    """The same identity serves the REST API, without a CSRF token, and what it makes is the agent's."""
    ticket = await desk.new_ticket(title="By REST")
    listed = await desk.ask("GET", "/api/tickets/")

    assert 200 == listed.status
    assert "By REST" in await listed.text()
    author = "SELECT username FROM helpdesk_followup f JOIN auth_user u ON u.id = f.user_id WHERE ticket_id = ?"
    assert [("maria",)] == desk.rows(author, ticket)


REPLY = {"comment": "We are on it", "public": "1", "title": "A ticket", "queue": "1", "priority": "3"}


async def test_a_reply_by_form_is_the_agents_own(desk):
    """The form of the ticket page works with its CSRF token, and the reply is signed by the assumed agent."""
    ticket = await desk.new_ticket()
    response = await desk.submit(f"/tickets/{ticket}/update/", REPLY, form=f"/tickets/{ticket}/")

    assert 302 == response.status
    author = "SELECT username FROM helpdesk_followup f JOIN auth_user u ON u.id = f.user_id WHERE comment = ? AND ticket_id = ?"
    assert [("maria",)] == desk.rows(author, REPLY["comment"], ticket)


@pytest.mark.parametrize("attack", [{"data": {"comment": "x"}}, {"headers": {"Origin": "https://evil.example"}}])
async def test_an_assertion_does_not_replace_the_csrf_token(desk, attack):
    """A form without its token, or from another origin, is refused as ever."""
    assert 403 == (await desk.ask("POST", "/tickets/1/update/", **attack)).status


async def test_without_an_assertion_the_login_page_comes(desk):
    """Whoever is not assumed is asked to log in."""
    response = await desk.ask("GET", "/dashboard/", token="")

    assert 302 == response.status
    assert response.headers["Location"].startswith("/login/")


@pytest.mark.parametrize("agent", ["nobody", "Maria", "samir", "maria "])
async def test_an_agent_who_is_unknown_or_inactive_is_refused(desk, agent):
    """The subject must be an active agent, named exactly; nobody is created for it."""
    with closing(sqlite3.connect(desk.data / "helpdesk.sqlite3")) as database, database:
        database.execute("UPDATE auth_user SET is_active = 0 WHERE username = 'samir'")

    assert 403 == (await desk.ask("GET", "/dashboard/", token=desk.assertion(sub=agent))).status


REQUIRED = ("aud", "iss", "exp", "iat", "jti", "sub", "act", "sid", "account", "grant_id", "scope")


def forgeries(desk) -> dict[str, str]:
    """Return assertions that must not be believed, by what is wrong with them."""
    now = int(time.time())  # noqa: TID251 - the helpdesk's clock is the real one
    public = desk.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    good = desk.assertion()
    head, body, _ = good.split(".")
    others = base64.urlsafe_b64encode(json.dumps({"sub": "owner"}).encode()).rstrip(b"=").decode()
    return {
        "another audience": desk.assertion(aud="chat"),
        "another issuer": desk.assertion(iss="https://evil.example"),
        "expired": desk.assertion(iat=now - 70, exp=now - 10),
        "from the future": desk.assertion(iat=now + 30, exp=now + 60),
        "too long a life": desk.assertion(exp=now + 3600),
        "another type": desk.assertion(header={"typ": "at+jwt"}),
        "no type": desk.assertion(header={"typ": None}),
        "another key": desk.assertion(key=Ed25519PrivateKey.generate()),
        "an unknown key id": desk.assertion(header={"kid": "locum-2"}),
        "alg none": desk.assertion(key="", alg="none"),
        "HS256 with the public key": desk.assertion(key=public, alg="HS256"),
        "other claims, same signature": f"{head}.{others}.{good.split('.')[2]}",
        "no signature": f"{head}.{body}.",
        "two in one header": f"{good}, {good}",
        "no token at all": "hello",
        "nobody": desk.assertion(sub=""),
        "a chain of actors": desk.assertion(act={"sub": "erin", "iss": "x", "act": {"sub": "dana"}}),
        "for another request": desk.assertion(htm="POST", htu="https://127.0.0.1/dashboard/"),
        **{f"without {name}": desk.assertion(**{name: None}) for name in REQUIRED},
    }


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_no_forged_assertion_is_believed(desk):
    """Each defect alone is enough for a 401."""
    answers = {why: (await desk.ask("GET", "/dashboard/", token=it)).status for why, it in forgeries(desk).items()}

    assert dict.fromkeys(answers, 401) == answers


async def test_assumed_traffic_changes_no_seat_count(desk):
    """Users, sessions and logins are the same before and after reading and writing as two agents."""
    before = await desk.app.counts()
    ticket = await desk.new_ticket()
    await desk.ask("GET", "/dashboard/", token=desk.assertion(sub="owner"))
    await desk.submit(f"/tickets/{ticket}/update/", REPLY, form=f"/tickets/{ticket}/")
    after = await desk.app.counts()

    # The ticket comes with its first follow-up, the reply is the second.
    assert (before["tickets"] + 1, before["followups"] + 2) == (after["tickets"], after["followups"])
    assert [before[name] for name in ("users", "sessions", "logins")] == [
        after[name] for name in ("users", "sessions", "logins")
    ]


async def test_the_ordinary_login_goes_on_and_assumption_leaves_its_session_alone(desk):
    """An agent logs in as ever; that session is neither used, nor changed, nor ended by an assumption."""
    before = await desk.app.counts()
    login = {"username": "jonas", "password": PASSWORD}
    assert 302 == (await desk.submit("/login/", login, token="")).status
    logged_in = await desk.app.counts()
    saved = desk.rows("SELECT * FROM django_session")

    assumed = await desk.ask("GET", "/dashboard/", token=desk.assertion(sub="aiko"))
    logout = await desk.submit("/logout/", {}, form="/dashboard/", token=desk.assertion(sub="aiko"))

    assert before["sessions"] + 1 == logged_in["sessions"]
    assert "aiko" in (await assumed.text()).lower()
    assert not {"sessionid"} & {*assumed.cookies, *logout.cookies}
    assert saved == desk.rows("SELECT * FROM django_session")
    assert "jonas" in (await (await desk.ask("GET", "/dashboard/", token="")).text()).lower()


SESSION_WRITER = """
from django.contrib.sessions.middleware import SessionMiddleware
from django.contrib.sessions.models import Session
from django.http import HttpResponse
from django.test import RequestFactory
from locum_verify.django import AssertionMiddleware

def view(request):
    request.session["basket"] = "full"
    return HttpResponse()

request = RequestFactory().get("/", headers={"X-Locum-Assertion": "TOKEN"})
before = Session.objects.count()
response = SessionMiddleware(AssertionMiddleware(view))(request)
print(response.status_code, Session.objects.count() - before, len(response.cookies))
"""


async def test_what_a_view_puts_into_the_session_is_dropped(desk):
    """Even a view that writes to its session leaves neither a row nor a cookie."""
    script = SESSION_WRITER.replace("TOKEN", desk.assertion())

    assert b"200 0 0\n" == await desk.app.manage("shell", "--no-imports", "-c", script)


async def test_no_registry_is_said_plainly(tmp_path, monkeypatch):
    """Without pip's registry the set-up fails with what to do, and is not taken for done the next time."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    helpdesk = DjangoHelpdesk(
        data=tmp_path / "data", cache=tmp_path / "cache", jwks_url="file:///", issuer="us", audience="it"
    )
    with pytest.raises(HelpdeskNotInstalledError, match="see that pip reaches its registry"):
        await helpdesk.__aenter__()

    assert not (tmp_path / "cache" / "installed").exists()


@pytest.mark.parametrize(("title", "status"), [("[test] Does it route?", 201), ("Does it route?", 403)])
async def test_test_tickets_are_marked(desk, title, status):
    """Who may create test tickets only, creates tickets whose title says so, by REST and by form."""
    token = desk.assertion(scope="tickets:read tickets:write:test")
    body = {"queue": 1, "title": title, "description": "x", "priority": 3}
    form = {"queue": "1", "title": title, "body": "x", "priority": "3"}

    assert status == (await desk.ask("POST", "/api/tickets/", token=token, json=body)).status
    by_form = await desk.submit("/tickets/submit/", form, token=token)
    assert (302 if status == 201 else 403) == by_form.status
