"""What an app's answer means is read in one way or not at all, and nothing odd in it ever lets anybody in."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.model import GrantsHttp
from gateway.grants.http_source import read_form
from policy.documents import Odd, is_pointer
from policy.grants import Change, GrantState, adopt, grant_in_force, state
from policy.model import Account, AccountId, AccountType, Duration, Grant, GrantId, Permission
from policy.setting import Fields, Form, Setting, Words, read_account, read_setting

ACME = AccountId("acme")
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
END = NOW + timedelta(days=7)
READ = frozenset({Permission.READ})
ZENDESK = read_form(GrantsHttp(url="https://{account}.desk.example/api/v2/security_settings"))
# As the reference of Zendesk's security settings shows it, with what has nothing to do with it around it.
SHAPE = {
    "security_settings": {
        "admins_can_set_user_passwords": False,
        "agent_session_timeout": 480,
        "assumable": True,
        "assumable_account_type": False,
        "assumption_duration": "week",
        "assumption_expiration": "2026-11-30T12:00:00Z",
        "authentication": {"agent": {"enforce_sso": False, "zendesk_login": True}},
        "ip": {"enable_agent_ip_restrictions": False, "ip_ranges": "", "ip_restriction_enabled": True},
    }
}
ON = Setting(duration=Duration.WEEK, expires_at=END, permissions=READ)
OWN = Form(
    fields=Fields(
        account="/data/0/id",
        duration="/data/0/support~1access",
        expires_at="/data/0/until",
        permissions="/data/0/may",
        account_type="/data/0/plan",
        suspended="/data/0/state",
    ),
    words=Words(
        assumable={},
        duration={"none": Duration.OFF, "30 days": Duration.MONTH, "open end": Duration.ALWAYS},
        permissions={"look": Permission.READ, "try": Permission.TEST_TICKETS},
        account_type={"free": AccountType.TRIAL, "pro": AccountType.PAID, "team": AccountType.PAID},
        suspended={"active": False, "blocked": True},
    ),
    permissions=frozenset(Permission),
)
OWN_ANSWER = {
    "id": "acme",
    "support/access": "30 days",
    "until": 1764590400,
    "may": ["look", "try"],
    "plan": "pro",
    "state": "active",
}


def zendesk(**changes):
    return json.dumps({"security_settings": SHAPE["security_settings"] | changes}).encode()


def own(**changes):
    return json.dumps({"data": [OWN_ANSWER | changes]}).encode()


def read(body, form=ZENDESK):
    return read_setting(body, form, account=ACME)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ON),
        ({"assumption_duration": "off", "assumption_expiration": None, "assumable": False}, Setting()),
        ({"assumption_duration": "off"}, Setting()),
        ({"assumable": False}, Setting()),
        ({"assumption_duration": "day"}, replace(ON, duration=Duration.DAY)),
        ({"assumption_duration": "month"}, replace(ON, duration=Duration.MONTH)),
        ({"assumption_duration": "year"}, replace(ON, duration=Duration.YEAR)),
        (
            {"assumption_duration": "always", "assumption_expiration": None},
            replace(ON, duration=Duration.ALWAYS, expires_at=None),
        ),
        ({"assumption_duration": "always"}, replace(ON, duration=Duration.ALWAYS)),
        ({"assumable_account_type": True}, Setting(type=AccountType.TRIAL, duration=Duration.ALWAYS)),
        ({"assumable_account_type": True, "assumable": False}, Setting()),
    ],
)
def test_zendesk_s_shape_is_read_as_it_is(changes, expected):
    """With no field map at all; `assumable: false` beats everything, and the answer's own end is what counts."""
    assert expected == read(zendesk(**changes))


def test_another_shape_is_read_by_its_own_map():
    """Deep in lists and under odd names, with the app's own words, permissions and account types."""
    expected = Setting(
        duration=Duration.MONTH,
        expires_at=datetime(2025, 12, 1, 12, tzinfo=UTC),
        permissions=frozenset({Permission.READ, Permission.TEST_TICKETS}),
    )
    assert expected == read(own(), OWN)
    assert replace(expected, suspended=True) == read(own(state="blocked"), OWN)
    assert Setting(type=AccountType.TRIAL, duration=Duration.ALWAYS) == read(own(plan="free"), OWN)
    assert READ == read(own(may=[]), OWN).permissions
    assert Setting(suspended=True) == read(own(state="blocked", **{"support/access": "none"}), OWN)


