"""A gateway whose grants an app keeps: a scripted app that is asked for settings, beside everything else."""

import asyncio
import hashlib
import hmac
import json
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

from msgspec import structs

from gateway.config.load import build
from tests.gateway_world import document, open_world
from tests.patience import PATIENCE_SECONDS
from tests.rawwire import RecordingUpstream, response

SECRET = "a secret of the app's and ours, long enough"
CREDENTIAL = "Bearer what-the-app-expects"
JSON = (b"Content-Type", b"application/json; charset=utf-8")
OFF = {
    "assumable": False, "assumable_account_type": False, "assumption_duration": "off", "assumption_expiration": None,
}  # fmt: skip


def on(clock, duration="week", *, ends=timedelta(days=7), **changes):
    """What Zendesk's answer says inside `security_settings` for an account that lets staff in."""
    end = None if ends is None else f"{clock.now + ends:%Y-%m-%dT%H:%M:%SZ}"
    return OFF | {"assumable": True, "assumption_duration": duration, "assumption_expiration": end} | changes


def trial():
    return OFF | {"assumable": True, "assumable_account_type": True}


def answer(inner, **more):
    """An answer in Zendesk's shape."""
    return response(json.dumps({"security_settings": inner} | more).encode(), headers=[JSON])


class App:
    """Answers `GET /accounts/ACCOUNT/settings` with what a test has set, or by its script of the moment."""

    def __init__(self):
        self.settings = {}
        """By account; an account that is not there gets a 404."""
        self.script = None
        """A plain function from the request to its answer, in place of the settings."""
        self.asked = Counter()
        self.stack = AsyncExitStack()
        self.upstream: RecordingUpstream
        self.url = ""

    async def stop(self):
        """Close its port and every connection."""
        await self.stack.aclose()

    def reply(self, request):
        account = request.target.split(b"/")[2].decode()
        self.asked[account] += 1
        if self.script is not None:
            return self.script(request)
        inner = self.settings.get(account)
        return response(b"no such account", status=b"404 Not Found") if inner is None else answer(inner)


@asynccontextmanager
async def open_app_world(
    directory,
    *,
    script=None,
    tls=None,
    change=lambda _grants: None,
    server=None,
    answer_seconds=PATIENCE_SECONDS,
    asks=False,
):
    """Yield a world and its app; `change` may edit the section [grants], `server` edits the whole document.

    The app has `answer_seconds` to answer, which may be more than the configuration allows. Unless the gateway `asks`,
    it does not ask by itself about what is open, in whose way a test that takes long would come.
    """
    app = App()
    app.upstream = await app.stack.enter_async_context(RecordingUpstream(app.reply, tls=tls))

    app.url = app.upstream.url

    def configure(wanted):
        wanted["grants"] = grants_of(app)
        change(wanted["grants"])
        if server is not None:
            server(wanted)

    try:
        async with open_world(
            directory,
            script=script,
            change=configure,
            account=None,
            finish=lambda config: with_time(config, answer_seconds),
        ) as world:
            world.app = app
            if not asks:
                await world.gateway.renew(without_asking(world.gateway.config))
            app.settings["acme"] = on(world.clock)
            yield world
    finally:
        await app.stop()


def grants_of(app):
    """The section [grants]: Zendesk's field map, which is the default."""
    return {
        "source": "http",
        "http": {
            "url": app.url + "/accounts/{account}/settings",
            "credential": CREDENTIAL,
        },
        "webhook": {"secret": SECRET},
    }


def with_time(config, answer_seconds):
    """Return a configuration in which the app has so many seconds to answer."""
    http = structs.replace(config.grants.http, timeout_seconds=answer_seconds)
    return structs.replace(config, grants=structs.replace(config.grants, http=http))


def without_asking(config):
    """Return a configuration under which, once it is renewed, nobody asks about what is open; facts last as before."""
    return structs.replace(config, grants=structs.replace(config.grants, fact_ttl_seconds=86400.0))


def configured(world, change=lambda _grants: None, *, answer_seconds=PATIENCE_SECONDS):
    """Return the configuration of a world, with changes of [grants]."""
    wanted = document(world.directory, upstream=world.upstream.url, issuer=world.issuer.issuer)
    wanted["grants"] = grants_of(world.app)
    change(wanted["grants"])
    return without_asking(with_time(build(wanted, {}, base=world.directory), answer_seconds))


async def renew(world, change=lambda _grants: None, *, answer_seconds=PATIENCE_SECONDS):
    """Put the same configuration in force again, with changes of [grants]; every fact is forgotten by that."""
    await world.gateway.renew(configured(world, change, answer_seconds=answer_seconds))


def signed(body, *, at, secret=SECRET):
    """The headers of a notice that was signed at a time, in whole seconds."""
    stamp = str(int(at))
    mac = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"Webhook-Timestamp": stamp, "Webhook-Signature": f"v1={mac}"}


async def notify(world, body=b'{"account": "acme"}', *, headers=None, **options):
    """Send a notice to the public listener; return (status, reason, headers)."""
    if headers is None:
        headers = signed(body, at=options.pop("at", world.clock.now.timestamp()), **options)
    url = f"{world.gateway.public_url}/.locum/hooks/grants"
    async with world.http.post(url, data=body, headers=headers) as found:
        text = await found.text()
        return found.status, json.loads(text)["reason"] if text else None, found.headers


async def opened(world, token):
    """Open a stream of staff that goes on until it is cut; return its reader and writer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    request = f"GET /tickets/1 HTTP/1.1\r\nHost: acme.helpdesk.example\r\nAuthorization: Bearer {token}\r\n\r\n"
    await world.note_sent(request.encode())
    writer.write(request.encode())
    await reader.readuntil(b"first")
    return reader, writer
