"""Floods by a customer's own provider: what they cost is bounded, and nobody else notices."""

import asyncio
import json
import sqlite3
from base64 import urlsafe_b64encode
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from functools import partial
from types import SimpleNamespace

import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol

from gateway.caller import Caller
from gateway.console.account.customer_sign_in_opening import SIGN_OUTS_AT_ONCE, count_codes
from gateway.console.account.customer_sign_outs import CustomerSignOuts
from gateway.console.account.form_shares import ACCOUNT_MOST, PERSON_MOST
from gateway.console.sessions import Sessions
from gateway.staff.issuer import Issuer, IssuerError, may_lead_to
from gateway.staff.sign_in.provider import Provider
from gateway.stores.store import StoreError
from gateway.tokens.signing import read_jwks
from policy.events import LOGOUT, Notice
from policy.model import AccountId, ActorId, ClientId
from policy.times import LEEWAY
from tests.browser_world import STAFF
from tests.console_world import PATH
from tests.customer_sign_in_world import SESSION, Administrator, open_administrator, sign_in
from tests.journals import Ticks
from tests.memory_store import MemoryStore
from tests.rawwire import RecordingUpstream, response
from tests.test_customer_sign_in_logout import tell, told

CALLER = Caller(client_ip="10.0.0.1", user_agent=None, request_id="r")


@pytest.fixture
async def olivia(tmp_path):
    async with open_administrator(tmp_path) as administrator:
        yield administrator


async def test_made_up_people_use_up_the_share_of_their_account_alone(olivia):
    """However many a provider makes up and the account refuses, another account's refusals are each on the record."""
    for number in range(40):
        assert 403 == (await olivia.another().enter(f"mallory{number}", groups=["x"])).status
    seen = len(olivia.world.records(account="acme", reason="not_administrator"))
    assert 30 == seen, "one share for all whom this provider names"
    assert 403 == (await olivia.other.enter("ghost", groups=["x"])).status
    [record] = olivia.world.records(account="globex", reason="not_administrator")
    assert record["by"].endswith("#ghost")


async def test_only_an_administrator_is_forgiven_the_codes(olivia):
    """Whoever is no administrator has tried a code of their network's, valid as it was."""
    [table, *_] = olivia.world.gateway.config.console.account.sign_in
    tries = count_codes(table, olivia.world.gateway.store, olivia.world.clock.utc)
    for _ in range(198):
        assert await tries.take("127.0.0.1")
    assert [403, 403, 429] == [(await olivia.another().enter(groups=["x"])).status for _ in range(3)]


async def test_a_persons_sign_ins_are_bounded(olivia):
    """Each is a record and a session on the disk: after thirty at once a page asks them to wait, and nobody else."""
    statuses = [(await olivia.another().enter()).status for _ in range(PERSON_MOST + 1)]
    assert [303] * PERSON_MOST + [429] == statuses
    assert PERSON_MOST == len(olivia.world.records(reason="signed_in"))
    assert 303 == (await olivia.another().enter("oscar")).status
    olivia.world.clock.forward(seconds=6)
    assert 303 == (await olivia.another().enter()).status


async def test_sign_outs_of_made_up_people_are_recorded_by_a_share_and_all_carried_out(olivia):
    """What a provider tells costs the disk no more than the account's forms do; who signed out is out all the same."""
    await olivia.enter()
    for number in range(ACCOUNT_MOST + 5):
        assert 200 == await tell(olivia, told(olivia, sub=f"invented-{number}"))
    assert ACCOUNT_MOST == len(olivia.world.records(account="acme", reason="signed_out"))
    assert 200 == (await olivia.page()).status
    assert 200 == await tell(olivia, told(olivia))
    assert 403 == (await olivia.page()).status


def one_time_values(world):
    """Return how many the store holds."""
    with closing(sqlite3.connect(world.gateway.config.store_path)) as connection:
        return connection.execute("SELECT count(*) FROM one_time_values").fetchone()[0]


