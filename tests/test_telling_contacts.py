"""Who is told: contacts are changed on the record, and nobody is taken off who does not hear of it."""

from datetime import timedelta

import pytest

from gateway.config.notices import NoticesSecurity
from gateway.stores.store import StoreConflict, StoreError
from gateway.telling.addresses import is_mail, is_webhook, shown
from gateway.telling.addressing import Addressing
from gateway.telling.contacts import FORMER_KEPT, ContactBook
from gateway.telling.events import Event
from policy.model import AccountId
from tests.gateway_world import open_world
from tests.memory_store import MemoryStore
from tests.sink_world import Receiver
from tests.telling_world import ANN, MASTER, SECURITY, Log, Relay, Time, hook_of, notices, recorded, secret_of, telling
from tests.test_cli import Shell

EVE = "eve@evil.example"
ACCOUNT = AccountId("acme")


async def put(world, account="acme", *, roles=None, **wish):
    """Ask the API to change the contacts; return (status, document)."""
    who = {"id": "owner", "roles": {"support": "admin"} if roles is None else roles, **wish.pop("who", {})}
    url = f"{world.gateway.admin_url}/api/v1/accounts/{account}/contacts"
    headers = {"Authorization": wish.pop("authorization", None) or world.basic()}
    async with world.http.put(url, json={"administrator": who, **wish}, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


async def get(world, account="acme"):
    url = f"{world.gateway.admin_url}/api/v1/accounts/{account}/contacts"
    async with world.http.get(url, headers={"Authorization": world.basic()}) as answer:
        return answer.status, await answer.json(content_type=None)


async def test_who_is_taken_off_hears_of_it(tmp_path):
    """An attacker who silences an account's contacts first tells them so; the security team hears of it as well."""
    with Relay() as relay:
        section = notices(relay, security={"mail": [SECURITY]})
        async with telling(tmp_path, section, mail=[ANN]) as world:
            status, document = await put(world, mail=[EVE])
            assert (200, [EVE]) == (status, document["mail"])
            await recorded(world, 3, event="contacts", reason="sent")
            assert 200 == (await world.choose())[0]
            await recorded(world, 2, event="setting", reason="sent")
            [changed] = world.records(kind="account", reason="contacts_changed")
    assert {ANN, EVE, SECURITY} == set(relay.recipients[:3])
    assert f"From now on: {EVE}" in relay.mails_to(ANN)[0].get_content()
    assert ANN not in relay.recipients[3:]
    assert ("owner", EVE, 1) == (changed["by"], changed["recipient"], changed["count"])


async def test_the_api_tells_the_secret_of_each_webhook(tmp_path):
    """Each has one of its own; a read shows none."""
    async with telling(tmp_path, notices()) as world:
        url = "https://hooks.acme.example/in?key=1"
        status, document = await put(world, webhooks=[url])
        assert (200, {url: secret_of("acme", url)}) == (status, document["secrets"])
        assert secret_of("acme", url) != secret_of("other", url)
        status, document = await get(world)
        assert (200, {"account": "acme", "mail": [], "webhooks": [url]}) == (status, document)


REFUSED = {
    "no administrator": ({"roles": {"support": "agent"}, "mail": [EVE]}, 403, "not_administrator"),
    "staff who stand in": ({"who": {"assumed": True}, "mail": [EVE]}, 403, "acting_staff"),
    "nobody": ({"who": {"id": ""}, "mail": [EVE]}, 400, "malformed"),
    "an unknown client": ({"authorization": "Basic eDp5", "mail": [EVE]}, 401, "unauthenticated"),
    "an unknown account": ({"account": "nobody", "mail": [EVE]}, 404, "unknown_account"),
    "a mail that is none": ({"mail": ["Eve <eve@evil.example>"]}, 422, "bad_contact"),
    "a header in a mail": ({"mail": ["a@b.example\r\nBcc: x@y.example"]}, 422, "bad_contact"),
    "a webhook in the open": ({"webhooks": ["http://hooks.acme.example/"]}, 422, "bad_contact"),
    "another scheme": ({"webhooks": ["file:///etc/passwd"]}, 422, "bad_contact"),
    "too many": ({"mail": [f"a{number}@b.example" for number in range(11)]}, 422, "bad_contact"),
    "a key that is none": ({"mails": [EVE]}, 400, "malformed"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_who_may_not_changes_nothing(refusing, name):
    """Refused by name, and nobody else is told than before."""
    wish, status, reason = REFUSED[name]
    found, document = await put(refusing, **dict(wish))
    assert (status, reason) == (found, document["type"].rpartition(":")[2])
    assert [ANN] == (await get(refusing))[1]["mail"]
    assert [] == refusing.records(kind="account", reason="contacts_changed")


@pytest.fixture
async def refusing(tmp_path):
    async with telling(tmp_path, notices(), mail=[ANN]) as world:
        yield world


async def test_without_notices_there_is_no_such_api(tmp_path):
    """What nobody would be told is not taken in."""
    async with open_world(tmp_path) as world:
        url = f"{world.gateway.admin_url}/api/v1/accounts/acme/contacts"
        async with world.http.put(url, json={}, headers={"Authorization": world.basic()}) as answer:
            assert 404 == answer.status


@pytest.mark.parametrize(
    "text",
    ["a@b.example", "a.b+c@x-y.example", "o'neil@acme.example", "x@" + "a" * 63 + ".example", "1@2.example"],
)
def test_what_is_a_mail_address(text):
    """A dot-atom, and a name of a host."""
    assert is_mail(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "a", "a@", "@b.example", "a@b", "a b@c.example", "a@b.example\n", "a@b.example, c@d.example",
        "<a@b.example>", '"a"@b.example', "a@b..example", ".a@b.example", "a.@b.example", "a..b@c.example",
        "a@-b.example", "a@b.example\r\nRCPT TO:<c@d.example>", "\u00e4@b.example", "a@b\u3002example",
        "-oQ/tmp@b.example", "a@[127.0.0.1]", "a@b.example\0", "x" * 65 + "@b.example", "a@" + "b." * 130 + "c",
    ],
)  # fmt: skip
def test_what_is_no_mail_address_is_refused(text):
    """Nothing that a header, a command or an option could be made of."""
    assert not is_mail(text)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("https://a.example/x?y=1", True),
        ("https://a.example:8443/", True),
        ("http://localhost:1/", True),
        ("http://a.example/", False),
        ("https://u:p@a.example/", False),
        ("https://a.example/#x", False),
        ("https://a.example/ x", False),
        ("https://a.example/\r\nX: y", False),
        ("ftp://a.example/", False),
        ("https://" + "a" * 1100 + ".example/", False),
    ],
)
def test_what_is_a_webhook(text, is_one):
    """https, or this machine itself."""
    assert is_one == is_webhook(text)


