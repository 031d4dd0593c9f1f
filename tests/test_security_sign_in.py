"""Signing in to the security team's console at an identity provider: who gets in as what, and what gets nobody in."""

import asyncio
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from gateway.config.load import build
from policy.model import ActorId
from tests.gateway_world import AUDIENCE, ISSUER, document
from tests.provider_world import STAFF_HOST, Browser, Provider
from tests.security_world import CLIENT_ID, ORIGIN, PATH, at_provider, open_guard, open_guard_at_provider

ENTRY = "__Host-locum-entry"


async def test_signing_out_says_where_to_sign_out_as_well(tmp_path):
    """The session here is over at once; the provider's own goes on until the person ends it there."""
    async with open_guard_at_provider(tmp_path) as guard:
        await guard.enter_at_provider()
        left = await guard.do("sign-out")
        assert 200 == left.status
        assert f"{guard.world.issuer.issuer}/end?" in left.text
        assert "post_logout_redirect_uri=https%3A%2F%2Flocum.vendor.example%2Fconsole" in left.text
        assert 303 == (await guard.page()).status


async def test_what_the_provider_says_makes_an_auditor_or_an_operator(tmp_path):
    """By the values of the configured claim; each sign-in is on the record, with who it was."""
    async with open_guard_at_provider(tmp_path) as guard:
        entered = await guard.enter_at_provider()
        assert (303, PATH) == (entered.status, entered.headers["location"])
        page = await guard.page()
        assert "Sam Sentry" in page.text
        assert "auditor" in page.text
        assert 403 == (await guard.do("kill-switch", set="on", reason="x", confirm="yes")).status
        boss = guard.another()
        assert 303 == (await boss.enter_at_provider("olga", groups=["security-operators", "x"], name="Olga Op")).status
        assert 303 == (await boss.do("kill-switch", set="on", reason="incident 7", confirm="yes")).status
        switch = await guard.world.gateway.store.find_kill_switch()
        assert (True, "olga", "incident 7") == (switch.on, switch.by, switch.reason)
        records = guard.world.records(kind="audit", reason="signed_in")
        assert ["sam", "olga"] == [record["by"] for record in records]
        [asked, _] = guard.world.issuer.asked
        assert f"{ORIGIN}/console/sign-in/callback" == asked[1]["redirect_uri"]


NOBODYS = (
    {"groups": ["support"]},
    {"groups": []},
    {"groups": ["Security"]},
    {"groups": [["security"], {"security": 1}]},
    {"groups": ["security "]},
    {"act": {"sub": "eve"}},
    {"may_act": {"sub": "eve"}},
)


async def test_nobody_else_is_let_in(tmp_path):
    """A person without a value that counts gets no session, and that they tried is on the record."""
    async with open_guard_at_provider(tmp_path) as guard:
        for number, claims in enumerate(NOBODYS):
            answer = await guard.enter_at_provider(f"mallory{number}", **claims)
            assert 403 == answer.status, claims
            assert "" == guard.cookie
            assert 303 == (await guard.page()).status
        records = guard.world.records(kind="audit", reason="no_role", decision="deny")
        assert [f"mallory{number}" for number in range(len(NOBODYS))] == [record["by"] for record in records]


@pytest.mark.parametrize(
    ("required", "claims", "status"),
    [
        ({"require_amr": ["mfa"]}, {"amr": ["pwd"]}, 403),
        ({"require_amr": ["mfa"]}, {"amr": ["pwd", "mfa"]}, 303),
        ({"require_acr": ["high"]}, {"acr": "low"}, 403),
        ({"require_acr": ["high"]}, {}, 403),
        ({"require_acr": ["high"]}, {"acr": "high"}, 303),
    ],
)
async def test_a_sign_in_has_to_be_as_strong_as_is_asked(required, claims, status, tmp_path):
    """The context and the methods that are required have to be in the ID token."""
    async with open_guard_at_provider(tmp_path, change=lambda doc: at_provider(doc, **required)) as guard:
        assert status == (await guard.enter_at_provider(**claims)).status


async def test_a_sign_in_that_grows_too_old_counts_no_more(tmp_path):
    """`max_age_seconds` is asked of the provider, and looked at again at each request."""
    async with open_guard_at_provider(tmp_path, change=lambda doc: at_provider(doc, max_age_seconds=600)) as guard:
        assert 303 == (await guard.enter_at_provider(auth_time=guard.world.clock.now)).status
        assert 200 == (await guard.page()).status
        guard.world.clock.forward(seconds=700)
        assert 403 == (await guard.page()).status


