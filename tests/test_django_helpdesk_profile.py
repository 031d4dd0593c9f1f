"""What the profile of django-helpdesk says, asked without a running helpdesk."""

import tomllib
from pathlib import Path

import pytest

from policy.routes import METHODS, SAFE_METHODS, Profile, read_profile
from policy.target import parse_target

PROFILE = Path(__file__).parent.parent / "policy" / "profiles" / "django-helpdesk.toml"
UNSAFE_METHODS = METHODS - SAFE_METHODS


@pytest.fixture
def profile() -> Profile:
    return read_profile(tomllib.loads(PROFILE.read_text()))


@pytest.mark.parametrize(
    "path", ["/login/", "/LOGOUT", "/admin", "/Admin/auth/user/add/", "/password_change/", "/settings/"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_no_scope_reaches_credentials_and_seats(profile, method, path):
    """The pages that make users, passwords and sessions are refused whatever is held."""
    assert any(rule.scope is None for rule in profile.match(method, parse_target(path.encode())))


def test_no_scope_makes_a_user_or_rewrites_an_author(profile):
    """The REST API is no way around it."""
    for method, path in [("POST", b"/api/users/"), ("POST", b"/api/users.json"), ("PATCH", b"/api/followups/1/")]:
        assert any(rule.scope is None for rule in profile.match(method, parse_target(path)))


def test_every_method_that_is_meant_to_write_needs_a_write(profile):
    """This app has no POST that only reads."""
    lax = [rule.id for rule in profile.rules if rule.scope and not rule.scope.write and rule.methods & UNSAFE_METHODS]

    assert [] == lax


def test_every_scope_is_used_and_every_word_is_there(profile):
    """The scopes that people are shown are those that open something."""
    assert {rule.scope for rule in profile.rules if rule.scope} == set(profile.scopes)
