"""The rules of the architecture, read off the source: what may import what, and who may make a proof."""

import ast
import re
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DEMO_APP = "gateway/demo/django_helpdesk/app"  # run by an interpreter of its own, beside somebody else's helpdesk

# Of the standard library, policy may use what computes and nothing that reaches the world or reads a clock.
PURE = {
    "calendar", "collections", "dataclasses", "datetime", "enum", "functools", "hashlib", "json", "re", "typing",
    "unicodedata",
}  # fmt: skip
IMPURE_CALLS = {"open", "print", "input", "eval", "exec", "compile", "__import__", "globals", "breakpoint"}
IMPURE_METHODS = {"now", "utcnow", "today"}

ONLY_MAKER = {
    "Permit": "policy/decide.py",
    "Issue": "policy/exchange.py",
    "AssumptionClaims": "policy/claims.py",
}
ONLY_IMPORTERS = {
    "jwt": {"gateway/tokens/signing.py"},
    "httptools": {"gateway/proxy/response.py", "gateway/proxy/witness.py"},
    "sqlite3": {"gateway/stores/"},
    "asyncpg": {"gateway/stores/postgres/"},
    "prometheus_client": {"gateway/metrics/text.py"},
    "gateway.demo": {"gateway/demo/", "gateway/cli/demo.py"},
}

# Every header whose value or presence changes what the gateway does, and what keeps a stranger's from counting.
# A new one needs a row here, and a test that sends it from somebody who may not say it.
HEADERS_READ = {
    "accept": "chooses between the two spellings of a refusal, nothing else",
    "authorization": "the credential; in two lines, or under another spelling, it is refused",
    "cache-control": "of a response only",
    "cf-access-": "dropped from staff's requests",
    "cf-connecting-ip": "dropped from staff's requests",
    "connection": "may not take away what is judged; an odd nomination is refused for staff",
    "content-encoding": "of the app's answer about a setting only, where none is asked for and any refused",
    "content-length": "framing: once, a plain number, never under another spelling",
    "content-type": "of our own endpoints: a form or nothing at the token endpoint, one media type for events",
    "cookie": "withheld names are taken out",
    "expect": "answered here, never passed on",
    "forwarded": "dropped from staff's requests",
    "host": "exactly one; names the account, and the token must be that account's",
    "impersonate-": "dropped from staff's requests",
    "keep-alive": "dropped: it is about one connection",
    "proxy-connection": "dropped: it is about one connection",
    "remote-": "dropped from staff's requests",
    "set-cookie": "of a response only",
    "te": "dropped: it is about one connection",
    "trailer": "announces for customers what comes behind; dropped from staff's requests, whose trailers go nowhere",
    "transfer-encoding": "framing: once, `chunked`, never under another spelling",
    "true-client-ip": "dropped from staff's requests",
    "upgrade": "in any spelling it has to be a handshake, and for staff one that a rule of the profile allows",
    "user-agent": "recorded, never judged",
    "via": "dropped from staff's requests",
    "webhook-signature": "of the app's notices: an HMAC with a secret of 32 bytes, once, over the timestamp and the body",
    "webhook-timestamp": "of the app's notices: once, of now, and signed with the body",
    "x-auth-request-": "dropped from staff's requests",
    "x-authentik-": "dropped from staff's requests",
    "x-client-ip": "dropped from staff's requests",
    "x-cluster-client-ip": "dropped from staff's requests",
    "x-webauth-": "dropped from staff's requests",
    "x-script-name": "an override: refused for staff",
    "x-forwarded-": "dropped from staff's requests",
    "x-forwarded-for": "for customers the peer is put behind it; dropped from staff's requests",
    "x-goog-": "dropped from staff's requests",
    "x-http-method": "refused for staff: another method in disguise",
    "x-http-method-override": "refused for staff: another method in disguise",
    "x-locum-": "ours: stripped from customers' requests, refused in staff's, in every spelling",
    "x-locum-client": "read behind the front only, which strips a stranger's and sets its own",
    "x-method-override": "refused for staff: another method in disguise",
    "x-original-host": "dropped from staff's requests",
    "x-original-method": "dropped from staff's requests",
    "x-original-uri": "dropped from staff's requests",
    "x-original-url": "refused for staff: another path in disguise",
    "x-pomerium-": "dropped from staff's requests",
    "x-real-ip": "dropped from staff's requests",
    "x-remote-": "dropped from staff's requests",
    "x-rewrite-url": "refused for staff: another path in disguise",
}  # fmt: skip
# Where requests of strangers are read.
HEADER_READERS = (
    "gateway/proxy/", "gateway/check/", "gateway/tokens/", "gateway/grants/", "gateway/staff/", "gateway/console/",
)  # fmt: skip
_HEADER_NAME = re.compile(
    r"(?:x|cf|remote|impersonate|proxy|content|transfer|set|cache|keep|true)-[a-z-]*|accept|authorization|connection"
    r"|cookie|expect|forwarded|host|te|trailer|upgrade|user-agent|via|origin|referer|dpop|traceparent",
    re.IGNORECASE,
)


