"""The grants API: what an account's setting looks like, who may change it, and who is on record for it."""

import asyncio
import base64
import json
import secrets
from datetime import timedelta

import aiohttp
import pytest
import pytest_asyncio

from gateway.audit.log import JournalError
from gateway.clients import digest_of
from gateway.grants.service import ChangeRequest, GrantService, UnknownAccount
from gateway.stores.store import Client, StoreConflict, StoreError
from policy.grants import Administrator, Change, GrantRefusal, convert
from policy.model import Account, AccountId, AccountType, ClientId, Duration, Permission
from tests.forgery import NOON
from tests.gateway_world import open_world
from tests.memory_store import MemoryStore

shared = pytest.mark.asyncio(loop_scope="module")
FIELDS = {
    "account", "assumable", "assumable_account_type", "assumption_duration", "assumption_expiration", "permissions",
    "epoch",
}  # fmt: skip
OFF = {
    "assumable": False, "assumable_account_type": False, "assumption_duration": "off", "assumption_expiration": None,
    "permissions": [],
}  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory):
    """One gateway for all that changes nothing, or only an account of its own."""
    async with open_world(tmp_path_factory.mktemp("grants"), account=None) as world:
        for account in ("acme", "on"):
            await world.add_account(account)
        await world.add_account("trial", kind=AccountType.TRIAL)
        await world.add_account("locked", suspended=True)
        assert 200 == (await world.choose("week", account="on"))[0]
        assert 200 == (await world.choose("week", account="locked"))[0]
        token_only = Client(id=ClientId("console"), secret_digest=digest_of("plain"), roles=frozenset({"token"}))
        await world.gateway.store.add_client(token_only)
        yield world


async def show(world, account, *, authorization=None, method="GET", body=None):
    """Ask for an account's setting, or send a raw body; return (status, headers, document)."""
    url = f"{world.gateway.admin_url}/api/v1/accounts/{account}/assumption"
    sent = {"Authorization": world.basic() if authorization is None else authorization}
    async with world.http.request(method, url, data=body, headers=sent if sent["Authorization"] else {}) as answer:
        text = await answer.text()
        return answer.status, answer.headers, json.loads(text) if "json" in answer.content_type else text


def without(document, *names):
    return {name: value for name, value in document.items() if name not in names}


# --- what a setting looks like ---


@shared
async def test_a_new_account_is_off(world):
    """Off is the default, and says so in every field."""
    status, headers, document = await show(world, "acme")
    assert 200 == status
    assert FIELDS == set(document)
    assert OFF | {"account": "acme", "epoch": 0} == document
    assert ("no-store", "application/json") == (headers["Cache-Control"], headers["Content-Type"])


@shared
async def test_a_trial_is_always_assumable(world):
    """Until it is converted, whatever anybody chose, for as long as it lasts, and only as far as the operator says."""
    _, _, document = await show(world, "trial")
    assert {
        "assumable": True, "assumable_account_type": True, "assumption_duration": "always",
        "assumption_expiration": None, "permissions": ["read"],
    } == without(document, "account", "epoch")  # fmt: skip


@shared
async def test_a_suspended_account_is_not_assumable(world):
    """Its setting stands and lets nobody in."""
    _, _, document = await show(world, "locked")
    assert (False, "week") == (document["assumable"], document["assumption_duration"])


@pytest.mark.parametrize("duration", list(Duration))
async def test_the_life_of_a_setting(tmp_path, duration):
    """Each duration shows its name and its end; after the end the account is off as if nobody had switched it on."""
    ends = {"day": timedelta(days=1), "week": timedelta(weeks=1)}
    async with open_world(tmp_path) as world:
        status, document = await world.choose(duration, ["test_tickets"])
        if duration is Duration.OFF:
            assert (200, "unchanged") == (status, document["change"])
            assert OFF == without(document, "account", "epoch", "change")
            return
        assert (200, "enabled", 1) == (status, document["change"], document["epoch"])
        assert (True, duration, ["read", "test_tickets"]) == (
            document["assumable"],
            document["assumption_duration"],
            document["permissions"],
        )
        expiration = document["assumption_expiration"]
        if duration in ends:
            assert (world.clock.now + ends[duration]).strftime("%Y-%m-%dT%H:%M:%SZ") == expiration
        assert (expiration is None) == (duration is Duration.ALWAYS)
        assert without(document, "change") == (await show(world, "acme"))[2]
        world.clock.forward(days=367)
        now = without((await show(world, "acme"))[2], "account", "epoch")
        assert (without(document, "account", "epoch", "change") if duration is Duration.ALWAYS else OFF) == now


