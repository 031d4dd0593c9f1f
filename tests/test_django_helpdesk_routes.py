"""A running django-helpdesk does what its profile says of its routes: a read writes nothing, a write needs more."""

import base64
import json
import re
import tomllib
from pathlib import Path

import pytest

from policy.routes import Profile, read_profile
from policy.scopes import covers, parse_scopes
from policy.target import parse_target

pytest_plugins = ["tests.django_helpdesk_world"]
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

PROFILE = Path(__file__).parent.parent / "policy" / "profiles" / "django-helpdesk.toml"

# Public forms for people who are nobody's agents, and a form that only sets a cookie of the browser.
LEFT_OUT = {"/tickets/submit_iframe/", "/tickets/success_iframe/", "/i18n/setlang/"}
PATHS = """
import json
from django.urls import get_resolver
helpdesk = get_resolver().namespace_dict["helpdesk"][1]
found = [p for name in helpdesk.reverse_dict if isinstance(name, str) for p in helpdesk.reverse_dict.getlist(name)]
templates = {template for possibilities, *_ in found for template, _ in possibilities}
print(json.dumps(["/" + template for template in templates]))
"""


@pytest.fixture(scope="module")
def profile() -> Profile:
    return read_profile(tomllib.loads(PROFILE.read_text()))


async def test_the_profile_speaks_of_every_path_of_the_app(desk, profile):
    """No path of the helpdesk is forgotten: it has a rule, or is left out by name."""
    templates = json.loads((await desk.app.manage("shell", "--no-imports", "-c", PATHS)).splitlines()[-1])
    paths = {re.sub(r"%\(\w+\)s", "1", template) for template in templates if "format" not in template}
    methods = ("GET", "POST")
    silent = {path for path in paths if not any(profile.match(m, parse_target(path.encode())) for m in methods)}

    assert len(paths) > 60
    assert silent <= LEFT_OUT


SAMPLES = {
    "agent": "maria",
    "category": "printing",
    "feed": "unassigned",
    "queue": "support",
    "report": "userstatus",
    "type": "preset",
}
ROWS = base64.b64encode(json.dumps({"filtering": {"status__in": [1, 2]}, "sorting": "created"}).encode()).decode()


def read_requests() -> list[tuple[str, str]]:
    """Return a request for each method of each rule that needs a read scope."""
    rules = [rule for rule in tomllib.loads(PROFILE.read_text())["routes"] if rule.get("scope", "").endswith(":read")]
    requests = []
    for rule in rules:
        path = re.sub(r"\{(\w+)(?::int)?\}", lambda name: SAMPLES.get(name[1], "1"), rule["path"])
        path = path.replace("list/**", f"list/{ROWS}").replace("**", "")
        requests += [(method, path) for method in rule["methods"]]
    return requests


async def test_what_the_profile_calls_a_read_writes_nothing(desk):
    """Not one row changes by any request that a read scope allows, for the mightiest of agents."""
    owner = {"token": desk.assertion(sub="owner")}
    for path, fields, form in [
        ("/tickets/1/", {"name": "Steps"}, ""),
        ("/tickets/1/cc/add/", {"email": "copy@acme.example", "can_view": "1"}, ""),
        ("/tickets/1/dependency/add/", {"depends_on": "2"}, ""),
        ("/save_query/", {"title": "Mine", "query_encoded": ROWS}, "/tickets/1/"),
        ("/checklist-templates/", {"name": "Steps", "task_list": '["look"]'}, ""),
        ("/ignore/add/", {"name": "Robot", "email_address": "robot@acme.example"}, ""),
    ]:
        assert 302 == (await desk.submit(path, fields, form=form, **owner)).status, path
    before = desk.fingerprint()
    answers = {(method, path): (await desk.ask(method, path, **owner)).status for method, path in read_requests()}

    assert before == desk.fingerprint()
    assert not [request for request, status in answers.items() if status >= 500]
    assert sum(status == 200 for status in answers.values()) > len(answers) * 0.8


UNSAFE = [
    ("GET", "/tickets/{id}/hold/"),
    ("GET", "/tickets/{id}/unhold/"),
    ("HEAD", "/tickets/{id}/hold/"),
    ("GET", "/tickets/{id}/?take"),
    ("HEAD", "/tickets/{id}/?take=1"),
    ("GET", "/tickets/{id}/?subscribe"),
    ("GET", "/tickets/{id}/?close"),
    ("HEAD", "/tickets/{id}/delete/"),
    ("OPTIONS", "/tickets/{id}/delete/"),
    ("GET", "/tickets/{id}/followup_delete/{reply}/"),
]


@pytest.mark.parametrize(("method", "template"), UNSAFE)
async def test_a_safe_method_that_writes_is_no_read_in_the_profile(desk, profile, method, template):
    """The helpdesk changes its data on these, so a read scope must not reach them."""
    ticket = await desk.new_ticket(status=1)
    assert 200 == (await desk.ask("PATCH", f"/api/tickets/{ticket}/", json={"status": 3})).status
    reply = desk.rows("SELECT max(id) FROM helpdesk_followup WHERE ticket_id = ?", ticket)[0][0]
    path = template.format(id=ticket, reply=reply)
    before = desk.fingerprint()
    await desk.ask(method, path, token=desk.assertion(sub="owner"))

    assert before != desk.fingerprint()
    rules = profile.match(method, parse_target(path.encode()))
    held = parse_scopes("kb:read setup:read tickets:read")
    assert not rules or not all(rule.scope is not None and covers(held, rule.scope) for rule in rules)
