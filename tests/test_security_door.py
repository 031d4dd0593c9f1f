"""Who gets into the security team's console, and who does not: names of hosts, cookies, forms, secrets, roles."""

import base64
import sqlite3

import pytest

from gateway.console.security.live import LIVE_STREAM
from gateway.console.security.now import END, END_ALL, OFF, PERSON, SWITCH
from gateway.console.security.sign_in import read_return
from gateway.stores.store import Client
from tests.browser_world import STAFF, STAFF_HOST, Browser
from tests.security_world import ORIGIN, PATH, Guard, open_guard, security

PAGES = (PATH, f"{PATH}/evidence", LIVE_STREAM)
FORMS = (END, END_ALL, OFF, SWITCH, PERSON)
SECRETS = ("Who stands in", "Checkpoints, by origin", "event: changed", "acme")


def shows_nothing(answer):
    return not any(said in answer.text for said in SECRETS)


async def test_there_is_none_unless_it_is_configured(tmp_path):
    """No page, no form and no sign-in is there without the table; what else is on the listener stays."""
    async with open_guard(tmp_path, change=lambda _document: None) as guard:
        for target in (*PAGES, f"{PATH}/sign-in", f"{PATH}/sign-in/begin", f"{PATH}/sign-in/callback?code=x&state=y"):
            answer = await guard.page(target)
            assert 404 == answer.status, target
            assert shows_nothing(answer)
        for target in FORMS:
            assert 404 == (await guard.post(target.removeprefix(f"{PATH}/"))).status
        secret = await guard.add_client("boss", "operate")
        assert 404 == (await guard.sign_in("boss", secret)).status
        assert 200 == (await guard.ask("/healthz")).status


async def test_nobody_sees_anything(tmp_path):
    """Without a session a page leads to the sign-in, and nothing else answers; a cookie of nobody's is the same."""
    async with open_guard(tmp_path) as guard:
        for cookie in ("", f"{guard.cookie_name}={'A' * 43}", f"{guard.cookie_name}="):
            for target in (PATH, f"{PATH}/evidence"):
                answer = await guard.page(target, cookie=cookie)
                assert 303 == answer.status
                assert answer.headers["location"].startswith(f"{PATH}/sign-in")
                assert shows_nothing(answer)
            assert 403 == (await guard.ask(LIVE_STREAM, cookie=cookie)).status
            for target in FORMS:
                answer = await guard.post(target.removeprefix(f"{PATH}/"), {"form_token": "x"}, cookie=cookie)
                assert 403 == answer.status


async def test_each_role_gets_its_own(tmp_path):
    """An auditor reads and changes nothing; an operator does both; whoever is limited to an account sees that alone."""
    async with open_guard(tmp_path) as guard:
        await guard.world.add_account("globex")
        for account in ("acme", "globex"):
            assert 200 == (await guard.world.choose("week", account=account))[0]
        auditor = await guard.another().enter("auditor", "audit")
        operator = await guard.another().enter("operator", "operate")
        limited = await guard.another().enter("limited", "audit", account="globex")
        for one in (auditor, operator):
            for target in (PATH, f"{PATH}/evidence"):
                assert 200 == (await one.page(target)).status
            page = await one.page()
            assert "acme" in page.text
            assert "globex" in page.text
        assert "acme" not in (await limited.page()).text
        assert "globex" in (await limited.page()).text
        asked = (await limited.page(f"{PATH}?account=acme")).text
        assert "No paid account" in asked
        assert "Nobody" in asked
        assert 403 == (await limited.page(f"{PATH}/evidence")).status
        assert "Turn off now" in (await operator.page()).text
        for reader in (auditor, limited):
            assert "Turn off now" not in (await reader.page()).text
            for target in FORMS:
                answer = await reader.do(target.removeprefix(f"{PATH}/"), account="acme", confirm="yes")
                assert 403 == answer.status
                assert "operator" in answer.text
        refused = guard.world.records(kind="decision", reason="not_operator")
        assert {"auditor", "limited"} == {record["by"] for record in refused}
        assert 2 * len(FORMS) == len(refused)