async def test_every_change_has_its_name(tmp_path):
    """Enabled, extended, reduced, changed in what it allows, unchanged, off, and enabled anew under another id."""
    async with open_world(tmp_path) as world:
        seen = []
        for duration, permissions in (
            ("week", ["read"]), ("month", ["read"]), ("day", ["read"]), ("day", ["read", "write"]), ("day", ["write"]),
            ("day", ["read"]), ("off", ["read"]), ("off", ["read"]), ("always", ["read"]), ("year", ["read"]),
        ):  # fmt: skip
            status, document = await world.choose(duration, permissions)
            assert 200 == status
            seen.append((document["change"], document["epoch"]))
        assert [
            ("enabled", 1), ("extended", 2), ("reduced", 3), ("permissions_changed", 4), ("unchanged", 4),
            ("permissions_changed", 5), ("turned_off", 6), ("unchanged", 6), ("enabled", 7), ("reduced", 8),
        ] == seen  # fmt: skip
        changes = await world.gateway.store.list_changes(AccountId("acme"))
        assert [8, 7, 6, 5, 4, 3, 2, 1] == [event.epoch for event in changes]
        assert 2 == len({event.grant.id for event in changes})


async def test_a_converted_trial_is_off_until_somebody_chooses(tmp_path):
    """The trial's word does not outlive the trial; then the setting is the customer's."""
    async with open_world(tmp_path, account=None) as world:
        await world.add_account(kind=AccountType.TRIAL)
        record = await world.gateway.store.find_account(AccountId("acme"))
        change = convert(record.account, record.grant, now=world.clock.now)
        await world.gateway.store.save_change(change, by="billing", at=world.clock.now)
        assert OFF == without((await show(world, "acme"))[2], "account", "epoch")
        assert (200, "enabled") == ((answer := await world.choose("day"))[0], answer[1]["change"])


# --- who may change it ---


@shared
@pytest.mark.parametrize(
    ("roles", "ok"),
    [
        ({"support": "agent", "explore": "admin"}, True),
        ({"guide": "owner"}, True),
        ({"support": "agent", "explore": "viewer"}, False),
        ({"support": "Admin"}, False),
        ({"support": "administrator"}, False),
        ({"support": "admin "}, False),
        ({"admin": "agent"}, False),
        ({"support": ""}, False),
        ({}, False),
    ],
)
async def test_an_administrator_of_any_product_may(world, roles, ok):
    """The role counts, exactly, in whichever product; the product's name does not."""
    account = f"roles-{secrets.token_hex(4)}"
    await world.add_account(account)
    status, document = await world.choose("day", account=account, roles=roles)
    if ok:
        assert (200, "enabled") == (status, document["change"])
        return
    assert (403, "not_administrator") == (status, document["reason"])
    assert 0 == (await show(world, account))[2]["epoch"]


@shared
async def test_staff_who_stand_in_change_nothing(world):
    """Also as an owner, also to switch it off: whoever acts for somebody does not speak for them here."""
    for duration in ("always", "off"):
        status, document = await world.choose(duration, account="on", assumed=True)
        assert (403, "acting_staff") == (status, document["reason"])
    assert "week" == (await show(world, "on"))[2]["assumption_duration"]
    assert {"acting_staff"} <= {
        record["reason"] for record in world.records(kind="grant", decision="deny", account="on")
    }


@shared
async def test_a_trial_has_no_setting(world):
    """Neither on nor off can be chosen, and the answer says why."""
    for duration in Duration:
        status, document = await world.choose(duration, account="trial")
        assert (409, "trial_account") == (status, document["reason"])
        assert "until it is converted" in document["title"]


