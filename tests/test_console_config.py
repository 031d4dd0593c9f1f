"""What [console.account] may say, and what is refused before it could let somebody choose who is no administrator."""

from pathlib import Path

import pytest

from gateway.config.load import build
from gateway.config.model import ConfigError
from tests.gateway_world import document

GOOD = {"who_am_i": "/api/v2/users/me", "fields": {"account": "/user/account"}}


def configured(directory, section, **more):
    wanted = document(directory, upstream="http://127.0.0.1:9", issuer="http://127.0.0.1:9")
    wanted["console"] = {"account": section}
    for name, changes in more.items():
        wanted[name] = wanted.get(name, {}) | changes
    return build(wanted, {}, base=Path(directory))


def test_the_least_section_is_enough(tmp_path):
    """Where to ask, and where the account stands; the rest has defaults."""
    section = configured(tmp_path, GOOD).console.account
    assert ("/user/id", "/user/role", 2.0, 3.0) == (
        section.fields.user,
        section.fields.roles,
        section.timeout_seconds,
        section.remember_seconds,
    )


def test_without_the_section_there_is_no_page(tmp_path):
    """It is off by default."""
    wanted = document(tmp_path, upstream="http://127.0.0.1:9", issuer="http://127.0.0.1:9")
    assert None is build(wanted, {}, base=tmp_path).console.account


@pytest.mark.parametrize(
    "target",
    [
        "",
        "me",
        "//evil.example/me",
        "https://evil.example/me",
        "/.locum/account",
        "/me#x",
        "/m e",
        "/mé",
        "/me\r\nX: 1",
    ],
)
def test_the_question_is_a_path_of_the_app(tmp_path, target):
    """On the account's own host: no other may be asked, and nothing may be slipped in."""
    with pytest.raises(ConfigError, match=r"console\.account\.who_am_i: must be a path"):
        configured(tmp_path, GOOD | {"who_am_i": target})


@pytest.mark.parametrize(
    "name", ["Cookie", "host", "X-Locum-Account", "X-Locum-Assertion", "Connection", "X_A", "", "X A", "Remote-User"]
)
@pytest.mark.parametrize("key", ["pass_headers", "headers"])
def test_no_header_that_says_more_than_it_seems(tmp_path, key, name):
    """Neither what makes another message of it, nor what only we may say."""
    value = [name] if key == "pass_headers" else {name: "x"}
    with pytest.raises(ConfigError, match=r"console\.account\.(pass_)?headers"):
        configured(tmp_path, GOOD | {key: value}, identity={"plain": {"subject": "Remote-User"}})


REFUSED = {
    "twice": ({"pass_headers": ["X-A", "x-a"]}, "is there twice"),
    "passed and ours": ({"pass_headers": ["X-A"], "headers": {"x-a": "1"}}, "is there twice"),
    "two lines": ({"headers": {"X-A": "1\r\nX-B: 2"}}, "one line of ASCII"),
    "no pointer": ({"fields": {"account": "/a", "user": "user"}}, r"fields\.user: must be a JSON pointer"),
    "no user": ({"fields": {"account": "/a", "user": ""}}, r"fields\.user: the answers have to hold it"),
    "no roles": ({"fields": {"account": "/a", "roles": ""}}, r"fields\.roles: the answers have to hold it"),
    "no account": ({"fields": {}}, r"fields\.account: say where"),
    "no time": ({"timeout_seconds": 0.0}, r"timeout_seconds: must be at least"),
    "all the time": ({"timeout_seconds": 11.0}, r"timeout_seconds: must be at least"),
    "remembered for ever": ({"remember_seconds": float("inf")}, r"remember_seconds: must be at least"),
    "remembered for no number": ({"remember_seconds": float("nan")}, r"remember_seconds: must be at least"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_let_in_too_many_or_nobody_is_refused(tmp_path, case):
    """With the key's path, and what to do."""
    changes, words = REFUSED[case]
    with pytest.raises(ConfigError, match=words):
        configured(tmp_path, GOOD | changes)


def test_one_account_alone_need_not_be_named(tmp_path):
    """Where every request is for the same one, nobody can be of another."""
    accounts = {"source": "fixed", "fixed": "acme", "host": "helpdesk.example"}
    assert configured(tmp_path, {"who_am_i": "/me"}, accounts=accounts).console.account is not None


def test_without_a_role_nobody_could_use_it(tmp_path):
    """Also where the app keeps the setting, and no role is needed for that."""
    http = {"url": "https://desk.example/{account}"}
    with pytest.raises(ConfigError, match=r"grants\.administrator_roles"):
        configured(tmp_path, GOOD, grants={"administrator_roles": [], "source": "http", "http": http})
