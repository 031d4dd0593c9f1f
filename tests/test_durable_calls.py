"""Every place where a record is written: a record of a change is on the disk first, and every other one is named here."""

import ast
import re
from collections import Counter
from pathlib import Path
from typing import get_args

from gateway.audit.record import Kind

GATEWAY = Path(__file__).parent.parent / "gateway"
_WRITES = re.compile(r"await [\w.]*append\(|\bdurable=")
READS = "it says what was asked for or looked at, and nothing is different afterwards"
REFUSALS = "it says that nothing was done"
PASSED_ON = "it says so as its caller has said"
MARKS = "the journal's own, about itself: what it says is in its files"

NOT_DURABLE = [
    ("assumptions/enter.py:_refuse", REFUSALS),
    ("audit/api/asked.py:record_each", PASSED_ON),
    ("audit/writing/journal.py:rotate", MARKS),
    ("audit/writing/strangers.py:_append", REFUSALS),
    ("audit/writing/strangers.py:append_of", REFUSALS),
    ("console/account/admission.py:refuse", REFUSALS),
    ("console/account/sign_in.py:_redeem", REFUSALS),
    ("console/security/admission.py:refuse", REFUSALS),
    ("console/security/sign_in.py:_note", PASSED_ON),
    ("devices/authorization.py:_open", "a question that gives nothing: its answer is on the record durably"),
    ("grants/asking.py:_take", REFUSALS),
    ("late.py:append", PASSED_ON),
    ("proxy/assumed.py:_permitted", "durable if the route writes: tests/test_durable.py"),
    ("proxy/assumed.py:_refuse", REFUSALS),
    ("proxy/probe.py:ask", REFUSALS),
    ("proxy/probe.py:ask", READS),
    ("staff/sign_in/endpoint.py:_admit", REFUSALS),
    ("staff/sign_in/endpoint.py:_conclude", REFUSALS),
    ("staff/sign_in/endpoint.py:_refuse", REFUSALS),
    ("tokens/starting.py:refuse", REFUSALS),
]
"""Each place where a record is written without `durable=True`, by file and function, and why that is enough."""

KINDS = {
    "account": "contacts, accounts added, described, suspended, resumed and converted",
    "assumption": "begun, ended, entered; what staff ask and answer with devices",
    "audit": "sign-ins to the security team's console; what leaves: exports, receipts, evidence",
    "client": "added and removed",
    "decision": "what writes data in the app",
    "erasure": "of personal fields",
    "grant": "turned on, extended, reduced, off",
    "grant_request": "asked, withdrawn, approved, declined",
    "key": "made, started, retired, ended",
    "kill_switch": "on and off",
    "notice": "what came of one",
    "retention": "content taken away, holds begun and ended",
    "staff": "signed in and out, locked and unlocked",
    "store": "recovered",
    "token": "issued",
}
"""What changes each kind of record is about. `journal` is about the journal itself."""


def _calls():
    """Yield each call that writes a record, as its place, and whether it says by itself that it is durable."""
    for path in sorted(GATEWAY.rglob("*.py")):
        text = path.read_text()
        if _WRITES.search(text) is None:
            continue
        tree = ast.parse(text)
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for call in _own_calls(function):
                    durable = {word.arg: word.value for word in call.keywords}.get("durable")
                    is_durable = isinstance(durable, ast.Constant) and durable.value is True
                    yield f"{path.relative_to(GATEWAY)}:{function.name}", is_durable


def _own_calls(function):
    """Return the calls of an AuditLog's `append` in a function: those that are awaited, or say `durable`."""
    nodes, found = list(ast.iter_child_nodes(function)), []
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.Await) and _is_append(node.value):
            found.append(node.value)
        elif _is_append(node) and any(word.arg == "durable" for word in node.keywords) and node not in found:
            found.append(node)
        nodes += ast.iter_child_nodes(node)
    return found


def _is_append(node):
    if not isinstance(node, ast.Call):
        return False
    return (isinstance(node.func, ast.Attribute) and node.func.attr == "append") or (
        isinstance(node.func, ast.Name) and node.func.id == "append"
    )


def test_a_record_of_a_change_is_durable_wherever_it_is_written():
    """A new place that writes one without waiting for the disk fails here until it says why it need not."""
    assert sorted(place for place, _ in NOT_DURABLE) == sorted(
        place for place, is_durable in _calls() if not is_durable
    )


def test_the_places_are_found():
    """Or the test above would hold of nothing."""
    durable = Counter(place.partition("/")[0] for place, is_durable in _calls() if is_durable)
    assert sum(durable.values()) > 30
    assert {"cli", "console", "grants", "staff", "telling", "tokens"} <= durable.keys()


def test_every_kind_of_record_is_known():
    """A new kind is a new kind of change, or of what is not one: say which."""
    assert {*KINDS, "journal"} == set(get_args(Kind))
