"""Administrators sign in at the customer's own provider: who gets in, for how long, and what is on the record."""

from urllib.parse import parse_qsl, urlsplit

import pytest

from gateway.config.load import build
from gateway.console.account.log_view import describe
from tests.console_world import OLIVIA, PATH, Customer, asked, console
from tests.customer_sign_in_world import ARRIVAL, CLIENT, SESSION, Administrator, open_administrator, sign_in
from tests.gateway_world import document
from tests.rawwire import then_close


async def test_an_administrator_signs_in_and_turns_it_on(tmp_path):
    """The page leads to the provider; who came back chooses, and is named by issuer and subject wherever it stands."""
    async with open_administrator(tmp_path) as olivia:
        world = olivia.world
        page = await olivia.page()
        assert (403, True) == (page.status, f'href="{PATH}/sign-in"' in page.text)
        assert "Sign in with your company" in page.text
        answer = await olivia.enter()
        assert (303, PATH) == (answer.status, answer.location), answer.text
        assert ARRIVAL not in olivia.cookies
        assert 303 == (await olivia.choose()).status
        who = f"{olivia.provider.issuer}#olivia"
        assert who == (await olivia.grant()).given_by
        [record] = world.records(kind="grant", reason="enabled")
        assert (who, "console") == (record["granted_by"], record["client_id"])
        [record] = world.records(kind="audit", reason="signed_in", decision="allow")
        assert (who, "acme", "console") == (record["by"], record["account"], record["client_id"])
        assert "Signed in to this account’s page" == describe(record).what
        page = await olivia.page()
        assert ("Olivia Owner" in page.text, "by you" in page.text) == (True, True)
        token = await world.token()
        assert 303 == (await olivia.change("off", {"form_token": await olivia.form()})).status
        assert 403 == (await world.get(token))[0]


async def test_what_is_asked_of_the_provider_is_bound_to_this_sign_in(tmp_path):
    """The code flow with PKCE, and the redirect URI of the account's own host; nobody else's client."""
    async with open_administrator(tmp_path) as olivia:
        first, second = [dict(parse_qsl(urlsplit(await olivia.begin()).query)) for _ in range(2)]
        assert f"{olivia.origin}{PATH}/sign-in/callback" == first["redirect_uri"]
        assert (CLIENT, "code", "S256", "openid profile") == tuple(
            first[name] for name in ("client_id", "response_type", "code_challenge_method", "scope")
        )
        for name in ("state", "nonce", "code_challenge"):
            assert (43, True) == (len(first[name]), first[name] != second[name])
        await olivia.enter()
        [(_, form)] = olivia.provider.asked
        assert (CLIENT, 43) == (form["client_id"], len(form["code_verifier"]))