async def test_a_client_with_another_role_is_not_let_in(tmp_path):
    """Its secret is good for what it is good for, and the answer does not tell it from a wrong one."""
    async with open_guard(tmp_path) as guard:
        for roles in (("token",), ("grants",), ("kill_switch",), ("introspect", "token")):
            secret = await guard.add_client(roles[0], *roles)
            answer = await guard.sign_in(roles[0], secret)
            wrong = await guard.sign_in("nobody", secret)
            assert (403, 403) == (answer.status, wrong.status)
            assert answer.text == wrong.text
            assert {} == guard.cookies
            assert ["no_role"] == [said["reason"] for said in guard.world.records(kind="audit", client_id=roles[0])]


async def test_a_role_that_is_taken_away_counts_at_the_next_request(tmp_path):
    """Likewise a client that is removed, and one of the same name that has another secret."""
    async with open_guard(tmp_path) as guard:
        store = guard.world.gateway.store
        await guard.enter("boss", "operate")
        token = await guard.form_token()
        await store.remove_client("boss")
        assert 303 == (await guard.page()).status
        assert 403 == (await guard.post("kill-switch", {"form_token": token})).status
        await guard.add_client("boss", "operate")
        assert 303 == (await guard.page()).status
        await guard.another().enter("other", "operate")
        await guard.enter("third", "operate")
        digest = (await store.find_client("third")).secret_digest
        await store.remove_client("third")
        await store.add_client(Client(id="third", secret_digest=digest, roles=frozenset({"audit"})))
        assert 200 == (await guard.page()).status
        assert 403 == (await guard.do("kill-switch", set="on", reason="x", confirm="yes")).status
        await store.remove_client("third")
        await store.add_client(Client(id="third", secret_digest=digest, roles=frozenset({"token"})))
        barred = await guard.page()
        assert 403 == barred.status
        assert shows_nothing(barred)
        assert not (await store.find_kill_switch()).on


REBOUND = (
    "evil.example", "127.0.0.1.evil.example", "127.0.0.2", "localhost.evil.example:80", "user@127.0.0.1",
    "127.0.0.1:8081/x", "127.0.0.1:abc", "", "[::1", "localhost:0x1", "127.0.0.1:99999", "127.1", "[::]",
)  # fmt: skip


async def test_a_name_that_was_rebound_leads_nowhere(tmp_path):
    """A page of elsewhere whose own name leads here gets nothing by it, not even with a good cookie."""
    async with open_guard(tmp_path) as guard:
        await guard.enter("boss", "operate")
        for host in REBOUND:
            for target in PAGES:
                answer = await guard.page(target, host=host)
                assert answer.status in (400, 404), host
                assert shows_nothing(answer)
            answer = await guard.post("kill-switch", {"set": "on"}, host=host, origin=f"http://{host}")
            assert answer.status in (400, 404), host
        assert not (await guard.world.gateway.store.find_kill_switch()).on


async def test_a_tunnel_leads_in_by_any_port(tmp_path):
    """Without an origin, it is this machine's loopback by each of its names."""
    async with open_guard(tmp_path) as guard:
        await guard.enter()
        for host in ("localhost", "LOCALHOST:8081", "127.0.0.1:9000", "[::1]:8081", "127.0.0.1:80"):
            assert 200 == (await guard.page(host=host)).status, host


async def test_with_an_origin_no_other_name_counts(tmp_path):
    """Neither loopback nor another scheme's port; and there its cookie has the prefix, and goes over TLS alone."""
    async with open_guard(tmp_path, change=lambda doc: security(doc, origin=ORIGIN), origin=ORIGIN) as guard:
        secret = await guard.add_client("boss", "operate")
        entered = await guard.sign_in("boss", secret)
        [line] = entered.set_cookies
        assert line.startswith("__Host-locum-security=")
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= set(line.split("; "))
        assert "Domain" not in line
        assert 200 == (await guard.page()).status
        assert 200 == (await guard.page(host="locum.vendor.example:443")).status
        for host in (f"127.0.0.1:{guard.port}", "locum.vendor.example:80", "locum.vendor.example."):
            assert 404 == (await guard.page(host=host)).status
        plain = guard.cookie_name.removeprefix("__Host-")
        assert 303 == (await guard.page(cookie=f"{plain}={guard.cookie}")).status


