"""What our front lets in, the control plane behind it reads as well, and at no more cost than its size."""

import gzip
from urllib.parse import urlencode

import aiohttp
import pytest

from tests.gateway_world import HOST, open_world
from tests.token_endpoint_world import form, issued, open_endpoint, post

CANARY = b"canary-0123456789abcdef"


@pytest.mark.parametrize(("lines", "more"), [(1, 20_000), (200, 0)], ids=["one long line", "many lines"])
async def test_a_large_head_is_answered_and_quoted_nowhere(tmp_path, caplog, lines, more):
    """The library would refuse it by itself, with the line in its answer and in the log: a credential, maybe."""
    async with open_world(tmp_path) as world:
        head = b"".join(b"X-Line-%d: %s%s\r\n" % (number, CANARY, b"x" * more) for number in range(lines))
        raw = b"GET /.locum/jwks.json HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\n" + head + b"\r\n"
        answer = await world.raw(raw)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert CANARY not in answer
    assert CANARY.decode() not in caplog.text


async def test_a_stranger_s_body_is_never_inflated(tmp_path):
    """A flawless form, compressed, is no form: few bytes that become many would take the loop from customers."""
    async with open_endpoint(tmp_path) as world:
        body = gzip.compress(urlencode(form(world)).encode())
        lines = [f"Authorization: {world.basic()}", "Content-Encoding: gzip"]
        status, _, document = await post(world, body, headers=lines)
        assert (400, "the body is not a form") == (status, document["error_description"])
        assert 0 == issued(world)
        assert 200 == (await post(world, urlencode(form(world))))[0]


async def test_nor_is_one_at_the_admin_listener(tmp_path):
    """The same of a change of a grant."""
    async with open_world(tmp_path) as world, aiohttp.ClientSession() as http:
        body = b'{"assumption_duration": "day", "administrator": {"id": "owner", "roles": {"support": "owner"}}}'
        url = f"{world.gateway.admin_url}/api/v1/accounts/acme/assumption"
        for data, status, more in ((gzip.compress(body), 400, {"Content-Encoding": "gzip"}), (body, 200, {})):
            headers = {"Authorization": world.basic(), **more}
            async with http.put(url, data=data, headers=headers) as response:
                assert status == response.status, await response.text()


async def test_a_form_has_few_fields(tmp_path):
    """Thousands of tiny ones are refused before each of them is looked at."""
    async with open_endpoint(tmp_path) as world:
        fine = urlencode(form(world) | {f"more{number}": "x" for number in range(50)})
        assert 200 == (await post(world, fine))[0]
        status, _, document = await post(world, urlencode(form(world)) + "&a=b" * 64)
        assert (400, "the body is not a form") == (status, document["error_description"])
