"""The sign-in at a customer's own provider against those who must not get in: by answers, tokens, accounts, sites."""

import asyncio
import base64
import hashlib
import hmac
import json
from urllib.parse import parse_qsl, urlencode

import pytest

from gateway.console.account.customer_sign_in_opening import count_codes
from gateway.console.account.log_view import describe
from gateway.demo.issuer import sign
from tests.browser_world import ASSUMPTION, STAFF
from tests.browser_world import Browser as Staff
from tests.console_world import PATH
from tests.customer_sign_in_world import (
    ADMINS,
    ARRIVAL,
    CALLBACK,
    CLIENT,
    SESSION,
    Administrator,
    open_administrator,
    sign_in,
)
from tests.gateway_world import AUDIENCE
from tests.provider_world import Provider

FORMS = ("setting", "off", "end", "end-all", "sign-out")


@pytest.fixture
async def olivia(tmp_path):
    async with open_administrator(tmp_path) as administrator:
        yield administrator


def is_in(answer):
    return answer.status == 303 and f"{SESSION}=" in " ".join(answer.all("set-cookie"))


# Whose claims count.


NOBODYS = (
    ({"roles": None}, "claim_missing"),
    ({"roles": []}, "not_administrator"),
    ({"roles": ["staff"]}, "not_administrator"),
    ({"roles": ["Helpdesk-Admins"]}, "not_administrator"),
    ({"roles": ["helpdesk-admins "]}, "not_administrator"),
    ({"roles": ["helpdesk-admins-emea", "no-helpdesk-admins"]}, "not_administrator"),
    ({"roles": "staff helpdesk-admins"}, "not_administrator"),
    ({"roles": "helpdesk"}, "not_administrator"),
    ({"roles": {"helpdesk-admins": True}}, "claim_odd"),
    ({"roles": [["helpdesk-admins"]]}, "claim_odd"),
    ({"roles": ["helpdesk-admins", 1]}, "claim_odd"),
    ({"roles": True}, "claim_odd"),
    ({"roles": ADMINS, "act": {"sub": "eve"}}, "on_behalf"),
    ({"roles": ADMINS, "may_act": {"sub": "eve"}}, "on_behalf"),
)


async def test_nobody_else_is_let_in(tmp_path):
    """Exact values of the one claim, a text or a list of texts; whoever is refused is told, and is on the record."""
    async with open_administrator(
        tmp_path, tables=lambda ours, _theirs: [sign_in(ours, "acme", claim="roles")]
    ) as olivia:
        for number, (claims, reason) in enumerate(NOBODYS):
            answer = await olivia.enter(f"mallory{number}", **claims)
            assert (403, "") == (answer.status, olivia.session), claims
            assert "This page is not for you" in answer.text
            assert "fresh=1" in answer.text
            by = f"{olivia.provider.issuer}#mallory{number}"
            [record] = olivia.world.records(kind="audit", decision="deny", by=by)
            assert (reason, "acme") == (record["reason"], record["account"])
            assert "Wanted to sign in to this account’s page" == describe(record).what
        assert [] == olivia.world.records(reason="signed_in")
        assert 403 == (await olivia.page()).status
        assert is_in(await olivia.enter(roles=ADMINS[0])), "a text counts as well"


@pytest.mark.parametrize("subject", ["a\nb", "a\u202eb", "x" * 256, " a", "é"])
async def test_a_name_that_could_be_anothers_is_nobodys(olivia, subject):
    """A subject that a record could not hold, or a person take for another, lets nobody in."""
    assert (403, "") == ((await olivia.enter(subject)).status, olivia.session)


async def test_what_the_provider_calls_people_is_shown_and_never_believed(olivia):
    """Markup is escaped, nothing turns the text around it, and a stolen name gives nobody's rights."""
    answer = await olivia.enter("mallory", groups=[], name="<b>\u202eOlivia Owner</b>" + "x" * 500)
    assert "&lt;b&gt;Olivia Owner" in answer.text
    assert "\u202e" not in answer.text
    assert "x" * 150 not in answer.text


MAIL = {"claim": "email", "administrators": ["olivia@acme.example"]}


