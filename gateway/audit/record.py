"""One event of the journal, as a value and as canonical bytes."""

import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

import msgspec

from policy.model import AccountId, ActorId, AgentId, Assumption, AssumptionId, ClientId, GrantId, TokenId

Kind = Literal[
    "decision", "token", "grant", "assumption", "account", "client", "staff", "key", "kill_switch", "store", "journal"
]

MAX_CHARACTERS = 2048
"""The longest text value that is kept whole: a URL's practical limit, so only padding is ever cut."""
MAX_ITEMS = 64
"""The longest list that is kept whole in a long record."""


class Actor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Who really acted, with the name that the identity provider shows."""

    issuer: str
    name: str | None = None
    subject: str


@lru_cache(maxsize=1024)
def name_actor(actor: ActorId, name: str | None) -> Actor:
    """Return who acted as the journal writes it."""
    return Actor(issuer=actor.issuer, name=name, subject=actor.subject)


class Record(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """What happened, to whom, by whom and why; a field that is None is left out of the journal.

    Holds no credential and no value of a query parameter. Texts may come from strangers as they are: `encode` makes
    them safe to store and `gateway.audit.search.render` makes them safe to show. The fields stand in the order of their
    names, which is the canonical one.
    """

    account: AccountId | None = None
    actor: Actor | None = None
    assumption: AssumptionId | None = None
    at: datetime | str | None = None
    """Set by `encode` alone, like `origin` and `seq`: RFC 3339 in UTC, with microseconds."""
    by: str | None = None
    """Who did it: an operator by their own word, or the issuer or the app that said so."""
    bytes_received: int | None = None
    """Of what was cut while it was open: how much of a body, or of a WebSocket, had come from staff."""
    bytes_sent: int | None = None
    """Likewise: how much had gone to staff."""
    client_id: ClientId | None = None
    client_ip: str | None = None
    decision: Literal["allow", "deny"] | None = None
    duration: str | None = None
    """Of a grant's change: the duration that was chosen."""
    expires_at: str | None = None
    grant_epoch: int | None = None
    grant_id: GrantId | None = None
    granted_by: str | None = None
    host: str | None = None
    key_id: str | None = None
    """Of a change of the signing keys: which one."""
    kind: Kind
    method: str | None = None
    offset: int | None = None
    """Of the journal's own records: where in that file its last whole line ends, in bytes."""
    origin: str | None = None
    path: str | None = None
    permissions: tuple[str, ...] | None = None
    query_names: tuple[str, ...] | None = None
    reason: str | None = None
    """The deny reason of a decision, or the change of anything else."""
    request_id: str | None = None
    rule: str | None = None
    scopes: tuple[str, ...] | None = None
    segment: str | None = None
    """Of the journal's own records: the file they speak of."""
    seq: int | None = None
    stated_reason: str | None = None
    """Why the staff member came, or the operator did it, in their own words."""
    subject: AgentId | None = None
    ticket: str | None = None
    token_id: TokenId | None = None
    user_agent: str | None = None


def record_end(ended: Assumption, *, by: str, request_id: str | None = None) -> Record:
    """Return the record of somebody else's ending an assumption."""
    return Record(
        kind="assumption",
        reason="ended",
        assumption=ended.id,
        account=ended.account,
        subject=ended.subject,
        actor=name_actor(ended.actor, None),
        grant_id=ended.grant_id,
        ticket=ended.ticket,
        by=by,
        request_id=request_id,
    )


def encode(record: Record, *, origin: str, seq: int, at: datetime) -> bytes:
    """Return the canonical JSON of `record`, with its place in the journal set.

    `at` must be in UTC and is written in RFC 3339 with microseconds.
    """
    # msgspec writes the same text as we, many times faster, but leaves a fraction of zero out.
    record.at = at if at.microsecond else at.isoformat(timespec="microseconds")[:26] + "Z"
    record.origin = origin
    record.seq = seq
    return to_json(record)


def to_json(document: Mapping[str, Any] | Record) -> bytes:
    r"""Return canonical JSON: UTF-8, keys sorted, no white space, always one line.

    Characters that could steer a terminal, break a line or reorder text are written `\uXXXX`. A lone surrogate, which
    strict JSON readers refuse (RFC 7493 section 2.1), becomes the six characters of its escape. Where the whole is
    longer than `MAX_CHARACTERS` bytes, long values are cut and marked.
    """
    try:
        data = _encoder.encode(document)
    except UnicodeEncodeError:
        document = _without_surrogates(msgspec.to_builtins(document))
        data = _encoder.encode(document)
    if len(data) > MAX_CHARACTERS:
        data = _encoder.encode(_bounded(msgspec.to_builtins(document)))
    if data.isascii() and b"\x7f" not in data:
        return data
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", data.decode()).encode()


_encoder = msgspec.json.Encoder(order="deterministic")

# DEL and the C1 controls, Arabic letter mark, zero-width and bidi marks, line and paragraph separators, bidi
# embeddings and isolates, invisible operators, byte order mark, interlinear annotation. JSON itself escapes C0.
_STEERING = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")


def _bounded(value: Any) -> Any:
    match value:
        case str() if len(value) > MAX_CHARACTERS:
            return f"{value[:MAX_CHARACTERS]}…[cut, {len(value)} characters]"
        case dict():
            return {key: _bounded(item) for key, item in value.items()}
        case tuple() | list():
            items = [_bounded(item) for item in value[:MAX_ITEMS]]
            return items if len(value) <= MAX_ITEMS else [*items, f"…[cut, {len(value)} items]"]
        case _:
            return value


def _without_surrogates(value: Any) -> Any:
    match value:
        case str():
            return value.encode(errors="backslashreplace").decode()
        case dict():
            return {key: _without_surrogates(item) for key, item in value.items()}
        case tuple() | list():
            return [_without_surrogates(item) for item in value]
        case _:
            return value
