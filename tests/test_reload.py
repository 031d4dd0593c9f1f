"""A new configuration takes over between two requests, whole or not at all, and closes nobody's connection."""

import asyncio
import os
import signal
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.clock import utc_now
from gateway.config.load import build
from gateway.config.model import ConfigError
from gateway.config.section import Secret
from gateway.generation import Generation
from gateway.tokens.signing import SigningKey
from gateway.workers.fixed import FIXED, settle
from gateway.workers.orders import Begin, Renew, encode, read_order
from gateway.workers.supervisor import Pause
from policy.model import Account, AccountId, AccountType, Duration
from tests.certificates import Authority
from tests.console_world import console
from tests.gateway_world import document, open_world
from tests.memory_store import MemoryStore
from tests.patience import PATIENCE_SECONDS, within
from tests.process_world import SHIPPED, Line, open_process_world, until
from tests.rawwire import RecordingUpstream, hold, response
from tests.security_world import security
from tests.telling_world import notices
from tests.test_cuts import Moody, a_choice, a_service

FIRST = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
LAST = b"4\r\nlast\r\n0\r\n\r\n"
AT_ONCE = 1.0
NO_DOWNLOADS = SHIPPED.replace('path = "/attachments/{id:int}"', 'path = "/enclosures/{id:int}"')


@pytest.fixture
async def gate():
    return asyncio.Event()


@pytest.fixture
def script(gate):
    """Answer at once, but hold the rest of a download and of the events until the gate is open."""

    def answer(request):
        slow = request.target.startswith((b"/attachments/", b"/events"))
        return hold(gate, before=FIRST, after=LAST) if slow else response()

    return answer


@pytest.fixture
async def world(tmp_path, script):
    """A gateway with an account that may be assumed."""
    async with open_world(tmp_path, script=script) as world:
        assert 200 == (await world.choose("day"))[0]
        yield world


async def renew(world, change=lambda _document: None):
    """Renew the gateway with a changed configuration, as a reload does."""
    fresh = document(world.directory, upstream=world.upstream.url, issuer=world.issuer.issuer)
    change(fresh)
    config = build(fresh, {}, base=world.directory)
    await world.gateway.renew(settle(world.gateway.config, config))


def with_profile(world, text):
    """Return a change that puts another profile in force."""

    def change(fresh):
        path = world.directory / "other" / "demo-helpdesk.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.replace('agent_probe = "/whoami"', "agent_probe = false"))
        fresh["upstream"]["profile"] = str(path)

    return change


def with_key(*keys):
    """Return a change that puts these signing keys in force."""

    def change(fresh):
        fresh["tokens"] = {"signing_key": "".join(key.pem().decode() for key in keys)}

    return change


def new_key():
    return SigningKey.from_pem(None, SigningKey("new", Ed25519PrivateKey.generate()).pem())


@asynccontextmanager
async def line_to(world, **options):
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port, **options)
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()


async def half_way(line, token, target):
    """Begin a download and stop where the app does."""
    line.send(token, target)
    assert 200 == (await line.head())[0]
    async with asyncio.timeout(PATIENCE_SECONDS):
        await line.reader.readuntil(b"first\r\n")


async def test_a_new_profile_decides_on_what_is_open_and_what_comes(world, gate):
    """What it forbids is cut and refused; all else goes on, on the same connections; a later revoke reaches it."""
    token = await world.token()
    async with AsyncExitStack() as stack:
        kept, customer, download, events = [await stack.enter_async_context(line_to(world)) for _ in range(4)]
        assert 200 == (await kept.get(token))[0]
        await half_way(customer, None, "/attachments/1")
        await half_way(download, token, "/attachments/1")
        await half_way(events, token, "/events")
        assert 2 == len(world.gateway.live)

        await renew(world, with_profile(world, NO_DOWNLOADS))

        async with within(AT_ONCE / 2):  # a second after it began, time itself would look at it again
            assert b"" == await download.rest()
        await until(lambda: 1 == len(world.gateway.live))  # its end is being recorded
        assert 200 == (await kept.get(token))[0]
        assert 403 == (await kept.get(token, "/attachments/1"))[0]
        await until(world.ends)
        assert ["no_route_rule"] == [end["reason"] for end in world.ends(ended="cut")]
        assert ["no_route_rule"] == [
            record["reason"] for record in world.records(path="/attachments/1", decision="deny")
        ]

        assert 200 == (await world.choose("off"))[0]
        async with within(AT_ONCE):
            assert b"" == await events.rest()
        gate.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert LAST.endswith(await customer.reader.readuntil(b"0\r\n\r\n"))
        assert 200 == (await customer.get())[0]