ODD = {
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "an empty object": b"{}",
    "HTML": b"<!doctype html><h1>Sign in</h1>",
    "truncated": zendesk()[:-1],
    "two documents": zendesk() + b"{}",
    "not UTF-8": zendesk() + b"\xff",
    "a byte order mark": b"\xef\xbb\xbf" + zendesk(),
    "a member twice": zendesk().replace(b'"assumable": true', b'"assumable": false, "assumable": true'),
    "a member twice, spelled otherwise": zendesk().replace(b'"assumable": t', b'"\\u0061ssumable": false, "assumable": t'),
    "a member twice elsewhere": zendesk().replace(b'"ip_ranges": ""', b'"ip_ranges": "", "ip_ranges": ""'),
    "no number": zendesk(agent_session_timeout=float("nan")),
    "depth": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "the settings are a list": json.dumps({"security_settings": [SHAPE["security_settings"]]}).encode(),
    "a member is missing": zendesk().replace(b"assumption_expiration", b"assumption_expiry"),
    "assumable is a text": zendesk(assumable="true"),
    "assumable is a number": zendesk(assumable=1),
    "assumable is null": zendesk(assumable=None),
    "a type that is a text": zendesk(assumable_account_type="false"),
    "a type that is null": zendesk(assumable_account_type=None),
    "an unknown duration": zendesk(assumption_duration="decade"),
    "another case": zendesk(assumption_duration="Week"),
    "a blank": zendesk(assumption_duration="week "),
    "a duration that is null": zendesk(assumption_duration=None),
    "a duration that is a list": zendesk(assumption_duration=["week"]),
    "a week without an end": zendesk(assumption_expiration=None),
    "an end without its offset": zendesk(assumption_expiration="2026-11-30T12:00:00"),
    "an end without its time": zendesk(assumption_expiration="2026-11-30"),
    "an end that never was": zendesk(assumption_expiration="2026-02-30T12:00:00Z"),
    "a leap second": zendesk(assumption_expiration="2026-12-31T23:59:60Z"),
    "an hour too many": zendesk(assumption_expiration="2026-11-30T24:00:00Z"),
    "other digits": zendesk(assumption_expiration="２０２６-11-30T12:00:00Z"),
    "an end beyond the calendar": zendesk(assumption_expiration="9999-12-31T23:59:59-01:00"),
    "an empty end": zendesk(assumption_expiration=""),
    "an end in milliseconds": zendesk(assumption_expiration=1796040000000),
    "an end that is a fraction": zendesk(assumption_expiration=1796040000.5),
    "an end that is true": zendesk(assumption_expiration=True),
    "an end that is huge": zendesk(assumption_expiration=10**400),
}  # fmt: skip


@pytest.mark.parametrize("duration", ["decade", None, 7, True, ["week"]])
def test_a_trial_whose_duration_is_odd_is_refused(duration):
    """Though nothing hangs on it: it is documented, so an answer without it is not the one that was documented."""
    assert isinstance(read(zendesk(assumable_account_type=True, assumption_duration=duration)), Odd)
    inner = {name: value for name, value in SHAPE["security_settings"].items() if name != "assumption_duration"}
    body = json.dumps({"security_settings": inner | {"assumable_account_type": True}}).encode()
    assert isinstance(read(body), Odd)


@pytest.mark.parametrize("case", ODD)
def test_an_odd_answer_is_refused_whole(case):
    """Whatever is not documented says nothing; the reason holds nothing of the answer."""
    found = read(ODD[case])
    assert isinstance(found, Odd)
    assert found.reason
    assert "decade" not in found.reason


OWN_ODD = {
    "another account": {"id": "evil"},
    "another case": {"id": "ACME"},
    "no account": {"id": None},
    "an account that is true": {"id": True},
    "an empty account": {"id": ""},
    "a plan nobody documented": {"plan": "enterprise"},
    "a state nobody documented": {"state": "unknown"},
    "a state as a switch": {"state": False},
    "permissions in a text": {"may": "look"},
    "a permission nobody documented": {"may": ["look", "delete"]},
    "a permission of ours": {"may": ["write"]},
    "our own word": {"support/access": "always"},
}  # fmt: skip


@pytest.mark.parametrize("case", OWN_ODD)
def test_only_documented_values_count(case):
    """Neither another account's answer nor a word that the map does not list; ours are not the app's."""
    assert isinstance(read(own(**OWN_ODD[case]), OWN), Odd)


