"""No secret gets out of the pages: what browsers and devices bring, and what a configuration or a provider gives us."""

import asyncio
import json
import logging
import re
from contextlib import asynccontextmanager
from urllib.parse import quote, urlencode

import pytest

from gateway.audit.search import read
from tests import provider_world
from tests.browser_world import ASSUMPTION, PAGE, code_of
from tests.browser_world import Browser as Staff
from tests.canary_outputs import INDEX, KEY, STORE, files_of, index, keep_keys, kept, told
from tests.certificates import Authority
from tests.console_world import OLIVIA, PATH, App, Customer, console, hidden, who
from tests.device_world import DEVICE, Device, add_device_client, look, say
from tests.gateway_world import AUDIENCE, open_world
from tests.oauth_world import revoke
from tests.provider_world import ATTEMPT_COOKIE, CALLBACK, CLIENT_SECRET, ISSUER, STAFF_COOKIE, STAFF_HOST, Provider
from tests.rawwire import response
from tests.security_world import CLIENT_ID, ORIGIN, Guard, at_provider
from tests.sink_world import Receiver
from tests.telling_world import ANN, MASTER, OWN_SECRET, PASSWORD, Relay, hook_of, notices, secret_of
from tests.test_canaries import Canaries
from tests.upstream_client import eventually

PROVIDER_SECRET = "canary-77d1-console-client-secret"
STORED = {
    "hook": "notices go there",
    "the webhook's path": "the same",
    "the person's code": "too short for a digest to hide it, good for minutes, and of use to staff who are signed in only",
    "a claim that nobody asked for": "what an ID token says is judged at each request, by the rules of then",
}
"""What the store may have of all this as it is, and why; of everything else there is a digest at the most."""


@pytest.fixture
def everything_logged(caplog):
    caplog.set_level(logging.DEBUG)
    return caplog


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


class Held(Canaries):
    """Texts unlike the others."""

    def of(self, name):
        return self.by_input.setdefault(name, f"held{len(self.by_input):03d}x4wq")


class Scene:
    """A gateway with every page on, and what was put in and what came out of it."""

    def __init__(self, world, app, document):
        self.world = world
        self.app = app
        self.document = document
        """The configuration."""
        self.canaries = Canaries()
        """What is typed or sent by whoever has no business here, and what is configured: it comes out nowhere."""
        self.held = Held()
        """What its owner is given, and nobody else: it is in no log and in no record."""
        self.answers = []

    def of(self, name):
        return self.canaries.of(name)

    def heard(self, answer):
        """Keep all that an answer says."""
        by_hand = getattr(answer, "raw", None)
        self.answers.append(by_hand or f"{answer.lines}{answer.text}".encode())
        return answer


def junk(scene, where):
    """Lines that any browser may send, each with a canary."""
    names = ("Authorization", "Proxy-Authorization", "X-Forwarded-User", "Referer", "X-Api-Key", "DPoP", "traceparent")
    return [f"{name}: {scene.of(f'{where}: {name}')}" for name in names]


async def staff_sign_in(scene):
    """Come to the provider and back, wrongly in each way and then rightly; return who is signed in."""
    browser, issuer = provider_world.Browser(scene.world), scene.world.issuer
    headers = [tuple(line.split(": ", 1)) for line in junk(scene, "staff")]
    other = [f"{STAFF_COOKIE}={scene.of('no session')}", f"{ATTEMPT_COOKIE}={scene.of('no attempt')}"]
    for target in ("/.locum/", "/.locum/sign-in", f"{CALLBACK}?code={scene.of('lost code')}&state={scene.of('lost')}"):
        scene.heard(await browser.send(target, headers=headers, cookies=[*other, f"app={scene.of('app at staff')}"]))
    for query in (
        {"code": scene.of("wrong code")},
        {"error": "access_denied", "error_description": scene.of("description"), "error_uri": scene.of("uri")},
    ):
        location = await browser.begin(f"/.locum/?x={scene.of('return')}")
        state = re.search(r"[?&]state=([^&]+)", location)[1]
        answer = await browser.send(f"{CALLBACK}?{urlencode(query | {'state': state, 'iss': issuer.issuer})}")
        assert answer.status in (400, 403), answer.text
        scene.heard(answer)
    location = await browser.begin()
    for name in ("state", "nonce"):
        scene.held.keep(f"the sign-in's {name}", re.search(rf"[?&]{name}=([^&]+)", location)[1])
    scene.held.keep("the attempt", browser.cookies[ATTEMPT_COOKIE])
    query = issuer.consent(location, email=scene.of("a claim that nobody asked for"))
    scene.held.keep("the code", next(reversed(issuer.codes)))
    issuer.answer = {"access_token": scene.of("access token"), "refresh_token": scene.of("refresh token")}
    assert 303 == scene.heard(await browser.send(f"{CALLBACK}?{query}", headers=headers)).status
    scene.held.keep("the session", browser.cookies[STAFF_COOKIE])
    authorization, form = issuer.asked[-1]
    scene.held.keep("the verifier", form["code_verifier"])
    scene.held.keep("our credential", authorization.partition(" ")[2])
    return Staff(scene.world, staff=browser.cookies[STAFF_COOKIE])


