"""The verifier's middleware behind real servers on sockets: WSGI in gunicorn, ASGI in uvicorn."""

import asyncio
import json
import socket
import sys
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from locum_verify import KeySet, Verifier
from locum_verify.asgi import LocumMiddleware

from tests import started
from tests.asserting import AUDIENCE, ISSUER, assertion, publishing
from tests.gateway_world import parse
from tests.rawwire import exchange

pytestmark = pytest.mark.asyncio(loop_scope="module")
VERIFIER = Path(__file__).parent.parent / "verifier" / "python"

# What an app would write itself; it tells what it was told.
APP = """
import asyncio, json, os
from locum_verify import KeySet, Verifier
from locum_verify import asgi, wsgi

AGENTS = {"maria": "Maria"}
verifier = Verifier(issuer=os.environ["ISSUER"], audience=os.environ["AUDIENCE"], keys=KeySet(os.environ["JWKS"]))
bound = Verifier(issuer=os.environ["ISSUER"], audience=os.environ["AUDIENCE"], keys=KeySet(os.environ["JWKS"]), bound=True)

def told(place):
    found = place.get("locum.assertion")
    said = None if found is None else [found.subject, found.actor, found.account]
    return json.dumps({"said": said, "user": place.get("locum.user")}).encode()

def wsgi_inner(environ, start_response):
    body = told(environ)
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]

async def asgi_inner(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": told(scope)})
        await send({"type": "websocket.close"})
    elif scope["type"] == "http":
        body = told(scope)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

def of_host(host):
    return host.partition(".")[0]

async def find_later(found):
    await asyncio.sleep(0)
    return AGENTS.get(found.subject)

wsgi_strict = wsgi.LocumMiddleware(wsgi_inner, bound)
wsgi_plain = wsgi.LocumMiddleware(
    wsgi_inner,
    verifier,
    find_user=lambda found: AGENTS.get(found.subject),
    find_account=lambda environ: of_host(environ["HTTP_HOST"]),
)

def wsgi_app(environ, start_response):
    strict = environ["PATH_INFO"].startswith("/bound")
    return (wsgi_strict if strict else wsgi_plain)(environ, start_response)

async def asgi_app(scope, receive, send):
    strict = scope.get("path", "").startswith("/bound")
    await (asgi_strict if strict else asgi_plain)(scope, receive, send)

def account_of(scope):
    return of_host(dict(scope["headers"])[b"host"].decode())

asgi_plain = asgi.LocumMiddleware(asgi_inner, verifier, find_user=find_later, find_account=account_of)
asgi_strict = asgi.LocumMiddleware(asgi_inner, bound)
"""
SERVERS = {
    "wsgi": ["gunicorn", "--bind", "fd://FD", "--threads", "2", "--no-control-socket", "app:wsgi_app"],
    "asgi": ["uvicorn", "--fd", "FD", "--no-access-log", "--log-level", "warning", "app:asgi_app"],
}


@pytest.fixture(scope="module")
def publisher():
    with publishing() as publisher:
        yield publisher


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=SERVERS)
async def port(request, tmp_path_factory, publisher):
    directory = tmp_path_factory.mktemp(request.param)
    (directory / "app.py").write_text(APP)
    async with running(SERVERS[request.param], directory, publisher.url) as port:
        yield port


@asynccontextmanager
async def running(words, directory, jwks):
    # We open the port and hand it over, so that it queues from the start.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd, port = listener.fileno(), listener.getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", *(word.replace("FD", str(fd)) for word in words)],
            cwd=directory,
            env=started.environment(PYTHONPATH=str(VERIFIER), ISSUER=ISSUER, AUDIENCE=AUDIENCE, JWKS=jwks),
            pass_fds=(fd,),
        )
    try:
        yield port
    finally:
        process.terminate()
        await process.wait()


async def ask(port, *lines, target="/tickets?a=%20", host="acme.helpdesk.example"):
    raw = "\r\n".join([f"GET {target} HTTP/1.1", f"Host: {host}", "Connection: close", *lines, "", ""])
    return parse(await exchange("127.0.0.1", port, raw.encode()))


def line(token, name="X-Locum-Assertion"):
    return f"{name}: {token}"