def test_a_numbered_account_is_named_by_its_digits():
    """Apps that number their accounts may say it in either kind of JSON value."""
    for name in (42, "42"):
        assert isinstance(read_setting(own(id=name), OWN, account=AccountId("42")), Setting)
    assert isinstance(read_setting(own(id=42.0), OWN, account=AccountId("42")), Odd)


def test_times_are_exact_and_never_later_than_said():
    """Offsets and both cases are understood; what is finer than a microsecond is cut off."""
    for spelled, expected in {
        "2026-11-30T12:00:00z": END,
        "2026-11-30 13:00:00+01:00": END,
        "2026-11-30t06:30:00-05:30": END,
        "2026-11-30T12:00:00.1Z": END + timedelta(milliseconds=100),
        "2026-11-30T12:00:00.123456999Z": END + timedelta(microseconds=123456),
        int(END.timestamp()): END,
        -1: datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
    }.items():
        assert expected == read(zendesk(assumption_expiration=spelled)).expires_at


@pytest.mark.parametrize("text", ["/a", "/a/0", "/a~0b/~1", "/", "/a//b"])
def test_a_pointer_is_one_of_rfc_6901(text):
    """Section 3, but for the one to the whole document."""
    assert is_pointer(text)


@pytest.mark.parametrize("text", ["", "a", "a/b", "/a~", "/~2", "#/a"])
def test_what_is_no_pointer_is_known(text):
    """Nothing else is guessed at."""
    assert not is_pointer(text)


def test_a_notice_names_an_account():
    """By a pointer of its own."""
    assert "acme" == read_account(b'{"account": "acme"}', "/account")
    assert "7" == read_account(b'{"detail": [{"id": 7}]}', "/detail/0/id")
    for body in (b"{}", b'{"account": null}', b'{"account": "a", "account": "b"}', b"acme", b'{"account": -1}'):
        assert isinstance(read_account(body, "/account"), Odd)


# --- properties ---

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
    | st.sampled_from(["acme", "week", "always", "off", "true", "2027-01-01T00:00:00Z", "look"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
FIELDS = ("assumable", "assumable_account_type", "assumption_duration", "assumption_expiration")


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=4), st.sets(st.sampled_from(FIELDS), max_size=2))
def test_nobody_is_let_in_unless_every_field_says_so(changes, missing):
    """For any values in any of the fields: on only with `assumable` true and a documented duration with its end."""
    inner = {name: value for name, value in (SHAPE["security_settings"] | changes).items() if name not in missing}
    found = read(json.dumps({"security_settings": inner}).encode())
    if isinstance(found, Odd) or not found.is_on(NOW):
        return
    assert inner["assumable"] is True
    assert isinstance(inner["assumable_account_type"], bool)
    if found.type is AccountType.PAID:
        assert inner["assumption_duration"] in {"day", "week", "month", "year", "always"}
        assert found.expires_at is not None or inner["assumption_duration"] == "always"
        assert found.expires_at is None or NOW < found.expires_at


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body):
    """Nothing but a setting or a reason ever comes out."""
    for form in (ZENDESK, OWN):
        assert isinstance(read(body, form), Odd)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(zendesk()) - 1), st.integers(0, 255))
def test_a_changed_byte_never_gives_more(place, byte):
    """Any one byte of an answer that is off, made another: it is never an answer that is on."""
    body = bytearray(zendesk(assumable=False, assumption_duration="off", assumption_expiration=None))
    body[place % len(body)] = byte
    found = read(bytes(body))
    assert isinstance(found, Odd) or not found.is_on(NOW)


# --- what the store is told ---

settings_said = st.builds(
    Setting,
    type=st.sampled_from(AccountType),
    suspended=st.booleans(),
    duration=st.sampled_from(Duration),
    expires_at=st.none() | st.integers(-3, 400).map(lambda hours: NOW + timedelta(hours=hours)),
    permissions=st.sets(st.sampled_from(Permission)).map(lambda some: frozenset(some) | READ),
    attributes=st.frozensets(st.sampled_from([("region", "eu"), ("plan", "gold")])),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(settings_said, st.integers(0, 90)), min_size=1, max_size=8))
