"""What a fresh attack found, and what must stay mended: ends that come late, or not at all."""

import asyncio
import socket

import pytest

from gateway.audit.log import JournalError
from gateway.audit.record import Record
from gateway.config.model import ConfigError
from gateway.data_directory import claim_directory
from gateway.files import write_new
from gateway.grants.service import ChangeRequest, GrantService
from gateway.proxy.headers import for_upstream_of_staff
from gateway.proxy.names import Names
from gateway.stores.store import AccountRecord, StoreError
from policy.grants import Administrator, Change
from policy.model import Account, AccountId, AccountType, Duration, Permission
from tests.gateway_world import HOST, open_world
from tests.memory_store import MemoryStore
from tests.patience import PATIENCE_SECONDS
from tests.rawwire import hold, response


@pytest.mark.parametrize(
    "header", ["SCRIPT_NAME: /tickets", "script_name: /a", "PATH_INFO: /x", "X_Other: 1", "Path-Info: /x"]
)
async def test_no_header_moves_the_path_that_was_judged(tmp_path, header):
    """gunicorn and others let such a header choose the path; staff may not send it, and customers' is taken out."""
    async with open_world(tmp_path) as world:
        await world.choose("day")
        token = await world.token()
        name, _, value = header.partition(": ")
        status, _, body = await world.get(token, headers=[(name, value)])
        assert 400 == status or b"method_override" in body
        assert [] == world.upstream.requests
        await world.get(None, headers=[(name, value)])
        [request] = world.upstream.requests
        kept = name == "X_Other"
        assert kept == (name.encode() in request.head)


