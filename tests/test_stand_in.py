"""Who may stand in for whom, on the whole way: judged at the exchange, at each request, and for what is open."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

from gateway.cli.context import open_office
from policy.model import AccountId
from tests.gateway_world import open_world, profile_with_roles
from tests.patience import within
from tests.rawwire import hold, response
from tests.test_reload import AT_ONCE, FIRST, LAST, half_way, line_to, renew
from tests.upstream_client import eventually

SUPPORT = {"group": "support", "permissions": ["read"]}


def ruled_by(*rules, **more):
    def change(document):
        document["staff"] |= {"rules": list(rules), **more}

    return change


def slow_events(request):
    slow = request.target.startswith(b"/events")
    return hold(asyncio.Event(), before=FIRST, after=LAST) if slow else response()


async def describe(world, account, **attributes):
    """Give an account these attributes by the command line's way: another connection to the same store."""
    async with open_office(world.gateway.config) as office:
        await office.grants.describe(AccountId(account), lambda _before: frozenset(attributes.items()), by="robin")


async def cut_and_refused(world, line, token, reason):
    """What is open ends at once, and the next request is refused for this reason."""
    async with within(AT_ONCE):
        assert b"" == await line.rest()
    status, _, body = await world.get(token)
    assert (403, reason) == (status, json.loads(body)["reason"])
    await eventually(lambda: world.ends(path="/events"))
    assert [("cut", reason)] == [(end["ended"], end["reason"]) for end in world.ends(path="/events")]


# --- rules are those of now ---


async def test_a_rule_that_is_removed_ends_what_it_allowed(tmp_path):
    """At the next request, also with tokens from before; what is open is cut; whom another rule fits goes on."""
    leads = {"group": "leads", "permissions": ["read"]}
    change = ruled_by(SUPPORT, leads)
    async with open_world(tmp_path, change=change, script=slow_events) as world:
        await world.choose("day")
        token = await world.token()
        other = await world.token(actor_token=world.actor_token("erin", groups=["leads"]))
        async with line_to(world) as line:
            await half_way(line, token, "/events")
            await renew(world, ruled_by(leads))
            await cut_and_refused(world, line, token, "staff_not_allowed")
        assert 200 == (await world.get(other))[0]
        assert "staff_not_allowed" == (await world.ask())[1]["reason"]


async def test_a_rule_that_gives_less_gives_less_at_once(tmp_path):
    """And when it gives more again, what was begun before has its scopes still."""
    write = SUPPORT | {"permissions": ["read", "write"]}
    async with open_world(tmp_path, change=ruled_by(write)) as world:
        await world.choose("day", ["read", "write"])
        token = await world.token("tickets:read tickets:write")
        post = {"method": "POST", "body": b"hi"}
        assert 200 == (await world.get(token, "/tickets/1/reply", **post))[0]
        await renew(world, ruled_by(SUPPORT))
        status, _, body = await world.get(token, "/tickets/1/reply", **post)
        assert (403, "permission_not_granted") == (status, json.loads(body)["reason"])
        assert 200 == (await world.get(token))[0]
        narrow = await world.token("tickets:read tickets:write")
        await renew(world, ruled_by(write))
        assert 200 == (await world.get(token, "/tickets/1/reply", **post))[0]
        assert 403 == (await world.get(narrow, "/tickets/1/reply", **post))[0]


async def test_another_provider_s_people_are_others(tmp_path):
    """Whoever came from the provider before is not somebody of the new one, whatever their names are."""
    async with open_world(tmp_path) as world:
        await world.choose("day")
        token = await world.token()

        def move(document):
            document["staff"]["issuer"] = "https://idp.other.example"

        await renew(world, move)
        status, _, body = await world.get(token)
        assert (403, "staff_not_allowed") == (status, json.loads(body)["reason"])


# --- claims, accounts ---


