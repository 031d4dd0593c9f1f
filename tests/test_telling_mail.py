"""Mail: the relay is verified before anything is said, and a notice is one mail to one person, whatever it holds."""

import asyncio
import base64
import contextlib
import json
import tracemalloc
from datetime import UTC, datetime

import pytest

from gateway.config.load import build
from gateway.config.model import ConfigError
from gateway.config.notices import EVENTS, NoticesMail
from gateway.config.section import Secret
from gateway.pages.render import Texts
from gateway.stores.outbox import Notice, Target
from gateway.telling.courier import Never, NotNow, NotThis, Parcel
from gateway.telling.events import TO_ALL
from gateway.telling.mail import MailCourier
from gateway.telling.text import clean
from gateway.telling.wording import Wording
from tests.certificates import Authority
from tests.patience import PATIENCE_SECONDS
from tests.sink_world import _Server
from tests.telling_world import ANN, PASSWORD, Relay
from tests.test_config import document

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def wording(directory=None):
    return Wording(Texts(clean, directory), lambda account: f"https://{account}.helpdesk.example/.locum/account")


def a_notice(name="n1", event="begun", facts='{"staff":"Dana","ticket":"SUP-1"}', account="acme"):
    return Notice(
        id=name, about="r", event=event, account=account, target=Target("mail", ANN), facts=facts, happened_at=NOW
    )


def courier(relay, *, words=None, **more):
    section = NoticesMail(
        host=more.pop("host", "localhost"),
        port=relay.port,
        sender="locum@vendor.example",
        security=more.pop("security", "starttls"),
        timeout_seconds=5.0,
        **more,
    )
    return MailCourier(section, words or wording(), pause_seconds=0.0, clock=lambda: NOW)


def parcel(*notices, address=ANN):
    return Parcel(Target("mail", address), notices or (a_notice(),))


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(authority):
    return authority.issue("localhost").as_server


def test_a_mail_goes_over_tls_and_the_password_only_there(authority, server):
    """After STARTTLS, with a certificate of the relay's name from an authority that we trust."""
    with Relay(offers=server(), login=True) as relay:
        courier(relay, ca=str(authority.file), user="locum", password=Secret(PASSWORD)).bring(parcel())
    verbs = [line.partition(" ")[0] for line in relay.lines]
    assert verbs.index("STARTTLS") < verbs.index("AUTH") < verbs.index("MAIL") < verbs.index("DATA")
    assert [ANN] == relay.recipients
    said = next(line for line in relay.lines if line.startswith("AUTH"))
    assert f"\0locum\0{PASSWORD}".encode() == base64.b64decode(said.rpartition(" ")[2])


def test_tls_from_the_first_byte(authority, server):
    """As port 465 has it (RFC 8314)."""
    with Relay(tls=server()) as relay:
        courier(relay, ca=str(authority.file), security="tls").bring(parcel())
    assert [ANN] == relay.recipients


def test_a_relay_that_offers_no_tls_hears_nothing():
    """Somebody in between who takes the offer out gets no mail, and no password."""
    with Relay(login=True) as relay, pytest.raises(NotNow):
        courier(relay, user="locum", password=Secret(PASSWORD)).bring(parcel())
    assert [] == [line for line in relay.lines if line.split(" ")[0] in ("MAIL", "AUTH", "RCPT", "DATA")]


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_relay_with_a_strangers_certificate_hears_nothing(tmp_path, server, security):
    """Nor does one whose certificate is another name's."""
    other = Authority(tmp_path, "another authority")
    offers = {"offers": server()} if security == "starttls" else {"tls": server()}
    with Relay(**offers) as relay, pytest.raises(NotNow) as error:
        courier(relay, ca=str(other.file), security=security).bring(parcel())
    assert [] == [line for line in relay.lines if line.startswith("MAIL")]
    assert "certificate" in str(error.value)


def test_a_certificate_of_another_name_will_not_do(authority):
    """Though the authority is ours."""
    elsewhere = authority.issue("relay.other.example").as_server()
    with Relay(tls=elsewhere) as relay, pytest.raises(NotNow):
        courier(relay, ca=str(authority.file), security="tls").bring(parcel())
    assert [] == relay.lines


