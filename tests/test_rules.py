"""Who may stand in for whom: each condition is one more lock, each rule one more key, and none of them knows a guess."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.load import build
from gateway.config.model import StaffRuleTable
from gateway.staff.rules import read_rules
from policy.model import (
    Account,
    AccountId,
    AccountType,
    ActorId,
    Agent,
    AgentId,
    DenyReason,
    Duration,
    Facts,
    Grant,
    GrantId,
    Permission,
    Staff,
)
from policy.rules import StaffRule, StandInRules, is_attribute
from policy.staff import SignInPolicy, newest, read_staff
from tests.forgery import NOON

READ, TEST, WRITE, ADMIN = Permission
IDP = "https://idp.example"
DANA = Staff(
    id=ActorId(issuer=IDP, subject="dana"),
    name="Dana",
    permissions=frozenset(),
    groups=frozenset({"support", "emea"}),
    claims=frozenset({("department", "escalations"), ("amr", "pwd"), ("amr", "hwk")}),
)
ACME = Account(id=AccountId("acme"), type=AccountType.PAID, attributes=frozenset({("region", "eu"), ("plan", "gold")}))
GRANT = Grant(
    id=GrantId("g"),
    account=ACME.id,
    epoch=1,
    duration=Duration.DAY,
    permissions=frozenset({READ, TEST, WRITE}),
    not_before=NOON,
    expires_at=None,
    given_by="owner",
)
MARIA = Agent(AgentId("maria"), frozenset({"agent"}))
SUPPORT = {"groups": frozenset({"support"})}


def rule(*permissions, **conditions):
    return StaffRule(permissions=frozenset(permissions), **conditions)


def judge(*rules, staff=DANA, account=ACME, grant=GRANT, agent=MARIA, asking=False, **more):
    return StandInRules(rules=rules, **more).judge(staff, account, grant, agent, asking=asking)


# --- one condition at a time ---

FITTING = {
    "issuer": IDP,
    "subject": "dana",
    "groups": frozenset({"support", "emea"}),
    "claims": frozenset({("department", "escalations"), ("amr", "hwk")}),
    "account_type": AccountType.PAID,
    "account_attributes": frozenset({("region", "eu"), ("plan", "gold")}),
    "agent_roles": frozenset({"agent", "light agent"}),
}
NEARLY = [
    ("issuer", "https://idp.example/"),
    ("issuer", "https://idp.exampl"),
    ("subject", "Dana"),
    ("subject", "dan"),
    ("subject", "dana "),
    ("groups", frozenset({"support", "leads"})),
    ("groups", frozenset({"Support"})),
    ("groups", frozenset({"supp"})),
    ("groups", frozenset({"support,emea"})),
    ("claims", frozenset({("department", "escalations"), ("amr", "mfa")})),
    ("claims", frozenset({("department", "Escalations")})),
    ("claims", frozenset({("department", "escalation")})),
    ("claims", frozenset({("escalations", "department")})),
    ("claims", frozenset({("cost_centre", "7")})),
    ("account_type", AccountType.TRIAL),
    ("account_attributes", frozenset({("region", "eu"), ("plan", "silver")})),
    ("account_attributes", frozenset({("region", "EU")})),
    ("account_attributes", frozenset({("region", "e")})),
    ("account_attributes", frozenset({("regio", "eu")})),
    ("account_attributes", frozenset({("tier", "1")})),
    ("agent_roles", frozenset({"light agent"})),
    ("agent_roles", frozenset({"Agent"})),
    ("agent_roles", frozenset({"agen", "agents"})),
]


def test_a_rule_whose_every_condition_fits_gives_what_it_says():
    """The cases below start from here."""
    assert {READ, WRITE} == judge(rule(READ, WRITE, **FITTING))


@pytest.mark.parametrize(("condition", "value"), NEARLY)
def test_one_condition_that_does_not_fit_is_enough(condition, value):
    """Each is compared whole: no case is folded, nothing begins with anything, and of several all have to fit."""
    assert DenyReason.STAFF_NOT_ALLOWED == judge(rule(READ, **FITTING | {condition: value}))


def test_the_cases_try_every_condition():
    """A condition that is new has to be tried above."""
    assert set(FITTING) == {name for name, _ in NEARLY} == set(StaffRule.__dataclass_fields__) - {"permissions"}


@pytest.mark.parametrize("kept", [(), ("issuer",), ("account_type", "account_attributes", "agent_roles", "issuer")])
def test_a_rule_that_speaks_of_nobody_fits_nobody(kept):
    """An account or an agent is no person: without a condition on who somebody is, it is not about them."""
    assert DenyReason.STAFF_NOT_ALLOWED == judge(rule(READ, **{name: FITTING[name] for name in kept}))


def test_what_is_not_known_does_not_fit():
    """An agent whose role nobody told, an account without the attribute, a person without the claim."""
    for_agents = rule(READ, **SUPPORT, agent_roles=frozenset({"agent"}))
    for roles in (None, frozenset()):
        assert DenyReason.STAFF_NOT_ALLOWED == judge(for_agents, agent=Agent(MARIA.id, roles))
    bare = replace(ACME, attributes=frozenset())
    by_region = rule(READ, **SUPPORT, account_attributes=frozenset({("region", "eu")}))
    assert DenyReason.STAFF_NOT_ALLOWED == judge(by_region, account=bare)
    by_claim = rule(READ, claims=frozenset({("department", "escalations")}))
    assert DenyReason.STAFF_NOT_ALLOWED == judge(by_claim, staff=replace(DANA, claims=frozenset()))


def test_only_the_question_for_the_role_is_asked_without_it():
    """To ask, an unknown role is taken for one that fits; one that is known is what it is, and nothing else is eased."""
    for_agents = rule(READ, **SUPPORT, agent_roles=frozenset({"agent"}))
    assert {READ} == judge(for_agents, agent=Agent(MARIA.id), asking=True)
    for agent in (Agent(MARIA.id, frozenset({"owner"})), Agent(MARIA.id, frozenset())):
        assert DenyReason.STAFF_NOT_ALLOWED == judge(for_agents, agent=agent, asking=True)
    for condition, value in NEARLY:
        if condition != "agent_roles":
            changed = rule(READ, **FITTING | {condition: value})
            assert DenyReason.STAFF_NOT_ALLOWED == judge(changed, agent=Agent(MARIA.id), asking=True)


# --- nobody for themselves, nobody upwards ---


@pytest.mark.parametrize("claim", ["sub", "email"])
def test_nobody_stands_in_for_themselves(claim):
    """Whether the app folds case is not known here, so it is folded; whom the claim is not known of stands in for nobody."""
    staff = replace(DANA, id=ActorId(issuer=IDP, subject="Maria"), claims=frozenset({("email", "Maria")}))
    only = {"agent_claim": (IDP, claim), "staff": staff}
    for agent in ("maria", "Maria", "MARIA"):
        assert DenyReason.AGENT_IS_ACTOR == judge(rule(READ, **SUPPORT), agent=Agent(AgentId(agent)), **only)
    for agent in ("mari", "maria2"):
        assert {READ} == judge(rule(READ, **SUPPORT), agent=Agent(AgentId(agent)), **only)
    unknown = only | {"staff": replace(staff, claims=frozenset())}
    expected = DenyReason.AGENT_IS_ACTOR if claim == "sub" else DenyReason.STAFF_NOT_ALLOWED
    assert expected == judge(rule(READ, **SUPPORT), **unknown)


ADMINISTRATORS = frozenset({"owner", "admin"})


@pytest.mark.parametrize("role", ["owner", "admin", "Owner", "ADMIN"])
def test_nobody_stands_in_for_an_administrator_unless_all_sides_say_so(role):
    """The grant has to say it, and a rule that fits; one role among several is enough to be one."""
    boss = Agent(AgentId("olga"), frozenset({"agent", role}))
    agents_only, all_of_them = rule(READ, **SUPPORT), rule(READ, ADMIN, **SUPPORT)
    open_grant = replace(GRANT, permissions=GRANT.permissions | {ADMIN})
    for staff_rule, grant, expected in (
        (agents_only, GRANT, DenyReason.AGENT_ADMINISTRATOR),
        (all_of_them, GRANT, DenyReason.AGENT_ADMINISTRATOR),
        (agents_only, open_grant, DenyReason.AGENT_ADMINISTRATOR),
        (all_of_them, open_grant, {READ, ADMIN}),
    ):
        assert expected == judge(staff_rule, grant=grant, agent=boss, administrators=ADMINISTRATORS)
    assert {READ} == judge(agents_only, administrators=ADMINISTRATORS)


# --- what holds of any rules ---

WORDS = st.sampled_from(["a", "b", "c"])
PAIRS = st.frozensets(st.tuples(WORDS, WORDS), max_size=2)
CONDITIONS = {
    "issuer": st.sampled_from([IDP, "https://other.example"]),
    "subject": WORDS,
    "groups": st.frozensets(WORDS, max_size=2),
    "claims": PAIRS,
    "account_type": st.sampled_from(AccountType),
    "account_attributes": PAIRS,
    "agent_roles": st.frozensets(WORDS, max_size=2),
}
PERMISSIONS = st.frozensets(st.sampled_from(Permission))


@st.composite
def rules_of(draw):
    chosen = draw(st.sets(st.sampled_from(sorted(CONDITIONS))))
    return rule(*draw(PERMISSIONS), **{name: draw(CONDITIONS[name]) for name in sorted(chosen)})


@st.composite
def situations(draw):
    staff = replace(
        DANA,
        id=ActorId(issuer=IDP, subject=draw(WORDS)),
        groups=draw(st.frozensets(WORDS)),
        claims=draw(st.frozensets(st.tuples(WORDS, WORDS))),
    )
    account = replace(
        ACME, type=draw(st.sampled_from(AccountType)), attributes=frozenset(draw(st.dictionaries(WORDS, WORDS)).items())
    )
    agent = Agent(AgentId(draw(WORDS)), draw(st.none() | st.frozensets(WORDS)))
    return {
        "staff": staff,
        "account": account,
        "agent": agent,
        "grant": replace(GRANT, permissions=draw(PERMISSIONS)),
        "administrators": draw(st.frozensets(WORDS)),
        "agent_claim": draw(st.none() | st.tuples(st.just(IDP), WORDS | st.just("sub"))),
    }


def power(verdict):
    return frozenset() if isinstance(verdict, DenyReason) else verdict


@given(st.lists(rules_of(), max_size=4), situations(), st.data())
def test_another_condition_never_widens(rules, situation, data):
    """Whichever rule gets it, and whatever it says: there is nothing that staff could do only after it was added."""
    before = power(judge(*rules, **situation))
    if not rules:
        assert frozenset() == before
        return
    at = data.draw(st.integers(0, len(rules) - 1))
    name = data.draw(st.sampled_from(sorted(CONDITIONS)))
    old, added = getattr(rules[at], name), data.draw(CONDITIONS[name])
    if name in ("issuer", "subject", "account_type"):
        if old is not None:
            return
        # The first condition on the person is what makes it a rule about anybody.
        if name == "subject" and not (rules[at].groups or rules[at].claims):
            return
    elif name == "agent_roles":
        added = old & added if old else added
        if not added:
            return
    else:
        if name in ("groups", "claims") and not (rules[at].subject or rules[at].groups or rules[at].claims):
            return
        added = old | added
    narrower = [*rules]
    narrower[at] = replace(rules[at], **{name: added})
    assert power(judge(*narrower, **situation)) <= before


@given(st.lists(rules_of(), min_size=1, max_size=5), situations(), st.data())
def test_taking_a_rule_away_never_widens(rules, situation, data):
    """Nor does taking a permission out of one."""
    before = power(judge(*rules, **situation))
    at = data.draw(st.integers(0, len(rules) - 1))
    fewer = [one for index, one in enumerate(rules) if index != at]
    assert power(judge(*fewer, **situation)) <= before
    less = [*rules]
    less[at] = replace(rules[at], permissions=rules[at].permissions - {data.draw(st.sampled_from(Permission))})
    assert power(judge(*less, **situation)) <= before


@given(st.lists(rules_of(), max_size=5), situations(), st.randoms(use_true_random=False))
def test_the_order_of_the_rules_has_no_meaning(rules, situation, random):
    """Nor has one that is there twice."""
    shuffled = [*rules, *rules[:1]]
    random.shuffle(shuffled)
    assert judge(*rules, **situation) == judge(*shuffled, **situation)


@given(st.lists(rules_of(), max_size=5), situations())
def test_what_is_known_of_an_agent_never_widens_what_was_asked_with(rules, situation):
    """Whoever may not even ask for the role may not stand in, whatever the role then is."""
    situation["administrators"] = frozenset()
    asked = power(judge(*rules, **situation | {"agent": Agent(situation["agent"].id)}, asking=True))
    assert power(judge(*rules, **situation)) <= asked


@given(st.lists(rules_of(), max_size=5), situations())
def test_nobody_gets_more_than_the_most(rules, situation):
    """What a sign-in says that somebody might do is the most that any account and any agent could make of it."""
    assert power(judge(*rules, **situation)) <= StandInRules(rules=tuple(rules)).most(situation["staff"])


# --- from the configuration and the token ---


def test_each_key_of_a_rule_is_a_condition_of_it():
    """Nothing that can be written in the file is left out on the way."""
    table = {
        "permissions": ["read"],
        "subject": "dana",
        "group": "support",
        "groups": ["emea"],
        "claims": {"department": "escalations"},
        "amr": ["hwk"],
        "account_type": "paid",
        "account_attributes": {"region": "eu", "plan": "gold"},
        "agent_roles": ["agent", "light agent"],
    }
    assert set(table) == set(StaffRuleTable.__struct_fields__)
    found = {
        "server": {"issuer": "https://assume.vendor.example"},
        "accounts": {"host": "{account}.helpdesk.example"},
        "upstream": {"url": "http://127.0.0.1:3000", "profile": "demo-helpdesk"},
        "staff": {"issuer": IDP, "audience": "locum", "agent_claim": "email", "rules": [table]},
    }
    config = build(found, {}, base=Path("data"))
    rules = read_rules(config)
    assert rule(READ, **FITTING | {"issuer": config.staff.issuer}) == rules.rules[0]
    assert (config.staff.issuer, "email") == rules.agent_claim
    assert {"owner", "admin"} == rules.administrators
    assert {"department", "amr", "email"} == rules.claims


def test_only_the_claims_that_rules_speak_of_are_kept():
    """A text as it is, each method of the sign-in, and nothing of any other kind or name."""
    rules = StandInRules(
        rules=(rule(READ, claims=frozenset({("amr", "hwk")})), rule(READ, claims=frozenset({("team", "x")}))),
        agent_claim=(IDP, "email"),
    )
    said = {"iss": IDP, "sub": "dana", "amr": ["hwk", 5, "pin"], "team": ["x"], "email": "d@example", "phone": "1"}
    staff = read_staff(said, rules, SignInPolicy())
    assert {("amr", "hwk"), ("amr", "pin"), ("email", "d@example")} == staff.claims
    assert {READ} == staff.permissions
    assert frozenset() == read_staff(said | {"amr": "hwk"}, rules, SignInPolicy()).permissions


def test_a_weak_sign_in_gains_nothing_from_a_stronger_one_after_it():
    """Of what is newer, groups and claims count as they are, and of the methods those that the older token has too."""
    later = NOON + timedelta(seconds=1)
    strong = replace(DANA, told_at=later)
    weak = replace(
        DANA, groups=frozenset(), claims=frozenset({("amr", "pwd"), ("amr", "sms"), ("team", "x")}), told_at=NOON
    )
    by_now = newest(weak, strong)
    assert (DANA.groups, {("department", "escalations"), ("amr", "pwd")}) == (by_now.groups, by_now.claims)
    assert DenyReason.STAFF_NOT_ALLOWED == judge(rule(READ, **FITTING), staff=by_now)
    assert strong == newest(replace(weak, claims=DANA.claims), strong)
    for known in (None, replace(strong, told_at=None), replace(strong, told_at=NOON)):
        assert weak is newest(weak, known)
    assert newest(replace(weak, told_at=None), strong).groups == strong.groups


@pytest.mark.parametrize("value", ["", "a\nb", "a\u2028b", "\ud800", "x" * 257, "\x00"])
def test_an_attribute_is_one_line(value):
    """What could look like two things somewhere is no value."""
    assert not is_attribute("region", value)
    assert is_attribute("region", "EU – West")
    assert not is_attribute("Region", "eu")


# --- facts ---


def test_facts_without_rules_let_nobody_in():
    """So do facts of which anything is missing; and no copy of facts keeps the verdict on others."""
    facts = Facts(account=ACME, grant=GRANT, assumption=None, staff=DANA, halted=None)
    assert DenyReason.STAFF_NOT_ALLOWED == facts.may
    assert DenyReason.STAFF_NOT_ALLOWED == replace(facts, rules=StandInRules(rules=(rule(READ, **SUPPORT),))).may


def test_only_whoever_asks_for_the_role_may_say_so():
    """What is eased for one question is eased in one place; the rules themselves say what somebody may at the most."""
    root = Path(__file__).parent.parent
    sources = [path for package in ("gateway", "policy") for path in (root / package).rglob("*.py")]
    eased = [path.relative_to(root).as_posix() for path in sources if "asking=True" in path.read_text()]
    assert ["gateway/tokens/starting.py", "policy/rules.py"] == eased
    assert 1 == (root / "policy/rules.py").read_text().count("asking=True")
