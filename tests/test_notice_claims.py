"""What a notice of the identity provider must say, each word of its standard with a test; whatever else it says is refused.

OpenID Connect Back-Channel Logout 1.0 (BCL), RFC 8417 (SET), OpenID Shared Signals Framework 1.0 (SSF), RFC 9493.
"""

from datetime import UTC, datetime, timedelta

import pytest

from policy.events import ENDING, LOGOUT, SESSION_REVOKED, NoticeError, is_type, read_event, read_logout
from policy.model import ActorId
from policy.staff import signed_in_at
from tests.forgery import DROP, NOON
from tests.notices import AT, IDP, ME, TERMS, complex_subject, event_claims, logout_claims, opaque, person

LOGOUT_HEADER = {"alg": "RS256", "kid": "k1", "typ": "logout+jwt"}
EVENT_HEADER = {"alg": "RS256", "kid": "k1", "typ": "secevent+jwt"}
DANA = ActorId(issuer=IDP, subject="dana")
CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
RISC = "https://schemas.openid.net/secevent/risc/event-type/"


def logout(now=NOON, header=LOGOUT_HEADER, **changes):
    return read_logout(header, logout_claims(**changes), TERMS, now=now)


def event(now=NOON, header=EVENT_HEADER, **changes):
    return read_event(header, event_claims(**changes), TERMS, now=now)


def refused(read, code="invalid_request", **changes):
    with pytest.raises(NoticeError) as error:
        read(**changes)
    assert code == error.value.code
    return str(error.value)


def test_a_good_logout_token_is_read():
    """BCL 2.4: it signs out the person of `iss` and `sub`, in every account, as of when it was issued."""
    for changes in ({}, {"sid": "s1"}, {"aud": [ME]}, {"trace": {"x": 1}}, {"nbf": AT}, {"auth_time": AT}):
        notice = logout(**changes)
        assert ("bWJq", LOGOUT, NOON, DANA, None) == (
            notice.id,
            notice.event,
            notice.issued_at,
            notice.person,
            notice.account,
        )


def test_a_good_event_is_read():
    """SSF 4.1: the person stands in `sub_id`; RFC 8417 allows several audiences, as long as we are one."""
    for changes in (
        {},
        {"aud": [ME]},
        {"aud": ["other", ME]},
        {"txn": "t"},
        {"toe": AT},
        {"events": {SESSION_REVOKED: {}}},
    ):
        notice = event(**changes)
        assert ("24c63fb5", SESSION_REVOKED, NOON, DANA, None) == (
            notice.id,
            notice.event,
            notice.issued_at,
            notice.person,
            notice.account,
        )


TYPES = [
    (DROP, True, False),
    ("JWT", True, False),
    ("jwt", True, False),
    ("logout+jwt", True, False),
    ("Logout+JWT", True, False),
    ("application/logout+jwt", True, False),
    ("secevent+jwt", False, True),
    ("SecEvent+jwt", False, True),
    ("application/secevent+jwt", False, True),
    ("at+jwt", False, False),
    ("logout+jwt ", False, False),
    ("logout", False, False),
    ("text/logout+jwt", False, False),
    ("", False, False),
    (None, False, False),
    (5, False, False),
    (["logout+jwt"], False, False),
    (["secevent+jwt"], False, False),
]


@pytest.mark.parametrize(("said", "is_logout", "is_event"), TYPES)
def test_the_type_keeps_other_tokens_apart(said, is_logout, is_event):
    """BCL 4.1: `logout+jwt`, or none or JWT, because most providers say no more. SSF 4.1.1: `secevent+jwt`, always.

    RFC 7515 4.1.9: without regard to case, with or without `application/`.
    """
    header = {"alg": "RS256", "kid": "k1"} | ({} if said is DROP else {"typ": said})
    for read, good in ((logout, is_logout), (event, is_event)):
        if good:
            assert DANA == read(header=header).person
        else:
            assert "`typ`" in refused(read, header=header)
    assert is_event is is_type(header, "secevent+jwt")