async def test_a_cookie_that_was_tossed_in_lets_nobody_in(tmp_path):
    """Two of our name are nobody's, whichever comes first, in one line or two; the attacker's session is not taken."""
    async with open_guard(tmp_path) as guard:
        await guard.enter("boss", "operate")
        theirs = await guard.another().enter("attacker", "audit")
        token = await guard.form_token()
        for cookie in (
            f"{guard.cookie_name}={guard.cookie}; {guard.cookie_name}={theirs.cookie}",
            f"{guard.cookie_name}={theirs.cookie}; {guard.cookie_name}={guard.cookie}",
            f'x="{guard.cookie_name}={theirs.cookie}; {guard.cookie_name}={guard.cookie}"',
        ):
            answer = await guard.page(cookie=cookie)
            assert 400 == answer.status
            assert "delete both" in answer.text
            assert 400 == (await guard.post("kill-switch", {"form_token": token}, cookie=cookie)).status


async def test_a_cookie_of_one_door_opens_no_other(tmp_path):
    """The console's session is none of staff's, and staff's is none of the console's, under whichever name."""

    def change(document):
        security(document)
        document["staff"]["sign_in"] = {"client_id": "locum"}

    async with open_guard(tmp_path, change=change) as guard:
        await guard.enter("boss", "operate")
        browser = Browser(guard.world)
        await browser.sign_in()
        assert 303 == (await guard.page(cookie=f"{guard.cookie_name}={browser.staff}")).status
        home = await browser.ask("/.locum/", host=STAFF_HOST, cookie=f"{STAFF}={guard.cookie}")
        assert "Dana" not in home.text
        assert "Sign in" in home.text
        # Nor is the console on the public listener, whoever asks.
        public = await guard.page(port=guard.world.port, host="acme.helpdesk.example")
        assert shows_nothing(public) or b"acme" not in public.body


async def test_the_app_never_sees_the_consoles_cookies(tmp_path):
    """Where one host is both, a browser sends them along with what is for the app: they go no further."""
    async with open_guard(tmp_path) as guard:
        await guard.enter()
        for name in ("__Host-locum-security", "__Host-locum-entry"):
            line = f"a=1; {name}={guard.cookie}; b=2"
            await guard.world.get(headers=[("Cookie", line)])
        heard = b"\n".join(value for seen in guard.world.upstream.requests for value in seen.values(b"cookie"))
        assert guard.cookie.encode() not in heard
        assert 2 == heard.count(b"a=1")


ELSEWHERE = (
    ("https://evil.example", "cross-site"),
    ("null", "cross-site"),
    ("", "same-origin"),
    ("http://127.0.0.1", "same-site"),
    ("http://127.0.0.1:1", "same-origin"),
    (None, "same-site"),
    (None, "cross-site"),
    (None, "none"),
)
"""The origin that a form is said to come from, None for the console's own, and what else a browser says of it."""


async def test_a_form_from_elsewhere_changes_nothing(tmp_path):
    """Not even with the right token: another port of the loopback is another origin."""
    async with open_guard(tmp_path) as guard:
        await guard.enter("boss", "operate")
        secret = await guard.add_client("other", "audit")
        fields = {"form_token": await guard.form_token(), "set": "on", "reason": "x", "confirm": "yes"}
        for origin, site in ELSEWHERE:
            answer = await guard.post("kill-switch", fields, origin=origin, site=site)
            assert 403 == answer.status, (origin, site)
            stranger = guard.another()
            assert 403 == (await stranger.sign_in("other", secret, origin=origin, site=site)).status
            assert {} == stranger.cookies
            assert 403 == (await guard.post("sign-out", fields, origin=origin, site=site)).status
        assert not (await guard.world.gateway.store.find_kill_switch()).on
        assert 200 == (await guard.page()).status


