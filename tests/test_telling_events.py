"""What of the journal is told, to whom, and where a webhook may go."""

import random
from typing import get_args

import pytest

from gateway.audit.record import Kind
from gateway.config.notices import EVENTS, NoticesSecurity
from gateway.stores.outbox import Contacts, Target
from gateway.telling.addressing import Addressing
from gateway.telling.events import read_event
from gateway.telling.secret import is_secret
from gateway.telling.text import clean
from gateway.telling.webhook import is_outside
from policy.model import AccountId
from tests.store_examples import NOW

AT = "2026-11-23T12:00:00.000000Z"
TOLD = {
    "setting": {"kind": "grant", "decision": "allow", "reason": "enabled", "account": "acme"},
    "begun": {"kind": "token", "decision": "allow", "account": "acme", "assumption": "a1"},
    "ended": {"kind": "assumption", "reason": "ended", "account": "acme", "assumption": "a1"},
    "asked": {"kind": "grant_request", "decision": "allow", "reason": "asked", "account": "acme"},
    "kill_switch": {"kind": "kill_switch", "reason": "on"},
    "evidence": {"kind": "audit", "reason": "evidence_broken"},
    "mended": {"kind": "audit", "reason": "evidence_mended"},
}


@pytest.mark.parametrize("name", TOLD)
def test_each_kind_of_event_has_its_record(name):
    """With the account whose administrators are told, and none for what is the vendor's own."""
    event = read_event({"at": AT, "origin": "o", "seq": 1, **TOLD[name]})
    assert (name, TOLD[name].get("account", "")) == (event.name, event.account)


@pytest.mark.parametrize(
    "entry",
    [
        {"kind": "grant", "decision": "deny", "reason": "not_administrator", "account": "acme"},
        {"kind": "grant", "decision": "allow", "reason": "unchanged", "account": "acme"},
        {"kind": "token", "decision": "deny", "reason": "grant_off", "account": "acme"},
        {"kind": "assumption", "decision": "allow", "reason": "entered", "account": "acme", "assumption": "a1"},
        {"kind": "grant_request", "decision": "deny", "reason": "too_many_of_staff", "account": "acme"},
        {"kind": "notice", "reason": "sent", "account": "acme", "event": "begun"},
        {"kind": "notice", "reason": "failed_no_contact", "account": "acme", "event": "evidence"},
        {"kind": "decision", "decision": "allow", "account": "acme", "assumption": "a1"},
        {"kind": "sink", "reason": "gap", "why": "gone"},
        {"kind": "audit", "reason": "exported"},
        {},
    ],
)
def test_nothing_else_is_told(entry):
    """Refusals, requests, what retention takes away; and above all notices themselves, which would never end."""
    assert None is read_event({"at": AT, **entry})


@pytest.mark.parametrize("why", ["missing", "unreadable", "replaced"])
def test_a_journal_that_has_lost_something_is_told(why):
    """As whoever reads it to tell people finds it."""
    assert "evidence" == read_event({"at": AT, "kind": "sink", "reason": "gap", "why": why}).name


def test_whatever_somebody_makes_of_a_record_can_be_read():
    """No value of any kind raises, so that no record holds up those behind it."""
    draw = random.Random(7)  # noqa: S311 - the same each time
    odd = [None, 1, -1.5, True, "", "x" * 5000, "\ud800", [], [1, {"a": []}], {"name": []}, "enabled", "allow", "ended"]
    keys = [
        "at",
        "kind",
        "reason",
        "decision",
        "account",
        "assumption",
        "actor",
        "ticket",
        "scopes",
        "why",
        "by",
        "seq",
    ]
    for _ in range(3000):
        entry = {key: draw.choice(odd) for key in draw.sample(keys, draw.randint(0, len(keys)))}
        if draw.random() < 0.7:
            entry["kind"] = draw.choice(get_args(Kind))
        event = read_event(entry)
        if event is not None:
            assert Addressing(NoticesSecurity()).notices(event, None, about="x")