async def test_sign_outs_of_made_up_people_fill_no_store(olivia):
    """Beyond a share of each provider's all of its people are signed out together, and nobody of another's."""
    await olivia.enter()
    await olivia.other.enter()
    for number in range(SIGN_OUTS_AT_ONCE):
        assert 200 == await tell(olivia, told(olivia, sub=f"invented-{number}"))
    assert 200 == (await olivia.page()).status
    before = one_time_values(olivia.world)
    for number in range(20):
        assert 200 == await tell(olivia, told(olivia, sub=f"one-too-many-{number}"))
    assert before + 1 == one_time_values(olivia.world)
    assert [403, 200] == [(await one.page()).status for one in (olivia, olivia.other)]
    olivia.world.clock.forward(seconds=30)
    assert 303 == (await olivia.enter()).status
    assert 200 == (await olivia.page()).status, "who signs in again is in again"
    assert 200 == await tell(olivia, told(olivia))
    assert 403 == (await olivia.page()).status, "after a while they are told apart again"


async def test_claims_that_are_too_long_are_not_kept(tmp_path):
    """Eight kilobytes of what a session is kept with: whoever's provider says more of them is told so, and not in."""

    def tables(ours, theirs):
        return [sign_in(ours, "acme", userinfo_claims=["roles"], claim="roles"), sign_in(theirs, "globex")]

    def says(request):
        return response(json.dumps({"sub": "olivia", "roles": roles}).encode())

    async with open_administrator(tmp_path, tables=tables) as olivia, RecordingUpstream(says) as upstream:
        olivia.provider.metadata["userinfo_endpoint"] = f"{upstream.url}/userinfo"
        roles = ["helpdesk-admins", *(str(number) * 50 for number in range(100, 140))]
        assert 303 == (await olivia.enter()).status
        assert 200 == (await olivia.page()).status
        roles *= 2
        other = olivia.another()
        answer = await other.enter()
        assert (403, "", True) == (answer.status, other.session, "claims_long" in answer.text)
        assert 1 == len(olivia.world.records(account="acme", reason="claims_long"))


LEADS = {
    "https://login.acme.example": {"https://keys.example/x": True, "http://127.0.0.1:9470/admin?x": False},
    "https://localhost": {"http://localhost/": False},
    "http://127.0.0.1:1": {"http://localhost:2/": True, "http://10.0.0.1/": False, "ftp://127.0.0.1/": False},
}


def test_an_issuer_elsewhere_leads_to_nothing_on_this_machine():
    """Plain HTTP on loopback is for an issuer that is there itself; nobody else's documents choose what we ask here."""
    for issuer, urls in LEADS.items():
        assert urls == {url: may_lead_to(issuer, url) for url in urls}


class Documents:
    """An HTTP client by which an issuer elsewhere answers with its document to whatever it is asked."""

    def __init__(self, document):
        self.document = json.dumps(document).encode()
        self.asked = []

    @asynccontextmanager
    async def get(self, url, **_options):
        self.asked.append(str(url))
        content = StreamReader(BaseProtocol(asyncio.get_running_loop()), 2**16)
        content.feed_data(self.document)
        content.feed_eof()
        yield SimpleNamespace(status=200, content=content)


async def test_neither_keys_nor_codes_are_asked_for_on_this_machine():
    """`jwks_uri` and every endpoint of an issuer that is elsewhere: nothing of ours is asked in its name."""
    there, here = "https://login.acme.example", "http://127.0.0.1:9470/v1/x?y"
    http = Documents({"issuer": there, "jwks_uri": here})
    with pytest.raises(IssuerError, match="https"):
        await Issuer(there, http=http, ticks=Ticks()).metadata()
    assert [f"{there}/.well-known/openid-configuration"] == http.asked
    right = {"authorization_endpoint": f"{there}/a", "token_endpoint": f"{there}/t"}
    for name in (*right, "end_session_endpoint"):
        known = SimpleNamespace(issuer=there, metadata=partial(_known, right | {name: here}))
        with pytest.raises(IssuerError, match="https"):
            await Provider.endpoints(SimpleNamespace(_issuer=known, issuer=there))


async def _known(document):
    return document


async def test_first_sign_ins_at_once_all_begin(olivia):
    """While the provider is asked for the first time, whoever else comes waits for what it says."""
    browsers = [olivia.another() for _ in range(5)]
    led = await asyncio.gather(*(one.page(f"{PATH}/sign-in", site="same-origin") for one in browsers))
    assert [303] * 5 == [answer.status for answer in led]