async def test_a_sign_in_with_other_claims_counts_for_what_is_open(tmp_path):
    """A group or a method that the newest sign-in has not ends what rules gave for it, with tokens of before too."""
    strong = {"amr": ["hwk"], "claims": {"team": "emea"}, "permissions": ["read"]}
    async with open_world(tmp_path, change=ruled_by(strong, SUPPORT), script=slow_events) as world:
        await world.choose("day")
        good = {"groups": ["x"], "amr": ["pwd", "hwk"], "team": "emea"}
        for weaker in ({"amr": ["pwd"]}, {"team": "apac"}, {"team": None}):
            token = await world.token(actor_token=world.actor_token(**good))
            assert 200 == (await world.get(token))[0]
            async with line_to(world) as line:
                await half_way(line, token, "/events")
                status, document = await world.ask(actor_token=world.actor_token(**good | weaker))
                assert (400, "staff_not_allowed") == (status, document["reason"])
                async with within(AT_ONCE):
                    assert b"" == await line.rest()
            status, _, body = await world.get(token)
            assert (403, "staff_not_allowed") == (status, json.loads(body)["reason"])


async def test_an_attribute_that_is_taken_away_ends_what_rules_gave_for_it(tmp_path):
    """Through the command line's service, in another process's way: by the store's count of changes."""
    europe = SUPPORT | {"account_attributes": {"region": "eu"}}
    async with open_world(tmp_path, change=ruled_by(europe), script=slow_events, account=None) as world:
        await world.add_account("acme", attributes=frozenset({("region", "eu")}))
        await world.add_account("umbra")
        for account in ("acme", "umbra"):
            assert 200 == (await world.choose("day", account=account))[0]
        assert "staff_not_allowed" == (await world.ask(account="umbra"))[1]["reason"]
        token = await world.token()
        async with line_to(world) as line:
            await half_way(line, token, "/events")
            await describe(world, "acme", region="us")
            await cut_and_refused(world, line, token, "staff_not_allowed")
        await describe(world, "umbra", region="eu")
        assert 200 == (await world.ask(account="umbra"))[0]
        changes = world.records(kind="grant", reason="attributes_changed")
        assert ["acme", "umbra"] == [record["account"] for record in changes]


# --- the agent ---


def with_roles(*rules, **more):
    def change(document):
        document["upstream"]["profile"] = str(profile_with_roles(Path(document["server"]["data_directory"])))
        ruled_by(*rules, **more)(document)

    return change


def telling(roles):
    """An app that answers the question who is there with the role of whoever is asked about."""

    def answer(request):
        if request.target != b"/whoami":
            return response()
        return response(body=json.dumps(roles).encode())

    return answer


TOLD = [
    ({"role": "agent"}, None),
    ({"role": ["agent"]}, None),
    ({"role": {"support": "agent", "explore": "viewer"}}, None),
    ({"role": "Agent"}, "staff_not_allowed"),
    ({"role": "light agent"}, "staff_not_allowed"),
    ({"role": []}, "staff_not_allowed"),
    ({"role": {"support": "agent", "explore": "admin"}}, "agent_administrator"),
    ({"role": ["agent", "Owner"]}, "agent_administrator"),
    ({"role": None}, "app_unavailable"),
    ({"role": 5}, "app_unavailable"),
    ({"role": [["agent"]]}, "app_unavailable"),
    ({"role": ""}, "app_unavailable"),
    ({"role": "agent", "x": "x" * 100_000}, "app_unavailable"),
    ({}, "app_unavailable"),
    ([], "app_unavailable"),
    ("agent", "app_unavailable"),
]


async def test_the_role_is_what_the_app_tells(tmp_path):
    """One that the rule names lets staff in; an administrator's, or an answer that does not tell, never does."""
    agents = SUPPORT | {"agent_roles": ["agent"]}
    said = {}
    script = lambda _request: response(body=json.dumps(said["now"]).encode())  # noqa: E731 - read anew each time
    async with open_world(tmp_path, change=with_roles(agents), script=script) as world:
        await world.choose("day")
        begun = 0
        for said["now"], reason in TOLD:
            status, document = await world.ask(scope="tickets:read")
            assert (reason, reason is None) == (document.get("reason"), status == 200), said
            begun += status == 200
            assert begun == len(await world.gateway.store.list_assumptions(at=world.clock.now))