async def test_the_old_way_to_the_app_closes_behind_its_last_exchange(world, gate):
    """New requests go to the new address at once; the download from the old one comes to its end first."""
    async with (
        RecordingUpstream(lambda _request: response(b"new")) as moved,
        line_to(world) as busy,
        line_to(world) as idle,
    ):
        await half_way(busy, None, "/attachments/1")
        assert b"ok" == (await idle.get())[2]

        def change(fresh):
            fresh["upstream"]["url"] = moved.url

        await renew(world, change)
        assert b"new" == (await idle.get())[2]
        assert [False, False] == [connection.ended.is_set() for connection in world.upstream.connections]
        gate.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await busy.reader.readuntil(b"0\r\n\r\n")
        await world.upstream.until(lambda: all(connection.ended.is_set() for connection in world.upstream.connections))
        assert b"new" == (await busy.get())[2]


async def test_a_key_can_be_changed_in_two_steps(world):
    """Beside the new key the old one goes on verifying; without it, its tokens are refused, and never the app's."""
    old, new = new_key(), new_key()
    await renew(world, with_key(old))
    before = await world.token()
    await renew(world, with_key(new, old))
    after = await world.token()
    assert [200, 200] == [(await world.get(token))[0] for token in (before, after)]
    async with world.http.get(f"{world.gateway.public_url}/.locum/jwks.json") as answer:
        published = [key["kid"] for key in (await answer.json(content_type=None))["keys"]]
    assert [new.id, old.id] == published[:2]
    assert new.id == world.gateway.keys.signing.id
    await renew(world, with_key(new))
    assert [401, 200] == [(await world.get(token))[0] for token in (before, after)]


async def test_who_may_choose_and_what_a_trial_allows_are_renewed(world):
    """The admin listener answers under the new rules, and a trial's staff get what the new ones give."""
    await world.add_account("probe", kind=AccountType.TRIAL)
    wish = {"account": "probe", "scope": "tickets:read tickets:write"}
    status, issued = await world.ask(**wish)
    assert (200, "tickets:read") == (status, issued["scope"])

    def change(fresh):
        fresh["grants"] = {"administrator_roles": ["owner"], "trial_permissions": ["read", "write"]}

    await renew(world, change)
    assert 403 == (await world.choose("week"))[0]
    assert 200 == (await world.choose("week", roles={"support": "owner"}))[0]
    status, issued = await world.ask(**wish)
    assert (200, wish["scope"]) == (status, issued["scope"])


async def test_every_page_and_notice_can_come_and_go(world):
    """With its section, and without it again: what is served has the same addresses all the time."""

    def everything(fresh):
        console(fresh)
        security(fresh)
        fresh["notices"] = notices(
            security={"mail": ["guard@vendor.example"]}, mail={"host": "localhost", "sender": "a@b.example"}
        )

    for change, page in ((everything, 200), (lambda _fresh: None, 404), (everything, 200)):
        await renew(world, change)
        for path, status in (("/api/v1/accounts/acme/contacts", 401), ("/console", page)):
            async with world.http.get(f"{world.gateway.admin_url}{path}") as answer:
                assert status == answer.status, path


async def test_limits_are_renewed_for_whoever_connects_next(world):
    """An open connection keeps the limits it came under."""
    long = f"GET /tickets/1 HTTP/1.1\r\nHost: a\r\nX-Long: {'x' * 2000}\r\n\r\n".encode()

    def change(fresh):
        fresh["limits"] = {"header_bytes": 1000}

    async with line_to(world) as before:
        assert 200 == (await before.get())[0]
        await renew(world, change)
        before.writer.write(long)
        assert 200 == (await before.head())[0]
    async with line_to(world) as after:
        after.writer.write(long)
        assert 431 == (await after.head())[0]


def bad_profile(world, _fresh):
    return with_profile(world, NO_DOWNLOADS.replace("[scopes]", "[scope]"))


def bad_key(world, _fresh):
    return lambda fresh: fresh.update(tokens={"signing_key": "no key"})


def bad_authority(world, _fresh):
    return lambda fresh: fresh["upstream"].update(url="https://127.0.0.1:9", tls={"ca": "nowhere.pem"})


