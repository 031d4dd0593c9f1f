"""Scopes: read them, see what a permission covers, narrow them; nothing here ever widens."""

import re
from collections.abc import Iterable
from functools import lru_cache

from policy.model import Permission, Scope

# RFC 6749 section 3.3 allows more characters in a scope token; we issue and accept only this shape.
_SCOPE = re.compile(r"([a-z][a-z0-9_-]{0,63}):(read|write|write:test)", re.ASCII)
_MOST_SCOPES = 64


class ScopeError(ValueError):
    """The text is not a list of scopes."""


def parse_scope(text: str) -> Scope:
    """Return the one scope that `text` names, or raise ScopeError."""
    found = _SCOPE.fullmatch(text)
    if found is None:
        raise ScopeError(f"`{text[:80]}` is not a scope: use resource:read, resource:write or resource:write:test")
    return Scope(resource=found[1], write=found[2] != "read", test=found[2] == "write:test")


def parse_scopes(text: str) -> frozenset[Scope]:
    """Return the scopes of a `scope` parameter: tokens with one space between (RFC 6749 section 3.3).

    Raises ScopeError for anything else: other white space, an empty token, more than 64 scopes.
    """
    if not text:
        return frozenset()
    tokens = text.split(" ")
    if len(tokens) > _MOST_SCOPES:
        raise ScopeError(f"more than {_MOST_SCOPES} scopes: ask for fewer")
    return frozenset(parse_scope(token) for token in tokens)


def format_scopes(scopes: Iterable[Scope]) -> str:
    """Return the wire form, sorted, so that equal sets look equal."""
    return " ".join(str(scope) for scope in sorted(scopes))


def covers(held: frozenset[Scope], needed: Scope) -> bool:
    """Tell whether `held` suffices for `needed`: the scope itself, or the whole write for a test write."""
    return needed in held or (needed.test and Scope(resource=needed.resource, write=True) in held)


def permits(permissions: frozenset[Permission], scope: Scope) -> bool:
    """Tell whether a grant (or a staff rule) with these permissions reaches as far as `scope`."""
    if not scope.write:
        return Permission.READ in permissions
    return Permission.WRITE in permissions or (scope.test and Permission.TEST_TICKETS in permissions)


@lru_cache(maxsize=1024)
def narrow(held: frozenset[Scope], asked: frozenset[Scope], *limits: frozenset[Permission]) -> frozenset[Scope]:
    """Return the scopes in both `held` and `asked` that every one of `limits` permits; without a limit, nothing."""
    if not limits:
        return frozenset()
    return frozenset(scope for scope in held & asked if all(permits(limit, scope) for limit in limits))
