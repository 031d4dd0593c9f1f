"""A real browser stands in: from the form on the staff origin through the app's own forms to the end button."""

import socket
from contextlib import AsyncExitStack
from types import SimpleNamespace

import pytest
import pytest_asyncio

from gateway.app import open_gateway
from gateway.config.load import build
from policy.model import Account, AccountId, AccountType
from tests.browser_world import Browser, signing_in
from tests.gateway_world import TestClock, document
from tests.patience import PATIENCE_SECONDS
from tests.rawwire import RecordingUpstream
from tests.upstream_client import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90), pytest.mark.asyncio(loop_scope="session")]

ISSUER = "http://127.0.0.1:9"  # never asked: the sign-in is in the store
RULES = """
[[routes]]
id = "r-home"
methods = ["GET"]
path = "/"
scope = "tickets:read"
"""
FORM = b"""<!doctype html><title>Desk</title><h1>Tickets</h1>
<form method=post action=/tickets/1/reply><input type=hidden name=csrf value=t1><button>Reply</button></form>"""
STRICT = b"""<!doctype html><head><title>Strict</title><base href=http://elsewhere.localhost/ target=_blank>
<script nonce=a>'<body>'</script><style nonce=a>h1 { color: red }</style></head><body><h1>Ticket 2</h1>"""
EVIL = b"""<!doctype html><title>Prize</title><form method=post action=http://acme.localhost:%d/tickets/1/reply>
<input name=csrf value=t1><button>Win</button></form>"""

AWAY = b"""<!doctype html><title>Bye</title><form method=post action=http://localhost:%d/.locum/sign-out>
<button>Leave</button></form>"""


def page(body, *lines, status=200):
    head = [b"HTTP/1.1 %d X" % status, b"Content-Type: text/html", b"Content-Length: %d" % len(body), *lines]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def app(request):
    """Asks for the token of its form and for the cookie beside it."""
    if request.target == b"/evil":
        return page(EVIL % app.port)
    if request.target == b"/away":
        return page(AWAY % app.port)
    if request.target == b"/tickets/2":
        return page(STRICT, b"Content-Security-Policy: default-src 'none'; script-src 'nonce-a'; style-src 'nonce-a'")
    if request.method == b"GET":
        return page(FORM, b"Set-Cookie: csrf=t1; Path=/", b"Set-Cookie: session=s1; Path=/; HttpOnly")
    proved = b"csrf=t1" in b"".join(request.values(b"cookie"))
    return page(b"<h1>Sent</h1>" if proved else b"<h1>Forged</h1>", status=200 if proved else 403)


@pytest_asyncio.fixture(loop_scope="session")
async def scene(tmp_path, browser, request):
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(RecordingUpstream(app))
        with socket.socket() as held:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("127.0.0.1", 0))
            app.port = port = held.getsockname()[1]
            wanted = document(tmp_path, upstream=upstream.url, issuer=ISSUER)
            signing_in(wanted)
            wanted["server"] |= {"issuer": f"http://localhost:{port}", "listen": f"127.0.0.1:{port}"}
            wanted["accounts"] = {"host": "{account}.localhost"}
            wanted["grants"] = {"trial_permissions": ["read", "write"]}
            wanted["browser"] = {"banner": {"enabled": getattr(request, "param", False)}}
            profile = tmp_path / "demo-helpdesk.toml"
            profile.write_text(profile.read_text() + RULES)
            gateway = await stack.enter_async_context(
                open_gateway(build(wanted, {}, base=tmp_path), patience_seconds=PATIENCE_SECONDS)
            )
        await gateway.store.add_account(Account(id=AccountId("acme"), type=AccountType.TRIAL))
        world = SimpleNamespace(gateway=gateway, clock=TestClock(), issuer=SimpleNamespace(issuer=ISSUER))
        staff = Browser(world)
        await staff.sign_in()
        context = await browser.new_context(viewport={"width": 320, "height": 640})
        stack.push_async_callback(context.close)
        session = {"name": "locum-staff", "value": staff.staff, "url": f"http://localhost:{port}"}
        await context.add_cookies([{**session, "httpOnly": True, "sameSite": "Lax"}])
        shown = await context.new_page()
        shown.set_default_timeout(30_000)
        faults = []
        shown.on("console", lambda said: faults.append(said.text) if "Content Security" in said.text else None)
        yield SimpleNamespace(page=shown, context=context, port=port, app=upstream, gateway=gateway, faults=faults)


async def begin(scene, ticket="SUP-1"):
    await scene.page.goto(f"http://localhost:{scene.port}/.locum/?account=acme&agent=maria&ticket={ticket}")
    await scene.page.get_by_label("Reason").fill("cannot reproduce")
    await scene.page.get_by_label("reply to tickets").check()
    await scene.page.get_by_role("button", name="Begin").click()
    assert await scene.page.evaluate("document.documentElement.scrollWidth <= 320")
    await scene.page.get_by_role("button", name="Go on as maria").click()
    await scene.page.get_by_role("heading", name="Tickets").wait_for()