async def staff_forms(scene, staff):
    """Use each form of staff's, with a token of nobody's and then with theirs; stand in, write, leave."""
    token = re.search(r'name="form_token" value="([^"]+)"', (await staff.home()).text)[1]
    scene.held.keep("staff's form token", token)
    for path in ("assumptions", "requests", "requests/withdraw", "assumptions/end", "sign-out"):
        fields = [
            ("form_token", scene.of(f"{path}: form token")),
            (scene.of(f"{path}: name"), "x"),
            ("ticket", "SUP-1"),
        ]
        answer = await staff.post(f"/.locum/{path}", fields, host=STAFF_HOST, origin=ISSUER)
        assert 403 == scene.heard(answer).status
    scene.heard(await staff.enter(scene.of("no code")))
    scene.heard(await staff.enter(scene.of("a code from elsewhere"), origin="https://evil.example"))
    code = code_of(page := await staff.begin(scopes=("tickets:read", "tickets:write")))
    scene.held.keep("the hand-over", code)
    assert 200 == page.status
    entered = await staff.enter(code)
    staff.held = entered.set_cookies[0].partition("=")[2].partition(";")[0]
    scene.held.keep("the assumption's cookie", staff.held)
    staff.cookies = f"theirs={scene.of('the app at the account')}; {ASSUMPTION}x={scene.of('nearly ours')}"
    lines = [line for line in junk(scene, "standing in") if not line.startswith(("Authorization", "DPoP"))]
    assert 200 == scene.heard(await staff.ask("/tickets/1", *lines)).status
    assert 200 == scene.heard(await staff.write()).status
    scene.heard(await staff.session(accept=PAGE))


async def a_device(scene, staff):
    """Ask as a device, be answered by a person, and fetch; each code wrong before."""
    await add_device_client(scene.world)
    device = Device(scene.world)
    for extra in ([("client_secret", scene.of("device secret"))], [("login_hint", scene.of("unknown field"))]):
        await device.ask(more=extra)
    await device.send(DEVICE, {"client_id": device.client, "authorization_details": scene.of("no details")})
    assert 200 == (await device.ask())[0]
    code = device.codes["user_code"]
    scene.held.keep("the device's code", device.codes["device_code"])
    scene.held.keep("the person's code", code)
    scene.answers.append(json.dumps((await device.poll(device_code=scene.of("wrong device code")))[1]).encode())
    scene.heard(await look(staff, scene.of("wrong user code")))
    scene.heard(await say(staff, "approve", code, token=scene.of("device: form token")))
    scene.heard(await look(staff, code))
    assert "Approved" in (await say(staff, "approve", code)).text
    status, issued = await device.poll()
    assert 200 == status
    scene.held.keep("the device's token", issued["access_token"].rpartition(".")[2])
    await device.use(issued["access_token"])
    await device.revoke(scene.of("no token"))
    assert 200 == await device.revoke(issued["access_token"])
    await revoke(scene.world, issued["access_token"])