def test_what_is_stored_is_never_more_than_what_was_said(story):
    """Answer by answer, as time passes: each step is one epoch, none opens too much, and what ended never comes back."""
    account, grant, now, ids, ended = Account(id=ACME, type=AccountType.PAID), None, NOW, 0, set()
    for said, minutes in story:
        now += timedelta(minutes=minutes)
        for _ in range(6):
            ids += 1
            change = adopt(account, grant, said, by="app", new_id=GrantId(f"g{ids}"), now=now)
            if change is None:
                break
            assert account.epoch + 1 == change.account.epoch
            assert Change.UNCHANGED is not change.change
            before = grant_in_force(account, grant, READ)
            account, grant = change.account, change.grant
            after = grant_in_force(account, grant, READ)
            if before is not None and (after is None or after.id != before.id or not after.is_live(now)):
                ended.add(before.id)
        else:
            pytest.fail("it never comes to an end")
        assert (said.type, said.suspended, said.attributes) == (account.type, account.suspended, account.attributes)
        force = grant_in_force(account, grant, READ)
        live = force is not None and force.is_live(now)
        assert live == (said.type is AccountType.TRIAL or said.is_on(now))
        if live and said.type is AccountType.PAID:
            assert said.permissions == force.permissions
            assert said.expires_at is None or force.expires_at <= said.expires_at
            assert force.id not in ended
            assert state(account, grant, now) is GrantState.ON
        if live and said.type is AccountType.TRIAL:
            assert force.id not in ended


def a_grant(**changes):
    return replace(
        Grant(
            id=GrantId("g1"), account=ACME, epoch=1, duration=Duration.WEEK, permissions=READ, not_before=NOW,
            expires_at=END, given_by="app",
        ),
        **changes,
    )  # fmt: skip


def step(said, *, grant=None, now=NOW, **account):
    stored = Account(id=ACME, type=AccountType.PAID, epoch=1, **account)
    return adopt(stored, grant, said, by="app", new_id=GrantId("new"), now=now)


def test_what_differs_is_named():
    """Each difference is one change of the grant's life; the same answer again is none."""
    on = a_grant()
    for said, grant, expected in [
        (ON, None, Change.ENABLED),
        (ON, on, None),
        (Setting(), on, Change.TURNED_OFF),
        (Setting(), None, None),
        (ON, a_grant(revoked_at=NOW), Change.ENABLED),
        (ON, a_grant(expires_at=NOW), Change.ENABLED),
        (replace(ON, expires_at=END - timedelta(microseconds=1)), on, Change.REDUCED),
        (replace(ON, expires_at=END + timedelta(minutes=1)), on, Change.EXTENDED),
        (replace(ON, expires_at=None, duration=Duration.ALWAYS), on, Change.EXTENDED),
        (replace(ON, permissions=frozenset(Permission)), on, Change.PERMISSIONS_CHANGED),
        (replace(ON, expires_at=NOW), on, Change.TURNED_OFF),
        (replace(ON, suspended=True), on, Change.SUSPENDED),
    ]:
        change = step(said, grant=grant)
        assert expected == (change and change.change)
    assert Change.RESUMED == step(ON, grant=on, suspended=True).change
    off_first = step(Setting(), grant=on, suspended=True)
    assert (Change.TURNED_OFF, True) == (off_first.change, off_first.account.suspended)


def test_what_is_given_after_an_off_has_a_new_id():
    """So no token from before comes to life again; while it is on, the id stays."""
    assert GrantId("new") == step(ON, grant=a_grant(revoked_at=NOW)).grant.id
    assert GrantId("new") == step(ON, grant=a_grant(expires_at=NOW)).grant.id
    assert GrantId("g1") == step(replace(ON, expires_at=None), grant=a_grant()).grant.id


def test_an_end_that_creeps_is_left_where_it_was():
    """An app that counts a week anew for each answer makes no change with each of them, and no grant longer."""
    on = a_grant()
    for seconds in (0.001, 1, 59.999):
        assert None is step(replace(ON, expires_at=END + timedelta(seconds=seconds)), grant=on)


def test_a_second_trial_is_not_the_first():
    """What was issued in the first one means nothing in the second."""
    trial = Setting(type=AccountType.TRIAL, duration=Duration.ALWAYS)
    account = Account(id=ACME, type=AccountType.TRIAL)
    first = grant_in_force(account, None, READ)
    paid = adopt(account, None, Setting(), by="app", new_id=GrantId("a"), now=NOW)
    assert (Change.CONVERTED, None) == (paid.change, paid.grant)
    again = adopt(paid.account, paid.grant, trial, by="app", new_id=GrantId("b"), now=NOW)
    second = grant_in_force(again.account, again.grant, READ)
    assert (Change.ENABLED, GrantId("b"), None) == (again.change, second.id, second.expires_at)
    assert first.id != second.id
    assert first.epoch < second.epoch
