"""App profiles: which request of a known app needs which scope; what matches nothing is refused.

A request must satisfy *every* rule that it matches, so a stricter rule beside a laxer one always wins, and a
`never` rule wins over all. The order of the rules has no meaning.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from policy.documents import is_pointer
from policy.model import Scope, Target
from policy.scopes import ScopeError, parse_scope

METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_ANY = "*"
_OVERRIDES = frozenset({"_method", "x-http-method-override", "x-http-method", "x-method-override"})
_NONE: frozenset[str] = frozenset()
_MOST_REMEMBERED = 4096
_LONGEST_REMEMBERED = 512
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)
_PARAMETER = re.compile(r"\{[a-z_]+(?::(int))?\}", re.ASCII)
_COOKIE_NAME = re.compile(r"(?!(?i:__))[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # RFC 6265 section 4.1.1
_RULE_KEYS = frozenset(
    {"id", "methods", "path", "scope", "never", "query_has", "query_only", "query_recorded", "websocket"}
)
_PROFILE_KEYS = frozenset(
    {"name", "description", "agent_probe", "agent_role", "withhold_cookies", "script_cookies", "scopes", "routes"}
)


class ProfileError(ValueError):
    """The profile cannot be used; the message names the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRule:
    """One line of a profile."""

    id: str
    methods: frozenset[str]
    path: re.Pattern[str]
    scope: Scope | None
    """None: never, whatever the scope."""
    never: str = ""
    query_has: frozenset[str] = frozenset()
    query_only: frozenset[str] | None = None
    query_recorded: frozenset[str] = frozenset()
    """The fields of the query whose values are nobody's secret and nobody's own, so that they may go on record."""
    websocket: bool = False
    """Whether a WebSocket may be opened here; what is sent on it is not judged, so all of it must fit the scope."""

    def speaks_of(self, method: str) -> bool:
        """Tell whether this rule can speak about requests with that method."""
        return method in self.methods or _ANY in self.methods

    def matches(self, method: str, path: str, names: frozenset[str]) -> bool:
        """Tell whether this rule speaks about the request; `names` are the folded names of its query."""
        return (
            self.speaks_of(method)
            and self.path.fullmatch(path) is not None
            and (not self.query_has or not self.query_has.isdisjoint(names))
            and (self.query_only is None or names <= self.query_only)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """The rules that speak about a request; none means: refuse."""

    rules: tuple[RouteRule, ...]
    ids: tuple[str, ...]
    writes: bool
    """Whether any of them asks for a scope that writes."""
    query_recorded: frozenset[str]
    """What all of them say so of."""

    @classmethod
    def of(cls, rules: tuple[RouteRule, ...]) -> "Matched":
        """Put together what a decision asks of them."""
        writes = any(rule.scope is not None and rule.scope.write for rule in rules)
        recorded = frozenset.intersection(*(rule.query_recorded for rule in rules)) if rules else _NONE
        return cls(rules=rules, ids=tuple(rule.id for rule in rules), writes=writes, query_recorded=recorded)

    def __iter__(self) -> Iterator[RouteRule]:
        """Yield the rules."""
        return iter(self.rules)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.rules)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What is known of one app."""

    name: str
    description: str
    scopes: Mapping[Scope, str]
    """Every scope that a rule uses, with words for people."""
    rules: tuple[RouteRule, ...]
    agent_probe: str = ""
    """A target that the app answers with 2xx for an agent it knows, and with a refusal for another; empty: none."""
    agent_role: str = ""
    """Where the answer to `agent_probe` holds the agent's roles, as a JSON pointer; empty: it does not."""
    withhold_cookies: frozenset[str] = frozenset()
    """Cookies that never cross for assumed traffic, in either direction."""
    script_cookies: frozenset[str] = frozenset()
    """Cookies that the app's own scripts read: a browser that stands in is shown them, and sends none of them on."""
    by_method: Mapping[str, tuple[RouteRule, ...]] = field(default_factory=dict)
    """The rules again, those that can speak about a method; saves most of the work of a request."""
    _matched: dict[tuple[str, str, frozenset[str]], Matched] = field(default_factory=dict, compare=False, repr=False)
    """What `match` has found, within bounds: the same question has the same answer as long as the profile lives."""

    def match(self, method: str, target: Target) -> Matched:
        """Return every rule that speaks about the request; an empty answer means: refuse."""
        names = (
            frozenset(reading for name, _ in target.query for reading in read_field(name)) if target.query else _NONE
        )
        key = (method, target.path, names)
        found = self._matched.get(key)
        if found is None:
            found = Matched.of(self._match(*key))
            if len(target.raw) <= _LONGEST_REMEMBERED:
                if len(self._matched) >= _MOST_REMEMBERED:
                    self._matched.clear()
                self._matched[key] = found
        return found

    def _match(self, method: str, path: str, names: frozenset[str]) -> tuple[RouteRule, ...]:
        rules = self.by_method.get(method, self.rules)
        found = tuple([rule for rule in rules if rule.matches(method, path, names)])
        if not found or path.isascii():
            return found
        # Some servers take a fullwidth letter for the plain one: what speaks about that path must be satisfied too.
        folded = unicodedata.normalize("NFKC", path)
        return found + tuple(rule for rule in rules if rule not in found and rule.matches(method, folded, names))

    def overrides_method(self, target: Target) -> bool:
        """Tell whether the query asks the app for another method, as Rack, Rails and Symfony honour it."""
        return bool(target.query) and any(not _OVERRIDES.isdisjoint(read_field(name)) for name, _ in target.query)


