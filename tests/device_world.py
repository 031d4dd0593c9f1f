"""A gateway at which a device asks and a staff member's browser answers, both by hand."""

import json
import re
from contextlib import asynccontextmanager
from urllib.parse import urlencode

from gateway.stores.store import Client
from policy.model import ClientId
from tests.browser_world import PAGE, STAFF_HOST, open_browser
from tests.gateway_world import HOST, ISSUER, parse
from tests.token_endpoint_world import TOKEN_URL

CLIENT = "locum-cli"
DEVICE = "/.locum/oauth/device"
PAGE_PATH = "/.locum/device"
REVOKE = "/.locum/oauth/revoke"
GRANT = "urn:ietf:params:oauth:grant-type:device_code"
WISH = {"type": "account_assumption", "account": "acme", "agent": "maria", "ticket": "SUP-1", "reason": "cannot see it"}


class Device:
    """What a command line sends."""

    def __init__(self, world, *, client=CLIENT):
        self.world = world
        self.client = client
        self.codes = {}

    async def send(self, target, fields, *lines, host=STAFF_HOST):
        """Send a form; return (status, headers, document)."""
        body = urlencode(list(fields.items()) if isinstance(fields, dict) else fields).encode()
        head = [f"POST {target} HTTP/1.1", f"Host: {host}", "Connection: close", f"Content-Length: {len(body)}"]
        head += ["Content-Type: application/x-www-form-urlencoded", "User-Agent: locum-assume/1", *lines]
        status, headers, content = parse(await self.world.raw("\r\n".join(head).encode() + b"\r\n\r\n" + body))
        return status, headers, json.loads(content) if content else {}

    async def ask(self, *, scope="tickets:read", more=(), **wish):
        """Ask for an assumption; None drops a member."""
        entry = {name: value for name, value in (WISH | wish).items() if value is not None}
        fields = [("client_id", self.client), ("authorization_details", json.dumps([entry])), ("scope", scope), *more]
        status, headers, document = await self.send(DEVICE, fields)
        if status == 200:
            self.codes = document
        return status, headers, document

    async def poll(self, *lines, **changes):
        """Ask for the token; return (status, document)."""
        fields = {"grant_type": GRANT, "client_id": self.client, "device_code": self.codes.get("device_code")} | changes
        sent = {name: value for name, value in fields.items() if value is not None}
        status, _, document = await self.send(TOKEN_URL, sent, *lines)
        return status, document

    async def error(self, **changes):
        """Ask for the token, which there is not; return why."""
        status, document = await self.poll(**changes)
        assert 400 == status, document
        return document["error"]

    async def revoke(self, token):
        return (await self.send(REVOKE, {"client_id": self.client, "token": token}))[0]

    async def use(self, token):
        """Use a token at the app; return the status."""
        return (await self.world.get(token))[0]


async def look(browser, code):
    """Open the page for a code."""
    return await browser.ask(f"{PAGE_PATH}?user_code={code}", f"Accept: {PAGE}", host=STAFF_HOST)


async def say(browser, word, code, *, token=None, origin=ISSUER, site="same-origin", host=STAFF_HOST):
    """Press a button of the page for a code."""
    if token is None:
        token = re.search(r'name="form_token" value="([^"]+)"', (await browser.home()).text)[1]
    fields = [("user_code", code), ("word", word), ("form_token", token)]
    return await browser.post(PAGE_PATH, fields, host=host, origin=origin, site=site)


async def add_device_client(world, name=CLIENT, **more):
    await world.gateway.store.add_client(
        Client(id=ClientId(name), secret_digest=b"", roles=frozenset({"device"}), **more)
    )


@asynccontextmanager
async def open_device(directory, **options):
    """A device and a browser that is signed in, before an account that allows everything."""
    async with open_browser(directory, stand_in=False, **options) as browser:
        await add_device_client(browser.world)
        await browser.sign_in()
        yield Device(browser.world), browser


__all__ = ["HOST", "Device", "add_device_client", "look", "open_device", "say"]
