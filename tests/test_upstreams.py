"""Several upstreams: each request goes to the one that its host and path name, read as they are judged."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.load import build
from gateway.config.model import Accounts, ConfigError
from gateway.proxy.pool import Pool
from gateway.proxy.triage import AccountReader
from gateway.proxy.wire import RequestHead
from gateway.upstreams import Upstreams, open_upstreams, read_upstreams
from policy.target import TargetError, parse_target
from tests.gateway_world import HOST, open_world
from tests.rawwire import RecordingUpstream, hold, response
from tests.test_config import BASE, document, refusal

FILES = "files.helpdesk.example"


class Named:
    """An upstream that is only chosen, and closed."""

    def __init__(self, name):
        self.name = name
        self.closed = False

    async def send(self, head, body, *, upgrade=False, inform=None, trailers=None):
        raise NotImplementedError

    async def close(self):
        self.closed = True


def several(*ways):
    return Upstreams(Named("default"), [(host, path, Named(f"{host}{path}")) for host, path in ways])


def head(target, *hosts):
    lines = tuple((b"Host", host if isinstance(host, bytes) else host.encode()) for host in hosts)
    return RequestHead(method=b"GET", target=target, headers=lines)


SEVERAL = several(
    ("", "/chat"), ("", "/chat/archive"), ("", "/v1.0/files"), (FILES, ""), (FILES, "/chat"), ("Other.Example.", "/only")
)  # fmt: skip
CHOICES = {
    # a prefix ends where a segment ends
    (HOST, b"/chat"): "/chat",
    (HOST, b"/chat/"): "/chat",
    (HOST, b"/chat/x"): "/chat",
    (HOST, b"/chat?to=1"): "/chat",
    (HOST, b"/chat/archive/1"): "/chat/archive",
    (HOST, b"/chat/archived"): "/chat",
    (HOST, b"/v1.0/files/1"): "/v1.0/files",
    (HOST, b"/chatx"): "default",
    (HOST, b"/chat-x/chat/x"): "default",
    (HOST, b"/x/chat"): "default",
    (HOST, b"/x?/chat"): "default",
    (HOST, b"/"): "default",
    (HOST, b"/v1x0/files"): "default",
    # a host is more than a path; the path is looked at within it, and then without it
    (FILES, b"/"): FILES,
    (FILES, b"/chat/archive/1"): f"{FILES}/chat",
    (FILES, b"*"): FILES,
    ("other.example", b"/only"): "Other.Example./only",
    ("other.example", b"/chat"): "/chat",
    ("other.example", b"/else"): "default",
    ("other.example", b"*"): "default",
    # a host is read as accounts read it: without case, port, or the root's dot
    ("FILES.Helpdesk.Example", b"/"): FILES,
    (f"{FILES}:8443", b"/"): FILES,
    (f"{FILES}.:443", b"/"): FILES,
    (f"x{FILES}", b"/"): "default",
    (f"{FILES}.evil.example", b"/"): "default",
    ("", b"/chat"): "/chat",
    # what is odd is not resolved
    (HOST, b"/chat/../x"): "/chat",
    (HOST, b"/x/../chat"): "default",
    (HOST, b"/./chat"): "default",
    (HOST, b"/%2e/chat"): "default",
    (HOST, b"//chat"): "default",
    (HOST, b"/chat//x"): "/chat",
    (HOST, b"/chat%2fx"): "default",
    (HOST, b"/%2fchat"): "default",
    (HOST, b"/chat%5cx"): "default",
    (HOST, b"/chat\\x"): "default",
    (HOST, b"/chat;x"): "default",
    (HOST, b"/chat%3fx"): "default",
    (HOST, b"/chat#x"): "default",
    (HOST, b"/CHAT"): "default",
    (HOST, b"/%2563hat"): "default",
    (HOST, b"/\xef\xbd\x83hat"): "default",
    # an escaped letter is that letter, also where staff are judged
    (HOST, b"/%63hat/x"): "/chat",
    (HOST, b"/ch%61%74"): "/chat",
    (HOST, b"/v1%2E0/files"): "/v1.0/files",
}  # fmt: skip


@pytest.mark.parametrize(("host", "target"), CHOICES)
def test_the_most_specific_upstream_is_chosen(host, target):
    """By host, then by the longer path; what fits nothing goes to the default."""
    assert CHOICES[host, target] == SEVERAL.choose(head(target, host)).name


@pytest.mark.parametrize("hosts", [(), (FILES, FILES), (FILES, HOST)])
def test_a_host_that_is_not_said_once_names_no_upstream(hosts):
    """Whoever it is for, it is not the one of that host; the path still counts."""
    assert ["default", "/chat"] == [SEVERAL.choose(head(target, *hosts)).name for target in (b"/", b"/chat")]


@pytest.mark.parametrize(
    "said", ["acme.helpdesk.example", "ACME.Helpdesk.example:80", "acme.helpdesk.example.:", "x.example"]
)
def test_a_host_is_read_as_the_account_is(said):
    """No spelling names the account and another upstream, or the upstream and another account."""
    ways = several(("acme.helpdesk.example", ""))
    account = AccountReader(Accounts(host="{account}.helpdesk.example"), ()).read(head(b"/", said), "192.0.2.1")
    assert (account == "acme") == (ways.choose(head(b"/", said)).name != "default")


@given(
    st.lists(st.sampled_from(["chat", "archive", "x", "Chat", "%", "/", ".", "é", "chat/x"]), min_size=1, max_size=4),
    st.data(),
)
def test_what_staff_may_reach_is_chosen_as_it_is_judged(segments, data):
    """Whichever bytes are escaped: if there is one reading, its segments are those that choose."""
    target = b""
    for segment in segments:
        target += b"/" + b"".join(
            b"%%%02X" % byte if data.draw(st.booleans()) else bytes((byte,)) for byte in segment.encode()
        )
    try:
        judged = parse_target(target).segments
    except TargetError:
        return
    expected = "default"
    for prefix in (("chat",), ("chat", "archive")):
        if judged[: len(prefix)] == prefix:
            expected = "/" + "/".join(prefix)
    assert expected == SEVERAL.choose(head(target, HOST)).name


async def test_all_are_closed():
    """The default and every other."""
    default, others = Named("default"), [Named("a"), Named("b")]
    await Upstreams(default, [("a.example", "", others[0]), ("", "/b", others[1])]).close()
    assert [True] * 3 == [one.closed for one in (default, *others)]


# --- in the configuration ---

REFUSED = {
    "no condition": ({}, "upstreams[0]: set `host`, `path` or both"),
    "no url": ({"url": None, "path": "/x"}, "upstreams[0].url: is missing"),
    "an unknown key": ({"path": "/x", "profile": "y"}, "upstreams[0].profile: there is no such key"),
    "a host with a port": ({"host": "a.example:80"}, "upstreams[0].host: `a.example:80` is not a host name"),
    "a host of two": ({"host": "a.example, b.example"}, "upstreams[0].host:"),
    "a host with a star": ({"host": "*.example"}, "upstreams[0].host:"),
    "a host in other letters": ({"host": "hélp.example"}, "upstreams[0].host:"),
    "a host of a dot": ({"host": "."}, "upstreams[0].host:"),
    "a path without a slash": ({"path": "chat"}, "upstreams[0].path: `chat` is not plain segments"),
    "a path of a slash": ({"path": "/"}, "upstreams[0].path:"),
    "a path with a slash behind": ({"path": "/chat/"}, "upstreams[0].path:"),
    "an empty segment": ({"path": "/a//b"}, "upstreams[0].path:"),
    "a dot segment": ({"path": "/a/../b"}, "upstreams[0].path:"),
    "a dot": ({"path": "/."}, "upstreams[0].path:"),
    "an escape": ({"path": "/%63hat"}, "upstreams[0].path:"),
    "a query": ({"path": "/chat?x"}, "upstreams[0].path:"),
    "a pattern": ({"path": "/chat/*"}, "upstreams[0].path:"),
    "a path in other letters": ({"path": "/chät"}, "upstreams[0].path:"),
    "a line break": ({"path": "/chat\n"}, "upstreams[0].path:"),
    "our own path": ({"path": "/.locum"}, "upstreams[0].path: `/.locum/` is answered by Locum itself"),
    "below our own path": ({"path": "/.locum/x"}, "upstreams[0].path: `/.locum/` is"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_with_an_upstream_is_refused_with_its_path(case):
    """Nothing is guessed."""
    keys, words = REFUSED[case]
    table = {key: value for key, value in ({"url": "http://127.0.0.1:1"} | keys).items() if value is not None}
    assert words in refusal(document("upstreams", [table]))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"path": "/chat"}, {"path": "/chat"}),
        ({"host": "a.example"}, {"host": "A.Example."}),
        ({"host": "a.example", "path": "/x"}, {"path": "/x", "host": "a.example"}),
    ],
)
def test_no_two_upstreams_are_for_the_same_requests(one, other):
    """Whichever was meant, the other was not."""
    tables = [{"url": f"http://127.0.0.1:{port}", **keys} for port, keys in ((1, one), (2, {"path": "/y"}), (3, other))]
    assert "upstreams[2]: is for the same requests as upstreams[0]" == refusal(document("upstreams", tables))


@pytest.mark.parametrize("url", ["app:3000", "http://app/path", "ftp://app", "unix:app.sock", "https://u:p@app"])
def test_a_bad_url_is_refused_by_its_table(url):
    """By the first that is wrong."""
    for path, value, where in (
        ("upstream.url", url, "upstream.url: upstream URL"),
        (
            "upstreams",
            [{"path": "/a", "url": "http://app"}, {"path": "/b", "url": url}],
            "upstreams[1].url: upstream URL",
        ),
    ):
        with pytest.raises(ConfigError) as caught:
            read_upstreams(build(document(path, value), {}, base=BASE))
        assert str(caught.value).startswith(where)


def test_one_upstream_is_a_bare_pool():
    """Who has only one pays nothing for the choice."""
    assert isinstance(open_upstreams(build(document(), {}, base=BASE)), Pool)


# --- through a gateway ---


@asynccontextmanager
async def open_several(tmp_path, *, script=None):
    """A gateway before three upstreams: the default one, one for /tickets, behind a Unix socket, and one for a host."""
    async with AsyncExitStack() as stack:
        socket = str(tmp_path / "tickets.sock")
        tickets = await stack.enter_async_context(RecordingUpstream(script or response(b"tickets"), unix_path=socket))
        files = await stack.enter_async_context(RecordingUpstream(response(b"files")))

        def change(wanted):
            wanted["upstreams"] = [{"path": "/tickets", "url": tickets.url}, {"host": FILES, "url": files.url}]

        world = await stack.enter_async_context(
            open_world(tmp_path, change=change, script=lambda _request: response(b"default"))
        )
        yield world, tickets, files


async def test_ordinary_traffic_reaches_the_upstream_it_names(tmp_path):
    """Byte for byte, over TCP and a Unix socket, on one connection of the client."""
    async with open_several(tmp_path) as (world, tickets, files):
        asked = [(HOST, "/"), (HOST, "/tickets/1?x=%2f"), (f"{FILES}:443", "/tickets"), (HOST, "/ticketsx")]
        raw = "".join(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n" for host, target in asked)
        answer = await world.raw(raw.encode(), responses=4)
        assert [b"default", b"tickets", b"files", b"default"] == [
            part.partition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 200 OK")[1:]
        ]
        assert [b"/tickets/1?x=%2f"] == [one.target for one in tickets.requests]
        assert [f"{FILES}:443".encode()] == [one.values(b"host")[0] for one in files.requests]


@pytest.mark.parametrize("target", ["/tickets/1", "/%74ickets/1", "/ticket%73/1"])
async def test_staff_reach_the_upstream_of_the_path_that_was_judged(tmp_path, target):
    """Also when letters of it are escaped: no other app may read the same path in its own way."""
    async with open_several(tmp_path) as (world, tickets, files):
        await world.choose("day")
        status, _, body = await world.get(await world.token(), target)
        assert (200, b"tickets") == (status, body)
        [heard] = tickets.requests
        assert (target.encode(), 1) == (heard.target, len(heard.values(b"x-locum-assertion")))
        assert [] == [*world.upstream.requests, *files.requests]


async def test_one_upstream_that_fails_stops_no_other(tmp_path):
    """A part of the app that is down is that part's."""
    async with open_several(tmp_path) as (world, tickets, _):
        tickets._server.close()
        (tmp_path / "tickets.sock").unlink(missing_ok=True)
        assert [502, 200] == [(await world.get(target=target))[0] for target in ("/tickets/1", "/")]


