"""What asks the app for a WebSocket is what was judged to be a handshake, as it is sent."""

import pytest

from tests.attack_world import open_attack
from tests.striker import message
from tests.test_early_answers import KEY

V13, KEY_LINE = b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: " + KEY
CASES = {
    "key nominated": message(b"Connection: Upgrade, Sec-WebSocket-Key", b"Upgrade: websocket", V13, KEY_LINE, method=b"GET"),
    "version nominated": message(b"Connection: Upgrade, sec-websocket-version", b"Upgrade: websocket", V13, KEY_LINE, method=b"GET"),
    "with a body": message(b"Connection: Upgrade", b"Upgrade: websocket", V13, KEY_LINE, b"Content-Length: 5", method=b"GET", body=b"hello"),
    "with chunks": message(b"Connection: Upgrade", b"Upgrade: websocket", V13, KEY_LINE, b"Transfer-Encoding: chunked", method=b"GET", body=b"5\r\nhello\r\n0\r\n\r\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
async def test_only_a_whole_handshake_without_a_body_is_sent_as_one(tmp_path, name):
    """What asks for a switch at the app is what RFC 6455 section 4.1 describes."""
    async with open_attack(tmp_path, token=False) as attacker:
        await attacker.world.raw(CASES[name])
        assert [[]] == [seen.values(b"upgrade") for seen in attacker.world.upstream.requests]