REFUSED = {
    "unknown duration": ({"assumption_duration": "fortnight"}, 422, "unknown_duration", "off, day, week"),
    "duration in capitals": ({"assumption_duration": "Day"}, 422, "unknown_duration", "off, day"),
    "empty duration": ({"assumption_duration": ""}, 422, "unknown_duration", "off, day"),
    "unknown permission": ({"permissions": ["read", "admin"]}, 422, "unknown_permission", "test_tickets"),
    "no permission": ({"permissions": []}, 422, "unknown_permission", "some of"),
    "nobody": ({"administrator": {"id": "", "roles": {"support": "admin"}}}, 400, "malformed", "administrator.id"),
    "duration is missing": ({"assumption_duration": None}, 400, "malformed", "assumption_duration"),
    "duration is a number": ({"assumption_duration": 1}, 400, "malformed", "assumption_duration"),
    "administrator is missing": ({"administrator": None}, 400, "malformed", "administrator"),
    "administrator is a text": ({"administrator": "owner"}, 400, "malformed", "administrator"),
    "roles are missing": ({"administrator": {"id": "o"}}, 400, "malformed", "roles"),
    "roles are a list": ({"administrator": {"id": "o", "roles": ["admin"]}}, 400, "malformed", "roles"),
    "assumed is a text": ({"administrator": {"id": "o", "roles": {}, "assumed": "no"}}, 400, "malformed", "assumed"),
    "an unknown member": ({"approved": True}, 400, "malformed", "approved"),
    "an unknown member of the administrator": (
        {"administrator": {"id": "o", "roles": {}, "is_owner": True}}, 400, "malformed", "is_owner",
    ),
    "permissions are a text": ({"permissions": "read"}, 400, "malformed", "permissions"),
}  # fmt: skip
WISH = {
    "assumption_duration": "day",
    "permissions": ["read"],
    "administrator": {"id": "o", "roles": {"support": "admin"}},
}


@shared
@pytest.mark.parametrize("case", REFUSED)
async def test_a_wish_that_does_not_fit_changes_nothing(world, case):
    """A refusal with its reason and a word of help, as problem details."""
    changes, expected, reason, words = REFUSED[case]
    wish = {name: value for name, value in (WISH | changes).items() if value is not None}
    status, headers, document = await show(world, "acme", method="PUT", body=json.dumps(wish))
    assert (expected, expected, reason) == (status, document["status"], document["reason"])
    assert f"urn:locum:grant:{reason}" == document["type"]
    assert words in document["title"]
    assert ("application/problem+json", "no-store") == (headers["Content-Type"], headers["Cache-Control"])
    assert 0 == (await show(world, "acme"))[2]["epoch"]


@shared
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", 400),
        (b"null", 400),
        (b"[]", 400),
        (b"{", 400),
        (b"assumption_duration=day", 400),
        (json.dumps(WISH).encode() + b"x", 400),
        (json.dumps(WISH).encode().replace(b'"o"', b'"\xff"'), 400),
        (json.dumps(WISH).encode().replace(b'"o"', b'"\\ud800"'), 400),
        (json.dumps(WISH).encode()[:-1] + b', "assumption_duration": "off"}', 400),
        (json.dumps(WISH).encode()[:-1] + b', "assumption_durati\\u006fn": "off"}', 400),
        (json.dumps(WISH).encode().replace(b'"id": "o"', b'"id": "o", "assumed": true, "assumed": false'), 400),
        (b"[" * 16_000, 400),
        (b'{"assumption_duration":' + b"[" * 16_000, 400),
        (json.dumps(WISH | {"pad": "x" * 17_000}).encode(), 413),
        (b" " * 16_385, 413),
    ],
)
async def test_a_body_that_is_no_wish_is_refused(world, body, expected):
    """Empty, other JSON, no JSON, not UTF-8, half a character, members twice, deep or long."""
    status, _, document = await show(world, "acme", method="PUT", body=body)
    assert (expected, "malformed") == (status, document["reason"])
    assert 0 == (await show(world, "acme"))[2]["epoch"]


@shared
@pytest.mark.parametrize("account", ["nobody", "ACME", "acme%00", "acme%20", "acme'--"])
async def test_an_account_that_is_not_there_is_not_made(world, account):
    """Neither reading nor choosing adds it, and no other spelling finds an existing one."""
    for method, body in (("GET", None), ("PUT", json.dumps(WISH))):
        status, _, document = await show(world, account, method=method, body=body)
        assert (404, "unknown_account") == (status, document["reason"])


def basic(name, secret):
    return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()


