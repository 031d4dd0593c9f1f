"""The account's page against those who must not use it: staff who stand in, other accounts, other sites, odd answers."""

import asyncio
import json
import re

import pytest
from aiohttp.test_utils import make_mocked_request

from gateway.forms import FormTokens
from tests.browser_world import ASSUMPTION, Browser
from tests.console_world import BEN, GINA, OLIVIA, PATH, Customer, asked, open_customer, who
from tests.rawwire import chunked_response, response

FORMS = ("setting", "off", "end", "end-all")
JSON = ((b"Content-Type", b"application/json"),)
ORIGIN = "https://acme.helpdesk.example"


@pytest.fixture
async def olivia(tmp_path):
    async with open_customer(tmp_path) as customer:
        yield customer


async def standing_in(olivia, **options):
    """A staff member's browser that stands in for an agent of acme, and Olivia's page as it was before."""
    await olivia.choose("week", ["write"])
    form = await olivia.form()
    staff = Browser(olivia.world)
    await staff.stand_in(**options)
    return staff, form


async def epoch(olivia, account="acme"):
    return (await olivia.world.gateway.store.find_account(account)).account.epoch


# Staff who stand in.


SPELLINGS = (
    PATH, f"{PATH}/", f"{PATH}?x=1", "/.locum/%61ccount", "/.locum/ACCOUNT", "/.locum/account%2fsetting", "/.locum/%2e/account",
    "/.locum//account", "/.locum/x/../account", "/.locum/account;x=1",
)  # fmt: skip


async def test_staff_who_stand_in_never_see_the_page(olivia):
    """With the assumption's cookie and an administrator's session beside it, in whatever spelling of the path."""
    staff, _ = await standing_in(olivia)
    both = f"session=s-olivia; {ASSUMPTION}={staff.held}"
    before = len(asked(olivia.world))
    for target in SPELLINGS:
        answer = await olivia.ask(target, "Accept: text/html", cookie=both)
        assert answer.status in (400, 403, 404), target
        assert "Who is in now" not in answer.text
    assert before == len(asked(olivia.world))


@pytest.mark.parametrize("how", ["both cookies", "a token", "a token and a dead cookie", "two assumption cookies"])
async def test_staff_who_stand_in_change_nothing(olivia, how):
    """Even with the very form of an administrator, and their session: refused, and recorded with who it was."""
    staff, form = await standing_in(olivia)
    token = await olivia.world.token(detail={"ticket": "SUP-9"})
    cookie, lines = "session=s-olivia", ()
    if how == "both cookies":
        cookie += f"; {ASSUMPTION}={staff.held}"
    elif how == "two assumption cookies":
        cookie += f"; {ASSUMPTION}={staff.held}; {ASSUMPTION}={staff.held}"
    else:
        lines = (f"Authorization: Bearer {token}",)
        cookie += f"; {ASSUMPTION}={'x' * 43}" if "dead" in how else ""
    before = await epoch(olivia)
    [one, *_] = await olivia.world.gateway.store.list_assumptions(at=olivia.world.clock.now)
    fields = {**form, "duration": "always", "permission": "write", "assumption": one.id}
    for name in FORMS:
        answer = await olivia.post(name, fields.items(), *lines, cookie=cookie)
        assert answer.status in (400, 403), answer.text
    assert before == await epoch(olivia)
    assert (await olivia.ask(f"{PATH}/live", *lines, cookie=cookie)).status in (400, 403)
    assert 2 == len(await olivia.world.gateway.store.list_assumptions(at=olivia.world.clock.now))
    denied = {one["path"]: one for one in olivia.world.records(decision="deny")}
    for name in FORMS:
        record = denied[f"{PATH}/{name}"]
        if how in ("both cookies", "a token"):
            said = (record["reason"], record["rule"], record["actor"]["subject"])
            assert ("never_allowed", "locum.account", "dana") == said
    assert [] == [one for one in olivia.world.records(kind="grant") if one.get("duration") == "always"]