async def test_the_app_is_told_who_is_there(port):
    """Whom, by whom, in which account; and the agent as the app itself knows them."""
    status, _, body = await ask(port, line(assertion()))
    assert (200, {"said": ["maria", "dana", "acme"], "user": "Maria"}) == (status, json.loads(body))


async def test_ordinary_requests_pass_and_say_nothing(port):
    """Without an assertion nobody is there, whatever the other headers say."""
    for lines in ((), ("locum.assertion: x", "X-Locum-User: maria", "Authorization: Bearer x", "Locum.User: maria")):
        status, _, body = await ask(port, *lines)
        assert (200, {"said": None, "user": None}) == (status, json.loads(body))


BAD = {
    "empty": lambda: [line("")],
    "no token": lambda: [line("hello")],
    "expired": lambda: [line(assertion(now=1000))],
    "another account": lambda: [line(assertion(account="umbra"))],
    "two lines": lambda: [line(assertion())] * 2,
    "two lines, one bad": lambda: [line(assertion()), line("x", "x-locum-assertion")],
    "two in one": lambda: [line(f"{assertion()}, {assertion()}")],
}


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_assertion_gets_no_further(port, case):
    """It is answered 401 here, and is never taken for an ordinary request."""
    status, headers, body = await ask(port, *BAD[case]())
    assert (401, "no-store", "X-Locum-Assertion") == (status, headers["cache-control"], headers["www-authenticate"])
    assert b"said" not in body


@pytest.mark.parametrize("agent", ["ghost", "Maria", "maria "])
async def test_an_agent_whom_the_app_does_not_know_is_refused(port, agent):
    """Nobody is made up for them."""
    status, _, body = await ask(port, line(assertion(sub=agent)))
    assert (403, b"there is no such active agent here\n") == (status, body)


async def test_an_assertion_for_a_request_is_for_that_one(port):
    """Method and address are compared as they were sent, not as they were decoded."""
    for target in ("/bound?a=%C3%A9&b", "/bound", "/bound/%2e/x", "/bound//x"):
        url = f"https://acme.helpdesk.example{target}"
        token = assertion(htm="GET", htu=url)
        assert 200 == (await ask(port, line(token), target=target))[0], target
        for other in (f"{target}x", target + ("&" if "?" in target else "?") + "c=1"):
            assert 401 == (await ask(port, line(token), target=other))[0], other
        assert 401 == (await ask(port, line(token), target=target, host="umbra.helpdesk.example"))[0]
        assert 401 == (await ask(port, line(assertion(htm="POST", htu=url)), target=target))[0]
    assert 401 == (await ask(port, line(assertion()), target="/bound"))[0]


async def test_all_the_requests_needed_few_fetches_of_the_keys(port, publisher):
    """One for each set of keys, and one more for the first key that was not known."""
    before = publisher.asked
    for _ in range(20):
        assert 200 == (await ask(port, line(assertion())))[0]
        assert 401 == (await ask(port, line(assertion(header={"kid": "locum-made-up"}))))[0]
    assert publisher.asked - before <= 2


@pytest.mark.parametrize(
    ("make", "closed"),
    # Made in the test, for it lives a minute only.
    [(assertion, None), (lambda: "hello", 1008), (partial(assertion, sub="ghost"), 1008), (lambda: None, None)],
    ids=["good", "junk", "a ghost's", "none"],
)
async def test_a_websocket_is_judged_before_it_is_accepted(make, closed, publisher):
    """A bad one is closed at once, which servers answer 403, and the app hears nothing."""
    token = make()
    heard, sent = [], []

    async def app(scope, _receive, _send):
        heard.append(scope)

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    verifier = Verifier(issuer=ISSUER, audience=AUDIENCE, keys=KeySet(publisher.url))
    middleware = LocumMiddleware(app, verifier, find_user=_find)
    lines = [] if token is None else [(b"x-locum-assertion", token.encode())]
    scope = {"type": "websocket", "path": "/live", "headers": [(b"host", b"acme.example"), *lines]}
    await middleware(scope | {"locum.user": "forged"}, receive, send)
    assert closed == (sent[0]["code"] if sent else None)
    assert (closed is None) == (1 == len(heard))
    if heard:
        assert (None if token is None else "Maria") == heard[0].get("locum.user")
    await middleware({"type": "lifespan"}, receive, send)
    assert {"type": "lifespan"} == heard[-1]


def _find(found):
    return {"maria": "Maria"}.get(found.subject)