@pytest.mark.parametrize(
    ("bad", "says"),
    [(bad_profile, "upstream.profile: "), (bad_key, "tokens.signing_key: "), (bad_authority, "upstream.tls.ca: ")],
)
async def test_a_new_configuration_is_taken_whole_or_not_at_all(world, bad, says):
    """One part that is wrong, and nothing of the others counts either: here a profile that would forbid downloads."""
    token = await world.token()

    def change(fresh):
        with_profile(world, NO_DOWNLOADS)(fresh)
        bad(world, fresh)(fresh)

    before = (world.gateway.config, world.gateway.keys)
    async with line_to(world) as line, line_to(world) as download:
        assert 200 == (await line.get(token))[0]
        await half_way(download, token, "/attachments/1")
        with pytest.raises(ConfigError) as caught:
            await renew(world, change)
        assert str(caught.value).startswith(says)
        assert before == (world.gateway.config, world.gateway.keys)
        assert 1 == len(world.gateway.live)
        await half_way(line, token, "/attachments/1")


async def test_a_new_certificate_is_shown_to_new_clients_only(tmp_path, script):
    """Who is connected stays so, and a certificate that cannot be used changes nothing, with all that came with it."""
    authority = Authority(tmp_path)
    first, second = authority.issue("127.0.0.1", file="first"), authority.issue("127.0.0.1", file="second")

    def tls(pair):
        return lambda fresh: fresh["server"].update(tls=pair.table())

    async with open_world(tmp_path, script=script, change=tls(first)) as world:
        trusting = authority.trusting()
        async with line_to(world, ssl=trusting) as kept:
            assert 200 == (await kept.get())[0]
            await renew(world, tls(second))
            assert 200 == (await kept.get())[0]
            assert first.serial == serial_of(kept)
            async with line_to(world, ssl=trusting) as new:
                assert second.serial == serial_of(new)

            def broken(fresh):
                fresh["server"]["tls"] = {"certificate": str(first.certificate), "key": str(second.key)}
                with_profile(world, NO_DOWNLOADS)(fresh)

            before = world.gateway.config
            with pytest.raises(ConfigError, match=r"^server\.tls\.key: "):
                await renew(world, broken)
            assert before == world.gateway.config
            async with line_to(world, ssl=trusting) as new:
                assert second.serial == serial_of(new)


def serial_of(line):
    return int(line.writer.get_extra_info("peercert")["serialNumber"], 16)


async def test_what_is_owed_to_the_journal_outlives_the_configuration_it_was_owed_under(tmp_path):
    """A switch-off that could not be recorded keeps its old configuration from going, until the disk lets us."""
    store, journal, closed = MemoryStore(), Moody(), asyncio.Event()
    await store.add_account(Account(id=AccountId("acme"), type=AccountType.PAID))
    service = a_service(store, journal, lambda _record: 0, utc_now)
    stack = AsyncExitStack()
    stack.callback(closed.set)
    running = build(document(tmp_path, upstream="http://127.0.0.1:1", issuer="http://127.0.0.1:2"), {}, base=tmp_path)
    # Nobody asks for these any more.
    parts = {"keys": None, "handler": None, "control": (), "admin": (), "accounts": None, "upstream": None}
    old = Generation(running, debts=(service.debts,), stack=stack, **parts)
    await service.choose(a_choice(Duration.DAY))
    journal.broken = True
    await service.choose(a_choice(Duration.OFF))
    retiring = asyncio.create_task(old.retire())  # noqa: TID251 - awaited below
    await asyncio.sleep(0)
    assert (False, False) == (closed.is_set(), retiring.done())
    journal.broken = False
    async with asyncio.timeout(PATIENCE_SECONDS):
        await retiring
    assert closed.is_set()
    assert ["enabled", "turned_off"] == [record.reason for record in journal.records]


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_hang_up_renews_every_process(tmp_path, script, workers):
    """SIGHUP: what is wrong is refused with its key, what is right counts in all, what is fixed is said and stays."""
    async with open_process_world(tmp_path, script=script) as world, world.running(workers=workers) as running:
        assert 200 == (await world.choose("day"))[0]
        token = await world.token()
        async with AsyncExitStack() as stack:
            lines = [await stack.enter_async_context(world.connection()) for _ in range(8)]
            assert {200} == {(await line.get(token))[0] for line in lines}
            origins = {record["origin"] for record in world.records(decision="allow", path="/tickets/1")}

            world.configure(workers=workers, more="[limit]", profile=NO_DOWNLOADS)
            running.send(signal.SIGHUP)
            assert "limit: there is no such key" in await running.says("the old one stays in force")
            if workers > 1:
                # Who is started now begins with what is in force, whatever the file says.
                os.kill(running.workers()[0], signal.SIGKILL)
                await running.says(" serves (process", times=workers + 1)
                lines = [await stack.enter_async_context(world.connection()) for _ in range(8)]
                for line in [await stack.enter_async_context(world.connection()) for _ in range(8)]:
                    line.send(token, "/attachments/2")
                    assert 200 == (await line.head())[0]
            world.configure(workers=workers, profile=NO_DOWNLOADS.replace("[scopes]", "[scope]"))
            running.send(signal.SIGHUP)
            assert "upstream.profile: " in await running.says("the old one stays in force", times=2)
            assert {200} == {(await line.get(token))[0] for line in lines}

            world.configure(workers=workers + 1, profile=NO_DOWNLOADS)
            for _ in range(3):  # while one is being followed, another is no harm
                running.send(signal.SIGHUP)
            await running.says("the new configuration is in force")
            await running.says("WARNING", "server.workers: cannot change while we run")
            assert {200} == {(await line.get(token))[0] for line in lines}
            assert {403} == {(await line.get(token, "/attachments/1"))[0] for line in lines}
            assert origins <= {f"gateway-{index}" for index in range(workers)} | {"gateway"}