async def _callback(guard, **changes):
    """Come back with a good answer in which something is another."""
    query = dict(parse_qsl(guard.world.issuer.consent(await guard.begin(), "sam", audience=CLIENT_ID,
                                                      groups=["security"])))  # fmt: skip
    query = {name: value for name, value in (query | changes).items() if value is not None}
    return await guard.come_back(urlencode(query))


UNFIT = (
    {"state": "x" * 43},
    {"state": None},
    {"iss": "https://evil.example"},
    {"iss": None},
    {"code": "made-up"},
    {"code": None},
    {"error": "access_denied"},
)


async def test_an_answer_that_does_not_fit_gets_nobody_in(tmp_path):
    """Another state (CSRF), another provider's name (mix-up, RFC 9207), another code: no session begins."""
    async with open_guard_at_provider(tmp_path) as guard:
        for changes in UNFIT:
            answer = await _callback(guard, **changes)
            assert answer.status in (400, 403), changes
            assert "" == guard.cookie
        assert 303 == (await guard.page()).status


async def test_of_two_hundred_answers_at_once_one_signs_in(tmp_path):
    """The same code and cookie on 200 connections: the provider is asked once, and one session begins."""
    async with open_guard_at_provider(tmp_path) as guard:
        issuer = guard.world.issuer
        query = issuer.consent(await guard.begin(), "sam", audience=CLIENT_ID, groups=["security"])
        copies = [guard.another() for _ in range(200)]
        for one in copies:
            one.cookies = dict(guard.cookies)
        answers = await asyncio.gather(*(one.come_back(query) for one in copies))
        # 429 and 503 are for more at a time than an address may have.
        assert {answer.status for answer in answers} <= {303, 400, 429, 503}
        assert [1, 1] == [[answer.status for answer in answers].count(303), sum(bool(one.cookie) for one in copies)]
        copies[0].cookies = dict(guard.cookies)
        assert 400 == (await copies[0].come_back(query)).status
        assert (1, 1) == (len(issuer.asked), len(guard.world.records(kind="audit", reason="signed_in")))


async def test_an_answer_counts_once_and_in_its_own_browser(tmp_path):
    """A stolen callback is worth nothing elsewhere, and none is taken twice, cookie and all."""
    async with open_guard_at_provider(tmp_path) as guard:
        issuer = guard.world.issuer
        query = issuer.consent(await guard.begin(), "sam", audience=CLIENT_ID, groups=["security"])
        attempt = dict(guard.cookies)
        thief = guard.another()
        await thief.begin()
        assert 400 == (await thief.come_back(query)).status
        assert 400 == (await guard.another().come_back(query)).status
        assert 303 == (await guard.come_back(query)).status
        assert ENTRY not in guard.cookies
        replay = guard.another()
        replay.cookies = attempt
        assert not guard.world.records(kind="audit", reason="answer_used")
        assert 400 == (await replay.come_back(query)).status
        assert 1 == len(guard.world.records(kind="audit", reason="answer_used")), "it came a second time"
        # Nor with a second code for the very same attempt.
        [code] = [parse_qsl(query)[0][1]]
        issuer.codes[code] = (dict(parse_qsl(urlsplit(await guard.another().begin()).query)), "sam", {})
        again = guard.another()
        again.cookies = attempt
        assert 400 == (await again.come_back(query)).status
        assert "" == again.cookie + replay.cookie


OF_ANOTHER = (
    {"nonce": "another"},
    {"audience": "somebody-else"},
    {"audience": AUDIENCE},
    {"azp": "somebody-else"},
    {"exp": 1},
    {"events": {}},
)


async def test_an_id_token_of_another_sign_in_gets_nobody_in(tmp_path):
    """Another nonce (replay), another client's, staff's own among them, an old one, another kind of token."""
    async with open_guard_at_provider(tmp_path) as guard:
        for claims in OF_ANOTHER:
            answer = await guard.enter_at_provider(**claims)
            assert 400 == answer.status, claims
            assert "" == guard.cookie
        assert len(OF_ANOTHER) == len(guard.world.records(kind="audit", reason="code_refused"))


