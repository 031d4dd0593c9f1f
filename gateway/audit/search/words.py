"""What a record can be found by: the values of its qualifiers, and its words.

One table for the scan of the files and for the indexes, so that all of them find the same.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, wraps
from hashlib import blake2b
from typing import Any, TypeVar, TypeVarTuple, cast

from gateway.audit.segment import Entry

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

_WORD = re.compile(r"\w+")
_LONGEST_REMEMBERED = 128
"""What is told of longer texts, which strangers can make up without end, is found anew each time."""
_MOST_ABOVE = 64
"""So many folders of a path are named in an index."""
_MOST_WORDS = 512
"""So many words of a text are named in an index."""
LONGEST_WORD = 64
"""And so many characters of each."""
_NO_TEXTS = ("at", "sealed")
"""What is no text of a record: its time, and what stands for texts."""
_NETWORKS = {4: (8, 16, 24), 6: (32, 48, 64)}
"""The lengths of the prefixes by which an index knows an address."""


_FIELDS = {
    "account": "account",
    "assumption": "sid",
    "client_id": "client",
    "client_ip": "ip",
    "decision": "decision",
    "kind": "kind",
    "method": "method",
    "origin": "origin",
    "path": "path",
    "reason": "reason",
    "request_id": "request",
    "rule": "route",
    "subject": "agent",
    "ticket": "ticket",
}
"""Each field of a record that a qualifier is about, and the qualifier."""
_OF_ACTOR = ("name", "subject")


def _plain(name: str) -> Callable[[Entry], list[str]]:
    return lambda entry: [str(entry[name])] if name in entry else []


def actor_of(entry: Entry) -> list[str]:
    """Return the name and the subject of who acted, as far as they are there."""
    actor = entry.get("actor")
    return [str(actor[key]) for key in _OF_ACTOR if key in actor] if isinstance(actor, Mapping) else []


def _route(entry: Entry) -> list[str]:
    rule = entry.get("rule")
    return [str(rule), *str(rule).split()] if rule is not None else []


QUALIFIERS: Mapping[str, Callable[[Entry], list[str]]] = {
    **{qualifier: _plain(field) for field, qualifier in _FIELDS.items()},
    "actor": actor_of,
    "route": _route,
}
"""Each qualifier, and the values that it is about."""

TIMES = ("after", "before")
"""Qualifiers that are about the time."""


def _remembered(most: int) -> Callable[[Callable[[*Ts], R]], Callable[[*Ts], R]]:
    """Let a function of texts, of which the last may be of any length, remember so many answers, and so few bytes."""

    def decorate(function: Callable[[*Ts], R]) -> Callable[[*Ts], R]:
        remembering = cast("Callable[[*Ts], R]", lru_cache(most)(function))

        @wraps(function)
        def ask(*texts: *Ts) -> R:
            last = cast("tuple[str, ...]", texts)[-1]
            return (remembering if len(last) <= _LONGEST_REMEMBERED else function)(*texts)

        return ask

    return decorate


@_remembered(2048)
def split_words(text: str) -> tuple[str, ...]:
    """Return the words of a text in order: letters, digits and `_`, upper and lower case being the same."""
    return tuple(_WORD.findall(text.casefold()))


def texts_of(value: Any) -> Iterator[str]:
    """Yield every text in a value; names of fields are none, and neither is the time."""
    match value:
        case str():
            yield value
        case Mapping():
            for key, item in value.items():
                if key not in _NO_TEXTS:
                    yield from texts_of(item)
        case list():
            for item in value:
                yield from texts_of(item)
        case _:
            return


def below(path: str) -> str:
    """Return what all paths at or below a path begin with, once each of them has a slash at its end."""
    return path.casefold().rstrip("/") + "/"


@_remembered(8192)
def mark(qualifier: str, value: str) -> str:
    """Return what stands in an index for a folded value: a dot, which no word has, and 64 bits of a hash."""
    return "." + blake2b(f"{qualifier}\0{value}".encode(errors="surrogatepass"), digest_size=8).hexdigest()


def mark_account(account: str) -> str:
    """Return what stands for exactly this account, and for none whose name differs in upper and lower case."""
    return mark("", account)


@_remembered(2048)
def marks_of_path(path: str) -> tuple[str, ...]:
    """Return what stands for a path and for everything that it is below."""
    whole = f"{path.casefold()}/"
    ends = [found.end() for found in re.finditer("/", whole)][:_MOST_ABOVE]
    return tuple(mark("path", whole[:end]) for end in ends)


def mark_below(path: str) -> str | None:
    """Return what stands for everything at or below a path; None if an index does not go so deep."""
    wanted = below(path)
    return mark("path", wanted) if wanted.count("/") <= _MOST_ABOVE else None


@_remembered(8192)
def marks_of_address(address: str) -> tuple[str, ...]:
    """Return what stands for an address and for the networks around it."""
    own = mark("ip", address.casefold())
    try:
        read = ipaddress.ip_address(address)
    except ValueError:
        return (own,)
    around = (ipaddress.ip_network((read, length), strict=False) for length in _NETWORKS[read.version])
    return (own, *(mark("net", str(network)) for network in around))


def mark_network(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> tuple[str, bool] | None:
    """Return what stands for the narrowest network known to an index that holds this one, and whether it is this one.

    None if this one is wider than all.
    """
    lengths = [length for length in _NETWORKS[network.version] if length <= network.prefixlen]
    if not lengths:
        return None
    around = network.supernet(new_prefix=lengths[-1])
    return mark("net", str(around)), around == network


def marks_of(entry: Entry) -> str:
    """Return everything that stands for a record in an index, with spaces between: a mark for each value, its words."""
    marks = [ANY]
    for name, value in entry.items():
        if isinstance(value, str):
            marks.append(_marks_of_text(name, value))
        elif name == "actor" and isinstance(value, Mapping):
            texts = ((key, item) for key, item in value.items() if isinstance(item, str) and key not in _NO_TEXTS)
            marks += (_marks_of_text(f"actor.{key}", item) for key, item in texts)
            marks += (mark("actor", str(value[key]).casefold()) for key in _OF_ACTOR if key in value)
            marks += (
                _words_of(text) for item in value.values() if not isinstance(item, str) for text in texts_of(item)
            )
        elif not isinstance(value, int):
            marks += map(_words_of, texts_of({name: value}))
        if name in _FIELDS and not isinstance(value, str):
            marks.append(_marks_of_value(name, str(value)))
    return " ".join(marks)


ANY = ".any"
"""Stands for every record."""
MANY = ".many"
"""Stands for a record that has more words than an index knows."""


@_remembered(8192)
def _marks_of_text(field: str, text: str) -> str:
    if field in _NO_TEXTS:
        return ""
    words = _words_of(text)
    return f"{_marks_of_value(field, text)} {words}" if field in _FIELDS else words


def _marks_of_value(field: str, text: str) -> str:
    """Return the marks of the qualifier that is about a field."""
    match field:
        case "path":
            marks = marks_of_path(text)
        case "client_ip":
            marks = marks_of_address(text)
        case "rule":
            marks = tuple(mark("route", one.casefold()) for one in (text, *text.split()))
        case "account":
            marks = (mark("account", text.casefold()), mark_account(text))
        case _:
            marks = (mark(_FIELDS[field], text.casefold()),)
    return " ".join(marks)


def _words_of(text: str) -> str:
    words = {word[:LONGEST_WORD]: None for word in split_words(text)}
    return " ".join(words if len(words) <= _MOST_WORDS else [*list(words)[:_MOST_WORDS], MANY])