async def test_a_profile_that_allows_everything_does_not_open_the_page(tmp_path):
    """No rule of a profile speaks of our own page: there the rule that says never is ours."""
    rules = '\n[[routes]]\nid = "all"\nmethods = ["GET", "POST"]\npath = "/**"\nscope = "tickets:read"\n'

    def change(document):
        profile = tmp_path / "demo-helpdesk.toml"
        profile.write_text(profile.read_text() + rules)

    async with open_customer(tmp_path, change=change) as olivia:
        staff, _ = await standing_in(olivia)
        answer = await staff.ask(PATH, "Accept: text/html", "Sec-Fetch-Site: same-origin")
        assert 403 == answer.status
        assert "never_allowed" in answer.text


async def test_a_spelling_that_the_front_does_not_know_is_refused_behind_it(olivia):
    """What the front says of a request counts wherever it has led, and so does the cookie itself."""
    [page] = [
        route for route in olivia.world.gateway._generation.control if (route.method, route.path) == ("GET", PATH)
    ]
    named = {"X-Locum-Account": "acme", "Host": olivia.host}
    for headers in ({"X-Locum-Assumed": "1", "Cookie": "session=s-olivia"}, {"Cookie": f"{ASSUMPTION}={'x' * 43}"}):
        answer = await page.handler(make_mocked_request("GET", PATH, headers=named | headers))
        assert (403, []) == (answer.status, asked(olivia.world))
    assert 2 == len(olivia.world.records(decision="deny", reason="never_allowed", rule="locum.account"))


async def test_what_must_be_staffs_by_a_catch_rule_is_no_customer(tmp_path):
    """From the vendor's own network nobody opens the page, whatever session they bring."""
    async with open_customer(
        tmp_path, change=lambda document: document.update(catch=[{"header": "X-Vendor"}])
    ) as olivia:
        answer = await olivia.page("", "X-Vendor: 1")
        assert (401, []) == (answer.status, asked(olivia.world))


async def test_a_session_that_staff_got_while_standing_in_is_no_administrators(olivia):
    """Where the app says that somebody acts in a person's place, it is not that person who asks."""
    form = await olivia.form()
    olivia.world.app.people["s-taken"] = OLIVIA | {"act": {"sub": "dana"}}
    taken = Customer(olivia.world, session="s-taken")
    page = await taken.page()
    assert (403, True) == (page.status, "staff who stand in can never" in page.text)
    for name in FORMS:
        answer = await taken.post(name, {**form, "duration": "week", "assumption": "x"}.items())
        assert 403 == answer.status
    assert 0 == await epoch(olivia)
    assert 5 == len(olivia.world.records(decision="deny", reason="never_allowed", by="7"))


async def test_a_stranger_cannot_say_what_only_the_front_says(olivia):
    """Lines by which our front names account and kind are taken off whoever sends them, in every spelling."""
    gina = Customer(olivia.world, session="s-gina")
    for line in ("X-Locum-Account: globex", "X_Locum_Account: globex", "x-locum-account:globex"):
        page = await gina.page("", line)
        assert (403, True) == (page.status, "Sign in to the app first" in page.text)
    assert 200 == (await olivia.page("", "X-Locum-Assumed: 1")).status


# Other people, and other accounts.


async def test_nobody_else_is_let_in(olivia):
    """Without a session the app is not even asked; an agent is told who could; another account's owner is nobody."""
    nobody = await olivia.page(cookie="")
    assert (403, []) == (nobody.status, asked(olivia.world))
    stranger = await Customer(olivia.world, session="s-none").page()
    gina = await Customer(olivia.world, session="s-gina").page()
    assert [403, 403] == [stranger.status, gina.status]
    assert "Sign in to the app first" in stranger.text
    assert stranger.text == gina.text
    ben = await Customer(olivia.world, session="s-ben").page()
    assert (403, True) == (ben.status, "You are <bdi>Ben</bdi> in the app" in ben.text)
    for page in (nobody, stranger, gina, ben):
        assert "form_token" not in page.text
        assert "no-store" == page.headers["cache-control"]