@pytest.mark.parametrize(
    ("required", "claims", "status"),
    [
        ({"require_amr": ["mfa"]}, {"amr": ["pwd"]}, 403),
        ({"require_amr": ["mfa"]}, {"amr": ["pwd", "mfa"]}, 303),
        ({"require_acr": ["high"]}, {"acr": "low"}, 403),
        ({"require_acr": ["high"]}, {"acr": "high"}, 303),
        (MAIL, {"email": "olivia@acme.example"}, 403),
        (MAIL, {"email": "olivia@acme.example", "email_verified": "true"}, 403),
        (MAIL, {"email": "olivia@acme.example", "email_verified": True}, 303),
        (MAIL, {"email": "Olivia@acme.example", "email_verified": True}, 403),
        ({"account_claim": "org"}, {"org": "globex"}, 403),
        ({"account_claim": "org"}, {"org": "acme"}, 303),
    ],
)
async def test_more_may_be_asked_of_a_sign_in(required, claims, status, tmp_path):
    """Methods, contexts, the account's name; and a mail address counts only if the provider vouches for it."""
    async with open_administrator(tmp_path, tables=lambda ours, _theirs: [sign_in(ours, "acme", **required)]) as olivia:
        assert status == (await olivia.enter(**claims)).status


async def test_a_sign_in_that_grows_too_old_counts_no_more(tmp_path):
    """`max_age_seconds` is asked of the provider, and looked at again at each request."""

    def tables(ours, _theirs):
        return [sign_in(ours, "acme", max_age_seconds=600)]

    async with open_administrator(tmp_path, tables=tables) as olivia:
        location = await olivia.begin()
        assert "max_age=600" in location
        now = olivia.world.clock.now
        assert 303 == (await olivia.come_back(olivia.consent(location, auth_time=now))).status
        assert 200 == (await olivia.page()).status
        olivia.world.clock.forward(seconds=700)
        page = await olivia.page()
        assert (403, True) == (page.status, "too long ago" in page.text)


# Answers that do not fit.


UNFIT = (
    {"state": "x" * 43},
    {"state": None},
    {"iss": "https://evil.example"},
    {"iss": None},
    {"code": "made-up"},
    {"code": None},
    {"error": "access_denied"},
)


async def test_an_answer_that_does_not_fit_gets_nobody_in(olivia):
    """Another state (CSRF), another provider's name (mix-up, RFC 9207), another code: no session begins."""
    for changes in UNFIT:
        query = dict(parse_qsl(olivia.consent(await olivia.begin())))
        query = {name: value for name, value in (query | changes).items() if value is not None}
        answer = await olivia.come_back(urlencode(query))
        assert (answer.status in (400, 403), "") == (True, olivia.session), changes
    declined = dict(parse_qsl(olivia.consent(await olivia.begin())))
    del declined["code"]
    answer = await olivia.come_back(urlencode(declined | {"error": "access_denied"}))
    assert (403, True) == (answer.status, "you declined" in answer.text)
    assert [] == olivia.world.records(reason="signed_in")


async def test_an_answer_counts_once_and_in_its_own_browser(olivia):
    """A stolen callback is worth nothing elsewhere, and an attempt is good for one code, cookie and all."""
    query = olivia.consent(await olivia.begin())
    attempt = dict(olivia.cookies)
    thief = olivia.another()
    await thief.begin()
    assert [400, 400] == [(await one.come_back(query)).status for one in (thief, olivia.another())]
    assert is_in(await olivia.come_back(query))
    asked = len(olivia.provider.asked)
    replay = olivia.another()
    replay.cookies = dict(attempt)
    again = dict(parse_qsl(query))
    for code in (again["code"], "another"):
        assert 400 == (await replay.come_back(urlencode(again | {"code": code}))).status
        replay.cookies = dict(attempt)
    assert asked == len(olivia.provider.asked), "it was not even asked"
    assert 1 == len(olivia.world.records(reason="signed_in"))


async def test_of_two_hundred_answers_at_once_one_signs_in(olivia):
    """The same code and cookie on 200 connections: the provider is asked once, and one session begins."""
    query = olivia.consent(await olivia.begin())
    copies = [olivia.another() for _ in range(200)]
    for one in copies:
        one.cookies = dict(olivia.cookies)
    answers = await asyncio.gather(*(one.come_back(query) for one in copies))
    # 429 and 503 are for more at a time than an account, or an address, may have.
    assert {answer.status for answer in answers} <= {303, 400, 429, 503}
    assert [1, 1] == [sum(map(is_in, answers)), sum(bool(one.session) for one in copies)]
    copies[0].cookies = dict(olivia.cookies)
    assert 400 == (await copies[0].come_back(query)).status
    assert (1, 1) == (len(olivia.provider.asked), len(olivia.world.records(reason="signed_in")))


