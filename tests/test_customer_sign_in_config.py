"""What [[console.account.sign_in]] may say, and what is refused, so that nobody of one account is another's."""

import pytest

from gateway.config.load import build
from gateway.config.model import ConfigError
from tests.gateway_world import AUDIENCE, document

IDP = "https://login.acme.example"
LEAST = {"issuer": IDP, "client_id": "locum", "accounts": ["acme"], "administrators": ["helpdesk-admins"]}
OTHER = {"issuer": "https://globex.example", "client_id": "locum", "accounts": ["globex"], "administrators": ["it"]}
WHERE = r"console\.account\.sign_in"


def configured(directory, *tables, change=None, **account):
    wanted = document(directory, upstream="http://127.0.0.1:9", issuer="https://idp.vendor.example")
    wanted["console"] = {"account": account | {"sign_in": [dict(table) for table in tables]}}
    if change is not None:
        change(wanted)
    return build(wanted, {}, base=directory)


def test_the_least_table_is_enough(tmp_path):
    """Whose, where, as which client, and who is one; the rest has defaults, and the app need not be asked."""
    [table] = configured(tmp_path, LEAST).console.account.sign_in
    said = (table.claim, table.account_claim, table.scopes, table.idle_seconds, table.absolute_seconds)
    assert ("groups", "", ("openid", "profile"), 900, 3600) == said
    assert configured(tmp_path, LEAST, OTHER).console.tells_staff, "the app's sessions are nobody's here"


def test_a_secret_may_stand_in_a_file(tmp_path):
    """Each table has its own, and none is shown."""
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"secret-{name}\n")
        (tmp_path / name).chmod(0o600)
    tables = [LEAST | {"client_secret_file": "one"}, OTHER | {"client_secret_file": "two"}]
    found = configured(tmp_path, *tables).console.account.sign_in
    assert ["secret-one", "secret-two"] == [table.client_secret.reveal() for table in found]
    assert "secret-" not in repr(found)
    with pytest.raises(ConfigError, match=rf"{WHERE}\[1\]\.client_secret_file: give either"):
        configured(tmp_path, LEAST, OTHER | {"client_secret_file": "two", "client_secret": "x"})