async def cookies_of(scene):
    found = await scene.context.cookies(f"http://acme.localhost:{scene.port}")
    return {one["name"]: (one["httpOnly"], one["sameSite"]) for one in found}


async def test_a_browser_stands_in_and_ends_it(scene):
    """Form, click, the app's page and its own form, the session's page, the button; and the app's cookies nowhere."""
    await begin(scene)
    assert scene.page.url == f"http://acme.localhost:{scene.port}/"
    assert {"locum-assumption": (True, "Lax")} == await cookies_of(scene)
    await scene.page.get_by_role("button", name="Reply").click()
    await scene.page.get_by_role("heading", name="Sent").wait_for()
    [posted] = [seen for seen in scene.app.requests if seen.method == b"POST"]
    assert ([b"csrf=t1; session=s1"], 1) == (posted.values(b"cookie"), len(posted.values(b"x-locum-assertion")))

    await scene.page.goto(f"http://acme.localhost:{scene.port}/.locum/session")
    await scene.page.get_by_role("heading", name="Standing in for maria").wait_for()
    await scene.page.get_by_role("button", name="End it").click()
    await scene.page.get_by_role("heading", name="Standing in for nobody").wait_for()
    assert {} == await cookies_of(scene)
    assert [] == scene.faults


async def test_another_sites_page_gets_nowhere_and_a_dead_assumption_is_said(scene):
    """Its form arrives without the cookie, as anybody's; and when it is taken back the next page says so, once.

    What the app's page had stored goes with that; a cookie that this browser had of its own stays.
    """
    await begin(scene)
    await scene.page.evaluate("localStorage.setItem('ticket', 'of maria')")
    own = {"name": "own", "value": "1", "url": f"http://acme.localhost:{scene.port}/", "sameSite": "Lax"}
    await scene.context.add_cookies([own])
    await scene.page.goto(f"http://127.0.0.1:{scene.app.port}/evil")
    await scene.page.get_by_role("button", name="Win").click()
    await scene.page.get_by_role("heading", name="Forged").wait_for()
    assert [] == scene.app.requests[-1].values(b"x-locum-assertion")

    [open_] = await scene.gateway.store.list_assumptions(at=TestClock().now)
    await scene.gateway.store.end_assumption(open_.id, at=TestClock().now)
    position = (await scene.gateway.store.read_changes(0)).position
    await eventually(lambda: scene.gateway.follower.position >= position)
    await scene.page.goto(f"http://acme.localhost:{scene.port}/")
    await scene.page.get_by_text("stands in for nobody any more").wait_for()
    assert {"own": (False, "Lax")} == await cookies_of(scene)
    assert 0 == await scene.page.evaluate("localStorage.length")
    await scene.page.get_by_role("link", name="Begin a new assumption").click()
    await scene.page.get_by_role("heading", name="Find the account").wait_for()
    assert [] == scene.faults


async def test_the_staff_origin_is_nobody_elses(scene):
    """No page of the app is there, no other site's form signs anybody out, and who enters anew stands in once."""
    answer = await scene.page.goto(f"http://localhost:{scene.port}/attachments/1.html")
    assert (404, []) == (answer.status, scene.app.requests)
    await scene.page.goto(f"http://127.0.0.1:{scene.app.port}/away")
    await scene.page.get_by_role("button", name="Leave").click()
    await scene.page.get_by_role("heading", name="Not signed out").wait_for()
    await begin(scene)
    await begin(scene, ticket="SUP-2")
    assert ["SUP-2"] == [one.ticket for one in await scene.gateway.store.list_assumptions(at=TestClock().now)]
    assert [] == scene.faults


@pytest.mark.parametrize("scene", [True], indirect=True)
async def test_a_banner_stands_over_a_page_of_the_strictest_policy(scene):
    """It is seen, in its colours, above the page; nothing of it is blocked; its link leads to the end of it all."""
    await begin(scene)
    await scene.page.goto(f"http://acme.localhost:{scene.port}/tickets/2")
    banner = scene.page.get_by_role("region", name="Account assumption")
    assert "Dana Reyes stands in for maria of acme until" in await banner.inner_text()
    colour = await banner.evaluate("element => getComputedStyle(element).backgroundColor")
    shown, heading = await banner.bounding_box(), await scene.page.get_by_role("heading").bounding_box()
    assert ("rgb(122, 46, 0)", True) == (colour, 0 < shown["height"] <= heading["y"])
    assert await scene.page.evaluate("document.documentElement.scrollWidth <= 320")
    assert await scene.page.evaluate("document.body.firstElementChild.tagName === 'TABLE'")
    await banner.get_by_role("link").click()
    await scene.page.get_by_role("heading", name="Standing in for maria").wait_for()
    await scene.page.get_by_role("button", name="End it").click()
    await scene.page.get_by_role("heading", name="Standing in for nobody").wait_for()
    assert [] == scene.faults
