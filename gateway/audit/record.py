"""One event of the journal, as a value and as canonical bytes."""

import os
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec

from gateway.audit.cutting import MAX_CHARACTERS, cut_all, without_surrogates
from gateway.audit.sealed import GROUPS, commit, encode_bytes, join_openings
from policy.model import AccountId, ActorId, AgentId, Assumption, AssumptionId, ClientId, GrantId, TokenId

Kind = Literal[
    "account",
    "assumption",
    "audit",
    "client",
    "decision",
    "erasure",
    "grant",
    "grant_request",
    "journal",
    "key",
    "kill_switch",
    "notice",
    "retention",
    "staff",
    "store",
    "token",
]

_SEALS_REMEMBERED = 4096
"""Assumptions, each from one place, that can be busy at once without their commitments being made again."""
_LONGEST_AGENT = 256
_SALT_BYTES = 16


class Actor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Who really acted, with the name that the identity provider shows."""

    groups: tuple[str, ...] | None = None
    """Those of their groups that the rules looked at which let them stand in."""
    issuer: str
    name: str | None = None
    subject: str


@lru_cache(maxsize=1024)
def name_actor(actor: ActorId, name: str | None, groups: frozenset[str] = frozenset()) -> Actor:
    """Return who acted as the journal writes it; `groups` are those that let them."""
    return Actor(issuer=actor.issuer, name=name, subject=actor.subject, groups=tuple(sorted(groups)) or None)


class Sealed(msgspec.Struct, kw_only=True, omit_defaults=True, dict=True):
    """The commitments of a record's groups (see `gateway.audit.sealed`), with what they seal."""

    actor: str | None = None
    agent: str | None = None
    giver: str | None = None
    words: str | None = None

    @property
    def openings(self) -> bytes:
        """What stands under `open`; no part of the record."""
        openings: bytes = self.__dict__["openings"]
        return openings