async def a_customer(scene, hook):
    """Look at the account's page and use its forms, while the app says who is there in every way."""
    session = scene.held.of("the app's session")
    scene.app.people[session] = OLIVIA
    olivia = Customer(scene.world, session=session)
    jar = f"session={session}; other={scene.of('another cookie of the app')}"
    lines = [*junk(scene, "customer"), f"X-Forwarded-Proto: {scene.of('a line that the app is shown')}"]
    person = {**OLIVIA, "email": scene.of("what the app says besides"), "csrf": scene.of("the app's own token")}
    for answer in (
        response(scene.of("an error of the app").encode(), status=b"500 Oh"),
        response(scene.of("no JSON").encode(), headers=((b"Content-Type", b"application/json"),)),
        who({**person, "id": {"x": scene.of("no id")}}),
        response(scene.of("a page").encode(), headers=((b"Content-Type", b"text/html"),)),
        f"HTTP/1.1 {scene.of('no status')}\r\n\r\n".encode(),
        who(person, (b"Set-Cookie", b"session=" + scene.of("the app's new session").encode())),
    ):
        # Of one kind of fault the log tells only now and then.
        scene.world.clock.forward(seconds=2)
        scene.app.answer = answer
        scene.heard(await olivia.page(f"?x={scene.of('customer: query')}", *lines, cookie=jar))
    assert 200 == scene.heard(await olivia.page()).status
    form = await olivia.form()
    scene.held.keep("the customer's form token", form["form_token"])
    for path in ("setting", "off", "end", "end-all", "contacts", "requests/approve"):
        fields = {**form, "form_token": scene.of(f"{path}: token"), scene.of(f"{path}: unknown"): "x"}
        assert 403 == scene.heard(await olivia.post(path, fields.items(), *lines)).status
    scene.heard(await olivia.page("/contacts"))
    page = await olivia.ask(f"{PATH}/contacts", f"Accept: {PAGE}", "Sec-Fetch-Mode: navigate")
    fields = [("form_token", hidden(page, "form_token")), ("version", hidden(page, "version"))]
    scene.held.keep("the webhook's path", hook.rpartition("/")[2])
    scene.held.keep("the webhook's secret", secret_of("acme", hook))
    assert 200 == (await olivia.post("contacts", [*fields, ("addresses", f"{ANN}\r\n{hook}")])).status
    assert 303 == (await olivia.choose("week", ("read", "write", "test_tickets"))).status


async def security_console(scene):
    """Sign in to the security team's console by both ways, wrongly and rightly, and use its forms."""
    guard, issuer = Guard(scene.world, ORIGIN), scene.world.issuer
    cookie = f"{guard.cookie_name}={scene.of('console: no session')}; a={scene.of('console: a cookie')}"
    for target in ("/console", "/console/log", f"/console/sign-in?return=/{scene.of('console: return')}"):
        scene.heard(await guard.page(target, *junk(scene, "console"), cookie=cookie))
    secret = await guard.add_client("guard", "audit", "staff")
    scene.held.keep("the console client's secret", secret)
    for name, word in (("guard", scene.of("wrong secret")), (scene.of("no client"), scene.of("nobody's secret"))):
        assert 403 == scene.heard(await guard.sign_in(name, word)).status
    assert 303 == scene.heard(await guard.sign_in("guard", secret)).status
    scene.held.keep("the console's session", guard.cookie)
    scene.held.keep("the console's form token", await guard.form_token())
    for path in ("kill-switch", "staff", "off", "end", "end-all", "sign-out", "log/export"):
        fields = {"form_token": scene.of(f"console {path}: token"), scene.of(f"console {path}: unknown"): "x"}
        assert 403 == scene.heard(await guard.post(path, fields, *junk(scene, f"console {path}"))).status
    person = guard.another()
    location = await person.begin()
    state = re.search(r"[?&]state=([^&]+)", location)[1]
    wrong = {"code": scene.of("console: wrong code"), "state": state, "iss": issuer.issuer}
    assert 400 == scene.heard(await person.come_back(urlencode(wrong))).status
    query = issuer.consent(await person.begin(), "sam", groups=["security"], audience=CLIENT_ID)
    scene.held.keep("the console's code", next(reversed(issuer.codes)))
    assert 303 == scene.heard(await person.come_back(query)).status
    scene.held.keep("a person's session at the console", person.cookie)


