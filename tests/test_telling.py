"""Notices: whom it concerns is told, by mail and webhook, and what came of it is on the record."""

import asyncio

from gateway.grants.switch import record_switch
from tests.browser_world import open_browser
from tests.oauth_world import revoke
from tests.sink_world import Receiver, listening
from tests.telling_world import (
    ANN,
    OWN_SECRET,
    SECURITY,
    Relay,
    hook_of,
    is_signed,
    notices,
    payloads,
    put_contacts,
    recorded,
    recorded_later,
    secret_of,
    telling,
)
from tests.test_metrics import scrape_until
from tests.test_stand_in_asking import ask


async def test_administrators_are_told_what_happens_in_their_account(tmp_path):
    """The setting, the beginning and the end, with who, why and until when; and the journal says that they were."""
    with Relay() as relay:
        async with telling(tmp_path, notices(relay), mail=[ANN]) as world:
            assert 200 == (await world.choose())[0]
            await recorded(world, event="setting")
            token = await world.token()
            [begun] = await recorded(world, event="begun")
            assert 200 == (await revoke(world, token))[0]
            await recorded(world, event="ended")
            told = relay.mails_to(ANN)
    assert [
        "Account assumption of acme is on",
        "dana stands in at acme",
        "An account assumption at acme has ended",
    ] == [str(mail["Subject"]) for mail in told]
    for words in ("Staff member: dana", "Stands in for: maria", "Ticket: SUP-1", "in their words: cannot reproduce"):
        assert words in told[1].get_content()
    for words in ("Staff member: dana", "Stood in for: maria", "Ticket: SUP-1", "How: it was ended", "By: app"):
        assert words in told[2].get_content()
    assert ("sent", "mail", ANN, "acme") == tuple(begun[key] for key in ("reason", "channel", "recipient", "account"))
    assert 64 == len(begun["about"])
    assert {"auto-generated"} == {mail["Auto-Submitted"] for mail in told}
    assert "Locum <locum@vendor.example>" == str(told[0]["From"])


async def test_administrators_are_told_that_somebody_asks(tmp_path):
    """By the form on staff's page: who, what for, for how long, why; nothing is open by that."""
    with Relay() as relay:

        def tell(wanted):
            wanted["notices"] = notices(relay)

        async with open_browser(tmp_path, stand_in=False, change=tell) as browser:
            world = browser.world
            await put_contacts(world.gateway.store, mail=[ANN])
            assert 200 == (await world.choose("off"))[0]
            await browser.sign_in()
            assert 303 == (await ask(browser)).status
            await recorded(world, event="asked", reason="sent")
            assert [] == list(await world.gateway.store.list_assumptions(at=world.clock.now))
    # It may come together with the change of the setting before it, as one mail.
    [told] = [mail for mail in relay.mails_to(ANN) if "Asks for:" in mail.get_content()]
    assert "asks to stand in at acme" in f"{told['Subject']}\n{told.get_content()}"
    for words in (
        "Asks for: read test_tickets",
        "For how long: week",
        "Ticket: SUP-7",
        "Reason, in their words: the <b>export</b> fails",
    ):
        assert words in told.get_content()


async def test_an_accounts_webhook_is_signed_with_its_own_secret(tmp_path):
    """By the rules of Standard Webhooks, and the security team's with theirs."""
    with Receiver() as theirs, Receiver() as ours:
        url = hook_of(theirs)
        async with telling(tmp_path, notices(receiver=ours), webhooks=[url]) as world:
            assert 200 == (await world.choose())[0]
            await recorded(world, 2, event="setting", reason="sent")
            written = world.records(kind="notice")
    assert is_signed(theirs.heads[0], theirs.bodies[0], secret_of("acme", url))
    assert is_signed(ours.heads[0], ours.bodies[0], OWN_SECRET)
    [payload] = payloads(theirs)
    assert ("account_assumption.setting_changed", "acme") == (payload["type"], payload["data"]["account"])
    assert "enabled" == payload["data"]["change"]
    # The path of a webhook can be a secret: the record says only whose server it is.
    assert {url.removesuffix("/hook"), hook_of(ours, "")} == {record["recipient"] for record in written}


