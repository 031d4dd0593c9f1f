"""The demo's receiver of webhooks believes what is signed, and shows whoever writes one how."""

import asyncio
import base64
import hashlib
import hmac
import json

import aiohttp
import pytest

from gateway.demo.story.inbox import Inbox
from tests.patience import PATIENCE_SECONDS
from tests.telling_world import Time

KEY = b"a secret of twenty-four!"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
BODY = json.dumps({"type": "account_assumption.begun", "data": {"ticket": "SUP-7", "staff": "Dana"}}).encode()


@pytest.fixture
async def inbox():
    clock = Time()
    async with Inbox(clock=clock) as opened:
        opened.now = clock
        yield opened


def signed(at, *, key=KEY, name="n1", body=BODY, version="v1"):
    text = f"{name}.{at}.".encode() + body
    signature = base64.b64encode(hmac.digest(key, text, hashlib.sha256)).decode()
    return {"webhook-id": name, "webhook-timestamp": str(at), "webhook-signature": f"{version},{signature}"}


async def post(inbox, headers, body=BODY):
    timeout = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as http, http.post(inbox.url, data=body, headers=headers) as said:
        return said.status


def now(inbox):
    return int(inbox.now().timestamp())


async def test_what_is_signed_is_told_once(inbox):
    """Also where it comes again, or with a second signature of a key that is on its way out; and waits for the secret."""
    early = asyncio.ensure_future(post(inbox, signed(now(inbox))))
    waiting = asyncio.ensure_future(inbox.told("account_assumption.begun", ticket="SUP-7"))
    await asyncio.sleep(0)
    inbox.trust(SECRET)
    assert (204, "Dana") == (await early, (await waiting)["data"]["staff"])
    two = signed(now(inbox))
    two["webhook-signature"] = "v1,AAAA " + two["webhook-signature"]
    assert 204 == await post(inbox, two)
    assert ([json.loads(BODY)], 0) == (inbox.documents, inbox.refused)


@pytest.mark.parametrize(
    "attack",
    [
        lambda at: {},
        lambda at: signed(at, key=b"another secret of theirs"),
        lambda at: signed(at, body=BODY + b" "),
        lambda at: signed(at) | {"webhook-id": "n2"},
        lambda at: signed(at) | {"webhook-timestamp": str(at + 1)},
        lambda at: signed(at - 301),
        lambda at: signed(at + 302),
        lambda at: signed(at, version="v2"),
        lambda at: signed(at) | {"webhook-signature": "v1,"},
        lambda at: signed(at) | {"webhook-signature": "v1,!"},
        lambda at: signed("soon"),
    ],
)
async def test_what_is_not_is_refused(inbox, attack):
    """Whoever has not the secret, alters what was signed, keeps it for long, or asks for another way to sign."""
    inbox.trust(SECRET)
    assert 401 == await post(inbox, attack(now(inbox)))
    assert ([], 1) == (inbox.documents, inbox.refused)


@pytest.mark.parametrize("secret", ["", "whsec_", "abc", "whsec_!"])
async def test_no_secret_is_none(inbox, secret):
    """A page that shows none is not one to be believed with an empty key."""
    with pytest.raises(ValueError, match=r".+"):
        inbox.trust(secret)