async def test_an_agent_changes_nothing_and_is_recorded(olivia):
    """A token of their own, as if they had been an administrator a moment ago, does not help."""
    await olivia.choose("day")
    token = await olivia.world.token()
    olivia.world.app.people["s-ben"] = BEN | {"roles": ["admin"]}
    ben = Customer(olivia.world, session="s-ben")
    form = await ben.form()
    olivia.world.app.people["s-ben"] = BEN
    [one] = await olivia.world.gateway.store.list_assumptions(at=olivia.world.clock.now)
    for name in FORMS:
        answer = await ben.post(name, {**form, "duration": "always", "assumption": one.id}.items())
        assert 403 == answer.status
    assert 1 == await epoch(olivia)
    assert 200 == (await olivia.world.get(token))[0]
    assert 4 == len(olivia.world.records(decision="deny", reason="not_administrator"))


async def test_one_account_never_sees_or_ends_anothers(olivia):
    """Nothing of acme is on globex's page; acme's assumption and acme's form are nothing there."""
    await olivia.choose("week")
    token = await olivia.world.token(detail={"ticket": "ACME-SECRET"})
    [one] = await olivia.world.gateway.store.list_assumptions(at=olivia.world.clock.now)
    acme = await olivia.form()
    gina = Customer(olivia.world, session="s-gina", account="globex")
    page = await gina.page()
    assert 200 == page.status
    for word in ("ACME-SECRET", "maria", "Turned on", "acme"):
        assert word not in page.text
    assert "said=over." in (await gina.do("end", assumption=one.id)).headers["location"]
    assert 303 == (await gina.do("end-all")).status
    assert 200 == (await olivia.world.get(token))[0]
    for name in FORMS:
        sent = await gina.post(name, {**acme, "duration": "week", "assumption": one.id}.items())
        assert (403, True) == (sent.status, "cross_site" in sent.text)
    assert 0 == await epoch(olivia, "globex")


async def test_what_was_remembered_of_one_host_says_nothing_at_another(olivia):
    """The same cookies at another account's host are another question."""
    olivia.world.app.people["s-olivia"] = {key: value for key, value in OLIVIA.items() if key != "account"}
    await olivia.page()
    olivia.world.app.people["s-olivia"] = OLIVIA
    assert 200 == (await olivia.page()).status
    other = Customer(olivia.world, account="globex")
    assert 403 == (await other.page()).status


# Odd answers of the app.


ODD = {
    "a redirect": response(status=b"302 Found", headers=((b"Location", b"/whoami2"),)),
    "an error": response(status=b"500 Oops"),
    "another success": response(json.dumps(OLIVIA).encode(), status=b"201 Created", headers=JSON),
    "a page": response(json.dumps(OLIVIA).encode(), headers=((b"Content-Type", b"text/html"),)),
    "two types": who(OLIVIA, (b"Content-Type", b"text/html")),
    "no type": response(json.dumps(OLIVIA).encode()),
    "an encoding": who(OLIVIA, (b"Content-Encoding", b"gzip")),
    "too much": response(json.dumps(OLIVIA | {"x": "x" * 65536}).encode(), headers=JSON),
    "too much in pieces": chunked_response(*[b" " * 8192] * 9, json.dumps(OLIVIA).encode(), headers=JSON),
    "no JSON": response(b"olivia", headers=JSON),
    "a list": response(json.dumps([OLIVIA]).encode(), headers=JSON),
    "a member twice": response(b'{"account": "globex", ' + json.dumps(OLIVIA).encode()[1:], headers=JSON),
    "another account": who(GINA),
    "no account": who({key: value for key, value in OLIVIA.items() if key != "account"}),
    "no user": who(OLIVIA | {"id": None}),
    "an empty user": who(OLIVIA | {"id": ""}),
    "a user of two lines": who(OLIVIA | {"id": "7\n8"}),
    "a name that turns the text around": who(OLIVIA | {"name": "Olivia \u202eadmin"}),
    "a role that is a list": who(OLIVIA | {"roles": {"explore": ["admin"]}}),
    "no word on who acts": who({key: value for key, value in OLIVIA.items() if key != "act"}),
}


