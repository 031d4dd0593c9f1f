"""Behind a trusted proxy: whose address is on the record, and what of `X-Forwarded-For` nobody may make up."""

from gateway.proxy.client_address import client_address
from gateway.proxy.triage import trusting
from gateway.proxy.wire import RequestHead
from tests.attack_world import open_attack, request
from tests.device_world import open_device
from tests.test_config import BASE, build, document

PROXIES = ["127.0.0.0/8", "10.0.0.0/8", "2001:db8:f::/48"]
PEER = "10.0.0.1"


def trusted(found):
    found["server"]["trusted_proxies"] = PROXIES


def named(*lines):
    """Whom header lines name as the client, sent by a trusted proxy."""
    headers = tuple(tuple(line.split(b": ", 1)) for line in lines)
    head = RequestHead(method=b"GET", target=b"/", headers=headers)
    trusts = trusting(build(document("server.trusted_proxies", PROXIES), {}, base=BASE))
    assert "192.0.2.200" == client_address(head.headers, "192.0.2.200", trusts), "a stranger's word"
    assert "" == client_address(head.headers, "", trusts)
    return client_address(head.headers, PEER, trusts)


GOOD = {
    b"192.0.2.1": "192.0.2.1",
    b"198.51.100.9, 192.0.2.1": "192.0.2.1",
    b"127.0.0.1, 192.0.2.1": "192.0.2.1",
    b"junk, 192.0.2.1\t,\t10.0.0.2 , 127.0.0.1": "192.0.2.1",
    b"192.0.2.1:51234": "192.0.2.1",
    b"2001:DB8:0::1": "2001:db8::1",
    b"[2001:db8::1]": "2001:db8::1",
    b"[2001:db8::1]:443, 2001:db8:f::2, [2001:db8:f::3]:1": "2001:db8::1",
    b"::ffff:192.0.2.1": "192.0.2.1",
    b"[::ffff:192.0.2.1]:80, ::ffff:10.0.0.7": "192.0.2.1",
    b"10.9.9.9, 10.0.0.2": "10.9.9.9",
}
ODD = (
    b"", b"unknown", b"_hidden", b"192.0.2.256", b"192.0.2", b"192.0.2.01", b"3221225985", b"192.0.2.1:", b"192.0.2.1:http",
    b"192.0.2.1:123456", b"[192.0.2.1]", b"[192.0.2.1]:80", b"[2001:db8::1", b"2001:db8::1]", b"[2001:db8::1]80", b"[]",
    b"2001:db8::1::2", b"2001:db8::1%eth0", b"[fe80::1%25eth0]", b"fe80::1%<b>", b'"192.0.2.1"', b"for=192.0.2.1",
    b"192.0.2.1 192.0.2.2", b"192.0.2.1;192.0.2.2", b"\xd9\xa1.2.3.4", b"192.0.2.1\xa0", b"192.0.2.1/24", b"." * 5000, b":" * 5000,
)  # fmt: skip


def test_it_is_the_rightmost_hop_that_is_no_trusted_proxy():
    """What stands left of that was the client's to write; each address has one spelling."""
    for said, address in GOOD.items():
        assert (said, address) == (said, named(b"X-Forwarded-For: " + said))


def test_an_odd_hop_ends_the_reading():
    """The last good one to its right counts, in the end the peer; what is left of it is never looked at."""
    for odd in ODD:
        assert (odd, PEER) == (odd, named(b"X-Forwarded-For: " + odd))
        assert (odd, "10.0.0.9") == (odd, named(b"X-Forwarded-For: 192.0.2.1, " + odd + b",10.0.0.9"))
        assert (odd, "192.0.2.1") == (odd, named(b"X-Forwarded-For: " + odd + b", 192.0.2.1"))


def test_several_lines_are_one_list():
    """The last line is the nearest proxy's, whatever the client has sent in lines before it."""
    forged = b"X-Forwarded-For: 198.51.100.9"
    assert "192.0.2.1" == named(
        forged, b"Accept: */*", b"x-forwarded-for: 192.0.2.1, 10.0.0.2", b"X-FORWARDED-FOR: 10.0.0.3"
    )
    assert "198.51.100.9" == named(forged, b"X-Forwarded-For: 10.0.0.3")
    assert PEER == named(forged, b"X-Forwarded-For: ")


OTHERS = (
    b"X_Forwarded_For: 192.0.2.1", b"X.Forwarded.For: 192.0.2.1", b"X-Forwarded_For: 192.0.2.1", b"Forwarded: for=192.0.2.1",
    b"X-Real-IP: 192.0.2.1", b"True-Client-IP: 192.0.2.1", b"X-Client-IP: 192.0.2.1", b"X-Forwarded-For-: 192.0.2.1",
    b"X-Locum-Client: 192.0.2.1",
)  # fmt: skip


def test_no_other_header_names_the_client():
    """A proxy that appends to the one passes the others on as the client wrote them."""
    for line in OTHERS:
        assert (line, PEER) == (line, named(line))
        assert (line, "192.0.2.7") == (line, named(b"X-Forwarded-For: 192.0.2.7", line))


async def test_the_record_of_each_decision_names_the_client(tmp_path):
    """Permits and refusals, on one connection of the proxy's for many; nothing of it reaches the app for staff."""
    async with open_attack(tmp_path, change=trusted) as attacker:
        asked = [(b"192.0.2.1", "/tickets/1"), (b"192.0.2.2, 10.0.0.2", "/tickets/1"), (b"192.0.2.2", "/admin/x")]
        raw = b"".join(
            request(attacker.token, b"X-Forwarded-For: 198.51.100.9, " + hop, target=target) for hop, target in asked
        )
        outcome = await attacker.send(raw, responses=3)
        assert [("allow", "192.0.2.1"), ("allow", "192.0.2.2"), ("deny", "192.0.2.2")] == [
            (record["decision"], record["client_ip"]) for record in outcome.records
        ]
        assert b"192.0.2." not in b"".join(seen.head for seen in outcome.heard)


async def test_our_own_endpoints_know_the_client(tmp_path):
    """Not the proxy is on the record, whatever the client says in our own header's name."""
    async with open_device(tmp_path, change=trusted) as (device, _):
        forged = ("X-Locum-Client: 198.51.100.9", "X_Locum_Client: 198.51.100.9", "X-Forwarded-For: 198.51.100.9")
        hops = "X-Forwarded-For: [2001:db8::1]:5555, 10.0.0.2"
        assert 200 == (await ask(device, *forged, hops))[0]
        assert ["2001:db8::1"] == [record["client_ip"] for record in device.world.records(reason="device_asked")]


async def test_what_nobody_trusted_says_does_not_count(tmp_path):
    """Without trusted proxies the peer's own address is on the record, here and at our own endpoints."""
    async with open_device(tmp_path) as (device, _):
        assert 200 == (await ask(device, "X-Forwarded-For: 192.0.2.1"))[0]
        assert ["127.0.0.1"] == [record["client_ip"] for record in device.world.records(reason="device_asked")]


async def ask(device, *lines):
    """Ask for a token, with more header lines."""
    send = device.send
    device.send = lambda target, fields: send(target, fields, *lines)
    try:
        return await device.ask()
    finally:
        device.send = send