@asynccontextmanager
async def every_page(directory, relay, receiver, authority):
    """Run a gateway with all of them on, whose mails and webhooks are answered by `relay` and `receiver`."""
    app = App()
    mail = {"host": "localhost", "security": "tls", "ca": str(authority.file), "user": "locum", "password": PASSWORD}

    def change(document):
        console(document)
        at_provider(document, client_secret=PROVIDER_SECRET)
        document["staff"]["sign_in"] = {"client_id": AUDIENCE, "client_secret": CLIENT_SECRET}
        document["notices"] = notices(relay, receiver=receiver, mail=mail)

    change, document = kept(change)
    async with open_world(directory, script=app.script, change=change, issuer_class=Provider) as world:
        scene = Scene(world, app, document)
        for name, secret in (
            ("the provider's secret", CLIENT_SECRET), ("the same in a form", quote(CLIENT_SECRET)),
            ("the console's provider's secret", PROVIDER_SECRET), ("the relay's password", PASSWORD),
            ("the webhooks' secret", MASTER), ("the security team's secret", OWN_SECRET.removeprefix("whsec_")),
        ):  # fmt: skip
            scene.canaries.keep(name, secret)
        yield scene


async def look_at_what_is_left(scene, directory, running, in_files):
    """Look through the data directory as it was while the gateway ran and as it is, and through what commands say."""
    index(directory)
    ended = files_of(directory)
    assert {*STORE, KEY, INDEX} <= running.keys() | ended.keys()
    for files in (running, ended):
        for name, content in files.items():
            allowed = STORED.keys() if name in STORE else set[str]()
            allowed |= {secret for secret, where in in_files.items() if name in where}
            assert set() == (scene.canaries.in_(content) | scene.held.in_(content)) - allowed, name
    # So that this test can fail.
    assert {"hook", *in_files} <= {
        secret for text in ended.values() for secret in scene.held.in_(text) | scene.canaries.in_(text)
    }
    assumption = next(entry["assumption"] for entry in read(directory / "journal") if "assumption" in entry)
    for words, said in await asyncio.to_thread(lambda: list(told(directory, scene.document, assumption))):
        allowed = {"hook", "the webhook's path"} if words[0] == "contacts" else set()
        assert allowed == scene.canaries.in_(said) | scene.held.in_(said), words


async def test_no_canary_of_any_page_gets_out(tmp_path, authority, everything_logged):
    """Sign-ins, forms, codes, cookies of the app's and ours, contacts, keys: not in journal, log, metrics, or an answer to others.

    Nor in any file of the data directory, the index among them, nor in what commands say; but for what is named here.
    """
    with Relay(tls=authority.issue("localhost").as_server(), login=True) as relay, Receiver() as receiver:
        async with every_page(tmp_path, relay, receiver, authority) as scene:
            relay.script = iter([f"451 {scene.of('what the relay says')}"] * 2)
            refused = (500, scene.of("what the webhook answers").encode())
            receiver.script = iter([lambda _records: refused] * 2)
            await a_customer(scene, hook_of(receiver, f"/{scene.held.of('hook')}"))
            staff = await staff_sign_in(scene)
            await staff_forms(scene, staff)
            await a_device(scene, staff)
            await security_console(scene)
            await eventually(lambda: relay.asked and receiver.asked)
            async with scene.world.http.get(scene.world.gateway.admin_url + "/metrics") as answer:
                scene.answers.append(await answer.read())
            in_files = dict(keep_keys(scene.canaries, tmp_path))
            running = files_of(tmp_path)
            heard = b"".join(bytes(one.head) for one in scene.world.upstream.requests)
            codes = json.dumps([form for _, form in scene.world.issuer.asked]).encode()
    entries = [json.dumps(entry).encode() for entry in read(tmp_path / "journal")]
    await look_at_what_is_left(scene, tmp_path, running, in_files)
    lines = [f"{line.getMessage()} {line.__dict__}".encode() for line in everything_logged.records]
    for text in (*scene.answers, *entries, *lines):
        assert set() == scene.canaries.in_(text), text
    for text in (*entries, *lines):
        assert set() == scene.held.in_(text), text
    # So that this test can fail.
    assert {"another cookie of the app", "a line that the app is shown"} <= scene.canaries.in_(heard)
    assert {"wrong code", "console: wrong code"} <= scene.canaries.in_(codes)
    assert {"code_refused", "wrong_secret", "signed_in", "entered", "device_approved", "contacts_changed"} <= {
        entry.get("reason") for entry in map(json.loads, entries)
    }
    assert 3 < len(lines)