async def test_a_form_needs_the_token_of_its_own_session(tmp_path):
    """None, an empty one, another session's, two of them: nothing is done."""
    async with open_guard(tmp_path) as guard:
        await guard.enter("boss", "operate")
        other = await (await guard.another().enter("other", "operate")).form_token()
        right = await guard.form_token()
        said = {"set": "on", "reason": "x", "confirm": "yes"}
        for tokens in ((), ("",), (other,), (right, right), (right[:-1],)):
            fields = [*(("form_token", token) for token in tokens), *said.items()]
            assert 403 == (await guard.post("kill-switch", fields)).status
            assert 403 == (await guard.post("sign-out", fields)).status
        assert not (await guard.world.gateway.store.find_kill_switch()).on


async def test_nothing_is_changed_or_framed_by_a_get(tmp_path):
    """Forms answer to POST alone; pages go to people and to our own script, never to a frame or a foreign one."""
    async with open_guard(tmp_path) as guard:
        await guard.enter("boss", "operate")
        for target in FORMS:
            for method in ("GET", "HEAD", "PUT"):
                assert 405 == (await guard.ask(target, method=method)).status
        for lines in (
            ("Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe", "Sec-Fetch-Site: same-origin"),
            ("Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image", "Sec-Fetch-Site: cross-site"),
            ("Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty", "Sec-Fetch-Site: cross-site"),
            ("Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty", "Sec-Fetch-Site: same-site"),
        ):
            assert 403 == (await guard.ask(PATH, *lines)).status
            assert lines[1] == "Sec-Fetch-Dest: iframe" or 403 == (await guard.ask(LIVE_STREAM, *lines)).status
        own = ("Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty", "Sec-Fetch-Site: same-origin")
        page = await guard.ask(PATH, *own)
        assert 200 == page.status
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert ("no-store", "DENY") == (page.headers["cache-control"], page.headers["x-frame-options"])


async def test_secrets_cannot_be_tried_without_end(tmp_path):
    """So many wrong ones and no more until the time is over; who knows the right one is not kept out by that."""

    def change(document):
        security(document, sign_in_tries=3)

    async with open_guard(tmp_path, change=change) as guard:
        secret = await guard.add_client("boss", "operate")
        for _ in range(5):
            assert 303 == (await guard.sign_in("boss", secret)).status
        for number in range(3):
            assert 403 == (await guard.another().sign_in("boss", f"wrong{number}")).status
        for name, given in (("boss", "wrong"), ("nobody", "wrong"), ("boss", secret[:-1])):
            another = guard.another()
            assert 429 == (await another.sign_in(name, given)).status
            assert {} == another.cookies
        assert 303 == (await guard.another().sign_in("boss", secret)).status
        assert 3 == len(guard.world.records(kind="audit", reason="wrong_secret"))
        # Whoever is in stays in.
        assert 200 == (await guard.page()).status
        guard.world.clock.forward(minutes=11)
        assert 403 == (await guard.another().sign_in("boss", "wrong")).status


async def test_a_header_with_the_secret_is_no_session(tmp_path):
    """Browsers send Basic credentials along with forms of elsewhere, so they count nowhere on the console."""
    async with open_guard(tmp_path) as guard:
        secret = await guard.add_client("boss", "operate")
        basic = base64.b64encode(f"boss:{secret}".encode()).decode()
        assert 303 == (await guard.page(PATH, f"Authorization: Basic {basic}")).status


