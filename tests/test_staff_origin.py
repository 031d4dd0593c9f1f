"""The staff origin is ours alone: no script of the app's has a place there, and none reads or sends what is for people."""

import re

import pytest

from gateway.config.model import Accounts
from gateway.proxy.triage import AccountReader
from tests.browser_world import ISSUER, PAGE, STAFF_HOST, Browser, code_of, open_browser, value_of
from tests.gateway_world import HOST, open_world
from tests.test_websockets import handshake

SPELLINGS = (STAFF_HOST, f"{STAFF_HOST}:443", f"{STAFF_HOST}:8443", STAFF_HOST.upper(), f"{STAFF_HOST}.")
TARGETS = ("/", "/attachments/1.html", "/sw.js", "/.locum", "/.well-known/openid-configuration", "//.locum/")


@pytest.fixture
async def browser(tmp_path):
    async with open_browser(tmp_path, stand_in=False) as browser:
        await browser.sign_in()
        yield browser


@pytest.mark.parametrize("host", SPELLINGS)
async def test_the_app_is_not_at_the_staff_origin(browser, host):
    """However the host is spelled, at whichever port, since cookies know none: a page there could read our form."""
    for target in TARGETS:
        for method in ("GET", "POST", "OPTIONS"):
            answer = await browser.ask(target, f"Accept: {PAGE}", method=method, host=host)
            assert (404, "application/problem+json") == (answer.status, answer.headers["content-type"]), target
            assert b"/.locum/" in answer.body
    token = await browser.world.token()
    assert 404 == (await browser.ask("/tickets/1", f"Authorization: Bearer {token}", host=host)).status
    raw = handshake(None, target=b"/socket").replace(HOST.encode(), host.encode())
    assert host.encode() in raw
    assert (await browser.world.raw(raw)).startswith(b"HTTP/1.1 404 ")
    assert [] == browser.world.upstream.requests
    assert 200 == (await browser.home()).status


async def test_customers_hosts_are_the_apps_as_ever(browser):
    """An account's, and every other but the one; and our metadata stays where it is."""
    for host in (HOST, "www.helpdesk.example", f"x{STAFF_HOST}", f"{STAFF_HOST}.evil.example", "localhost"):
        assert 200 == (await browser.ask("/attachments/1.html", host=host)).status
    assert 5 == len(browser.world.upstream.requests)
    assert 200 == (await browser.ask("/.well-known/oauth-authorization-server", host=STAFF_HOST)).status


async def test_where_nobody_signs_in_the_issuers_host_is_the_apps(tmp_path):
    """There is nothing of ours there that a script could use."""
    async with open_world(tmp_path) as world:
        assert 200 == (await Browser(world).ask("/attachments/1.html", host=STAFF_HOST)).status


async def test_one_host_for_both_is_said_at_the_start(tmp_path, caplog):
    """It stays the app's, and the log says what that means."""

    def one_host(document):
        document["accounts"] = {"source": "fixed", "fixed": "acme", "host": STAFF_HOST}

    async with open_browser(tmp_path, change=one_host, stand_in=False) as browser:
        assert 200 == (await browser.ask("/attachments/1.html", host=STAFF_HOST)).status
    assert f"staff sign in at `{STAFF_HOST}`, which is or could be an account's host" in caplog.text


HOSTS = {
    "an account's": ({"host": "{account}.helpdesk.example"}, b"acme.helpdesk.example", True),
    "one that an account could have": ({"host": "{account}.helpdesk.example"}, b"assume.helpdesk.example", True),
    "one beside them": ({"host": "{account}.helpdesk.example"}, b"helpdesk.example", False),
    "one too deep": ({"host": "{account}.helpdesk.example"}, b"a.b.helpdesk.example", False),
    "the one account's": ({"host": "d.example", "source": "fixed", "fixed": "acme"}, b"d.example", True),
    "not the one account's": (
        {"host": "{account}.d.example", "source": "fixed", "fixed": "acme"},
        b"assume.d.example",
        False,
    ),
    "everybody's": ({"host": "D.example", "source": "header", "header": "X-Account"}, b"d.example", True),
    "not everybody's": ({"host": "d.example", "source": "header", "header": "X-Account"}, b"assume.example", False),
}


@pytest.mark.parametrize("case", HOSTS)
def test_whether_a_host_is_an_accounts_is_configuration(case):
    """By its pattern alone: which accounts there are changes every day."""
    accounts, host, expected = HOSTS[case]
    assert expected is AccountReader(Accounts(**accounts), ()).has(host)


SCRIPTS = {
    "fetch": ("Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty"),
    "fetch without a mode": ("Sec-Fetch-Dest: empty",),
    "fetch without a destination": ("Sec-Fetch-Mode: same-origin",),
    "a frame": ("Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"),
    "an old object": ("Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: object"),
    "two words": ("Sec-Fetch-Mode: navigate", "Sec-Fetch-Mode: cors"),
    "an image": ("Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"),
}
PERSON = ("Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document")


@pytest.mark.parametrize("case", SCRIPTS)
async def test_no_script_reads_or_sends_what_is_for_people(browser, case):
    """Also one of the very origin, where one host is both: no form token, no code, no cookie comes of it."""
    lines, token = SCRIPTS[case], re.search(r'name="form_token" value="([^"]+)"', (await browser.home()).text)[1]
    for target in ("/.locum/", "/.locum/device", "/.locum/device?user_code=BBBBBBBB"):
        page = await browser.ask(target, *lines, host=STAFF_HOST)
        assert (403, False) == (page.status, "form_token" in page.text), target
        assert 200 == (await browser.ask(target.partition("?")[0], *PERSON, host=STAFF_HOST)).status
    site = None if "Sec-Fetch-Site: same-origin" in lines else "same-origin"
    form = [("account", "acme"), ("agent", "maria"), ("ticket", "S"), ("reason", "r"), ("form_token", token)]
    for target, more in (
        ("/.locum/assumptions", [("scope", "tickets:read")]),
        ("/.locum/device", [("word", "approve"), ("user_code", "BBBBBBBB")]),
        ("/.locum/sign-out", []),
    ):
        page = await browser.post(target, [*form, *more], *lines, host=STAFF_HOST, origin=ISSUER, site=site)
        assert (403, []) == (page.status, page.set_cookies), target
        assert 'name="code"' not in page.text
    code = code_of(await browser.begin())
    entered = await browser.post("/.locum/enter", [("code", code)], *lines, origin=ISSUER, site=None)
    assert (403, []) == (entered.status, entered.set_cookies)
    assert value_of(await browser.enter(code))
    assert 200 == (await browser.home()).status