@shared
@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize(
    "authorization",
    ["", "Basic", "Bearer x", basic("app", "wrong"), basic("nobody", "x"), basic("", ""), basic("console", "plain")],
)
async def test_only_a_client_with_the_role_is_heard(world, method, authorization):
    """No credential, a wrong one, or that of the token API: not even whether the account exists is told."""
    for account in ("on", "nobody"):
        status, headers, document = await show(
            world,
            account,
            authorization=authorization,
            method=method,
            body=json.dumps(WISH) if method == "PUT" else None,
        )
        assert (401, "unauthenticated") == (status, document["reason"])
        assert 'Basic realm="locum"' == headers["WWW-Authenticate"]


@shared
async def test_an_assumption_token_opens_no_grant(world):
    """Staff who stand in cannot reach the setting with what lets them in."""
    token = await world.token(account="on")
    status, _, _ = await show(world, "on", authorization=f"Bearer {token}", method="PUT", body=json.dumps(WISH))
    assert 401 == status


@shared
async def test_the_setting_is_not_on_the_public_side(world):
    """What customers and staff can reach does not serve it: the path is the app's own."""
    url = f"{world.gateway.public_url}/api/v1/accounts/acme/assumption"
    async with world.http.put(url, json=WISH, headers={"Authorization": world.basic()}) as answer:
        assert (200, "ok") == (answer.status, await answer.text())
    assert b"/api/v1/accounts/acme/assumption" == world.upstream.requests[-1].target
    assert 0 == (await show(world, "acme"))[2]["epoch"]


@shared
@pytest.mark.parametrize("method", ["POST", "DELETE", "PATCH", "HEAD"])
async def test_no_other_method_is_served(world, method):
    """What is not in the documentation does not do something by chance."""
    assert 405 == (await show(world, "acme", method=method))[0]


# --- who is on record ---


async def test_who_chose_is_in_the_journal_and_the_history(tmp_path):
    """The administrator, the program that asked for them, what it was before and what it became."""
    async with open_world(tmp_path) as world:
        await world.choose("week", ["read", "test_tickets"])
        await world.choose("day", roles={"support": "agent"})
        await world.choose("off")
        enabled, refused, off = world.records(kind="grant")
        assert ("allow", "enabled", "acme", "owner", "app", "week", ["read", "test_tickets"], 1) == tuple(
            enabled[name]
            for name in (
                "decision", "reason", "account", "granted_by", "client_id", "duration", "permissions", "grant_epoch",
            )
        )  # fmt: skip
        assert (world.clock.now + timedelta(weeks=1)).isoformat() == enabled["expires_at"]
        assert ("deny", "not_administrator", 1) == (refused["decision"], refused["reason"], refused["grant_epoch"])
        assert ("allow", "turned_off", 2) == (off["decision"], off["reason"], off["grant_epoch"])
        assert enabled["grant_id"] == refused["grant_id"] == off["grant_id"]
        assert 3 == len({record["request_id"] for record in (enabled, refused, off)})
        assert {"127.0.0.1"} == {record["client_ip"] for record in (enabled, refused, off)}
        history = await world.gateway.store.list_changes(AccountId("acme"))
        assert [("owner", Change.TURNED_OFF), ("owner", Change.ENABLED)] == [
            (event.by, event.change) for event in history
        ]


async def test_what_cannot_be_recorded_does_not_change(tmp_path):
    """With a broken journal the account stays as it was."""
    async with open_world(tmp_path) as world:
        await world.gateway.journal.close()
        status, document = await world.choose("always")
        assert (503, "journal_unavailable") == (status, document["reason"])
        assert 0 == (await world.gateway.store.find_account(AccountId("acme"))).account.epoch


async def test_without_the_store_nothing_is_said(tmp_path):
    """An account that cannot be read is neither on nor off."""
    async with open_world(tmp_path) as world:
        await world.gateway.store.close()
        for method, body in (("GET", None), ("PUT", json.dumps(WISH))):
            status, headers, document = await show(world, "acme", method=method, body=body)
            assert (503, "store_unavailable", "1") == (status, document["reason"], headers["Retry-After"])


async def test_choices_at_once_all_count_one_after_the_other(tmp_path):
    """Nobody's choice is lost or decided on older facts: as many epochs as changes."""
    async with open_world(tmp_path) as world:
        wishes = ["day", "week", "month", "year"]
        answers = await asyncio.gather(*[world.choose(wish) for wish in wishes])
        assert [200] * 4 == [status for status, _ in answers]
        changed = [document for _, document in answers if document["change"] != "unchanged"]
        assert list(range(1, len(changed) + 1)) == sorted(document["epoch"] for document in changed)
        history = await world.gateway.store.list_changes(AccountId("acme"))
        assert len(changed) == len(history)
        last = max(changed, key=lambda document: document["epoch"])
        assert without(last, "change") == (await show(world, "acme"))[2]


