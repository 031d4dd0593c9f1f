"""The demo helpdesk's profile judges every route of the demo helpdesk by what it really does."""

import tomllib
from pathlib import Path

import pytest

import policy
from gateway.demo.helpdesk import DemoHelpdesk
from policy.routes import read_profile
from policy.target import parse_target

FILE = Path(policy.__file__).parent / "profiles" / "demo-helpdesk.toml"
READ, WRITE, TEST, NEVER = "tickets:read", "tickets:write", "tickets:write:test", "never"
VERDICTS = {
    ("GET", "/whoami"): {READ},
    ("GET", "/seats"): {READ},
    ("GET", "/tickets"): {READ},
    ("POST", "/tickets"): {WRITE},
    ("POST", "/tickets/search"): {READ},
    ("POST", "/tickets/test"): {TEST},
    ("GET", "/tickets/1"): {READ},
    ("GET", "/tickets/1?action=close"): {READ, WRITE},
    ("HEAD", "/tickets/1?action=close"): {READ, WRITE},
    ("GET", "/tickets/1?x=1&%61ction=close"): {READ, WRITE},
    ("GET", "/tickets/1/hold"): {WRITE},
    ("POST", "/tickets/1/reply"): {WRITE},
    ("GET", "/attachments/1"): {READ},
    ("GET", "/events"): {READ},
    ("GET", "/admin"): {NEVER},
    ("GET", "/Admin/"): {NEVER},
    ("POST", "/admin/agents"): {NEVER},
    ("POST", "/api-tokens"): {NEVER},
    ("GET", "/login"): {NEVER},
    ("POST", "/login"): {NEVER},
    ("GET", "/logout"): {NEVER},
    ("DELETE", "/tickets/1"): set(),
    ("POST", "/tickets/1"): set(),
    ("POST", "/tickets/1/hold"): set(),
    ("GET", "/tickets/1/hold/"): set(),
    ("GET", "/tickets/one"): set(),
    ("GET", "/TICKETS"): set(),
    ("GET", "/"): {"tickets:read"},
    ("GET", "/new-in-the-next-version"): set(),
}


@pytest.fixture
def profile():
    return read_profile(tomllib.loads(FILE.read_text(encoding="utf-8")))


@pytest.mark.parametrize(("method", "target"), VERDICTS)
def test_each_route_needs_what_it_does(profile, method, target):
    """A GET that writes is a write, a POST that reads is a read, the unknown is nothing."""
    rules = profile.match(method, parse_target(target.encode()))
    assert VERDICTS[method, target] == {str(rule.scope) if rule.scope else NEVER for rule in rules}


def test_no_route_of_the_app_is_forgotten(profile):
    """Whatever the helpdesk serves, the profile has a word on it."""
    routes = DemoHelpdesk()._app().router.routes()
    served = {(route.method, route.resource.canonical.replace("{id}", "1")) for route in routes}
    assert ("POST", "/tickets/1/reply") in served
    assert [] == [entry for entry in sorted(served) if not profile.match(entry[0], parse_target(entry[1].encode()))]


def test_the_profile_is_named_after_its_file(profile):
    """The name in the configuration is the name of the file, and the app's session never crosses."""
    assert FILE.stem == profile.name
    assert {"session"} == profile.withhold_cookies
