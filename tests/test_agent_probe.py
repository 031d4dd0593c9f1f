"""The subject is always an agent who exists: the app is asked before a token is issued."""

import base64
import json

import pytest

from gateway.proxy.headers import values
from tests.browser_world import open_browser
from tests.gateway_world import open_world
from tests.rawwire import response, then_close


def probing(document):
    document["upstream"]["profile"] = "demo-helpdesk"


def claims_of(assertion):
    part = assertion.split(b".")[1]
    return json.loads(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)))


async def test_an_agent_whom_the_app_knows_can_be_stood_in_for(tmp_path):
    """The app is asked once, as that agent, and the question is on the record before the token is."""
    async with open_world(tmp_path, change=probing) as world:
        await world.choose("day")
        status, _ = await world.ask(scope="tickets:read")
        assert 200 == status
        [asked] = world.upstream.requests
        assert (b"GET", b"/whoami") == (asked.method, asked.target)
        assert [b"acme.helpdesk.example"] == values(tuple(asked.headers), b"host")
        claims = claims_of(dict(asked.headers)[b"X-Locum-Assertion"])
        assert ("maria", "dana", "acme") == (claims["sub"], claims["act"]["sub"], claims["account"])
        kinds = [(record["kind"], record["decision"]) for record in world.records(subject="maria")]
        assert [("decision", "allow"), ("token", "allow")] == kinds


@pytest.mark.parametrize("status", [b"401 No", b"403 No", b"404 No", b"410 No", b"302 Sign in"])
async def test_an_agent_whom_the_app_refuses_gets_no_token(tmp_path, status):
    """The exchange is refused by name, and no assumption is left behind."""
    async with open_world(tmp_path, change=probing, script=lambda _request: response(status=status)) as world:
        await world.choose("day")
        answer, document = await world.ask(scope="tickets:read", subject_token="ghost")
        assert (400, "agent_unknown") == (answer, document["reason"])
        assert "access_token" not in document
        [probe, token] = world.records(subject="ghost")
        assert ("token", "deny", "agent_unknown") == (token["kind"], token["decision"], token["reason"])
        assert await world.gateway.store.find_assumption(probe["assumption"]) is None


@pytest.mark.parametrize("answer", [response(status=b"500 Oops"), response(status=b"429 Slow"), then_close(b"")])
async def test_an_app_that_cannot_say_issues_no_token(tmp_path, answer):
    """Not knowing is no."""
    async with open_world(tmp_path, change=probing, script=lambda _request: answer) as world:
        await world.choose("day")
        status, document = await world.ask(scope="tickets:read")
        assert (503, "app_unavailable") == (status, document["reason"])


async def test_nothing_is_asked_before_the_account_allows_it(tmp_path):
    """Without a live grant the app hears nothing, not even the question."""
    async with open_world(tmp_path, change=probing) as world:
        status, document = await world.ask(scope="tickets:read")
        assert (400, "grant_off") == (status, document["reason"])
        assert [] == world.upstream.requests


async def test_the_question_stays_within_the_scopes_that_are_asked_for(tmp_path):
    """The probe is a request like any other: scopes that do not reach it do not start an assumption."""
    async with open_world(tmp_path, change=probing) as world:
        await world.choose("day", ["read", "test_tickets"])
        status, document = await world.ask(scope="tickets:write:test")
        assert (400, "insufficient_scope") == (status, document["reason"])
        assert [] == world.upstream.requests


async def test_a_browsers_assumption_asks_the_app_too_though_it_lives_for_hours(tmp_path):
    """The one question comes before the cookie, and the cookie is good."""
    async with open_browser(tmp_path, change=probing) as browser:
        [asked] = browser.world.upstream.requests
        assert b"/whoami" == asked.target
        assert 200 == (await browser.ask()).status