async def test_a_sign_in_that_takes_too_long_is_begun_again(olivia):
    """An attempt is over after ten minutes, whoever has kept its cookie."""
    query = olivia.consent(await olivia.begin())
    olivia.world.clock.forward(minutes=10)
    assert (400, "") == ((await olivia.come_back(query)).status, olivia.session)


def forged(provider, kind, nonce):
    """An ID token with all the right claims that is not signed as it must be."""
    now = int(provider._clock().timestamp())
    claims = {"iss": provider.issuer, "sub": "olivia", "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": nonce}
    claims["groups"] = ADMINS
    kid, key = provider._signing["RS256"]
    if kind == "logout token":
        return sign({"alg": "RS256", "typ": "logout+jwt", "kid": kid}, claims, key=key)
    header = {"alg": {"none": "none"}.get(kind, "HS256"), "kid": kid}
    head, body = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims))
    made = hmac.digest(b"s" * 32, head + b"." + body, hashlib.sha256) if kind == "HS256" else b""
    return b".".join((head, body, base64.urlsafe_b64encode(made).rstrip(b"="))).decode()


@pytest.mark.parametrize("kind", ["none", "HS256", "logout token"])
async def test_a_token_that_is_not_signed_as_an_id_token_is_none(kind, tmp_path):
    """No algorithm, the client's secret as a key, another kind of token: with every claim right."""

    def tables(ours, _theirs):
        return [sign_in(ours, "acme", client_secret="s" * 32)]

    async with open_administrator(tmp_path, tables=tables) as olivia:
        location = await olivia.begin()
        nonce = dict(parse_qsl(location.partition("?")[2]))["nonce"]
        olivia.provider.answer = {"id_token": forged(olivia.provider, kind, nonce)}
        assert (400, "") == ((await olivia.come_back(olivia.consent(location))).status, olivia.session)
        assert 1 == len(olivia.world.records(kind="audit", reason="code_refused", account="acme"))


OF_ANOTHER = (
    {"nonce": "another"},
    {"audience": "somebody-else"},
    {"audience": AUDIENCE},
    {"azp": "somebody-else"},
    {"exp": 1},
    {"iat": 1},
    {"iss": "https://evil.example"},
    {"events": {}},
)


async def test_an_id_token_of_another_sign_in_gets_nobody_in(olivia):
    """Another nonce (replay), another client's, an expired one, another issuer's, another kind of token."""
    for claims in OF_ANOTHER:
        location = await olivia.begin()
        query = olivia.consent(location, **({} if "iss" in claims else claims))
        olivia.provider.claims = claims if "iss" in claims else {}
        assert (400, "") == ((await olivia.come_back(query)).status, olivia.session), claims
    assert len(OF_ANOTHER) == len(olivia.world.records(kind="audit", reason="code_refused"))


async def test_codes_that_are_no_good_are_counted(olivia):
    """Two hundred of one network in ten minutes: then that provider is asked nothing, and the others as before."""
    world = olivia.world
    [table, *_] = world.gateway.config.console.account.sign_in
    tries = count_codes(table, world.gateway.store, world.clock.utc)
    while await tries.take("127.0.0.1"):
        pass
    answer = await olivia.enter()
    assert (429, [], "") == (answer.status, olivia.provider.asked, olivia.session)
    assert is_in(await olivia.other.enter("gina"))
    world.clock.forward(minutes=10)
    assert is_in(await olivia.enter())


# Other accounts.


async def test_another_accounts_provider_answers_nothing_here(olivia):
    """Its callback, its code, its cookie at the other's host, with the attempt's cookie planted: nobody is in."""
    gina = olivia.other
    # Globex's whole answer at acme, and acme's attempt answered by globex's provider.
    theirs = gina.consent(await gina.begin(), "gina")
    ours = dict(parse_qsl(olivia.consent(await olivia.begin())))
    code = dict(parse_qsl(theirs))["code"]
    planted = olivia.another()
    planted.cookies[ARRIVAL] = gina.cookies[ARRIVAL]
    assert 400 == (await planted.come_back(theirs)).status
    for query in (theirs, urlencode(ours | {"iss": gina.provider.issuer}), urlencode(ours | {"code": code})):
        assert 400 == (await olivia.come_back(query)).status
        assert "" == olivia.session
    assert is_in(await gina.come_back(theirs)), "where it belongs it is good"