BOTH = {
    # BCL 2.6 step 4, SSF 4.1.6: exactly the issuer that is configured.
    "no issuer": ({"iss": DROP}, "invalid_issuer"),
    "another issuer": ({"iss": "https://other.example"}, "invalid_issuer"),
    "an issuer with a slash": ({"iss": IDP + "/"}, "invalid_issuer"),
    "an issuer in capitals": ({"iss": IDP.upper()}, "invalid_issuer"),
    "a part of the issuer": ({"iss": IDP[:-1]}, "invalid_issuer"),
    "a list of issuers": ({"iss": [IDP]}, "invalid_issuer"),
    # BCL 2.6 step 4, RFC 8417 2.2: for us.
    "no audience": ({"aud": DROP}, "invalid_audience"),
    "another audience": ({"aud": "other"}, "invalid_audience"),
    "a part of the audience": ({"aud": ME[:-1]}, "invalid_audience"),
    "more than the audience": ({"aud": ME + "x"}, "invalid_audience"),
    "an audience in capitals": ({"aud": ME.upper()}, "invalid_audience"),
    "an empty list of audiences": ({"aud": []}, "invalid_audience"),
    "audiences in a list of lists": ({"aud": [[ME]]}, "invalid_audience"),
    "an object of audiences": ({"aud": {ME: 1}}, "invalid_audience"),
    "the audience is null": ({"aud": None}, "invalid_audience"),
    # BCL 2.4, RFC 8417 2.2: iat is required.
    "no time of issue": ({"iat": DROP}, "invalid_request"),
    "a time of issue as text": ({"iat": str(AT)}, "invalid_request"),
    "a time of issue as a fraction": ({"iat": AT + 0.5}, "invalid_request"),
    "a time of issue that is true": ({"iat": True}, "invalid_request"),
    "a time of issue below zero": ({"iat": -1}, "invalid_request"),
    "a time of issue beyond the calendar": ({"iat": 10**300}, "invalid_request"),
    "too old": ({"iat": AT - 3601}, "invalid_request"),
    "from the future": ({"iat": AT + 6}, "invalid_request"),
    "not yet": ({"nbf": AT + 6}, "invalid_request"),
    "not yet, in words": ({"nbf": "now"}, "invalid_request"),
    # BCL 2.4, RFC 8417 2.2: jti is required.
    "no id": ({"jti": DROP}, "invalid_request"),
    "an empty id": ({"jti": ""}, "invalid_request"),
    "a number as id": ({"jti": 5}, "invalid_request"),
    "a list of ids": ({"jti": ["x"]}, "invalid_request"),
    # BCL 2.4, RFC 8417 2.2, SSF 4.1.5: an object with exactly one event, whose value is an object.
    "no events": ({"events": DROP}, "invalid_request"),
    "events are null": ({"events": None}, "invalid_request"),
    "no event in events": ({"events": {}}, "invalid_request"),
    "a list of events": ({"events": [LOGOUT]}, "invalid_request"),
    "events are a text": ({"events": LOGOUT}, "invalid_request"),
    "two events": ({"events": {LOGOUT: {}, SESSION_REVOKED: {}}}, "invalid_request"),
    "an event that is no object": ({"events": {LOGOUT: []}}, "invalid_request"),
    "an event that is null": ({"events": {LOGOUT: None}}, "invalid_request"),
    "an event that is true": ({"events": {SESSION_REVOKED: True}}, "invalid_request"),
}


@pytest.mark.parametrize("case", BOTH)
@pytest.mark.parametrize("read", [logout, event])
def test_what_both_kinds_must_say(read, case):
    """Who says it, to whom, when, once, and what."""
    changes, code = BOTH[case]
    assert refused(read, code, **changes)


LOGOUTS = {
    # BCL 2.4: exp is required, and "on or after" it is too late.
    "no end": {"exp": DROP},
    "an end as text": {"exp": str(AT + 120)},
    "an end as a fraction": {"exp": AT + 0.5},
    "it has expired": {"exp": AT},
    "it expired before it was issued": {"exp": AT - 60},
    # BCL 2.4: a nonce is prohibited, whatever it is.
    "a nonce": {"nonce": "n-0S6"},
    "an empty nonce": {"nonce": ""},
    "a nonce that is null": {"nonce": None},
    # BCL 2.4: for one client, as an ID token is.
    "two audiences": {"aud": [ME, "other"]},
    "the audience twice": {"aud": [ME, ME]},
    # BCL 2.4: sub, sid, or both.
    "nobody": {"sub": DROP},
    "nobody's name": {"sub": ""},
    "a subject that is null": {"sub": None},
    "a list of subjects": {"sub": ["dana"]},
    "a number as subject": {"sub": 5},
    "a session that is no text": {"sid": 5},
    "an empty session": {"sid": ""},
    # BCL 2.6 step 6.
    "another event": {"events": {SESSION_REVOKED: {}}},
    "an event in other letters": {"events": {LOGOUT.replace("http:", "https:"): {}}},
}