@lru_cache(maxsize=1024)
def read_field(name: str) -> frozenset[str]:
    """Return all that frameworks may take a query field's name for: to PHP, `a[b` without its end is `a_b`."""
    unclosed = "[" in name and "]" not in name.partition("[")[2]
    return frozenset({fold_field(name), fold_field(name.replace("[", "_", 1) if unclosed else name)})


def fold_field(name: str) -> str:
    """Return the plain form of a query field's name: `_method[]`, `_Method` and `.method` are one."""
    return re.sub(r"[. ]", "_", name.partition("[")[0].strip()).lower()


def read_profile(document: Mapping[str, object]) -> Profile:
    """Build a profile from its decoded TOML, or raise ProfileError that names the key and says what is wrong."""
    _only(document, _PROFILE_KEYS, "the profile")
    name = _text(document, "name", "name")
    if _NAME.fullmatch(name) is None:
        raise ProfileError("name: use lower-case letters, digits, `-` and `_`")
    scopes = _scopes(document.get("scopes"))
    tables = document.get("routes")
    if not isinstance(tables, list) or not tables:
        raise ProfileError("routes: at least one [[routes]] table is needed, or nothing could ever be reached")
    rules = tuple(_rule(table, index, scopes) for index, table in enumerate(tables))
    for rule in rules:
        if sum(other.id == rule.id for other in rules) > 1:
            raise ProfileError(f"routes: the id `{rule.id}` is used twice")
    return Profile(
        name=name,
        description=_text(document, "description", "description"),
        scopes=scopes,
        rules=rules,
        by_method={method: tuple(rule for rule in rules if rule.speaks_of(method)) for method in METHODS},
        agent_probe=_probe(document),
        agent_role=_role(document),
        withhold_cookies=frozenset(_texts(document.get("withhold_cookies", []), "withhold_cookies")),
        script_cookies=_script_cookies(document),
    )


def _probe(document: Mapping[str, object]) -> str:
    # Leaving it out must not mean that nobody is asked: whoever wants that says so.
    if document.get("agent_probe") is False:
        return ""
    probe = document.get("agent_probe")
    if not isinstance(probe, str) or not probe.startswith("/"):
        raise ProfileError("agent_probe: a target such as /whoami that only known agents get, or false to ask nobody")
    return probe


def _role(document: Mapping[str, object]) -> str:
    pointer = document.get("agent_role", "")
    if not isinstance(pointer, str) or (pointer and not is_pointer(pointer)):
        raise ProfileError("agent_role: a JSON pointer into the answer to `agent_probe`, such as /role")
    if pointer and not _probe(document):
        raise ProfileError("agent_role: goes with an `agent_probe`, whose answer tells it")
    return pointer


def _script_cookies(document: Mapping[str, object]) -> frozenset[str]:
    names = frozenset(_texts(document.get("script_cookies", []), "script_cookies"))
    if not all(_COOKIE_NAME.fullmatch(name) for name in names):
        raise ProfileError("script_cookies: names of cookies, without a prefix such as `__Host-`")
    if names & frozenset(_texts(document.get("withhold_cookies", []), "withhold_cookies")):
        raise ProfileError("script_cookies: a cookie that is withheld is shown to nobody")
    return names