async def test_the_security_team_and_each_account_hear_of_the_kill_switch(tmp_path):
    """The team who and why; administrators of an account whose setting is on what it means; and all that is recorded."""
    with Relay() as relay:
        section = notices(relay, security={"mail": [SECURITY], "events": ["kill_switch"]})
        async with telling(tmp_path, section, mail=[ANN]) as world:
            await put_contacts(world.gateway.store, "globex", mail=["off@globex.example"])
            assert 200 == (await world.choose())[0]
            await recorded(world, event="setting", reason="sent")
            await world.gateway.journal.append(record_switch("on", by="sam", reason="a leak"), durable=True)
            sent = await recorded_later(world, 2, event="kill_switch", reason="sent")
    assert {(SECURITY, None), (ANN, "acme")} == {(each["recipient"], each.get("account")) for each in sent}
    assert 1 == len({each["about"] for each in sent})
    [team], [_, account] = relay.mails_to(SECURITY), relay.mails_to(ANN)
    assert "a leak" in team.get_content()
    assert "Nobody can stand in now, at any account" == str(account["Subject"])
    assert "no staff member can stand in at acme" in account.get_content()
    assert not any(word in account.get_content() for word in ("leak", "sam"))
    assert [] == relay.mails_to("off@globex.example")


async def test_that_nobody_could_be_told_is_on_the_record(tmp_path):
    """An account without contacts is no account where all is well: each event says so, and so do the metrics."""
    async with telling(tmp_path, notices()) as world:
        assert 200 == (await world.choose())[0]
        [record] = await recorded(world, event="setting")
        told = {"channel": "none", "outcome": "failed_no_contact"}
        await scrape_until(world, lambda scraped: 1 == scraped.value("locum_notices_total", **told))
        # As well how far the journal has been read for it.
        for name in ("locum_notices_unread_bytes", "locum_notices_unread_seconds"):
            await scrape_until(world, lambda scraped, name=name: 0 == scraped.value(name))
    assert ("failed_no_contact", "none", "acme") == tuple(record[key] for key in ("reason", "channel", "account"))
    assert "recipient" not in record


async def test_what_people_say_cannot_make_a_header_or_another_line(tmp_path):
    """A ticket, a reason and a name of a stranger's are one line each in the body, whatever they hold."""
    hostile = "x\r\nBcc: eve@evil.example\r\n\r\n<script>\u202e\u2028Ends: never"
    with Relay() as relay:
        async with telling(tmp_path, notices(relay), mail=[ANN]) as world:
            assert 200 == (await world.choose(id="own\r\ner"))[0]
            await recorded(world, event="setting")
            detail = {"ticket": hostile, "reason": hostile}
            token = world.actor_token(name=f"Dana{hostile}")
            status, _ = await world.ask(scope="tickets:read", detail=detail, actor_token=token)
            if status == 200:
                await recorded(world, event="begun")
    assert {ANN} == set(relay.recipients)
    for raw in relay.raw:
        head = raw.partition(b"\r\n\r\n")[0]
        assert b"\r\nBcc" not in raw
        assert b"evil" not in head.replace(b"=\r\n", b"") or b"Subject" in head
    for mail in relay.mails:
        assert None is mail["Bcc"]
        assert not any(line.startswith(("Bcc", "Ends: never")) for line in mail.get_content().splitlines())


async def test_nothing_secret_is_in_a_notice_or_in_the_log(tmp_path):
    """Neither a token, nor the key of a webhook, nor an address in a line that is logged."""
    with Relay(["451 later"]) as relay, Receiver([500]) as receiver, listening() as lines:
        url = hook_of(receiver, "/secret-path")
        async with telling(tmp_path, notices(relay), mail=[ANN], webhooks=[url]) as world:
            assert 200 == (await world.choose())[0]
            token = await world.token()
            await asyncio.to_thread(receiver.until, lambda: receiver.asked and relay.asked)
            await recorded_later(world, 4, reason="sent")
            [record] = world.records(kind="token", decision="allow")
    text = "".join(mail.get_content() for mail in relay.mails) + "".join(body.decode() for body in receiver.bodies)
    for secret in (token, record["token_id"], secret_of("acme", url), world.secret):
        assert secret not in text
        assert secret not in "".join(lines)
    for address in (ANN, "secret-path"):
        assert address not in "".join(lines)