async def test_each_upstream_has_its_own_connections(tmp_path):
    """One that is slow and has all its connections busy keeps no other waiting."""
    go_on = asyncio.Event()
    async with open_several(tmp_path, script=lambda _request: hold(go_on, after=response())) as (world, tickets, _):
        slow = asyncio.ensure_future(world.get())
        await tickets.until(lambda: tickets.requests)
        assert 200 == (await world.get(target="/"))[0]
        go_on.set()
        assert 200 == (await slow)[0]


async def test_no_connection_is_used_by_customers_and_by_staff(tmp_path):
    """An app that knows a connection by who used it first answers staff as nobody else, and nobody else as staff."""
    async with open_several(tmp_path) as (world, tickets, files):
        await world.choose("day")
        token = await world.token()
        for _ in range(3):
            assert [200, 200] == [(await world.get(whose))[0] for whose in (None, token)]
        assert {False: {0}, True: {1}} == {
            staffs: {one.connection_id for one in tickets.requests if bool(one.values(b"x-locum-assertion")) is staffs}
            for staffs in (False, True)
        }
        assert 200 == (await world.get(headers=[("Authorization", "NTLM TlRMTVNTUAABAAAA")]))[0]
        assert [200, 200] == [(await world.get(whose))[0] for whose in (None, token)]
        assert [0, 2, 1] == [one.connection_id for one in tickets.requests[-3:]]
        assert [] == [*world.upstream.requests, *files.requests]