def _sources(*packages):
    paths = [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]
    return [path.relative_to(ROOT).as_posix() for path in paths if "__pycache__" not in path.parts]


def _tree(name):
    return ast.parse((ROOT / name).read_text(encoding="utf-8"), filename=name)


def _module(name):
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _imports(tree):
    """Every module that a file imports, anywhere in it, by its full name."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "an import that counts from where the file is"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _roots(tree):
    return {name.partition(".")[0] for name in _imports(tree)}


def _called(tree):
    return {
        node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute)
    }


POLICY = _sources("policy")
GATEWAY = [name for name in _sources("gateway") if not name.startswith(DEMO_APP)]
CODE = POLICY + GATEWAY


def test_there_is_something_to_look_at():
    """The other tests here would all pass on an empty list."""
    assert 8 <= len(POLICY)
    assert 30 <= len(GATEWAY)
    for name in [*ONLY_MAKER.values(), "gateway/tokens/signing.py"]:
        assert name in CODE


@pytest.mark.parametrize("name", POLICY)
def test_policy_reaches_no_world(name):
    """Policy imports itself and what only computes; it awaits nothing, opens nothing and reads no clock."""
    tree = _tree(name)
    assert set() == _roots(tree) - PURE - {"policy"}
    assert PURE <= sys.stdlib_module_names
    waits = (ast.Await, ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Global, ast.Nonlocal)
    assert [] == [ast.dump(node) for node in ast.walk(tree) if isinstance(node, waits)]
    assert set() == _called(tree) & IMPURE_METHODS
    assert set() == {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} & IMPURE_CALLS


@pytest.mark.parametrize(("proof", "maker"), ONLY_MAKER.items())
def test_a_proof_has_one_maker(proof, maker):
    """A permit, an issue and verified claims are made where they are earned and nowhere else, copies included."""
    assert proof in _called(_tree(maker))
    for name in CODE:
        tree = _tree(name)
        if name != maker:
            assert proof not in _called(tree), name
        # Another name for the class, or a copy with another field, would get round the rule above.
        aliases = {
            alias.asname
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
            if alias.name == proof and alias.asname
        }
        assert set() == aliases, name


def _copied(node):
    """What a call copies with other contents, as it is written; None for any other node."""
    if not isinstance(node, ast.Call):
        return None
    called = ast.unparse(node.func)
    if called.endswith(("._replace", "._make")):
        return called
    if called.rpartition(".")[0] in ("", "dataclasses", "copy", "structs", "msgspec.structs") and called.endswith(
        "replace"
    ):
        return ast.unparse(node.args[0])
    return None


def test_the_search_for_copies_finds_each_way():
    """A search that found nothing would pass for ever."""
    ways = [
        "replace(permit, a=1)",
        "msgspec.structs.replace(permit)",
        "structs.replace(permit)",
        "permit._replace(a=1)",
    ]
    assert 4 == sum("permit" in (_copied(ast.parse(way).body[0].value) or "") for way in ways)
    assert None is _copied(ast.parse("text.replace('permit', '')").body[0].value)
    assert "Permit._make" == _copied(ast.parse("Permit._make(x)").body[0].value)


def test_no_proof_is_copied_with_other_contents():
    """`replace` is called on accounts, grants and the gateway's own values, never on a permit, an issue or claims."""
    copied = {(name, what) for name in CODE for node in ast.walk(_tree(name)) if (what := _copied(node)) is not None}
    assert copied
    assert [] == [place for place in sorted(copied) if re.search(r"(?i)permit|issue|claims", place[1])]


