"""What the app says of an account and of an agent, as far as rules speak of it: read whole, or refused whole."""

import json

import pytest

from policy.documents import Odd
from policy.grants import Change, adopt
from policy.model import Account, AccountId, AccountType, Duration, GrantId
from policy.setting import Fields, Form, Setting, Words, read_roles, read_setting
from tests.app_world import answer, on, open_app_world
from tests.forgery import NOON

ACME = AccountId("acme")
POINTERS = {"region": "/region", "plan": "/billing/plan"}
GOOD = {"on": True, "region": "eu", "billing": {"plan": "gold"}}
WORDS = Words(assumable={"true": True, "false": False}, duration={}, permissions={}, account_type={}, suspended={})


def read(**changes):
    form = Form(fields=Fields(assumable="/on", attributes=POINTERS), words=WORDS, permissions=frozenset())
    document = {key: value for key, value in (GOOD | changes).items() if value is not ...}
    return read_setting(json.dumps(document).encode(), form, account=ACME)


@pytest.mark.parametrize("on", [True, False])
def test_an_account_has_its_attributes_whether_anybody_is_let_in_or_not(on):
    """Texts as they are, true and false as texts, and null for none."""
    assert {("region", "eu"), ("plan", "gold")} == read(on=on).attributes
    assert {("region", "true"), ("plan", "false")} == read(on=on, region=True, billing={"plan": False}).attributes
    assert {("plan", "gold")} == read(on=on, region=None).attributes


@pytest.mark.parametrize(
    "changes",
    [
        {"region": ...}, {"billing": ...}, {"billing": {}}, {"billing": None}, {"region": 5}, {"region": ["eu"]},
        {"region": {}}, {"region": ""}, {"region": "a\nb"}, {"region": "\ud800"}, {"region": "x" * 257},
    ],
)  # fmt: skip
def test_an_attribute_that_is_not_told_refuses_the_answer(changes):
    """What is documented has to be there; nobody guesses what the app meant."""
    assert isinstance(read(**changes), Odd)


@pytest.mark.parametrize("body", [b"", b"agent", b"[]", b'"agent"', b'{"role": 1}', b'{"role": "a", "role": "b"}'])
def test_a_role_that_cannot_be_read_in_one_way_is_none(body):
    """Also where two readers would read two."""
    assert isinstance(read_roles(body, "/role"), Odd)
    assert {"agent"} == read_roles(b'{"role": "agent"}', "/role")


def test_nobody_sees_a_grant_of_now_with_attributes_of_before():
    """Both are one change; attributes alone are a change of their own, and the same ones again are none."""
    stored = Account(id=ACME, type=AccountType.PAID, epoch=1)
    attributes = frozenset({("region", "eu")})
    said = Setting(duration=Duration.ALWAYS, attributes=attributes)
    change = adopt(stored, None, said, by="app", new_id=GrantId("g1"), now=NOON)
    assert (Change.ENABLED, attributes, 2) == (change.change, change.account.attributes, change.account.epoch)
    assert None is adopt(change.account, change.grant, said, by="app", new_id=GrantId("g2"), now=NOON)
    moved = Setting(duration=Duration.ALWAYS, attributes=frozenset({("region", "us")}))
    after = adopt(change.account, change.grant, moved, by="app", new_id=GrantId("g2"), now=NOON)
    assert (Change.ATTRIBUTES_CHANGED, change.grant) == (after.change, after.grant)
    gone = adopt(change.account, change.grant, Setting(), by="app", new_id=GrantId("g2"), now=NOON)
    assert (Change.TURNED_OFF, frozenset()) == (gone.change, gone.account.attributes)


async def test_the_apps_own_word_of_an_account_is_what_rules_look_at(tmp_path):
    """As facts grow old, and at once with the next answer; an answer without it keeps staff out."""

    def by_region(document):
        document["staff"]["rules"][0]["account_attributes"] = {"region": "eu"}

    def field(grants):
        grants["http"]["fields"] = {"attributes": {"region": "/region"}}

    async with open_app_world(tmp_path, change=field, server=by_region) as world:
        said = {"region": "us"}
        world.app.script = lambda _request: answer(on(world.clock), **said)
        assert "staff_not_allowed" == (await world.ask())[1]["reason"]
        said["region"] = "eu"
        world.clock.forward(seconds=3)
        token = await world.token()
        assert 200 == (await world.get(token))[0]
        for value, status, reason in (("us", 403, b"staff_not_allowed"), ("eu", 200, b""), (5, 503, b"store_unav")):
            said["region"] = value
            world.clock.forward(seconds=3)
            found, _, body = await world.get(token)
            assert (status, True) == (found, reason in body), value
        del said["region"]
        world.clock.forward(seconds=3)
        assert 503 == (await world.get(token))[0]