async def test_a_session_is_of_one_account(olivia):
    """At another account's host it is nobody's, and its form's token is worth nothing; and it ends nothing."""
    gina = olivia.other
    await olivia.enter()
    await gina.enter("gina")
    token, own = await olivia.form(), await gina.form()
    thief = Administrator(olivia.world, gina.provider, "globex")
    thief.cookies[SESSION] = olivia.session
    assert 403 == (await thief.page()).status
    for sent in (token, own):
        assert 403 == (await thief.choose(token=sent)).status
    assert 403 == (await gina.choose(token=token)).status
    assert None is await gina.grant()
    assert 403 == (await thief.change("sign-out", {"form_token": token})).status
    assert [200, 200] == [(await one.page()).status for one in (olivia, gina)]


async def test_a_namesake_at_another_provider_is_another_person(olivia):
    """The same `sub` at two issuers: each is an administrator of their own account, under a name of their own."""
    namesake = olivia.other
    await olivia.enter("olivia")
    await namesake.enter("olivia")
    await olivia.choose()
    await namesake.choose()
    given = [(await one.grant()).given_by for one in (olivia, namesake)]
    assert [f"{one.provider.issuer}#olivia" for one in (olivia, namesake)] == given
    assert 2 == len(set(given))


async def test_one_client_for_two_accounts_makes_nobody_of_the_one_the_others(tmp_path):
    """Where one provider serves both, code, attempt and session count at one host, though all else is the same."""

    def tables(ours, _theirs):
        return [sign_in(ours, account_claim="org")]

    async with open_administrator(tmp_path, tables=tables) as olivia:
        gina = Administrator(olivia.world, olivia.provider, "globex")
        query = olivia.consent(await olivia.begin(), org="globex")
        gina.cookies = dict(olivia.cookies)
        assert 400 == (await gina.come_back(query)).status
        assert [] == olivia.provider.asked, "an attempt of another host is none"
        # Her own attempt with the other's code: the provider was told of another redirect URI and challenge.
        ours = dict(parse_qsl(gina.consent(await gina.begin(), org="globex")))
        ours["code"] = dict(parse_qsl(query))["code"]
        assert (400, "") == ((await gina.come_back(urlencode(ours))).status, gina.session)
        await olivia.another().enter(org="acme")
        assert is_in(await olivia.enter(org="acme"))
        gina.cookies = dict(olivia.cookies)
        assert 403 == (await gina.page()).status


async def test_it_is_at_the_accounts_own_address_alone(olivia):
    """By any other spelling of the host, or port, nobody signs in and no session counts."""
    await olivia.enter()
    for host in ("acme.helpdesk.example:8443", "acme.helpdesk.example."):
        assert 404 == (await olivia.page(host=host)).status, host
        assert 404 == (await olivia.page(f"{PATH}/sign-in", host=host)).status
    assert 200 == (await olivia.page(host="ACME.helpdesk.example:443")).status


# Staff.


async def test_staff_who_stand_in_never_get_there(olivia):
    """With the assumption's cookie, a token, or a session of staff's, beside a valid administrator's session."""
    await olivia.enter()
    assert 303 == (await olivia.choose()).status
    form, world = await olivia.form(), olivia.world
    dana = Staff(world)
    await dana.stand_in()
    token = await world.token()
    mine = f"{SESSION}={olivia.session}"
    for cookies, more in (
        ([f"{mine}; {ASSUMPTION}={dana.held}"], ()),
        ([f"{mine}; {ASSUMPTION}={'x' * 43}"], ()),
        ([f"{mine}; {STAFF}={dana.staff}"], ()),
        ([mine], [("Authorization", f"Bearer {token}")]),
    ):
        for target in (PATH, f"{PATH}/sign-in", f"{CALLBACK}?code=x&state=y", f"{PATH}/log", f"{PATH}/live"):
            answer = await olivia.page(target, cookies=cookies, more=more, site="same-origin")
            assert answer.status in (400, 403), (target, more)
            assert "Who is in now" not in answer.text
        for name in FORMS:
            fields = {"form_token": form, "epoch": "1", "duration": "always", "permission": "write"}
            answer = await olivia.change(name, fields, cookies=cookies, more=more)
            assert answer.status in (400, 403), (name, more)
    assert "week" == (await olivia.grant()).duration
    assert 200 == (await olivia.page()).status, "and none of that has ended the administrator's own session"
    assert world.records(reason="never_allowed", rule="locum.account")