async def test_a_sign_out_that_was_told_is_never_lost(olivia):
    """The store fails while a later one is told: the sessions that the first one has ended stay ended."""

    class Failing(MemoryStore):
        async def add_one_time(self, *args, **options):
            if self.fails:
                raise StoreError("away")
            await super().add_one_time(*args, **options)

        async def swap_one_time(self, *args, **options):
            if self.fails:
                raise StoreError("away")
            return await super().swap_one_time(*args, **options)

    store, clock = Failing(), olivia.world.clock
    store.fails = False
    at, hour = clock.now, timedelta(hours=1)
    sessions = Sessions(store, clock.utc, place=b"p", idle=hour, absolute=hour)
    claims = {"sub": "olivia", "iss": "https://i"}
    value = await sessions.begin("olivia", "openid", signed_in_at=at, issuer="https://i", claims=claims)
    outs = CustomerSignOuts(
        AccountId("acme"),
        issuer="https://i",
        client_id="c",
        client=ClientId("console"),
        longest=hour,
        store=store,
        tell_ended=partial(asyncio.sleep, 0),
        journal=olivia.world.gateway.journal,
        may_record=lambda _account, _person: False,
        may_keep=lambda: True,
        clock=clock.utc,
    )
    first, later = (
        Notice(id=str(n), event=LOGOUT, person=ActorId("https://i", "olivia"), account=None, issued_at=at + n * LEEWAY)
        for n in range(2)
    )
    await outs.carry_out(first, CALLER)
    store.fails = True
    with pytest.raises(StoreError):
        await outs.carry_out(later, CALLER)
    assert await outs.is_over(await sessions.find(value, counts=False))


async def test_a_cookie_with_two_readings_signs_nobody_out_and_is_no_staff_session(olivia):
    """It is said to be refused, never that nobody was signed in; nothing of staff's is on the record by it."""
    await olivia.enter()
    form, held = await olivia.form(), olivia.session
    tossed = [f"{SESSION}={held}; a={SESSION}"]
    answer = await olivia.change("sign-out", {"form_token": form}, cookies=tossed)
    assert "Nobody was signed in" not in answer.text
    assert answer.status in (400, 403)
    answer = await olivia.page(cookies=[f"{SESSION}={held}; a={STAFF}{STAFF}"])
    assert answer.status in (400, 403)
    assert [] == olivia.world.records(reason="never_allowed")
    assert 200 == (await olivia.page()).status


async def test_odd_times_and_subjects_are_refused_by_name(olivia):
    """A time that no clock has gets nobody in, and no `sub` that is none stands in the record."""
    assert 400 == (await olivia.enter(iat=-(10**400))).status
    assert 403 == (await olivia.another().enter("x\n" + "A" * 3000)).status
    [record] = olivia.world.records(account="acme", reason="subject_odd")
    assert None is record.get("by")


async def test_a_provider_that_is_away_fills_no_log(tmp_path, caplog):
    """Whoever asks for its sign-in again and again is told each time, and the log at most once a second."""
    async with open_administrator(tmp_path) as olivia:
        olivia.provider.metadata["authorization_endpoint"] = "http://evil.example/"
        for _ in range(20):
            assert 503 == (await olivia.page(f"{PATH}/sign-in", site="same-origin")).status
    assert 20 > sum("can sign in to its page" in record.getMessage() for record in caplog.records)


async def test_nobody_signs_in_for_an_account_that_is_not_there(tmp_path):
    """Whatever name a provider for all the others puts into its claims: no session begins, nothing is recorded."""
    async with open_administrator(tmp_path, tables=lambda ours, _: [sign_in(ours, account_claim="org")]) as olivia:
        nobody = Administrator(olivia.world, olivia.provider, "nosuch")
        assert 404 == (await nobody.page(f"{PATH}/sign-in", site="same-origin")).status
        assert 404 == (await nobody.come_back("code=x&state=y")).status
        assert [] == olivia.world.records(account="nosuch")
        assert 303 == (await olivia.enter(org="acme")).status


@pytest.mark.parametrize(("bits", "exponent"), [(16384, 65537), (3072, (1 << 3071) | 1)])
def test_keys_that_take_seconds_are_passed_over(bits, exponent):
    """A modulus over 8192 bits, an exponent over 32: as any other key that cannot be used."""
    modulus = (1 << (bits - 1)) | (1 << (bits // 2)) | (1 << (bits - 2)) | 1
    key = {"kty": "RSA", "kid": "1", "n": number(modulus), "e": number(exponent)}
    assert () == read_jwks({"keys": [key]})
    assert read_jwks({"keys": [key | {"n": number((1 << 3071) | (1 << 99) | 1), "e": "AQAB"}]})


def number(value):
    return urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8)).rstrip(b"=").decode()