def test_who_is_told():
    """The account's contacts, the security team where it wants to know; and nobody, said so, where there is nobody."""
    contacts = Contacts(
        account=AccountId("acme"), mail=("a@b.example",), webhooks=("https://b.example/",), by="x", at=NOW
    )
    team = NoticesSecurity(mail=("s@v.example",), events=("kill_switch",))
    begun = read_event({"at": AT, **TOLD["begun"]})
    switch = read_event({"at": AT, **TOLD["kill_switch"]})

    def targets(event, security, found):
        return [notice.target for notice in Addressing(security).notices(event, found, about="r")]

    both = [Target("mail", "a@b.example"), Target("webhook", "https://b.example/")]
    assert both == targets(begun, team, contacts)
    assert [Target("none", "acme")] == targets(begun, team, None)
    assert [Target("mail", "s@v.example")] == targets(switch, team, contacts)
    assert [Target("none", "")] == targets(switch, NoticesSecurity(), contacts)
    assert [*both, Target("mail", "s@v.example")] == targets(begun, NoticesSecurity(mail=("s@v.example",)), contacts)
    assert {*EVENTS, "mended"} == {*TOLD, "contacts"}


def test_whoever_is_told_of_broken_evidence_is_told_that_it_is_whole_again():
    """The security team by the same word of the configuration, and nobody who does not want to know of either."""
    mended = read_event({"at": AT, **TOLD["mended"]})
    for events, told in ((["evidence"], 1), (["setting", "kill_switch"], 0)):
        team = NoticesSecurity(mail=("s@v.example",), events=events)
        assert told == len(Addressing(team).notices(mended, None, about="r"))


@pytest.mark.parametrize(
    ("address", "outside"),
    [
        ("93.184.216.34", True), ("2606:2800:220:1::1", True), ("127.0.0.1", False), ("10.0.0.1", False),
        ("172.16.3.4", False), ("192.168.1.1", False), ("169.254.169.254", False), ("100.64.0.1", False),
        ("0.0.0.1", False), ("255.255.255.255", False), ("224.0.0.1", False), ("::1", False), ("::", False),
        ("fe80::1", False), ("fe80::1%eth0", False), ("fd00::1", False), ("ff02::1", False),
        ("::ffff:10.0.0.1", False), ("::ffff:93.184.216.34", True), ("64:ff9b::10.0.0.1", False),
        ("64:ff9b::5db8:d822", True), ("2002:0a00:0001::1", False), ("2001:0:53aa:64c:0:fffe:f5ff:fffe", False),
        ("metadata.internal", False), ("", False), ("168.63.129.16", False), ("192.0.0.192", False),
        ("192.88.99.1", False), ("::10.0.0.1", False), ("::ffff:0:10.0.0.1", False), ("64:ff9b:1::a00:1", False),
        ("fec0::1", False), ("5f00::1", False), ("::93.184.216.34", False),
    ],
)  # fmt: skip
def test_what_is_outside(address, outside):
    """No private, local or shared address, and none that leads to one by way of a translator or a tunnel."""
    assert outside == is_outside(address)


def test_a_secret_is_one_of_standard_webhooks():
    """24 to 64 bytes in base64, behind its prefix."""
    assert is_secret("whsec_" + "A" * 32)
    for text in ("", "whsec_", "A" * 32, "whsec_" + "A" * 28, "whsec_" + "A" * 100, "whsec_" + "!" * 32):
        assert not is_secret(text)


def test_a_strangers_words_are_one_line():
    """In the order in which they are shown, and no longer than a person reads."""
    assert "a b c d" == clean("a\r\nb\u2028c\x00\x85\td")
    assert "ab" == clean("a\u202e\u2066\u200b\ufeffb\ud800")
    assert "x" * 400 + "…" == clean("x" * 401)
    assert "Zoë ☕" == clean("Zoë ☕")