@pytest.mark.parametrize(("imported", "importers"), ONLY_IMPORTERS.items())
def test_a_library_is_imported_at_its_one_seam(imported, importers):
    """Each foreign library with errors of its own is met in one place, and the demo is nobody's library."""
    for name in CODE:
        found = [one for one in _imports(_tree(name)) if one == imported or one.startswith(f"{imported}.")]
        assert not found or name.startswith(tuple(importers)), name


def test_imports_go_one_way():
    """Policy never imports the gateway; no module, by whatever way round, imports itself."""
    names = {_module(name): name for name in CODE}
    graph = {}
    for module, name in names.items():
        imported = _imports(_tree(name))
        graph[module] = {one for one in imported if one in names and one != module}
        if name.startswith("policy/"):
            assert not [one for one in imported if one.startswith("gateway")]
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as exc:
        pytest.fail(f"an import cycle: {' -> '.join(exc.args[1])}")


_CHANGERS = {
    "append", "add", "update", "pop", "popitem", "clear", "extend", "insert", "remove", "discard", "setdefault",
    "appendleft", "popleft", "sort", "reverse",
}  # fmt: skip
_STATEFUL = {
    "set", "dict", "list", "bytearray", "defaultdict", "deque", "Counter", "OrderedDict", "WeakSet", "WeakKeyDictionary",
    "WeakValueDictionary", "ContextVar", "Lock", "Event", "Queue", "Semaphore", "LRUCache", "TTLCache", "TLRUCache",
    "local", "count", "iter",
}  # fmt: skip


def _module_level(tree):
    """Name and value of what a module binds itself, not its functions and classes."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield ast.unparse(target), node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            yield ast.unparse(node.target), node.value


@pytest.mark.parametrize("name", CODE)
def test_no_module_holds_state(name):
    """What a module binds is a constant: no collection is made to be filled, and none is changed from inside."""
    tree = _tree(name)
    assert [] == [node.names for node in ast.walk(tree) if isinstance(node, ast.Global)]
    tables = set()
    for bound, value in _module_level(tree):
        if isinstance(value, ast.Call):
            made = value.func.attr if isinstance(value.func, ast.Attribute) else getattr(value.func, "id", "")
            assert made not in _STATEFUL, f"{name}: {bound} is made to be filled"
        if isinstance(value, ast.Dict | ast.List | ast.Set | ast.DictComp | ast.ListComp | ast.SetComp):
            assert bound == "__all__" or bound.isupper(), f"{name}: {bound} is a table, so it is written in capitals"
            assert not isinstance(value, ast.Dict | ast.List) or getattr(value, "keys", getattr(value, "elts", None)), (
                f"{name}: {bound} is empty, so somebody means to fill it"
            )
            tables.add(bound)
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            assert ast.unparse(node.value) not in tables, f"{name}: line {node.lineno} changes a table"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CHANGERS:
            assert ast.unparse(node.func.value) not in tables, f"{name}: line {node.lineno} changes a table"
        if isinstance(node, ast.AugAssign):
            assert ast.unparse(node.target) not in tables, f"{name}: line {node.lineno} changes a table"


def test_every_header_that_counts_is_known():
    """No header's name stands in the gateway's code without a word on what keeps a stranger's from counting."""
    found = {}
    for name in [*(name for name in GATEWAY if name.startswith(HEADER_READERS)), "gateway/caller.py"]:
        for header, line in _headers_read(_tree(name)):
            found.setdefault(header.lower(), f"{name}:{line}")
    assert {"authorization", "host", "x-locum-client", "upgrade", "accept", "user-agent"} <= set(found)
    known = tuple(prefix for prefix in HEADERS_READ if prefix.endswith("-") and prefix != "x-locum-")
    unknown = {h: where for h, where in found.items() if h not in HEADERS_READ and not h.startswith(known)}
    assert {} == unknown, "say in HEADERS_READ why it is harmless, and test it"