@pytest.mark.parametrize("case", LOGOUTS)
def test_what_a_logout_token_must_say(case):
    """And what it must not."""
    assert refused(logout, **{"code": "invalid_audience"} if "audience" in case else {}, **LOGOUTS[case])


def test_a_session_alone_names_no_person():
    """Whose it is, is for whoever knows who has signed in with it."""
    alone = logout(sub=DROP, sid="08a5019c")
    assert (None, "08a5019c") == (alone.person, alone.session)


def test_a_session_beside_a_person_narrows_nothing():
    """All of the person ends: more than was asked for, never less."""
    assert DANA == logout(sid="08a5019c").person


EVENTS = {
    # SSF 4.1.2, 4.1.3, 4.1.7: what other tokens have and a SET must not, whatever it is.
    "a subject": {"sub": "dana"},
    "an empty subject": {"sub": ""},
    "a subject that is null": {"sub": None},
    "an end": {"exp": AT + 120},
    "an end that is null": {"exp": None},
    # SSF 3, RFC 9493 3: a subject identifier with a format, and exactly what the format describes.
    "no subject identifier": {"sub_id": DROP},
    "a text as subject identifier": {"sub_id": "dana"},
    "a list of subject identifiers": {"sub_id": [person()]},
    "no format": {"sub_id": {"iss": IDP, "sub": "dana"}},
    "a list of formats": {"sub_id": person(format=["iss_sub"])},
    "an unknown format": {"sub_id": person(format="iss-sub")},
    "an e-mail address": {"sub_id": {"format": "email", "email": "dana@vendor.example"}},
    "an opaque id": {"sub_id": opaque("dana")},
    "an account": {"sub_id": {"format": "account", "uri": "acct:dana@vendor.example"}},
    "aliases": {"sub_id": {"format": "aliases", "identifiers": [person()]}},
    "a person without an issuer": {"sub_id": {"format": "iss_sub", "sub": "dana"}},
    "a person of another issuer": {"sub_id": person(iss="https://other.example")},
    "a person of nearly the issuer": {"sub_id": person(iss=IDP + "/")},
    "a person without a name": {"sub_id": person(subject="")},
    "a person who is a number": {"sub_id": person(subject=5)},
    "a person and more": {"sub_id": person(email="dana@vendor.example")},
    # SSF 3.3: a complex subject has simple ones as members.
    "a complex subject without a user": {"sub_id": {"format": "complex", "tenant": opaque("acme")}},
    "a complex subject with a session alone": {"sub_id": {"format": "complex", "session": opaque("s1")}},
    "a user who is a text": {"sub_id": complex_subject(user="dana")},
    "a user within a user": {"sub_id": complex_subject(user=complex_subject())},
    "a user by e-mail": {"sub_id": complex_subject(user={"format": "email", "email": "dana@vendor.example"})},
    "a tenant that is null": {"sub_id": complex_subject(tenant=None)},
    "a tenant that is a text": {"sub_id": complex_subject(tenant="acme")},
    "a tenant without an id": {"sub_id": complex_subject(tenant={"format": "opaque"})},
    "a tenant with an empty id": {"sub_id": complex_subject(tenant=opaque(""))},
    "a tenant by issuer": {"sub_id": complex_subject(tenant=person("acme"))},
    "a tenant and more": {"sub_id": complex_subject(tenant=opaque("acme") | {"x": 1})},
}


@pytest.mark.parametrize("case", EVENTS)
def test_what_a_security_event_must_say(case):
    """And what it must not; whom it is about is known exactly, or it is refused, so that the provider learns of it."""
    assert refused(event, **EVENTS[case])


@pytest.mark.parametrize("members", [{}, {"session": opaque("s1")}, {"device": opaque("d")}, {"group": 5, "x": None}])
def test_what_we_do_not_keep_narrows_nothing(members):
    """SSF 8.1.3.1: what one side leaves undefined matches, so the whole person ends; a tenant is an account of ours."""
    assert (DANA, None) == _target(complex_subject(**members))
    assert (DANA, "acme") == _target(complex_subject(tenant=opaque("acme"), **members))