WRONG = {
    "an issuer in the clear": ({"issuer": "http://login.acme.example"}, ".issuer: must be an https URL"),
    "an issuer with a query": ({"issuer": f"{IDP}/?tenant=1"}, ".issuer: must be an https URL"),
    "an issuer with a fragment": ({"issuer": f"{IDP}/#x"}, ".issuer: must be an https URL"),
    "an issuer without end": ({"issuer": f"{IDP}/{'x' * 255}"}, ".issuer: must have at most 255"),
    "a client without a name": ({"client_id": ""}, ".client_id: must be printable"),
    "two proofs": ({"client_secret": "x", "client_key": "y"}, ": give `client_secret` or `client_key`"),
    "no openid": ({"scopes": ["profile"]}, ".scopes: `openid`"),
    "who it is from elsewhere": ({"userinfo_claims": ["sub"]}, ".userinfo_claims[0]: `sub` counts from the ID token"),
    "no claim": ({"claim": ""}, ".claim: name the claim"),
    "nobody": ({"administrators": []}, ".administrators: without a value of `groups` nobody"),
    "an empty value": ({"administrators": ["a", ""]}, ".administrators: an empty value is nobody's"),
    "no age": ({"max_age_seconds": 0}, ".max_age_seconds: must be above 0"),
    "no idle time": ({"idle_seconds": 0}, ".idle_seconds: must be above 0 and at most 28800"),
    "a session for ever": ({"absolute_seconds": 28801}, ".absolute_seconds: must be above 0 and at most 28800"),
    "no account": ({"accounts": []}, ".accounts: name them, or in `account_claim`"),
    "an account that there cannot be": ({"accounts": ["acme", "Acme"]}, ".accounts[1]: no request could ever be for"),
    "an account of more labels": ({"accounts": ["a.acme"]}, ".accounts[0]: no request could ever be for"),
    "the same twice": ({"accounts": ["acme", "acme"]}, ".accounts: `acme` is in"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_could_let_in_anybody_or_nobody_is_refused(what, tmp_path):
    """With the path of the key, and what to do."""
    changes, said = WRONG[what]
    with pytest.raises(ConfigError) as refused:
        configured(tmp_path, LEAST | changes)
    assert str(refused.value).startswith(f"console.account.sign_in[0]{said}")


def test_a_key_that_nobody_knows_is_refused(tmp_path):
    """A slip in a name must not leave out what it was to demand."""
    with pytest.raises(ConfigError, match="require_arm: there is no such key; did you mean `require_amr`"):
        configured(tmp_path, LEAST | {"require_arm": ["mfa"]})


def test_an_account_has_one_provider(tmp_path):
    """Two for one account, or two for all others, would make it chance who is an administrator."""
    with pytest.raises(ConfigError, match=rf"{WHERE}\[1\]\.accounts: `acme` is in {WHERE}\[0\] already"):
        configured(tmp_path, LEAST, OTHER | {"accounts": ["globex", "acme"]})
    rest = {"accounts": [], "account_claim": "org"}
    with pytest.raises(ConfigError, match="every other account is in"):
        configured(tmp_path, LEAST | rest, OTHER | rest)
    assert 2 == len(configured(tmp_path, LEAST | rest, OTHER).console.account.sign_in)


def test_a_provider_of_two_customers_has_to_say_whose_people_are(tmp_path):
    """Or an administrator of the one would be one of the other."""
    both = [LEAST, OTHER | {"issuer": IDP}]
    with pytest.raises(ConfigError, match=rf"{WHERE}\[0\]\.account_claim: another table has this issuer"):
        configured(tmp_path, *both)
    with pytest.raises(ConfigError, match=rf"{WHERE}\[1\]\.account_claim: another table has this issuer"):
        configured(tmp_path, both[0] | {"account_claim": "org"}, both[1])
    configured(tmp_path, *(table | {"account_claim": "org"} for table in both))


@pytest.mark.parametrize("whose", ["audience", "staff", "security"])
def test_staffs_client_is_none_of_a_customers(whose, tmp_path):
    """At the same provider it has to be another client, so that no sign-in to the one is good for the other."""

    def change(wanted):
        wanted["console"]["account"]["sign_in"][0] |= {"issuer": wanted["staff"]["issuer"]}
        if whose == "staff":
            wanted["staff"] |= {"sign_in": {"client_id": "shared"}}
        if whose == "security":
            sign_in = {"client_id": "shared", "auditors": ["x"]}
            wanted["console"]["security"] = {"origin": "https://locum.vendor.example", "sign_in": sign_in}

    client = AUDIENCE if whose == "audience" else "shared"
    with pytest.raises(ConfigError, match=rf"{WHERE}\[0\]\.client_id: is staff's, or the security team's"):
        configured(tmp_path, LEAST | {"client_id": client}, change=change)
    configured(tmp_path, LEAST | {"client_id": "of-its-own"}, change=change)


def test_without_tls_nobody_signs_in(tmp_path):
    """Our own address has to be https, or this machine's loopback."""

    def change(wanted):
        wanted["server"]["issuer"] = "http://assume.vendor.example"

    with pytest.raises(ConfigError, match=rf"{WHERE}: goes with a server\.issuer of https"):
        configured(tmp_path, LEAST, change=change)


def test_with_neither_app_nor_provider_there_is_no_page(tmp_path):
    """The section has to say somewhere who is an administrator."""
    with pytest.raises(ConfigError, match=r"console\.account\.who_am_i: must be a path"):
        configured(tmp_path)


def test_roles_that_count_have_to_be_there(tmp_path):
    """Whom a provider calls an administrator has one of them, or could change nothing."""

    def change(wanted):
        wanted["grants"] = {"administrator_roles": []}

    with pytest.raises(ConfigError, match=r"grants\.administrator_roles"):
        configured(tmp_path, LEAST, change=change)