# --- the service by itself ---


class Busy(MemoryStore):
    """A store in which somebody else is always a moment faster, so many times."""

    def __init__(self, times):
        super().__init__()
        self.times = times
        self.reads = 0

    async def find_account(self, account):
        self.reads += 1
        return await super().find_account(account)

    async def save_change(self, change, *, by, at):
        if self.times:
            self.times -= 1
            raise StoreConflict("the account has changed meanwhile")
        await super().save_change(change, by=by, at=at)


class Notes:
    """An audit log that keeps its records, or cannot: implements AuditLog."""

    healthy = True

    def __init__(self, *, broken=False):
        self.records = []
        self.broken = broken

    async def append(self, record, *, durable=False):
        if self.broken:
            raise JournalError("the disk is full")
        assert durable, "a change of a grant survives a crash of the machine"
        self.records.append(record)
        return len(self.records)

    async def close(self):
        pass


def service_on(store, journal, changed):
    accepted = frozenset({"admin"})
    return GrantService(
        store, journal, accepted_roles=accepted, clock=lambda: NOON, changed=lambda r: changed.append(r) or 0
    )


def wish(account="acme", duration=Duration.DAY):
    return ChangeRequest(
        account=AccountId(account),
        duration=duration,
        permissions=frozenset({Permission.READ}),
        administrator=Administrator(id="owner", roles={"support": "admin"}),
    )


@pytest.mark.parametrize(("times", "done"), [(0, True), (1, True), (4, True), (5, False)])
async def test_a_choice_on_older_facts_is_made_again_on_newer_ones(times, done):
    """Up to five times; then the caller hears that nothing was done. What is told of has been stored."""
    store, journal, changed = Busy(times), Notes(), []
    await store.add_account(Account(id=AccountId("acme"), type=AccountType.PAID))
    service = service_on(store, journal, changed)
    if done:
        outcome = await service.choose(wish())
        assert (Change.ENABLED, times + 1) == (outcome.change, store.reads)
        assert [outcome.account] == [record.account for record in changed]
        # Each try that came to nothing is taken back on the record: one `enabled` is left standing.
        said = [record.reason for record in journal.records]
        assert ["enabled", "overtaken"] * times + ["enabled"] == said
        return
    with pytest.raises(StoreError):
        await service.choose(wish())
    assert [] == changed
    assert 0 == (await MemoryStore.find_account(store, AccountId("acme"))).account.epoch


async def test_the_record_comes_first():
    """A journal that fails leaves the store untouched and tells nobody of a change."""
    store, changed = Busy(0), []
    await store.add_account(Account(id=AccountId("acme"), type=AccountType.PAID))
    with pytest.raises(JournalError):
        await service_on(store, Notes(broken=True), changed).choose(wish())
    assert (0, []) == ((await store.find_account(AccountId("acme"))).account.epoch, changed)


async def test_only_a_trial_is_converted():
    """Conversion of a paid account is refused and recorded; of an unknown one there is nothing to record."""
    store, journal, changed = Busy(0), Notes(), []
    for name, kind in (("acme", AccountType.PAID), ("new", AccountType.TRIAL)):
        await store.add_account(Account(id=AccountId(name), type=kind))
    service = service_on(store, journal, changed)
    assert GrantRefusal.NOT_A_TRIAL == await service.convert(AccountId("acme"), by="billing")
    assert Change.CONVERTED == (await service.convert(AccountId("new"), by="billing")).change
    assert GrantRefusal.NOT_A_TRIAL == await service.convert(AccountId("new"), by="billing")
    with pytest.raises(UnknownAccount):
        await service.convert(AccountId("nobody"), by="billing")
    assert [("deny", "not_a_trial"), ("allow", "converted"), ("deny", "not_a_trial")] == [
        (record.decision, record.reason) for record in journal.records
    ]
    assert ["new"] == [record.account.id for record in changed]


async def test_the_admin_listener_closes_with_the_gateway(tmp_path):
    """Nothing answers any more once the gateway has ended."""
    async with open_world(tmp_path) as world:
        url = f"{world.gateway.admin_url}/healthz"
        assert 200 == (await world.http.get(url)).status
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientConnectorError):
            await http.get(url)