async def test_cookies_are_this_hosts_alone_and_the_app_sees_none(tmp_path):
    """`__Host-`, `HttpOnly`, `Secure`, `SameSite=Lax`, gone with the session's end; ordinary requests lose them."""
    async with open_administrator(tmp_path) as olivia:
        begun = await olivia.page(f"{PATH}/sign-in")
        done = await olivia.come_back(olivia.consent(begun.location))
        lines = [begun["set-cookie"], *done.all("set-cookie")]
        assert [ARRIVAL, SESSION, ARRIVAL] == [line.partition("=")[0] for line in lines]
        for line in lines:
            assert {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"} <= set(line.split("; ")), line
            assert "Domain" not in line
        assert "Max-Age=3600" in lines[1]
        assert "no-store" == done["cache-control"]
        await olivia.send("/tickets/1", cookies=[f"a=1; {SESSION}={olivia.session}; {ARRIVAL}=x"])
        assert [b"a=1"] == olivia.world.upstream.requests[-1].values(b"cookie")


async def test_where_a_customer_has_a_provider_the_app_is_not_asked(tmp_path):
    """Whoever the app calls its administrator is nobody there; in other accounts its word counts as ever."""
    async with open_administrator(tmp_path) as olivia:
        world = olivia.world
        await olivia.enter()
        for cookies in ([], ["session=s-olivia"]):
            assert 403 == (await olivia.page(cookies=cookies)).status
            page = await olivia.page(cookies=[*cookies, f"{SESSION}={olivia.session}"])
            assert 200 == page.status
        assert [] == asked(world)
        world.app.people["s-ingrid"] = OLIVIA | {"account": "initech"}
        ingrid = Customer(world, session="s-ingrid", account="initech")
        assert 200 == (await ingrid.page()).status
        for target in ("sign-in", "sign-in/callback?code=x&state=y"):
            assert 404 == (await ingrid.ask(f"{PATH}/{target}")).status
        assert 404 == (await ingrid.post("sign-out")).status


async def test_every_page_of_the_account_is_opened_by_it(tmp_path):
    """The log, who is told, the streams: for whoever has the session, and for nobody else."""

    def change(document):
        document["audit"]["index"] = False  # what the list shows then, the store knows

    async with open_administrator(tmp_path, change=change) as olivia:
        stranger = olivia.another()
        await olivia.enter()
        for target in ("log", "live?once=on"):
            assert 200 == (await olivia.page(f"{PATH}/{target}", site="same-origin")).status, target
            assert 403 == (await stranger.page(f"{PATH}/{target}", site="same-origin")).status, target
        assert "Sign out" in (await olivia.page(f"{PATH}/log")).text


RETURNS = (
    (f"{PATH}/log?q=ticket%3ASUP-1", True),
    (f"{PATH}/log/as_1", True),
    ("https://evil.example/", False),
    ("//evil.example/.locum/account", False),
    (f"{PATH}/../../login", False),
    (f"{PATH}//evil.example", False),
    (f"{PATH}\\@evil.example", False),
    (f"{PATH}.evil.example", False),
    (f"{PATH}/sign-in", False),
    (f"{PATH}/sign-out", False),
    (f"{PATH}/log\r\nSet-Cookie: a=b", False),
    ("/.locum/", False),
    (f"{PATH}/{'x' * 600}", False),
)


async def test_it_leads_back_to_a_page_of_the_account_and_nowhere_else(tmp_path):
    """No open redirect, neither in the link nor in the cookie that remembers it."""
    async with open_administrator(tmp_path) as olivia:
        for address, is_ours in RETURNS:
            answer = await olivia.enter(return_to=address)
            assert (303, address if is_ours else PATH) == (answer.status, answer.location), address
        page = await olivia.another().page(f"{PATH}/log?q=ticket%3ASUP-1")
        assert f'href="{PATH}/sign-in?return=%2F.locum%2Faccount%2Flog%3Fq%3Dticket%253ASUP-1"' in page.text


async def test_a_session_ends_by_itself(tmp_path):
    """Unused for a quarter of an hour, and after an hour in any case; what a page asks by itself is no use."""
    async with open_administrator(tmp_path) as olivia:
        clock = olivia.world.clock
        await olivia.enter()
        for _ in range(4):
            clock.forward(minutes=14)
            assert 200 == (await olivia.page()).status
        clock.forward(minutes=4)
        assert 403 == (await olivia.page()).status
        await olivia.enter()
        clock.forward(minutes=10)
        for query in ("refresh=on", "live=on"):
            assert 200 == (await olivia.page(f"{PATH}?{query}")).status
        assert 200 == (await olivia.page(f"{PATH}/live?once=on", site="same-origin")).status
        clock.forward(minutes=6)
        assert 403 == (await olivia.page()).status


async def test_signing_out_ends_it_and_leads_to_the_provider(tmp_path):
    """Here at once, wherever the cookie is; the provider's own session goes on until the person ends it there."""
    async with open_administrator(tmp_path) as olivia:
        await olivia.enter()
        copy = olivia.another()
        copy.cookies = dict(olivia.cookies)
        token = await copy.form()
        answer = await olivia.leave()
        assert 200 == answer.status, answer.text
        assert f"{olivia.provider.issuer}/end?client_id={CLIENT}" in answer.text
        assert "post_logout_redirect_uri=https%3A%2F%2Facme.helpdesk.example%2F.locum%2Faccount" in answer.text
        assert {} == olivia.cookies
        assert [403, 403] == [(await copy.page()).status, (await copy.choose(token=token)).status]
        assert None is await olivia.grant()
        [record] = olivia.world.records(kind="audit", reason="signed_out")
        assert (f"{olivia.provider.issuer}#olivia", "acme") == (record["by"], record["account"])
        assert "Nobody was signed in" in (await olivia.change("sign-out", {"x": "y"})).text


async def test_a_sign_in_gives_a_new_session_and_ends_the_former(tmp_path):
    """Whoever knew the one before, or had planted one, has nothing (fixation)."""
    async with open_administrator(tmp_path) as olivia:
        await olivia.enter()
        former = olivia.session
        await olivia.enter("oscar", name="Oscar")
        assert olivia.session not in ("", former)
        assert 403 == (await olivia.page(cookies=[f"{SESSION}={former}"])).status
        assert f"{olivia.provider.issuer}#olivia" == olivia.world.records(reason="signed_out")[0]["by"]
        planted = olivia.another()
        planted.cookies[SESSION] = "x" * 43
        assert 303 == (await planted.enter()).status
        assert "x" * 43 != planted.session
        assert 403 == (await olivia.page(cookies=[f"{SESSION}={'x' * 43}"])).status


async def test_a_reload_counts_at_once(tmp_path):
    """Whoever is taken off the list is out; without the table the app is asked, and another provider knows nobody."""
    async with open_administrator(tmp_path) as olivia:
        world = olivia.world

        async def renew(*tables):
            wanted = document(world.directory, upstream=world.upstream.url, issuer=world.issuer.issuer)
            console(wanted, sign_in=list(tables))
            await world.gateway.renew(build(wanted, {}, base=world.directory))

        await olivia.enter()
        token = await olivia.form()
        await renew(sign_in(olivia.provider, "acme", administrators=["owners"]))
        assert "does not count you among" in (await olivia.page()).text
        assert 403 == (await olivia.choose(token=token)).status
        await renew()
        assert [403, 200] == [
            (await olivia.page()).status,
            (await olivia.page(cookies=["session=s-olivia"])).status,
        ]
        assert 404 == (await olivia.page(f"{PATH}/sign-in")).status
        await renew(sign_in(olivia.other.provider, "acme"))
        assert 403 == (await olivia.page()).status
        await renew(sign_in(olivia.provider, "acme", client_id="another"))
        assert 403 == (await olivia.page()).status
        await renew(sign_in(olivia.provider, "acme"))
        assert 200 == (await olivia.page()).status


async def test_one_provider_may_serve_every_account_if_a_claim_names_it(tmp_path):
    """An administrator of the one gets into the one; without the claim, or with another spelling of it, into none."""

    def tables(ours, theirs):
        return [sign_in(ours, account_claim="org"), sign_in(theirs, "globex")]

    async with open_administrator(tmp_path, tables=tables) as olivia:
        initech = Administrator(olivia.world, olivia.provider, "initech")
        for administrator, org, status in (
            (olivia, "acme", 303),
            (initech, "initech", 303),
            (olivia.another(), "initech", 403),
            (initech.another(), "acme", 403),
            (initech.another(), "INITECH", 403),
            (initech.another(), ["initech"], 403),
            (initech.another(), None, 403),
        ):
            assert status == (await administrator.enter(org=org)).status, org
        assert [200, 200] == [(await administrator.page()).status for administrator in (olivia, initech)]
        # Whose own table there is has no other way in.
        ours = Administrator(olivia.world, olivia.provider, "globex")
        assert (await ours.begin()).startswith(olivia.other.provider.issuer)


async def test_a_provider_that_is_away_keeps_nobody_else_out(tmp_path):
    """It is said; the other customer signs in, who is in stays in, and customers of the app notice nothing."""
    async with open_administrator(tmp_path) as olivia:
        gina, late = olivia.other, olivia.another()
        await olivia.enter()
        query = late.consent(await late.begin())
        olivia.provider.raw_answer = then_close
        await olivia.provider.__aexit__(None, None, None)
        olivia.world.clock.forward(seconds=30)
        answer = await late.come_back(query)
        assert (503, True) == (answer.status, "cannot be asked now" in answer.text)
        assert 200 == (await olivia.page()).status
        assert 200 == (await olivia.leave()).status
        assert 303 == (await gina.enter("gina")).status
        assert 200 == (await late.send("/tickets/1")).status


async def test_without_store_or_journal_nobody_is_let_in(tmp_path):
    """What cannot be recorded does not happen; what cannot be read is nobody's session; customers notice nothing."""
    async with open_administrator(tmp_path) as olivia:
        world, late = olivia.world, olivia.another()
        await olivia.enter()
        query = late.consent(await late.begin())
        await world.gateway.journal.close()
        assert (503, "") == ((await late.come_back(query)).status, late.session)
        await world.gateway.store.close()
        for target in (PATH, f"{PATH}/log", f"{PATH}/live", f"{PATH}/live/log", f"{PATH}/live/last"):
            answer = await olivia.page(target, site="same-origin")
            assert (503, True) == (answer.status, "store_unavailable" in answer.text), target
        assert 503 == (await olivia.choose(token="x")).status
        assert 200 == (await olivia.send("/tickets/1")).status


@pytest.mark.parametrize("asks", [True, False])
async def test_the_app_need_not_be_asked_at_all(asks, tmp_path):
    """Without `who_am_i` an account without a provider has no page, and the others have theirs."""

    def change(document):
        if not asks:
            del document["console"]["account"]["who_am_i"]
            del document["console"]["account"]["fields"]

    async with open_administrator(tmp_path, change=change) as olivia:
        assert 303 == (await olivia.enter()).status
        ingrid = Customer(olivia.world, session="s-olivia", account="initech")
        assert (403 if asks else 404) == (await ingrid.page()).status
