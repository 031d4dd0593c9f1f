"""What the records of one assumption say, in a few lines for people; the same records give the same summary."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

_WHO = ("account", "actor", "subject", "grant_id", "granted_by", "ticket", "stated_reason", "expires_at")
_REQUEST = ("method", "rule", "decision", "reason")


def summarize(entries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return who, as whom, why, from when until when, and how many requests of which kind came to what.

    Of what all records say alike the oldest one's word is taken. A request is counted by its method, the rule that
    decided, the decision and the reason of a refusal; `ended` counts how those that were let through came to their end.
    """
    ordered = sorted(entries, key=lambda entry: (str(entry.get("at")), str(entry.get("origin")), entry.get("seq", 0)))
    who = {name: found for name in _WHO if (found := _first(ordered, name)) is not None}
    requests = Counter(
        tuple(str(entry.get(name, "")) for name in _REQUEST) for entry in ordered if entry.get("kind") == "decision"
    )
    completions = [entry for entry in ordered if entry.get("kind") == "completion"]
    return {
        **who,
        "first_at": ordered[0].get("at"),
        "last_at": ordered[-1].get("at"),
        "ended_at": [entry.get("at") for entry in ordered if _is_end(entry)],
        "erased": sorted({group for entry in ordered for group in entry.get("erased", ())}),
        "records": len(ordered),
        "requests": [
            {**dict(zip(_REQUEST, request, strict=True)), "count": count} for request, count in sorted(requests.items())
        ],
        "ended": dict(sorted(Counter(str(entry.get("ended")) for entry in completions).items())),
        "bytes_received": sum(entry.get("bytes_received", 0) for entry in completions),
        "bytes_sent": sum(entry.get("bytes_sent", 0) for entry in completions),
    }


def _first(entries: list[Mapping[str, Any]], name: str) -> Any:
    return next((entry[name] for entry in entries if name in entry), None)


def _is_end(entry: Mapping[str, Any]) -> bool:
    return entry.get("kind") == "assumption" and entry.get("reason") == "ended"
