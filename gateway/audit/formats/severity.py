"""How much a record asks for attention, on OCSF's scale."""

from typing import Final

from gateway.audit.formats.text import plain
from gateway.audit.segment import Entry

INFORMATIONAL: Final = 1
LOW: Final = 2
MEDIUM: Final = 3
HIGH: Final = 4

# What somebody ought to look at, by kind and reason.
_NAMED = {
    ("journal", "history_altered"): HIGH,
    ("journal", "torn_tail"): LOW,
    ("journal", "unsigned_tail"): LOW,
    ("journal", "recovered"): MEDIUM,
    ("journal", "completions_lost"): MEDIUM,
    ("store", "recovered"): HIGH,
    ("audit", "evidence_broken"): HIGH,
    ("audit", "evidence_mended"): MEDIUM,
    ("notice", "failed_no_channel"): MEDIUM,
    ("notice", "failed_no_contact"): MEDIUM,
    ("notice", "failed_refused"): MEDIUM,
    ("notice", "failed_too_old"): MEDIUM,
    ("sink", "gap"): HIGH,
    ("sink", "refused"): MEDIUM,
}
# Kinds that are rare, and each of them worth a look.
_OF_KIND = {"kill_switch": MEDIUM, "erasure": MEDIUM, "retention": LOW, "audit": LOW, "key": LOW, "staff": LOW}
# Refusals that an honest client does not meet.
_ATTACKS = frozenset({"forged_header", "ambiguous_header", "ambiguous_target", "method_override", "never_allowed"})


def severity(entry: Entry) -> int:
    """Return 1 (informational) to 4 (high)."""
    kind, reason = plain(entry.get("kind", "")), plain(entry.get("reason", ""))
    if (named := _NAMED.get((kind, reason))) is not None:
        return named
    if entry.get("decision") == "deny":
        return MEDIUM if reason in _ATTACKS else LOW
    return _OF_KIND.get(kind, INFORMATIONAL)
