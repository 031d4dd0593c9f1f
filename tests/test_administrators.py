"""Who somebody of a customer is, as an app's answer says it: read whole, or not at all."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.administrators import Person, PersonFields, read_person
from policy.documents import Odd
from policy.grants import Administrator
from policy.model import AccountId

ACME = AccountId("acme")
FIELDS = PersonFields(
    user="/user/id", name="/user/name", account="/user/account", roles="/user/roles", acting="/session/act"
)
SAID = {
    "user": {"id": 7, "name": "Olivia", "account": "acme", "roles": {"support": "agent", "explore": "admin"}},
    "session": {"act": None},
}
ADMINS = frozenset({"owner", "admin"})


def read(document, fields=FIELDS):
    return read_person(json.dumps(document).encode(), fields, account=ACME)


def said(**changes):
    return SAID | {"user": SAID["user"] | changes}


def test_a_whole_answer_is_a_person():
    """With the id as text, and a role in each product."""
    roles = {"support": "agent", "explore": "admin"}
    assert Person(administrator=Administrator(id="7", roles=roles), name="Olivia") == read(SAID)


@pytest.mark.parametrize(
    ("roles", "may"),
    [
        ("admin", True),
        (["agent", "owner"], True),
        ({"support": None, "explore": "admin"}, True),
        ("agent", False),
        ("Admin", False),
        ("admin ", False),
        ("admin,agent", False),
        ([], False),
        ({}, False),
        (None, False),
        ({"admin": "agent"}, False),
    ],
)
def test_a_role_in_any_product_counts_whole(roles, may):
    """A product's name is no role, and neither is half of one."""
    assert may == read(said(roles=roles)).administrator.may_change(ADMINS)


@pytest.mark.parametrize("roles", [7, True, [7], {"support": ["admin"]}, [["admin"]], {"support": {"is": "admin"}}])
def test_what_is_no_role_is_odd(roles):
    """It is not passed over: the rest of the answer may mean something else, too."""
    assert isinstance(read(said(roles=roles)), Odd)


@pytest.mark.parametrize("account", ["globex", "ACME", "acme ", "", 7])
def test_somebody_of_another_account_is_nobody(account):
    """Compared whole."""
    assert None is read(said(account=account))


@pytest.mark.parametrize("act", [{"sub": "dana"}, {}, "dana", "", 0, 1, True, []])
def test_anything_but_nobody_acts(act):
    """Only null and false say that nobody does; 0 and an empty text may mean somebody."""
    person = read(SAID | {"session": {"act": act}})
    assert person.administrator.is_acting_staff


def test_who_acts_is_nobody_where_the_app_says_so():
    """As most answers say."""
    assert not read(SAID | {"session": {"act": False}}).administrator.is_acting_staff


@pytest.mark.parametrize("name", ["id", "name", "account", "roles"])
def test_what_the_map_names_has_to_be_there(name):
    """An answer without it is another one than was documented."""
    user = {key: value for key, value in SAID["user"].items() if key != name}
    assert isinstance(read(SAID | {"user": user}), Odd)
    assert isinstance(read({"user": SAID["user"]}), Odd)


@pytest.mark.parametrize("user", [None, "", True, 7.5, -1, [7], "7\n", "7\u202e", "7\x00", "\ud800", "x" * 257])
def test_an_id_is_one_line_that_cannot_be_taken_for_another(user):
    """It stands in the history and the record."""
    assert isinstance(read(said(id=user)), Odd)


def test_who_has_no_name_is_called_by_their_id():
    """Null, or where the answers hold no name at all."""
    assert "7" == read(said(name=None)).name
    fields = PersonFields(user="/user/id", roles="/user/roles")
    assert "7" == read(SAID, fields).name


@given(st.binary(max_size=200))
def test_no_body_is_anything_but_a_person_or_odd(body):
    """Whatever an app sends, nothing is raised, and nobody is let in by chance."""
    assert isinstance(read_person(body, FIELDS, account=ACME), Odd)