async def test_an_odd_answer_lets_nobody_in(olivia):
    """Neither to the page nor to what it does; an administrator of before included."""
    form = await olivia.form()
    for case, answer in ODD.items():
        olivia.world.app.answer = answer
        sent, page = await olivia.choose("always", form=form), await olivia.page()
        assert sent.status in (403, 503), case
        assert (sent.status, False) == (page.status, "form_token" in page.text), case
    assert 0 == await epoch(olivia)


async def test_an_answer_that_does_not_come_lets_nobody_in(tmp_path):
    """It is waited for as long as is configured."""

    async def hang(_connection):
        await asyncio.Event().wait()

    def change(document):
        document["console"]["account"]["timeout_seconds"] = 0.1

    async with open_customer(tmp_path, change=change) as olivia:
        olivia.world.app.answer = hang
        assert 503 == (await olivia.page()).status


# Other sites, scripts and frames.


FORGED = {
    "no origin": {"origin": ""},
    "no origin and no site": {"origin": "", "site": ""},
    "the null origin": {"origin": "null"},
    "another site": {"origin": "https://evil.example", "site": "cross-site"},
    "a sibling": {"origin": "https://globex.helpdesk.example", "site": "same-site"},
    "the staff origin": {"origin": "https://assume.vendor.example", "site": "same-site"},
    "another port": {"origin": f"{ORIGIN}:8443"},
    "another scheme": {"origin": "http://acme.helpdesk.example"},
    "no page of this site": {"site": "cross-site"},
}


async def test_another_sites_form_does_nothing(olivia):
    """Even with the right token, which it cannot have."""
    await olivia.choose("day")
    form = await olivia.form()
    for case, said in FORGED.items():
        for name in FORMS:
            answer = await olivia.post(name, {**form, "duration": "always", "assumption": "x"}.items(), **said)
            assert (403, True) == (answer.status, "cross_site" in answer.text), case
    assert 1 == await epoch(olivia)


async def test_a_token_is_one_persons_and_there_once(olivia):
    """Without it, with another administrator's, with two, or with an empty one, nothing happens."""
    olivia.world.app.people["s-other"] = OLIVIA | {"id": 70}
    other = await Customer(olivia.world, session="s-other").form()
    mine = await olivia.form()
    for tokens in (
        [],
        [""],
        [other["form_token"]],
        [mine["form_token"], mine["form_token"]],
        [mine["form_token"][:-1]],
    ):
        fields = [("form_token", one) for one in tokens] + [("epoch", "0"), ("duration", "day")]
        assert 403 == (await olivia.post("setting", fields)).status
    assert 0 == await epoch(olivia)


async def test_nothing_changes_but_by_a_form(olivia):
    """No GET, no other method, no other kind of body, and no parameter in an address."""
    form = await olivia.form()
    query = f"?form_token={form['form_token']}&epoch=0&duration=day"
    for name in FORMS:
        for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"):
            answer = await olivia.ask(f"{PATH}/{name}{query}", f"Origin: {ORIGIN}", method=method)
            assert answer.status == 405, (method, name)
        lines = (f"Origin: {ORIGIN}", "Content-Type: application/x-www-form-urlencoded", "X-HTTP-Method-Override: POST")
        assert 400 == (await olivia.ask(f"{PATH}/{name}{query}", *lines, method="POST")).status
        for kind in ("text/plain", "application/json", "multipart/form-data; boundary=x"):
            lines = (f"Origin: {ORIGIN}", f"Content-Type: {kind}")
            body = query[1:].encode()
            assert 400 == (await olivia.ask(f"{PATH}/{name}", *lines, method="POST", body=body)).status
    assert 0 == await epoch(olivia)


@pytest.mark.parametrize(
    "lines",
    [("Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty"), ("Sec-Fetch-Dest: iframe",), ("Sec-Fetch-Dest: image",)],
)
async def test_no_script_and_no_frame_gets_the_page(olivia, lines):
    """Whoever could read it would have its form's token."""
    answer = await olivia.ask(PATH, "Accept: text/html", *lines)
    assert (403, False) == (answer.status, "form_token" in answer.text)


