"""What the page "Evidence" says of each part, from what there is to know of it: sinks, keys, index, verdicts, nodes."""

from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from gateway.audit.evidence.verdict import Kept, Verdict
from gateway.audit.index.order import Told
from gateway.audit.sinks.status import Status
from gateway.config.load import build
from gateway.config.section import Secret
from gateway.console.security.soundness import (
    describe_index,
    describe_keys,
    describe_nodes,
    describe_sinks,
    describe_verified,
)
from gateway.metrics.reading import Reading
from gateway.stores.nodes import Node
from gateway.tokens.listing import Listed
from tests.gateway_world import document

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


@pytest.fixture
def config(tmp_path):
    return build(document(tmp_path, upstream="http://127.0.0.1:9", issuer="https://login.example"), {}, base=tmp_path)


def with_audit(config, **changes):
    return structs.replace(config, audit=structs.replace(config.audit, **changes))


def shared(config):
    store = structs.replace(config.store, url=Secret("postgresql://locum@127.0.0.1/locum"))
    return structs.replace(config, store=store)


def test_each_sink_tells_how_far_it_is_behind():
    """By its name and kind: its state, the bytes and seconds that wait, what was sent, and when one was last taken."""
    since = NOON.timestamp()
    part = describe_sinks(
        [
            Status("siem", "http", state="ok", sent=7, succeeded_at=since - 60),
            Status("vault", "file", state="failing", bytes_behind=4096, waiting_since=since - 90, sent=2),
        ],
        now=NOON,
    )
    assert "degraded" == part.how
    assert "Nothing is lost, but these get nothing now: vault." == part.said
    assert [
        ("siem (http)", "ok, 0 bytes behind, last taken 2026-03-04 11:59:00 UTC; 7 sent"),
        ("vault (file)", "failing, 4096 bytes behind for 90 s; 2 sent"),
    ] == part.facts


def test_sinks_that_take_what_they_get_are_well():
    """And where there are none, that is no fault, but it is said."""
    assert "ok" == describe_sinks([Status("siem", "http", state="ok")], now=NOON).how
    none = describe_sinks([], now=NOON)
    assert "off" == none.how
    assert "no [[audit.sinks]]" in none.said


def test_each_key_that_signs_is_named_with_its_age():
    """One that signs nothing is not; without a key for what staff need, the part fails."""
    stored = {"algorithm": "EdDSA", "source": "stored", "state": "active"}
    tokens = Listed(id="k1", signs=("tokens", "journal"), created_at=NOON - timedelta(days=40), **stored)
    given = Listed(id="k2", algorithm="ES256", source="given", state="verifies", signs=("assertions",))
    retired = Listed(id="k3", signs=(), created_at=NOON - timedelta(days=1), **stored)
    part = describe_keys([tokens, given, retired], now=NOON)
    assert "ok" == part.how
    assert [
        ("tokens, journal", "EdDSA k1: made 2026-01-23 12:00:00 UTC, 40 days ago"),
        ("assertions", "ES256 k2: of unknown age, given by the configuration"),
    ] == part.facts
    assert "failing" == describe_keys([tokens], now=NOON).how
    assert "failing" == describe_keys([given], now=NOON).how


@pytest.mark.parametrize(("seconds", "how"), [(2.5, "ok"), (31.0, "degraded")])
@pytest.mark.parametrize("own", [True, False])
def test_the_index_tells_how_far_it_is_behind(seconds, how, own):
    """Whichever worker keeps it; a search that misses the newest records, or some for good, is no sound one."""
    samples = {"locum_index_lag_seconds": [((), seconds)], "locum_index_lag_bytes": [((), 512.0)]}
    fellows = {"gateway-2": None, "gateway-3": Reading(samples=samples)}
    told = Told(behind_bytes=512, behind_seconds=seconds) if own else None
    part = describe_index(told, {} if own else fellows, is_on=True)
    assert how == part.how
    assert [("Not in it yet", "512 bytes"), ("For", f"{seconds} s")] == part.facts
    samples["locum_index_unread_lines"] = [((), 3.0)]
    told = Told(behind_bytes=512, behind_seconds=seconds, unread_lines=3) if own else None
    part = describe_index(told, {} if own else fellows, is_on=True)
    assert ("failing", ("Cannot be read", "3 lines, 0 files")) == (part.how, part.facts[-1])
    assert "degraded" == describe_index(None, {"gateway-2": None}, is_on=True).how
    assert "off" == describe_index(None, {}, is_on=False).how