async def test_a_session_ends_by_itself_and_by_signing_out(tmp_path):
    """After the idle time, after the absolute one however it is used, and at once when somebody signs out."""
    async with open_guard(tmp_path) as guard:
        clock = guard.world.clock
        await guard.enter("boss", "operate")
        clock.forward(minutes=29)
        assert 200 == (await guard.page()).status
        clock.forward(minutes=29)
        # What the page asks for by itself keeps nobody in.
        assert 200 == (await guard.page(f"{PATH}?live=1")).status
        clock.forward(minutes=2)
        assert 303 == (await guard.page()).status
        await guard.another().enter("keeper", "audit")
        await guard.enter("busy", "operate")
        for _ in range(31):
            assert 200 == (await guard.page()).status
            clock.forward(minutes=15)
        clock.forward(minutes=15)
        assert 303 == (await guard.page()).status
        await guard.enter("last", "operate")
        kept = guard.cookie
        assert 200 == (await guard.do("sign-out")).status
        assert {} == guard.cookies
        assert 303 == (await guard.page(cookie=f"{guard.cookie_name}={kept}")).status
        [record] = guard.world.records(kind="audit", reason="signed_out", client_id="last")
        assert "last" == record["by"]


async def test_signing_in_begins_a_session_of_its_own(tmp_path):
    """Whatever cookie the browser brought is not taken over, and its session has ended (no fixation)."""
    async with open_guard(tmp_path) as guard:
        planted = await guard.another().enter("attacker", "audit")
        victim = guard.another()
        victim.cookies = dict(planted.cookies)
        await victim.enter("boss", "operate")
        assert victim.cookie != planted.cookie
        assert 303 == (await planted.page()).status
        assert "boss" in (await victim.page()).text


async def test_a_store_that_is_away_lets_nobody_in_and_changes_nothing(tmp_path):
    """Every page and form says so with 503, and nothing that is done meanwhile is there thereafter."""
    async with open_guard(tmp_path) as guard:
        await guard.enter("boss", "operate")
        token = await guard.form_token()
        with sqlite3.connect(tmp_path / "locum.sqlite3", isolation_level=None) as connection:
            connection.execute("ALTER TABLE one_time_values RENAME TO elsewhere")
            try:
                for target in PAGES:
                    answer = await guard.page(target)
                    assert 503 == answer.status, target
                    assert shows_nothing(answer)
                fields = {"form_token": token, "set": "on", "reason": "x", "confirm": "yes"}
                assert 503 == (await guard.post("kill-switch", fields)).status
                secret = await guard.add_client("late", "operate")
                assert 503 == (await guard.another().sign_in("late", secret)).status
            finally:
                connection.execute("ALTER TABLE elsewhere RENAME TO one_time_values")
        connection.close()
        assert not (await guard.world.gateway.store.find_kill_switch()).on
        assert 200 == (await guard.page()).status


@pytest.mark.parametrize(
    "text",
    ["https://evil.example", "//evil.example", "/console/../x", "/console\\x", "/.locum/", "/console//x", "/consolex",
     "/console/sign-out", "/console/sign-in/begin", "/console/%2e%2e/", "/console#x", "/console?x\n", "/console/./x",
     "javascript:alert(1)", "", "/console?" + "a" * 600],
)  # fmt: skip
def test_a_sign_in_leads_to_no_other_place(text):
    """What is no page of the console leads to its first one."""
    assert PATH == read_return(text)


@pytest.mark.parametrize("text", ["/console", "/console/log?q=account%3Aacme&page=2", "/console/log/record/12"])
def test_a_sign_in_leads_back(text):
    """To the page that was asked for, byte for byte."""
    assert text == read_return(text)


async def test_whoever_was_not_signed_in_gets_to_where_they_wanted(tmp_path):
    """With a link into the console they sign in, and are there."""
    async with open_guard(tmp_path) as guard:
        secret = await guard.add_client("boss", "operate")
        led = await guard.page(f"{PATH}?account=acme")
        assert f"{PATH}/sign-in?return=%2Fconsole%3Faccount%3Dacme" == led.headers["location"]
        shown = await guard.page(led.headers["location"])
        assert 'value="/console?account=acme"' in shown.text
        fields = {"client_id": "boss", "client_secret": secret, "return": "/console?account=acme"}
        assert "/console?account=acme" == (await guard.post("sign-in/client", fields)).headers["location"]
        assert isinstance(guard, Guard)