async def test_the_page_runs_nothing_of_others_and_is_kept_nowhere(olivia):
    """A strict policy without inline code, no frame, no cache, no sniffing; and nothing inline in it."""
    page = await olivia.page()
    policy = page.headers["content-security-policy"]
    assert (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self';"
        " frame-ancestors 'none'; base-uri 'none'; img-src 'self'"
    ) == policy
    assert ("no-store", "DENY", "nosniff") == tuple(
        page.headers[name] for name in ("cache-control", "x-frame-options", "x-content-type-options")
    )
    assert [] == page.set_cookies
    scripts = re.findall(r"<script.*?</script>", page.text, re.DOTALL)
    assert [f'<script src="/.locum/static/{name}.js" defer></script>' for name in ("live_page", "account")] == scripts
    assert len(scripts) == page.text.count("<script")
    for inline in ("<style", " style=", " onclick", "javascript:"):
        assert inline not in page.text


HOSTILE = "\"><script>alert(1)</script><b x='"


async def test_hostile_names_stay_text(olivia):
    """Of the person, of staff, the agent, ticket and reason, and of who chose before."""
    olivia.world.app.people["s-olivia"] = OLIVIA | {"id": HOSTILE, "name": HOSTILE}
    await olivia.choose("week")
    olivia.world.app.people["s-other"] = OLIVIA
    token = olivia.world.actor_token(name=HOSTILE)
    await olivia.world.token(actor_token=token, detail={"ticket": HOSTILE, "reason": HOSTILE})
    for session in ("s-olivia", "s-other"):
        page = await Customer(olivia.world, session=session).page()
        raw = page.body.decode()
        assert "<script>alert" not in raw
        assert raw.count("&#34;&gt;&lt;script&gt;") >= 3, "it is there, as text"


async def test_only_we_say_what_was_done(olivia):
    """A link that somebody else made says nothing, nor does one that was made for another."""
    said = (await olivia.choose("day")).headers["location"].partition("account")[2]
    assert "Saved." in (await olivia.page(said)).text
    olivia.world.app.people["s-other"] = OLIVIA | {"id": 70}
    assert "Saved." not in (await Customer(olivia.world, session="s-other").page(said)).text
    for forged in ("?said=off", "?said=off.", said.replace("saved", "off"), "?said=%3Cb%3E.x"):
        assert "is off. Whoever" not in (await olivia.page(forged)).text


# The setting elsewhere, and no page at all.


async def test_where_the_app_keeps_the_setting_there_is_none_here(tmp_path):
    """The page says so and shows what the app says; a form that is sent all the same changes nothing."""
    setting = {
        "security_settings": {
            "assumable": True,
            "assumable_account_type": False,
            "assumption_duration": "always",
            "assumption_expiration": None,
        }
    }

    def change(document):
        document["grants"] = {
            "source": "http",
            "http": {"url": document["upstream"]["url"] + "/accounts/{account}/settings"},
        }

    async with open_customer(tmp_path, change=change, account=None, accounts=()) as olivia:
        olivia.world.app.setting = who(setting)
        page = await olivia.page()
        assert (200, True) == (page.status, "This setting is kept by the app itself" in page.text)
        assert 'name="duration"' not in page.text
        world = olivia.world
        form = {
            "form_token": FormTokens(world.gateway.keys, world.clock.utc).make("account", "acme", "7"),
            "epoch": "1",
        }
        for answer in (await olivia.choose("day", form=form), await olivia.do("off", form=form)):
            assert (403, True) == (answer.status, "change it there" in answer.text)
        assert 2 == len(olivia.world.records(decision="deny", reason="kept_by_app", by="7"))


async def test_without_the_section_there_is_no_page(tmp_path):
    """Nobody is asked who they are, and nothing is served."""
    async with open_customer(tmp_path, change=lambda document: document.pop("console")) as olivia:
        answers = [await olivia.page(), *[await olivia.post(name, [("form_token", "x")]) for name in FORMS]]
        assert [404] * 5 == [answer.status for answer in answers]
        assert [] == asked(olivia.world)


async def test_at_a_host_that_is_no_accounts_there_is_no_page(olivia):
    """Nor at the host where staff sign in."""
    for host in ("assume.vendor.example", "helpdesk.example", "a.b.helpdesk.example"):
        assert 404 == (await olivia.page(host=host)).status
    assert [] == asked(olivia.world)