async def test_an_answer_for_staffs_page_is_none_for_the_console(tmp_path):
    """Their attempts have cookies and addresses of their own, also where one client of the provider serves both."""

    def change(document):
        document["staff"]["sign_in"] = {"client_id": AUDIENCE}
        at_provider(document, client_id=AUDIENCE)

    async with open_guard_at_provider(tmp_path, change=change) as guard:
        browser = Browser(guard.world)
        begun = await browser.send("/.locum/sign-in", host=STAFF_HOST)
        query = guard.world.issuer.consent(begun.location, "dana", groups=["security-operators"])
        guard.cookies[ENTRY] = browser.cookies["__Host-locum-sign-in"]
        # Even with the cookie planted, the code was given for another redirect URI.
        assert 400 == (await guard.come_back(query)).status
        assert "" == guard.cookie
        assert begun.location.count(f"{urlencode({'u': ISSUER})[2:]}%2F.locum%2Fsign-in%2Fcallback") == 1


async def test_another_sites_link_begins_no_sign_in(tmp_path):
    """It leads to the page where the person begins it; HEAD begins and ends none."""
    async with open_guard_at_provider(tmp_path) as guard:
        led = await guard.page(f"{PATH}/sign-in/begin", "Sec-Fetch-Site: cross-site")
        assert (303, f"{PATH}/sign-in") == (led.status, led.headers["location"])
        assert {} == guard.cookies
        for target in ("begin", "callback?code=x&state=y"):
            assert 405 == (await guard.ask(f"{PATH}/sign-in/{target}", method="HEAD")).status


async def test_whoever_was_locked_out_or_signed_out_is_out_here_too(tmp_path):
    """A lock as staff, and the provider's own word of a sign-out, count at the next request and for its streams."""
    async with open_guard_at_provider(tmp_path) as guard:
        world = guard.world
        await guard.enter_at_provider()
        boss = guard.another()
        await boss.enter_at_provider("olga", groups=["security-operators"])
        store, issuer = world.gateway.store, world.issuer.issuer
        at = world.clock.now
        await store.sign_out(ActorId(issuer=issuer, subject="sam"), since=at, at=at)
        assert 303 == (await guard.page()).status
        world.clock.forward(seconds=60)
        assert 303 == (await guard.enter_at_provider()).status
        assert 200 == (await guard.page()).status
        await boss.do("staff", issuer=issuer, subject="sam", do="lock", confirm="yes")
        barred = await guard.page()
        assert 403 == barred.status
        assert "locked out" in barred.text


async def test_a_list_that_is_changed_counts_at_once(tmp_path):
    """Whoever is taken from the configuration's lists is out with the reload, though the provider says the same."""
    async with open_guard_at_provider(tmp_path) as guard:
        await guard.enter_at_provider()
        assert 200 == (await guard.page()).status
        wanted = document(tmp_path, upstream=guard.world.upstream.url, issuer=guard.world.issuer.issuer)
        at_provider(wanted, auditors=["others"])
        await guard.world.gateway.renew(build(wanted, {}, base=tmp_path))
        assert 403 == (await guard.page()).status


async def test_a_provider_of_its_own(tmp_path):
    """The console may have another provider than staff: its people are not staff's, whatever their names are."""
    async with Provider() as other:

        def change(document):
            at_provider(document, issuer=other.issuer)

        async with open_guard(tmp_path, change=change, origin=ORIGIN, issuer_class=Provider) as guard:
            query = other.consent(await guard.begin(), "sam", audience=CLIENT_ID, groups=["security"])
            assert 303 == (await guard.come_back(query)).status
            # Of a namesake at staff's provider nothing is told here.
            at = guard.world.clock.now
            namesake = ActorId(issuer=guard.world.issuer.issuer, subject="sam")
            await guard.world.gateway.store.sign_out(namesake, since=at, at=at)
            assert 200 == (await guard.page()).status


async def test_a_provider_that_is_away_lets_nobody_in(tmp_path):
    """It is said, and a client's secret is a way in still."""

    async with open_guard_at_provider(
        tmp_path, change=lambda doc: at_provider(doc, issuer="http://127.0.0.1:9")
    ) as guard:
        answer = await guard.page(f"{PATH}/sign-in/begin", "Sec-Fetch-Site: same-origin")
        assert 503 == answer.status
        await guard.enter("boss", "operate")
        assert 200 == (await guard.page()).status