def _target(subject):
    notice = event(sub_id=subject)
    return notice.person, notice.account


@pytest.mark.parametrize(
    "kind",
    [
        *(CAEP + name for name in ("session-revoked", "token-claims-change", "credential-change")),
        CAEP + "assurance-level-change",
        *(RISC + name for name in ("sessions-revoked", "account-disabled", "account-purged")),
    ],
)
def test_some_events_end_what_a_person_has_begun(kind):
    """That a session is over, or the person's own account, or that claims, assurance or credentials are others now.

    What they are now is not believed from an event; about whom it is has to be known exactly.
    """
    assert kind in ENDING
    for payload in ({}, {"claims": {"groups": ["support"]}}, {"change_type": "create"}):
        assert DANA == event(events={kind: payload}).person
        tenant = complex_subject(tenant=opaque("acme"))
        assert "acme" == event(events={kind: payload}, sub_id=tenant).account
    assert "iss_sub" in refused(event, events={kind: {}}, sub_id={"format": "email", "email": "x@vendor.example"})


def test_only_an_assurance_that_has_grown_ends_nothing():
    """CAEP 3.4: whoever steps up is not signed out by it; any other word for the direction, or none, may mean a loss."""
    kind = CAEP + "assurance-level-change"
    assert event(events={kind: {"change_direction": "increase"}}).person is None
    for direction in ("decrease", "Increase", "increase ", "", None, True, ["increase"]):
        assert DANA == event(events={kind: {"change_direction": direction}}).person
    assert DANA == event(events={SESSION_REVOKED: {"change_direction": "increase"}}).person


@pytest.mark.parametrize(
    "kind",
    [
        "https://schemas.openid.net/secevent/ssf/event-type/verification",
        LOGOUT,
        "https://schemas.openid.net/secevent/ssf/event-type/stream-updated",
        *(CAEP + name for name in ("risk-level-change", "device-compliance-change")),
        *(CAEP + name for name in ("session-established", "session-presented")),
        *(CAEP + name for name in ("session-revoked ", "Token-Claims-Change", "credential-changes")),
        RISC + "token-claims-change",
        "https://example.com/anything",
    ],
)
@pytest.mark.parametrize("subject", [person(), opaque("stream-1"), {"format": "email", "email": "x@vendor.example"}])
def test_other_events_are_taken_and_end_nothing(kind, subject):
    """A receiver is sent what its stream has, about whomever; what ends nothing may be about anybody."""
    notice = event(events={kind: {"state": "x"}}, sub_id=subject)
    assert (kind, None, None) == (notice.event, notice.person, notice.account)


def test_times_are_sharp():
    """Five seconds for clocks that differ, none at the end, and an age to the second."""
    second, hour = timedelta(seconds=1), timedelta(hours=1)
    tick = timedelta(microseconds=1)
    for read in (logout, event):
        assert read(now=NOON - 5 * second)
        assert "future" in refused(read, now=NOON - 5 * second - tick)
    assert event(now=NOON + hour)
    assert "too old" in refused(event, now=NOON + hour + tick)
    assert logout(now=NOON + 120 * second - tick)
    assert "expired" in refused(logout, now=NOON + 120 * second)
    assert "too old" in refused(logout, now=NOON + hour + tick, exp=AT + 10**6)


@pytest.mark.parametrize(
    ("claims", "seconds"),
    [
        ({"iat": AT}, AT),
        ({"iat": AT, "auth_time": AT - 60}, AT - 60),
        ({"iat": AT, "auth_time": AT + 60}, AT),
        ({"iat": AT, "auth_time": str(AT)}, 0),
        ({"iat": AT, "auth_time": None}, 0),
        ({"iat": AT, "auth_time": -1}, 0),
        ({"iat": AT, "auth_time": 10**300}, 0),
        ({"iat": AT, "auth_time": True}, 0),
        ({"iat": AT, "auth_time": 2**38}, 0),
        ({"auth_time": 2**38}, 0),
        ({}, 0),
    ],
)
def test_a_sign_in_is_no_younger_than_it_says(claims, seconds):
    """A token made anew for an old sign-in is an old sign-in, and one that says it badly is the oldest of all."""
    assert datetime.fromtimestamp(seconds, UTC) == signed_in_at(claims)