def _scopes(table: object) -> dict[Scope, str]:
    if not isinstance(table, Mapping):
        raise ProfileError("scopes: a table of scope = words is needed")
    try:
        return {parse_scope(text): _text(table, text, f"scopes.{text}") for text in table}
    except ScopeError as exc:
        raise ProfileError(f"scopes: {exc}") from exc


def _rule(table: object, index: int, scopes: Mapping[Scope, str]) -> RouteRule:
    where = f"routes[{index}]"
    if not isinstance(table, Mapping):
        raise ProfileError(f"{where}: must be a table")
    _only(table, _RULE_KEYS, where)
    never = _text(table, "never", f"{where}.never") if "never" in table else ""
    if ("scope" in table) == bool(never):
        raise ProfileError(f"{where}: exactly one of `scope` and `never` is needed")
    methods = frozenset(_texts(table.get("methods"), f"{where}.methods"))
    if not methods or not methods <= (METHODS | {_ANY} if never else METHODS):
        raise ProfileError(f"{where}.methods: name some of {', '.join(sorted(METHODS))}; `*` only with `never`")
    return RouteRule(
        id=_text(table, "id", f"{where}.id"),
        methods=methods,
        path=_path(_text(table, "path", f"{where}.path"), f"{where}.path", never=bool(never)),
        scope=None if never else _scope(_text(table, "scope", f"{where}.scope"), f"{where}.scope", scopes),
        never=never,
        query_has=frozenset(map(fold_field, _texts(table.get("query_has", []), f"{where}.query_has"))),
        query_only=frozenset(map(fold_field, _texts(table["query_only"], f"{where}.query_only")))
        if "query_only" in table
        else None,
        query_recorded=frozenset(map(fold_field, _texts(table.get("query_recorded", []), f"{where}.query_recorded"))),
        websocket=_websocket(table, f"{where}.websocket", methods),
    )


def _websocket(table: Mapping[str, object], where: str, methods: frozenset[str]) -> bool:
    wanted = table.get("websocket", False)
    if not isinstance(wanted, bool) or (wanted and ("GET" not in methods or "scope" not in table)):
        raise ProfileError(f"{where}: true or false, and true only where GET is among the methods and a scope is asked")
    return wanted


def _scope(text: str, where: str, known: Mapping[Scope, str]) -> Scope:
    try:
        scope = parse_scope(text)
    except ScopeError as exc:
        raise ProfileError(f"{where}: {exc}") from exc
    if scope not in known:
        raise ProfileError(f"{where}: `{text}` is not under [scopes]; say there what it means")
    return scope


def _path(template: str, where: str, *, never: bool) -> re.Pattern[str]:
    if not template.startswith("/"):
        raise ProfileError(f"{where}: must start with `/`")
    parts = template[1:].split("/")
    pattern = ""
    for index, part in enumerate(parts):
        if part == "**" and index == len(parts) - 1:
            # `/admin/**` speaks of `/admin` itself as well, with or without its slash.
            pattern += "(?:/.*)?"
        elif found := _PARAMETER.fullmatch(part):
            pattern += "/[0-9]+" if found[1] else "/[^/]+"
        elif set(part) & set("{}*"):
            raise ProfileError(f"{where}: `{part}` is neither text, {{name}}, {{name:int}} nor a final **")
        else:
            pattern += "/" + re.escape(part)
    if never:
        # A refusal must not depend on letter case or a slash at the end: some apps ignore both.
        return re.compile(pattern.removesuffix("/") + "/?", re.IGNORECASE | re.DOTALL)
    return re.compile(pattern, re.DOTALL)


def _only(table: Mapping[str, object], keys: frozenset[str], where: str) -> None:
    unknown = sorted(set(table) - keys)
    if unknown:
        raise ProfileError(f"{where}: unknown key `{unknown[0]}`; known are {', '.join(sorted(keys))}")


def _text(table: Mapping[str, object], key: str, where: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ProfileError(f"{where}: a text is needed")
    return value


def _texts(value: object, where: str) -> Iterable[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise ProfileError(f"{where}: a list of texts is needed")
    return value