def test_what_a_relay_says_is_not_repeated():
    """Its words may hold an address or a credential: only the number is told."""
    for code, kind in ((554, NotThis), (454, NotNow)):
        with Relay([f"{code} {PASSWORD} {ANN}"]) as relay, pytest.raises(kind) as error:
            courier(relay, host="127.0.0.1", security="none").bring(parcel())
        assert f"the relay answers {code}" == str(error.value)
        assert None is error.value.__cause__


@pytest.mark.parametrize("address", ["a@b.example\r\nRCPT TO:<c@d.example>", "<a@b.example>", "a b@c.example", ""])
def test_an_address_that_somebody_put_into_the_store_is_looked_at_again(address):
    """No command is made of it."""
    with Relay() as relay, pytest.raises(Never):
        courier(relay, host="127.0.0.1", security="none").bring(parcel(address=address))
    assert [] == relay.lines


HOSTILE = "x\r\nBcc: eve@evil.example\r\n\r\n.\r\nMAIL FROM:<e@e.example>\u202e\u2066\u0000\u0085\u2028end"


@pytest.mark.parametrize(
    ("event", "account"),
    [*((event, HOSTILE) for event in (*EVENTS, "mended")), *((each, "") for each in sorted(TO_ALL))],
)
def test_no_fact_makes_a_header_or_a_line(event, account):
    """In every text of ours, whatever each fact holds, and the account's name too."""
    names = "staff subject ticket stated_reason scopes change by granted_by duration permissions expires_at why now record since"
    facts = dict.fromkeys(names.split(), HOSTILE)
    with Relay() as relay:
        courier(relay, host="127.0.0.1", security="none").bring(
            parcel(a_notice(event=event, facts=json.dumps(facts), account=account))
        )
    [mail] = relay.mails
    assert {"From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "Content-Type"} <= set(mail.keys())
    assert {"MIME-Version", "Content-Transfer-Encoding"} >= set(mail.keys()) - {
        "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "Content-Type"
    }  # fmt: skip
    lines = mail.get_content().splitlines()
    assert not any(line.startswith(("Bcc", "MAIL FROM", ".", "end")) for line in lines)
    assert not any(char in mail.get_content() for char in "\u202e\u2066\0\x85\u2028")
    assert 1 == len([line for line in relay.lines if line.startswith("MAIL")])


@pytest.mark.parametrize("event", [*EVENTS, "mended"])
def test_every_text_says_something_though_nothing_is_known(event):
    """A record of which everything was erased is told all the same."""
    words = wording().mail([a_notice(event=event, facts="{}")])
    assert 5 < len(words.subject)
    assert "When: 2026-11-23 12:00:00 UTC" in words.body
    assert "https://acme.helpdesk.example/.locum/account" in words.body


def test_an_operators_text_is_taken_and_a_broken_one_is_not(tmp_path, caplog):
    """Ours says it then, and the log which text fails."""
    (tmp_path / "begun.txt").write_text("{{ fact.staff }} ist bei {{ account }}\n\nVorgang {{ fact.ticket }}\n")
    (tmp_path / "ended.txt").write_text("{{ fact.staff")
    words = wording(tmp_path)
    told = words.mail([a_notice(facts='{"staff":"D\\r\\nBcc: x","ticket":"7"}')])
    assert ("D Bcc: x ist bei acme", True) == (told.subject, "Vorgang 7" in told.body)
    assert "has ended" in words.mail([a_notice(event="ended")]).subject
    assert "ended.txt" in caplog.text


@pytest.mark.parametrize("text", ["{{ 1 // 0 }}", "{{ {}['k'] }}", "{{ [].pop() }}", "{{ fact.staff.split('-')[3] }}"])
def test_an_operators_text_may_raise_whatever_it_likes(tmp_path, text):
    """Ours is taken, and nobody is told nothing."""
    (tmp_path / "begun.txt").write_text(text)
    assert "Dana stands in at acme" == wording(tmp_path).mail([a_notice()]).subject


WRONG = {
    "a relay elsewhere in the open": ({"mail": {"security": "none"}}, "notices.mail.security"),
    "a user without a password": ({"mail": {"user": "x"}}, "notices.mail.user"),
    "a sender with a name": ({"mail": {"sender": "Locum <l@v.example>"}}, "notices.mail.sender"),
    "a sender's name of two lines": ({"mail": {"sender_name": "a\r\nBcc: x@y.example"}}, "notices.mail.sender_name"),
    "no port": ({"mail": {"port": 0}}, "notices.mail.port"),
    "no relay's name": ({"mail": {"host": "a b"}}, "notices.mail.host"),
    "patience": ({"mail": {"timeout_seconds": 16}}, "notices.mail.timeout_seconds"),
    "a team without a relay": ({"security": {"mail": [ANN]}}, "notices.security.mail"),
    "a team's address that is none": ({"mail": {}, "security": {"mail": ["x"]}}, "notices.security.mail[0]"),
    "a webhook without a secret": ({"security": {"webhook": "https://a.example/"}}, "notices.security.webhook"),
    "a webhook in the open": (
        {"security": {"webhook": "http://a.example/", "webhook_secret": "x"}},
        "notices.security.webhook",
    ),
    "a secret that is none": (
        {"security": {"webhook": "https://a.example/", "webhook_secret": "whsec_x"}},
        "notices.security.webhook_secret",
    ),
    "a short master": ({"webhooks": {"secret": "x" * 31}}, "notices.webhooks.secret"),
    "a network that is none": ({"webhooks": {"private_networks": ["10.0.0.1/8"]}}, "notices.webhooks.private_networks"),
    "no time for webhooks": ({"webhooks": {"timeout_seconds": 0}}, "notices.webhooks.timeout_seconds"),
    "a long pause": ({"digest_seconds": 3601}, "notices.digest_seconds"),
    "giving up at once": ({"give_up_hours": 0}, "notices.give_up_hours"),
    "an event that is none": ({"security": {"events": ["all"]}}, "notices.security.events"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_configured_wrongly_is_refused_by_its_key(tmp_path, name):
    """Before anything starts."""
    section, key = WRONG[name]
    if "mail" in section:
        section = {**section, "mail": {"host": "smtp.v.example", "sender": "l@v.example", **section["mail"]}}
    wanted = document()
    wanted["notices"] = section
    with pytest.raises(ConfigError, match=key.replace("[", r"\[").replace(".", r"\.")):
        build(wanted, {}, base=tmp_path)


def test_a_relay_that_says_a_byte_now_and_then_is_left():
    """Within the time that the configuration gives, and not when it likes."""
    with Relay(["silent"]) as relay:
        section = NoticesMail(
            host="127.0.0.1", port=relay.port, sender="l@v.example", security="none", timeout_seconds=2.0
        )
        with pytest.raises(NotNow):
            MailCourier(section, wording(), pause_seconds=0.0, clock=lambda: NOW).bring(parcel())
    assert 1 == relay.asked


class Talker(_Server):
    """Greets for ever, and as fast as it can."""

    def handle(self, connection):
        self.note()
        with contextlib.suppress(OSError):
            while not self._ended:
                connection.sendall(b"220-" + b"x" * 4000 + b"\r\n")


class Trickler(_Server):
    """Says what it has to say a line at a time, and never ends."""

    def handle(self, connection):
        self.note()
        with contextlib.suppress(OSError):
            while not self._ended:
                connection.sendall(b"220-x\r\n")
                connection.settimeout(0.02)
                with contextlib.suppress(TimeoutError):
                    if not connection.recv(1024):
                        return


@pytest.mark.parametrize("kind", [Talker, Trickler])
@pytest.mark.parametrize("security", ["starttls", "tls", "none"])
async def test_a_relay_that_greets_for_ever_is_left(kind, security):
    """Before it has said a word that counts: our time is not its own."""
    with kind() as relay:
        section = NoticesMail(
            host="127.0.0.1", port=relay.port, sender="l@v.example", security=security, timeout_seconds=0.3
        )
        bringing = MailCourier(section, wording(), pause_seconds=0.0, clock=lambda: NOW)
        with pytest.raises(NotNow):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asyncio.to_thread(bringing.bring, parcel())


def test_a_reply_has_an_end():
    """Of what a relay says at a time so much is read, and no more."""
    with Talker() as relay:
        section = NoticesMail(
            host="127.0.0.1", port=relay.port, sender="l@v.example", security="none", timeout_seconds=15.0
        )
        tracemalloc.start()
        try:
            with pytest.raises(NotNow):
                MailCourier(section, wording(), pause_seconds=0.0, clock=lambda: NOW).bring(parcel())
            assert tracemalloc.get_traced_memory()[1] < 2 * 1024 * 1024
        finally:
            tracemalloc.stop()