async def test_staff_signed_in_are_nobody_here(olivia):
    """A staff session's value as a session of this page, a stranger's assertion, a header that only we may set."""
    dana = Staff(olivia.world)
    await dana.sign_in()
    for cookie in (f"{SESSION}={dana.staff}", f"{STAFF}={dana.staff}", ""):
        more = [("X-Locum-Assertion", "a.b.c"), ("X-Locum-Account", "acme"), ("X-Locum-Client", "10.0.0.1")]
        assert 403 == (await olivia.page(cookies=[cookie] if cookie else [], more=more)).status


async def test_staffs_provider_makes_nobody_an_administrator(tmp_path):
    """Where both are at one provider, an answer to staff's sign-in is none to this one, and the other way round."""

    def change(document):
        [table, *_] = document["console"]["account"]["sign_in"]
        table["issuer"] = document["staff"]["issuer"]

    async with open_administrator(tmp_path, change=change, issuer_class=Provider) as olivia:
        olivia.provider = olivia.world.issuer
        location = await olivia.begin()
        for audience in (AUDIENCE, [AUDIENCE, CLIENT]):
            answer = await olivia.come_back(olivia.consent(location, audience=audience))
            assert (400, "") == (answer.status, olivia.session)
            location = await olivia.begin()
        assert is_in(await olivia.enter("dana"))
        token = olivia.provider.token("dana", audience=CLIENT, groups=["support"])
        status, _ = await olivia.world.ask(actor_token=token)
        assert 400 == status


# Other sites, and other browsers.


async def test_forms_of_other_sites_and_other_sessions_change_nothing(olivia):
    """Origin, `Sec-Fetch-Site` and the session's own token, each by itself, also for signing out."""
    other = olivia.another()
    await olivia.enter()
    await other.enter("oscar")
    mine, theirs = await olivia.form(), await other.form()
    assert mine != theirs
    wrongs = (
        ({"form_token": mine}, {"origin": "https://evil.example"}),
        ({"form_token": mine}, {"origin": other.origin.replace("acme", "globex")}),
        ({"form_token": mine}, {"site": "same-site"}),
        ({"form_token": mine}, {"more": [("Sec-Fetch-Mode", "cors")]}),
        ({"form_token": theirs}, {}),
        ({"form_token": ""}, {}),
        ({"other": "x"}, {}),
    )
    for fields, how in wrongs:
        for name in FORMS:
            full = fields | {"epoch": "0", "duration": "always"}
            assert 403 == (await olivia.change(name, full, **dict(how))).status, (name, fields, how)
    assert None is await olivia.grant()
    assert 200 == (await olivia.page()).status
    assert 303 == (await olivia.choose(token=mine)).status


async def test_another_sites_link_begins_no_sign_in(olivia):
    """It leads to the page where the person begins it; HEAD begins and ends none; a script does not see the page."""
    led = await olivia.page(f"{PATH}/sign-in?return=%2F.locum%2Faccount%2Flog", site="cross-site")
    assert (303, f"{PATH}/log", {}) == (led.status, led.location, olivia.cookies)
    for target in ("sign-in", "sign-in/callback?code=x&state=y"):
        assert 405 == (await olivia.send(f"{PATH}/{target}", method="HEAD")).status
    await olivia.enter()
    script = [("Sec-Fetch-Mode", "cors"), ("Sec-Fetch-Dest", "empty"), ("Sec-Fetch-Site", "same-origin")]
    assert 403 == (await olivia.send(PATH, headers=script)).status


async def test_a_cookie_with_two_readings_is_nobodys(olivia):
    """Whoever tosses in a second one gets both refused, of the session as of the attempt."""
    query = olivia.consent(await olivia.begin())
    attempt = olivia.cookies[ARRIVAL]
    twice = [f"{ARRIVAL}={attempt}; {ARRIVAL}={attempt}"]
    assert 400 == (await olivia.come_back(query, cookies=twice)).status
    assert is_in(await olivia.come_back(query))
    for cookies in ([f"{SESSION}={olivia.session}; {SESSION}=x"], [f"{SESSION}={olivia.session}"] * 2):
        assert (await olivia.page(cookies=cookies)).status in (400, 403)
        assert (await olivia.choose(token="x", cookies=cookies)).status in (400, 403)