def test_it_says_until_where_the_journal_was_verified(config):
    """By origin, and when; findings fail it, and a verdict that is older than two of the usual times is an old one."""
    config = with_audit(config, verify_hours=24.0)
    kept = Kept(at=NOON, verdict=Verdict(count=0, covered={"gateway-2": 0, "gateway-1": 812}))
    part = describe_verified(kept, config, now=NOON + timedelta(hours=48))
    assert "ok" == part.how
    assert [
        ("Verified", "every 24 h"),
        ("Last", "2026-03-04 12:00:00 UTC, within the last 48 hours"),
        ("gateway-1", "verified until record 812"),
        ("gateway-2", "nothing is covered by a checkpoint"),
    ] == part.facts
    assert "degraded" == describe_verified(kept, config, now=NOON + timedelta(hours=48, seconds=1)).how
    broken = structs.replace(kept, verdict=Verdict(count=2, first="gateway-000000000000.jsonl:3: altered"))
    part = describe_verified(broken, config, now=NOON)
    assert "failing" == part.how
    assert part.said.startswith("2 findings, the first: gateway-000000000000.jsonl:3: altered. Run ")


def test_a_journal_that_was_never_verified_is_not_shown_as_sound(config):
    """Neither before the first time, nor where the gateway is told not to; then an old verdict stays what it is."""
    assert "degraded" == describe_verified(None, with_audit(config, verify_hours=24.0), now=NOON).how
    never = with_audit(config, verify_hours=0.0)
    assert "off" == describe_verified(None, never, now=NOON).how
    kept = Kept(at=NOON - timedelta(days=400), verdict=Verdict(count=0))
    assert "never by the gateway: audit.verify_hours is 0" == describe_verified(kept, never, now=NOON).facts[0][1]


def _node(name, silent, *, origins=("gateway-1",), through=NOON):
    return Node(name=name, origins=origins, heard_at=NOON, silent_seconds=silent, through=through)


def test_nodes_are_listed_with_when_they_were_heard_of(config):
    """Each by the names of its origins; one that has gone silent is missed, for a day and no longer."""
    well = [_node("a1", 0.5), _node("b2", 59.0, origins=("gateway-2", "gateway-3"), through=None)]
    part = describe_nodes("gateway-1", well, shared(config))
    assert "ok" == part.how
    assert [
        ("gateway-1 (a1)", "heard 2026-03-04 12:00:00 UTC, has shipped up to 2026-03-04 12:00:00 UTC"),
        ("gateway-2, gateway-3 (b2)", "heard 2026-03-04 12:00:00 UTC, has shipped up to nothing yet"),
    ] == part.facts
    for silent, how in ((61.0, "degraded"), (24 * 3600 + 1.0, "ok")):
        part = describe_nodes("gateway-1", [*well, _node("c3", silent, origins=("west",))], shared(config))
        assert (how, 3, how == "degraded") == (part.how, len(part.facts), "west (c3)" in part.said)


def test_what_is_not_known_of_nodes_is_not_shown_as_sound(config):
    """A store that does not say, and one in which this node is not; without a shared one there is no other node."""
    assert "degraded" == describe_nodes("gateway-1", None, shared(config)).how
    assert "degraded" == describe_nodes("gateway-9", [_node("a1", 0.5)], shared(config)).how
    assert "off" == describe_nodes("gateway-1", None, with_audit(shared(config), index=False)).how
    alone = describe_nodes("gateway-1", None, config)
    assert ("ok", "This one only: its store is embedded.") == (alone.how, alone.said)