async def test_a_slow_reader_gets_nothing_more_once_it_is_cut(tmp_path):
    """What waits in the kernel for a slow reader is dropped: after the cut there is a reset, not the rest."""
    body = b"x" * 8_000_000
    async with open_world(tmp_path, script=lambda _request: response(body)) as world:
        await world.choose("day")
        token = await world.token()
        reader = socket.socket()
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(reader, ("127.0.0.1", world.port))
        request = f"GET /attachments/1 HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n\r\n"
        await loop.sock_sendall(reader, request.encode())
        assert (await loop.sock_recv(reader, 1000)).startswith(b"HTTP/1.1 200")
        assert 200 == (await world.choose("off"))[0]
        got = 0
        with pytest.raises(ConnectionResetError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while piece := await loop.sock_recv(reader, 65536):
                    got += len(piece)
        reader.close()
        # No more than what the reader's own buffer held when the cut came.
        assert got < 200_000


async def test_a_revoke_while_the_app_is_asked_leaves_no_token(tmp_path):
    """The app takes its time to say that the agent exists; the customer ends it meanwhile; nothing is issued."""
    asked = asyncio.Event()

    def probing(document):
        document["upstream"]["profile"] = "demo-helpdesk"

    async with open_world(tmp_path, change=probing, script=lambda _request: hold(asked, after=response())) as world:
        await world.choose("day")
        asking = asyncio.ensure_future(world.ask(scope="tickets:read"))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await world.upstream.until(lambda: world.upstream.requests)
            await world.choose("off")
            asked.set()
            status, document = await asking
        assert 400 == status
        assert document["reason"] in ("grant_off", "grant_revoked")
        assert "access_token" not in document
        assert ["allow", "deny"] == [record["decision"] for record in world.records(kind="token")][-2:]


class Moody:
    """An audit log that can be told to fail: implements AuditLog."""

    def __init__(self):
        self.records: list[Record] = []
        self.broken = False

    @property
    def healthy(self):
        return not self.broken

    async def append(self, record, *, durable=False):
        if self.broken:
            raise JournalError("the disk is full")
        self.records.append(record)
        return len(self.records)

    async def close(self):
        self.broken = True


def a_service(store, journal, changed, clock):
    return GrantService(store, journal, accepted_roles=frozenset({"admin"}), clock=clock, changed=changed)


def a_choice(duration, *permissions):
    return ChangeRequest(
        account=AccountId("acme"),
        duration=duration,
        permissions=frozenset(permissions or (Permission.READ,)),
        administrator=Administrator(id="olga", roles={"support": "admin"}),
    )


@pytest.fixture
async def office(tmp_path):
    from gateway.clock import utc_now  # noqa: PLC0415 - only here

    store, journal, told = MemoryStore(), Moody(), []
    await store.add_account(Account(id=AccountId("acme"), type=AccountType.PAID))

    def changed(record: AccountRecord):
        told.append(record)
        return 0

    return store, journal, told, a_service(store, journal, changed, utc_now)


async def test_taking_back_works_without_a_journal_and_is_recorded_later(office):
    """The customer's `off` is stored and told at once; its record is owed, and paid first when the disk is back."""
    _, journal, told, service = office
    await service.choose(a_choice(Duration.WEEK, Permission.WRITE))
    journal.broken = True
    assert Change.REDUCED == (await service.choose(a_choice(Duration.DAY))).change
    assert Change.TURNED_OFF == (await service.choose(a_choice(Duration.OFF))).change
    assert 3 == len(told)
    with pytest.raises(JournalError):
        await service.debts.settle()
    journal.broken = False
    await service.debts.settle()
    assert ["enabled", "reduced", "turned_off"] == [record.reason for record in journal.records]


@pytest.mark.parametrize("choice", [a_choice(Duration.YEAR), a_choice(Duration.DAY, Permission.WRITE)])
async def test_nothing_is_given_without_a_journal(office, choice):
    """More time, or more permissions even for less time, wait for their record."""
    store, journal, told, service = office
    await service.choose(a_choice(Duration.WEEK))
    journal.broken = True
    with pytest.raises(JournalError):
        await service.choose(choice)
    assert (1, 1) == (len(told), (await store.find_account(AccountId("acme"))).account.epoch)


async def test_a_change_that_could_not_be_stored_is_taken_back_on_the_record(office):
    """The journal says that it was meant, and that it did not happen."""
    store, journal, told, service = office
    real = store.save_change

    async def broken(*_args, **_kwargs):
        raise StoreError("away")

    store.save_change = broken
    with pytest.raises(StoreError):
        await service.choose(a_choice(Duration.WEEK))
    store.save_change = real
    said = [(record.decision, record.reason) for record in journal.records]
    assert [("allow", "enabled"), ("deny", "store_unavailable")] == said
    assert [] == told


async def test_what_did_not_happen_is_owed_while_the_disk_is_full(office):
    """Store and journal fail together, as on one full disk: nobody may read later that the change was made."""
    store, journal, told, service = office
    real = store.save_change

    async def full(*_args, **_kwargs):
        journal.broken = True
        raise StoreError("no room")

    store.save_change = full
    with pytest.raises(StoreError):
        await service.choose(a_choice(Duration.WEEK))
    store.save_change, journal.broken = real, False
    await service.debts.settle()
    said = [(record.decision, record.reason) for record in journal.records]
    assert [("allow", "enabled"), ("deny", "store_unavailable")] == said
    assert [] == told


async def test_staff_of_http_1_0_name_no_host_and_the_app_gets_one(tmp_path):
    """Where the account is told otherwise than by the host, the app still hears whose it is."""

    def change(document):
        document["accounts"] |= {"source": "fixed", "fixed": "acme"}

    async with open_world(tmp_path, change=change) as world:
        await world.choose("day")
        raw = f"GET /tickets/1 HTTP/1.0\r\nAuthorization: Bearer {await world.token()}\r\n\r\n".encode()
        assert (await world.raw(raw)).startswith(b"HTTP/1.1 200 ")
        [seen] = world.upstream.requests
        assert [HOST.encode()] == seen.values(b"host")


async def test_the_longest_reason_in_any_letters_still_gives_a_token_that_works(tmp_path):
    """What the exchange accepts, the proxy accepts: no token grows past our own limit."""
    async with open_world(tmp_path) as world:
        await world.choose("day")
        token = await world.token(detail={"reason": "ж" * 1000})
        assert 200 == (await world.get(token))[0]


@pytest.mark.parametrize(
    "pair", [b"a=1;\xa0session=x", b"b=2,session=x", b'"session"=x', b"session =x", b"a=1; session=x"]
)
def test_a_withheld_cookie_does_not_cross_in_disguise(pair):
    """However an app splits cookies, none that it could take for the withheld one is left."""
    lines, known = ((b"Cookie", b"lang=de; " + pair),), Names()
    kept = for_upstream_of_staff(lines, known, known.among(lines), frozenset({"session"}), held=False)
    assert [(b"Cookie", True, False)] == [(name, b"lang=de" in value, b"session" in value) for name, value in kept]


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_data_directory_that_others_may_write_is_refused(tmp_path, mode):
    """Whoever can write there could swap the store, the journal, or a link for a file."""
    directory = tmp_path / "data"
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(ConfigError, match=r"server\.data_directory: .* can be written by others"):
        claim_directory(directory)


def test_our_public_key_is_not_written_through_a_link(tmp_path):
    """A link in its place is replaced, and what it leads to stays as it was."""
    precious, key = tmp_path / "precious", tmp_path / "journal-key.pem"
    precious.write_bytes(b"mine")
    key.symlink_to(precious)
    write_new(key, b"public")
    assert (b"mine", b"public", False) == (precious.read_bytes(), key.read_bytes(), key.is_symlink())