def _headers_read(tree):
    """Names of headers in whatever place could look one up: compared, searched for, or kept in a set."""
    writes = {
        id(part) for node in ast.walk(tree) if isinstance(node, ast.Dict) for part in node.keys if part is not None
    }
    for node in ast.walk(tree):
        # (name, value) is a header that is written, a lone name is one that is looked for.
        if isinstance(node, ast.Tuple) and len(node.elts) == 2:
            writes.add(id(node.elts[0]))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and id(node) not in writes:
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            if _HEADER_NAME.fullmatch(text) and (isinstance(node.value, bytes) or "-" in text or text[:1].isupper()):
                yield text, node.lineno


@pytest.mark.parametrize("name", [*CODE, *_sources("bench"), *_sources(DEMO_APP)])
def test_no_file_is_too_long(name):
    """A file can be read in one sitting."""
    assert 400 >= len((ROOT / name).read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("name", [name for name in CODE if not Path(name).name.startswith("_") or "__" in name])
def test_every_module_says_what_it_owns(name):
    """The docstring's first line is a sentence, so that a reader knows whether to read on."""
    said = ast.get_docstring(_tree(name))
    assert said, name
    assert re.search(r"[.?](\s|$)", said), f"{name}: no sentence"


_SUFFIXES = {
    "",
    ".py",
    ".md",
    ".toml",
    ".txt",
    ".yml",
    ".yaml",
    ".html",
    ".css",
    ".js",
    ".json",
    ".cfg",
    ".ini",
    ".conf",
}
_SKIPPED = {"__pycache__", "node_modules", "build", "dist", "demo-data"}
# Written so that this file does not hold what it looks for.
_BUILD_MACHINE = [
    re.compile(r"/(?:home|Users|root)/" + r"[A-Za-z0-9_.-]+"),
    re.compile(r"[A-Z]:\\\\?Users"),
    re.compile(r"https?://[^\s\"'<>]*(?:/sim" + r"ple\b|pypi\.|pythonhosted|artifactory|nexus|devpi)", re.IGNORECASE),
    re.compile(r"--(?:extra-)?index-u" + r"rl|--find-li" + r"nks|PIP_INDEX_U" + r"RL"),
]


def _texts():
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        hidden = any(part.startswith(".") and part not in (".ci", ".github", ".gitignore") for part in parts)
        if path.is_file() and path.suffix in _SUFFIXES and not hidden and not _SKIPPED & set(parts):
            yield path


def test_nothing_tells_where_it_was_built():
    """No file holds a path of a developer's machine or the address of a package registry."""
    here = {str(ROOT), str(Path.home())} - {"/"}
    found = []
    looked_at = 0
    for path in _texts():
        text = path.read_text(encoding="utf-8")
        looked_at += 1
        hits = [pattern.search(text) for pattern in _BUILD_MACHINE]
        found += [f"{path.relative_to(ROOT)}: {hit[0]}" for hit in hits if hit]
        found += [f"{path.relative_to(ROOT)}: {place}" for place in here if place in text]
    assert 50 <= looked_at
    assert [] == found