def test_the_record_shows_of_a_webhook_only_where_it_is():
    """Its path and its query may be what lets somebody in there."""
    assert "https://a.example:8443" == shown("webhook", "https://a.example:8443/secret?key=1")
    assert ANN == shown("mail", ANN)


async def test_a_change_that_is_not_made_is_taken_back_on_the_record(tmp_path):
    """Whether somebody was quicker, or the store did not take it."""

    class Failing:
        def __init__(self, store, error):
            self._store, self._error = store, error

        async def find_contacts(self, account):
            return await self._store.find_contacts(account)

        async def save_contacts(self, *_args, **_more):
            raise self._error

    async with telling(tmp_path, notices(), mail=[ANN]) as world:
        for error, reason in ((StoreConflict("x"), "overtaken"), (StoreError("x"), "store_unavailable")):
            store = Failing(world.gateway.store, error)
            book = ContactBook(
                store, world.gateway.journal, Addressing(NoticesSecurity()), signs=True, clock=world.clock.utc
            )
            with pytest.raises(type(error)):
                await book.change(AccountId("acme"), mail=[EVE], webhooks=[], by="x")
            assert [reason] == [each["reason"] for each in world.records(kind="account", decision="deny")][-1:]


def test_the_command_line_changes_and_shows_them(tmp_path, monkeypatch):
    """And says when nobody is told."""
    monkeypatch.chdir(tmp_path)
    shell = Shell(tmp_path)
    with (tmp_path / "config.toml").open("a") as file:
        file.write(f'\n[notices.webhooks]\nsecret = "{MASTER}"\n')
    locum = shell.here
    locum("account", "add", "acme")
    assert "nobody is told" in locum("account", "show", "acme")
    url = "https://hooks.acme.example/"
    said = locum("contacts", "set", "acme", ANN, url)
    assert f"acme: told are {ANN}, {url}" in said
    assert f"{url} knows ours by {secret_of('acme', url)}" in said
    assert f"told are {ANN}" in locum("account", "show")
    assert secret_of("acme", url) in locum("contacts", "show", "acme", "--secrets")
    assert secret_of("acme", url) not in locum("contacts", "show", "acme")
    assert "nobody is told" in locum("contacts", "set", "acme")
    locum("contacts", "set", "acme", "no address", code=2)


async def test_a_webhook_of_ours_is_told_of_a_change(tmp_path):
    """By the address that it had."""
    with Receiver() as receiver:
        async with telling(tmp_path, notices(), webhooks=[hook_of(receiver)]) as world:
            assert 200 == (await put(world))[0]
            await recorded(world, event="contacts", reason="sent")
        assert 1 == receiver.asked


async def test_a_webhook_that_cannot_be_signed_is_refused(tmp_path):
    """With what to do; it would be told nothing, and look as if it were."""
    async with telling(tmp_path, notices(webhooks={})) as world:
        status, document = await put(world, webhooks=["https://hooks.acme.example/"])
        assert (422, True) == (status, "notices.webhooks.secret" in document["title"])
        assert 200 == (await put(world, mail=[ANN]))[0]


async def test_who_was_told_when_it_happened_is_told():
    """Though the contacts are others by the time that the journal is read, and were changed more than once."""
    store, log, clock = MemoryStore(), Log(), Time()
    addressing = Addressing(NoticesSecurity())
    book = ContactBook(store, log, addressing, signs=True, clock=clock)
    for mail in (ANN, EVE, "x@evil.example"):
        await book.change(ACCOUNT, mail=[mail], webhooks=[], by="x")
        clock.now += timedelta(minutes=1)
    contacts = await store.find_contacts(ACCOUNT)

    def told(minutes):
        at = clock.now - timedelta(minutes=minutes)
        event = Event(name="begun", account=ACCOUNT, at=at)
        return [notice.target.address for notice in addressing.notices(event, contacts, about="r")]

    assert ["x@evil.example", ANN, EVE] == told(2.5)
    assert ["x@evil.example", EVE] == told(1.5)
    assert ["x@evil.example"] == told(0.5)
    clock.now += FORMER_KEPT
    await book.change(ACCOUNT, mail=[ANN], webhooks=[], by="x")
    assert ["x@evil.example"] == [each.target.address for each in (await store.find_contacts(ACCOUNT)).former]
