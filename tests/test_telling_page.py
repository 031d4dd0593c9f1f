"""The page on which an account's administrators say who is told: for them alone, and nobody is taken off silently."""

import html

import pytest

from tests.console_world import PATH, hidden, open_customer
from tests.telling_world import ANN, Relay, notices, recorded, secret_of

CONTACTS = f"{PATH}/contacts"
EVE = "eve@evil.example"


def change(wanted):
    wanted["notices"] = notices()


async def fields(olivia):
    page = await olivia.page("/contacts")
    assert 200 == page.status, page.text
    return {"form_token": hidden(page, "form_token"), "version": hidden(page, "version")}


async def test_an_administrator_says_who_is_told(tmp_path):
    """And sees who is, with the secrets of webhooks once they are saved; the account's page leads there."""
    url = "https://hooks.acme.example/in?a=1&b=2"
    async with open_customer(tmp_path, change=change) as olivia:
        assert CONTACTS in (await olivia.page()).text
        assert "Nobody is told." in (await olivia.page("/contacts")).text
        saved = await olivia.post("contacts", [*(await fields(olivia)).items(), ("addresses", f"{ANN}\r\n{url}\r\n")])
        assert (200, True) == (saved.status, secret_of("acme", url) in saved.text)
        shown = await olivia.page("/contacts")
        assert ANN in shown.text
        assert url in html.unescape(shown.text)
        assert "whsec_" not in shown.text
        [record] = olivia.world.records(kind="account", reason="contacts_changed")
    assert ("7", 2) == (record["by"], record["count"])


async def test_who_is_taken_off_is_told(tmp_path):
    """Whoever has got hold of an administrator's browser cannot do it quietly."""
    with Relay() as relay:
        section = notices(relay)
        async with open_customer(tmp_path, change=lambda wanted: wanted.update(notices=section)) as olivia:
            for address in (ANN, EVE):
                form = [*(await fields(olivia)).items(), ("addresses", address)]
                assert 200 == (await olivia.post("contacts", form)).status
            told = await recorded(olivia.world, 3, event="contacts", reason="sent")
    assert [ANN, ANN, EVE] == sorted(record["recipient"] for record in told)
    assert {ANN, EVE} == set(relay.recipients)


@pytest.mark.parametrize("who", ["s-ben", "s-gina", "nobody"])
async def test_nobody_else_sees_or_changes_it(tmp_path, who):
    """Neither an agent, nor another account's owner, nor somebody who is not signed in."""
    async with open_customer(tmp_path, change=change) as olivia:
        form = [*(await fields(olivia)).items(), ("addresses", EVE)]
        olivia.session = who
        assert (await olivia.page("/contacts")).status in (403, 404)
        assert (await olivia.post("contacts", form)).status in (403, 404)
        assert None is await olivia.world.gateway.store.find_contacts("acme")


async def test_a_forged_or_an_old_form_changes_nothing(tmp_path):
    """From elsewhere, without its token, of another version, or with what is no address."""
    async with open_customer(tmp_path, change=change) as olivia:
        form = await fields(olivia)
        send = [*form.items(), ("addresses", EVE)]
        assert 403 == (await olivia.post("contacts", send, origin="https://evil.example", site="cross-site")).status
        assert 403 == (await olivia.post("contacts", [*{**form, "form_token": "x"}.items(), ("addresses", EVE)])).status
        assert 409 == (await olivia.post("contacts", [*{**form, "version": "3"}.items(), ("addresses", EVE)])).status
        assert 400 == (await olivia.post("contacts", [*{**form, "version": "x"}.items(), ("addresses", EVE)])).status
        assert 422 == (await olivia.post("contacts", [*form.items(), ("addresses", "<b>x</b>")])).status
        assert 400 == (await olivia.post("contacts", [*send, ("addresses", ANN)])).status
        assert None is await olivia.world.gateway.store.find_contacts("acme")
        assert [] == olivia.world.records(kind="account", reason="contacts_changed")


async def test_where_nobody_is_told_there_is_no_such_page(tmp_path):
    """And the account's page does not lead there."""
    async with open_customer(tmp_path) as olivia:
        assert 404 == (await olivia.page("/contacts")).status
        assert CONTACTS not in (await olivia.page()).text
