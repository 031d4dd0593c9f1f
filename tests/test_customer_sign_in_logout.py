"""A customer's provider tells of a sign-out (OpenID Connect Back-Channel Logout 1.0): who is out then, who is not."""

import itertools
from urllib.parse import urlencode

import pytest

from policy.events import LOGOUT
from tests.console_world import PATH
from tests.customer_sign_in_world import CLIENT, Administrator, open_administrator, sign_in
from tests.gateway_world import AUDIENCE

_numbers = itertools.count(1)


@pytest.fixture
async def olivia(tmp_path):
    async with open_administrator(tmp_path) as administrator:
        yield administrator


def told(administrator, *, type_="logout+jwt", **changes):
    """Return a logout token of this administrator's provider; None takes a claim out."""
    at = int(administrator.world.clock.now.timestamp())
    claims = {
        "iss": administrator.provider.issuer,
        "aud": administrator.client,
        "sub": "olivia",
        "iat": at,
        "exp": at + 120,
    }
    claims |= {"jti": f"logout-{next(_numbers)}", "events": {LOGOUT: {}}} | changes
    return administrator.provider.signed({k: v for k, v in claims.items() if v is not None}, type_=type_)


async def tell(administrator, token, **options):
    """Send it as a provider would, which is no browser; returns the status."""
    body = urlencode({"logout_token": token}).encode()
    headers = [("Content-Type", "application/x-www-form-urlencoded")]
    return (
        await administrator.send(
            f"{PATH}/backchannel-logout", method="POST", headers=headers, body=body, cookies=[], **options
        )
    ).status


async def test_whoever_signs_out_there_is_out_here(olivia):
    """Each session of that person's, page and form, at the next request; on the record, and nobody else's."""
    second, other = olivia.another(), olivia.another()
    for browser, subject in ((olivia, "olivia"), (second, "olivia"), (other, "oscar")):
        await browser.enter(subject)
    token = await olivia.form()
    olivia.world.clock.forward(seconds=60)
    assert 200 == await tell(olivia, told(olivia))
    assert [403, 403, 200] == [(await one.page()).status for one in (olivia, second, other)]
    assert 403 == (await olivia.choose(token=token)).status
    assert None is await olivia.grant()
    [record] = olivia.world.records(kind="audit", reason="signed_out")
    assert (f"{olivia.provider.issuer}#olivia", "acme") == (record["by"], record["account"])
    olivia.world.clock.forward(seconds=30)
    assert 303 == (await olivia.enter()).status
    assert 200 == (await olivia.page()).status, "who signs in again is in again"


async def test_a_session_there_may_be_named_instead(olivia):
    """By its `sid` alone that one is over, and not what the person has begun elsewhere."""
    second = olivia.another()
    await olivia.enter(sid="at-work")
    await second.enter(sid="at-home")
    assert 200 == await tell(olivia, told(olivia, sub=None, sid="at-work"))
    assert [403, 200] == [(await one.page()).status for one in (olivia, second)]


async def test_the_same_is_told_twice_and_later_ones_go_on(olivia):
    """What was told before ends nothing that began since, and an older one takes nothing of a newer one back."""
    await olivia.enter()
    early = told(olivia)
    olivia.world.clock.forward(minutes=1)
    assert 200 == await tell(olivia, told(olivia))
    assert 200 == await tell(olivia, early)
    assert 400 == await tell(olivia, early), "the very same one"
    assert 403 == (await olivia.page()).status
    olivia.world.clock.forward(minutes=1)
    await olivia.enter()
    assert 200 == await tell(olivia, told(olivia, iat=int(olivia.world.clock.now.timestamp()) - 60))
    assert 200 == (await olivia.page()).status


async def test_a_code_that_is_redeemed_behind_the_sign_out_gets_nobody_in(olivia):
    """The ID token says who was signed in there when it was issued: what has ended that since has ended this, too."""
    at = int(olivia.world.clock.now.timestamp())
    answer = olivia.consent(await olivia.begin(), iat=at)
    olivia.world.clock.forward(seconds=20)
    assert 200 == await tell(olivia, told(olivia))
    olivia.world.clock.forward(seconds=20)
    await olivia.come_back(answer)
    assert 403 == (await olivia.page()).status
    assert 303 == (await olivia.enter()).status
    assert 200 == (await olivia.page()).status, "a new sign-in there is one"


WRONG = {
    "another client's": {"aud": "somebody-else"},
    "staff's": {"aud": AUDIENCE},
    "another issuer's": {"iss": "https://evil.example"},
    "an ID token": {"nonce": "x"},
    "no event": {"events": None},
    "an old one": {"iat": 1},
    "an expired one": {"exp": 1},
    "nobody's": {"sub": None},
}


@pytest.mark.parametrize("what", WRONG)
async def test_what_is_no_logout_token_of_theirs_ends_nothing(olivia, what):
    """Or anybody could put administrators out whenever they are needed."""
    await olivia.enter()
    assert 400 == await tell(olivia, told(olivia, **WRONG[what]))
    assert 200 == (await olivia.page()).status


async def test_another_customers_provider_ends_nothing_here(olivia):
    """At acme's address its word is no good, at its own it is about a namesake."""
    namesake = olivia.other
    await olivia.enter()
    await namesake.enter("olivia")
    theirs = told(namesake)
    assert 400 == await tell(olivia, theirs)
    assert 200 == await tell(namesake, theirs)
    assert [200, 403] == [(await one.page()).status for one in (olivia, namesake)]


async def test_it_counts_in_every_account_of_the_customer(tmp_path):
    """A provider tells one address of its client: what it says ends the person's sessions in all of that table's."""

    def tables(ours, _theirs):
        return [sign_in(ours, "acme", "initech")]

    async with open_administrator(tmp_path, tables=tables) as olivia:
        initech = Administrator(olivia.world, olivia.provider, "initech", CLIENT)
        await olivia.enter()
        await initech.enter()
        assert 200 == await tell(olivia, told(olivia))
        assert [403, 403] == [(await one.page()).status for one in (olivia, initech)]


async def test_without_store_it_has_to_be_told_again(olivia):
    """It is never said to be done when it is not; without the journal it is done all the same."""
    await olivia.enter()
    await olivia.world.gateway.journal.close()
    assert 200 == await tell(olivia, told(olivia))
    assert 403 == (await olivia.page()).status
    await olivia.world.gateway.store.close()
    assert 503 == await tell(olivia, told(olivia))