class _Object(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """A group's object: its fields and the salt, in the order of their names."""

    actor: Actor | None = None
    by: str | None = None
    client_ip: str | None = None
    granted_by: str | None = None
    recipient: str | None = None
    salt: str
    stated_reason: str | None = None
    subject: AgentId | None = None
    ticket: str | None = None
    user_agent: str | None = None


class Record(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """What happened, to whom, by whom and why; a field that is None is left out of the journal.

    Holds no credential, and no value of a query parameter that the app's profile does not call harmless. Texts may come
    from strangers as they are: `encode` makes them safe to store and `gateway.audit.search.render` makes them safe to
    show. The fields stand in the order of their names, which is the canonical one.
    """

    about: str | None = None
    """Of a notice: the leaf hash of the record that it told somebody of."""
    account: AccountId | None = None
    actor: Actor | None = None
    asked_account: AccountId | None = None
    """Of a request with another account's token, which `account` is: the one that it was sent to."""
    assumption: AssumptionId | None = None
    at: datetime | str | None = None
    """Set by `encode` alone, like `origin` and `seq`: RFC 3339 in UTC, with microseconds."""
    by: str | None = None
    """Who did it: an operator by their own word, or the issuer or the app that said so."""
    channel: str | None = None
    """Of a notice: `mail` or `webhook`, or `none` where nobody is known who could be told."""
    client_id: ClientId | None = None
    client_ip: str | None = None
    commitments: tuple[str, ...] | None = None
    """Of an erasure: those whose openings are taken away, MAX_ITEMS at the most."""
    count: int | None = None
    """Of the journal's own records, and of those that say how whole it is: how many it speaks of."""
    decision: Literal["allow", "deny"] | None = None
    duration: str | None = None
    """Of a grant's change: the duration that was chosen."""
    event: str | None = None
    """Of a notice: what it told of."""
    expires_at: str | None = None
    grant_epoch: int | None = None
    grant_id: GrantId | None = None
    grant_request: str | None = None
    """What staff have asked the account for: of the records of asking, and of the change that answers it."""
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
    query_values: tuple[str, ...] | None = None
    """Of the query's parameters those, as `name=value` and as sent, whose values the app's profile calls harmless."""
    reason: str | None = None
    """The deny reason of a decision, or the change of anything else."""
    recipient: str | None = None
    """Of a notice: whose mail address it went to, or which server."""
    request_id: str | None = None
    """Ours for one request; the decision and the completion of an exchange have the same."""
    root: str | None = None
    """Of a retention: the Merkle root over the leaf hashes of the lines whose content it takes away, in hexadecimal."""
    rule: str | None = None
    scopes: tuple[str, ...] | None = None
    sealed: Sealed | None = None
    """Set by `seal` alone: the commitments in whose place the personal fields stand."""
    segment: str | None = None
    """Of the journal's own records: the file they speak of."""
    seq: int | None = None
    since: str | None = None
    """Of evidence that is whole again: when it was first said not to be."""
    stated_reason: str | None = None
    """Why the staff member came, or the operator did it, in their own words."""
    status: int | None = None
    """Of a request that was refused: what it was answered. Of one that was let through, the completion says it."""
    subject: AgentId | None = None
    ticket: str | None = None
    token_id: TokenId | None = None
    traceparent: str | None = None
    """The request's own (W3C Trace Context), where it was valid."""
    upstream: str | None = None
    """Of a request that was let through: the address of the app, as it is configured."""
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


Encoded = tuple[bytes, bytes]
"""A record, and what it seals; the latter is empty if that is nothing."""


def encode(record: Record, *, origin: str, seq: int, at: datetime) -> Encoded:
    """Return the canonical JSON of `record`, with its place in the journal set and its personal fields sealed.

    `at` must be in UTC and is written in RFC 3339 with microseconds.
    """
    record.at, record.origin, record.seq = write_moment(at), origin, seq
    if (sealed := record.sealed) is not None:
        return to_json(record), sealed.openings
    actor, client_ip, user_agent, subject = record.actor, record.client_ip, record.user_agent, record.subject
    by, granted_by, stated_reason, ticket = record.by, record.granted_by, record.stated_reason, record.ticket
    recipient = record.recipient
    if not seal(record):
        return to_json(record), b""
    try:
        return to_json(record), record.sealed.openings if record.sealed else b""
    finally:
        # Whoever gave it may look at it, or have to give it again.
        record.actor, record.client_ip, record.user_agent, record.subject = actor, client_ip, user_agent, subject
        record.by, record.granted_by, record.stated_reason, record.ticket = by, granted_by, stated_reason, ticket
        record.recipient = recipient
        record.sealed = None


def write_moment(at: datetime) -> datetime | str:
    """Return what is written as a record's `at`."""
    # msgspec writes the same text as we, many times faster, but leaves a fraction of zero out.
    return at if at.microsecond else at.isoformat(timespec="microseconds")[:26] + "Z"


def seal(record: Record) -> bool:
    """Put commitments in the place of a record's personal fields; False if there are none.

    `encode` does it by itself; do it before for a record of which many are copies, for as long as `sealing_epoch` is
    the same. Records of one assumption in one account, for a hold is an account's, have the same commitments where they
    have the same values; of all others, strangers' above all, each has its own.
    """
    assumption, agent = record.assumption, record.user_agent
    # Remembered is only what is as short as such things are, so that nobody fills the memory.
    is_alone = assumption is None or (agent is not None and len(agent) > _LONGEST_AGENT)
    sealed = (_seal_alone if is_alone else _seal)(
        (assumption, record.account),
        record.actor,
        record.client_ip,
        record.user_agent,
        record.subject,
        record.by,
        record.granted_by,
        record.recipient,
        record.stated_reason,
        record.ticket,
    )
    if sealed is None:
        return False
    record.sealed = sealed
    record.actor = record.client_ip = record.user_agent = record.subject = None
    record.by = record.granted_by = record.recipient = record.stated_reason = record.ticket = None
    return True


def forget_commitments() -> None:
    """Make new commitments from now on, also for what was sealed before; a new `sealing_epoch` begins."""
    _seal.cache_clear()
    _commit.cache_clear()
    _Sealing.epoch += 1


def sealing_epoch() -> int:
    """Return what changes when commitments are made anew: whoever keeps a sealed record compares it."""
    return _Sealing.epoch


class _Sealing:
    """Of this process, like the commitments that are remembered."""

    epoch = 0


_Where = tuple[AssumptionId | None, AccountId | None]


def _seal_alone(_where: _Where, *values: Any) -> Sealed | None:
    return _join([_make_opening(group, own) for group, own in _grouped(values)])


@lru_cache(maxsize=_SEALS_REMEMBERED)
def _seal(where: _Where, *values: Any) -> Sealed | None:
    return _join([_commit(where, group, own) for group, own in _grouped(values)])


@lru_cache(maxsize=_SEALS_REMEMBERED)
def _commit(_where: _Where, group: str, values: tuple[Any, ...]) -> tuple[str, bytes]:
    return _make_opening(group, values)


def _make_opening(group: str, values: tuple[Any, ...]) -> tuple[str, bytes]:
    """Return a group and its object, whose texts are made harmless as a record's are."""
    fields = dict(zip(GROUPS[group], values, strict=True))
    return group, to_json(_Object(salt=encode_bytes(os.urandom(_SALT_BYTES)), **fields))


def _grouped(values: tuple[Any, ...]) -> list[tuple[str, tuple[Any, ...]]]:
    """Return the groups of which there is anything, with the values of their fields."""
    return [(group, own) for group, place, width in _PLACES if (own := values[place]).count(None) != width]


def _join(openings: list[tuple[str, bytes]]) -> Sealed | None:
    if not openings:
        return None
    sealed = Sealed(**{group: commit(opening) for group, opening in openings})
    sealed.__dict__["openings"] = join_openings(openings)
    return sealed


def to_json(document: Mapping[str, Any] | msgspec.Struct) -> bytes:
    r"""Return canonical JSON: UTF-8, keys sorted, no white space, always one line.

    Characters that could steer a terminal, break a line or reorder text are written `\uXXXX`. A lone surrogate, which
    strict JSON readers refuse (RFC 7493 section 2.1), becomes the six characters of its escape; the value that had it
    is marked, and its backslashes are doubled, so that nobody takes it for another. Where the whole is longer than
    `MAX_CHARACTERS` bytes, long values are cut and marked (`gateway.audit.cutting`).
    """
    try:
        data = _encoder.encode(document)
    except UnicodeEncodeError:
        data = _encoder.encode(without_surrogates(msgspec.to_builtins(document)))
    if len(data) > MAX_CHARACTERS:
        data = _encoder.encode(cut_all(msgspec.to_builtins(document)))
    return _without_steering(data)


def to_whole_json(document: Mapping[str, Any]) -> bytes:
    """Return what `to_json` does, with nothing cut: for showing what was cut, if it had to be, when it was written."""
    return _without_steering(_encoder.encode(without_surrogates(document)))


def to_json_of_each(documents: Sequence[msgspec.Struct | msgspec.Raw]) -> list[bytes]:
    """Return what `to_json` returns of each, and what is `Raw` as it is; of many at once it takes less time."""
    write = _encoder.encode
    try:
        lines = [write(document) for document in documents]
    except UnicodeEncodeError:
        lines = []
    together = b"".join(lines)
    if lines and together.isascii() and 0x7F not in together and len(max(lines, key=len)) <= MAX_CHARACTERS:
        return lines
    return [bytes(document) if isinstance(document, msgspec.Raw) else to_json(document) for document in documents]


_PLACES: Final = tuple(
    (group, slice(start, start + len(names)), len(names))
    for start, (group, names) in zip((0, 3, 4, 7), GROUPS.items(), strict=True)
)
"""Where the values of each group stand among those of all of them."""

_encoder = msgspec.json.Encoder(order="deterministic")

# DEL and the C1 controls, Arabic letter mark, zero-width and bidi marks, line and paragraph separators, bidi
# embeddings and isolates, invisible operators, byte order mark, interlinear annotation. JSON itself escapes C0.
_STEERING = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")


def _without_steering(data: bytes) -> bytes:
    if data.isascii() and 0x7F not in data:
        return data
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", data.decode()).encode()