async def test_an_administrator_can_be_stood_in_for_if_the_account_says_so(tmp_path):
    """The customer and the vendor's rule have to; when the customer takes it back, it is over at once."""
    change = with_roles(SUPPORT | {"permissions": ["read", "administrators"]})
    async with open_world(tmp_path, change=change, script=telling({"role": "owner"})) as world:
        await world.choose("day", ["read"])
        assert "agent_administrator" == (await world.ask(scope="tickets:read"))[1]["reason"]
        await world.choose("day", ["read", "administrators"])
        token = await world.token()
        assert 200 == (await world.get(token))[0]
        await world.choose("day", ["read"])
        status, _, body = await world.get(token)
        assert (403, "agent_administrator") == (status, json.loads(body)["reason"])


async def test_nobody_stands_in_for_themselves_here(tmp_path):
    """By the claim that the installation names, whatever the case of the letters."""
    async with open_world(tmp_path, change=ruled_by(SUPPORT, agent_claim="email")) as world:
        await world.choose("day")
        for email, agent, reason in (
            ("maria", "maria", "agent_is_actor"),
            ("Maria@acme.example", "maria@acme.example", "agent_is_actor"),
            ("dana@vendor.example", "maria", None),
            (None, "maria", "staff_not_allowed"),
        ):
            claims = {} if email is None else {"email": email}
            _, document = await world.ask(subject_token=agent, actor_token=world.actor_token(**claims))
            assert reason == document.get("reason")


# --- how many ---


async def test_so_many_at_once_and_no_more(tmp_path):
    """Of thirty that are asked for together; each person for themselves; and the next when one has ended."""
    async with open_world(tmp_path, change=ruled_by(SUPPORT, max_assumptions=3)) as world:
        await world.choose("day")
        answers = await asyncio.gather(*(world.ask() for _ in range(30)))
        reasons = [document.get("reason") for _, document in answers]
        assert {None: 3, "too_many_assumptions": 27} == {one: reasons.count(one) for one in set(reasons)}
        assert 200 == (await world.ask(actor_token=world.actor_token("erin")))[0]
        begun = await world.gateway.store.list_assumptions(at=world.clock.now)
        one = next(assumption for assumption in begun if assumption.actor.subject == "dana")
        assert await world.gateway.store.end_assumption(one.id, at=world.clock.now)
        assert [200, 400] == [(await world.ask())[0] for _ in range(2)]
        world.clock.forward(minutes=15)
        assert 200 == (await world.ask())[0]


# --- not from within ---


async def test_nothing_begins_from_within_an_assumption(tmp_path):
    """An assumption's token is no proof of who somebody is, nor does it authenticate a client."""
    async with open_world(tmp_path) as world:
        await world.choose("day")
        token = await world.token()
        before = len(await world.gateway.store.list_assumptions(at=world.clock.now))
        for changes in (
            {"actor_token": token},
            {"subject_token": token},
            {"authorization": f"Bearer {token}"},
            {"actor_token": world.actor_token(act={"sub": "erin"})},
        ):
            status, document = await world.ask(**changes)
            assert status in (400, 401)
            assert "access_token" not in document
        assert before == len(await world.gateway.store.list_assumptions(at=world.clock.now))


async def test_every_end_of_staff_is_an_end_of_each_of_their_lines(tmp_path):
    """Two people, two lines, and one rule that goes: one line goes with it."""
    dana, erin = ({"subject": name, "permissions": ["read"]} for name in ("dana", "erin"))
    async with (
        open_world(tmp_path, change=ruled_by(dana, erin), script=slow_events) as world,
        AsyncExitStack() as stack,
    ):
        await world.choose("day")
        tokens = [await world.token(actor_token=world.actor_token(name)) for name in ("dana", "erin")]
        lines = [await stack.enter_async_context(line_to(world)) for _ in tokens]
        for line, token in zip(lines, tokens, strict=True):
            await half_way(line, token, "/events")
        await renew(world, ruled_by(erin))
        await cut_and_refused(world, lines[0], tokens[0], "staff_not_allowed")
        assert 1 == len(world.gateway.live)