def test_what_is_fixed_stays_and_all_else_is_new(tmp_path, caplog):
    """Each fixed key keeps its value and is named in the log; TLS can neither come nor go; the rest is taken."""
    running = build(document(tmp_path, upstream="http://127.0.0.1:1", issuer="http://127.0.0.1:2"), {}, base=tmp_path)
    changed = {
        "server": {
            "listen": "127.0.0.1:1",
            "admin_listen": "127.0.0.1:2",
            "data_directory": "other",
            "workers": 7,
            "node": "another",
            "tls": {"certificate": "a.pem", "key": "b.pem"},
        },
        "limits": {"tls_handshake_timeout_seconds": 1.5},
        "grants": {"fact_ttl_seconds": 0.5, "absent_ttl_seconds": 0.25},
        "store": {
            "url": "postgresql://127.0.0.1/x",
            "migrate": False,
            "timeout_seconds": 0.25,
            "write_timeout_seconds": 2.5,
            "min_connections": 2,
            "max_connections": 3,
        },
        "audit": {
            "segment_mib": 3,
            "checkpoint_seconds": 4.5,
            "retention": {"days": 9},
            "index": False,
            "durability": "power",
            "patience_seconds": 0.25,
            "witnesses": [{"name": "w", "kind": "file", "path": "kept"}],
        },
    }
    fresh = document(tmp_path, upstream="http://127.0.0.1:3", issuer="http://127.0.0.1:2")
    for section, keys in changed.items():
        fresh[section] = fresh.get(section, {}) | keys
    wanted = build(fresh, {}, base=tmp_path)
    settled = settle(running, wanted)
    assert settled.server == running.server
    assert "http://127.0.0.1:3" == settled.upstream.url
    assert settled == settle(running, settled)
    assert {f"{section}.{key}" for section, keys in changed.items() for key in keys} == {*FIXED, "server.tls"}
    for path in (*FIXED, "server.tls"):
        assert 1 == sum(message.startswith(f"{path}: ") for message in caplog.messages)


def test_a_configuration_goes_to_a_worker_whole(tmp_path):
    """What a supervisor has read is what its worker reads, secrets too, and only the pipe sees those."""
    key = new_key()
    fresh = document(tmp_path, upstream="unix:/run/app.sock", issuer="http://127.0.0.1:2")
    with_key(key)(fresh)
    fresh["catch"] = [{"header": "X-Staff"}]
    fresh["audit"] = {"witnesses": [{"name": "w", "kind": "http", "url": "https://w.example/", "token": "t0ken"}]}
    config = build(fresh, {}, base=tmp_path)
    for order in (Begin(origin="gateway-0", config=config), Renew(config=config)):
        line = encode(order)
        assert (1, True) == (line.count(b"\n"), line.endswith(b"\n"))
        told = read_order(line)
        assert key.pem().decode() == told.config.tokens.signing_key.reveal()
        assert "PRIVATE" not in repr(told)
        assert msgspec.to_builtins(config, enc_hook=Secret.reveal) == msgspec.to_builtins(
            told.config, enc_hook=Secret.reveal
        )


def test_who_dies_again_and_again_waits_longer_and_longer_up_to_a_bound():
    """At once for the first time; doubled for each that did not last; forgotten after a calm while."""
    pause = Pause()
    assert [0, 0.1, 0.2, 0.4] == [pause.after(1) for _ in range(4)]
    assert 10 == [pause.after(1) for _ in range(10)][-1]
    assert [0, 0.1] == [pause.after(3600), pause.after(1)]
