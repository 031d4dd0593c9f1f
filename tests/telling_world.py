"""A mail relay and receivers of webhooks before a gateway that tells people; each does what a test says."""

import asyncio
import base64
import contextlib
import email
import hashlib
import hmac
import json
import socket
import ssl
import threading
from collections.abc import Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from email.message import EmailMessage
from email.policy import default

from gateway.audit.log import AuditLog, JournalError
from gateway.clock import utc_now
from gateway.stores.outbox import Contacts
from gateway.telling.counts import NoticeCounts
from gateway.telling.courier import Courier, NotNow
from gateway.telling.sending import Sender
from gateway.telling.spreading import Spreader
from policy.model import AccountId
from tests.gateway_world import open_world
from tests.patience import PATIENCE_SECONDS
from tests.sink_world import Receiver, _Server, reset
from tests.upstream_client import eventually

ANN = "ann@acme.example"
SECURITY = "security@vendor.example"
MASTER = "master-secret-of-webhooks-0123456789"
OWN_SECRET = "whsec_" + base64.b64encode(b"security-team-secret-012345").decode()
PASSWORD = "canary-91c2-relay-password"


class Relay(_Server):
    """A mail relay (RFC 5321). A step of its script is a reply to a message, `reset`, or `silent`: no word at all.

    `refused`: recipients with the reply that each gets. With `tls` and `offers`, it speaks TLS after STARTTLS; with
    `tls` alone from the start.
    """

    def __init__(
        self,
        script: Iterable[str] = (),
        *,
        tls: ssl.SSLContext | None = None,
        offers: ssl.SSLContext | None = None,
        login: bool = False,
    ) -> None:
        self.script = iter(script)
        self.otherwise = "250 taken"
        self.offers = offers
        self.login = login
        self.refused: dict[str, str] = {}
        self.raw: list[bytes] = []
        """The messages that were taken, as they came."""
        self.recipients: list[str] = []
        self.lines: list[str] = []
        """Every command."""
        self.asked = 0
        super().__init__(tls)

    @property
    def mails(self) -> list[EmailMessage]:
        return [email.message_from_bytes(raw, policy=default) for raw in list(self.raw)]

    def mails_to(self, address: str) -> list[EmailMessage]:
        return [mail for mail in self.mails if address in str(mail["To"])]

    def handle(self, connection: socket.socket) -> None:
        connection.sendall(b"220 relay.example\r\n")
        stream = connection.makefile("rb")
        recipient = ""
        try:
            while line := stream.readline():
                text = line.decode("ascii").rstrip("\r\n")
                verb = text.partition(" ")[0].upper()
                self.lines.append(verb + text[len(verb) :])
                if verb == "EHLO":
                    more = ["STARTTLS"] if self.offers is not None else []
                    more += ["AUTH PLAIN"] if self.login else []
                    names = ["relay.example", *more]
                    connection.sendall(
                        b"".join(
                            f"250{'-' if index + 1 < len(names) else ' '}{name}\r\n".encode()
                            for index, name in enumerate(names)
                        )
                    )
                elif verb == "STARTTLS" and self.offers is not None:
                    connection.sendall(b"220 go on\r\n")
                    stream.close()
                    connection = self.offers.wrap_socket(connection, server_side=True)
                    self.offers, self._open = None, connection
                    stream = connection.makefile("rb")
                elif verb == "RCPT":
                    recipient = text[text.index("<") + 1 : text.rindex(">")]
                    connection.sendall(f"{self.refused.get(recipient, '250 ok')}\r\n".encode())
                elif verb == "DATA":
                    self._data(connection, stream, recipient)
                elif verb == "QUIT":
                    connection.sendall(b"221 bye\r\n")
                    return
                else:
                    connection.sendall(b"235 in\r\n" if verb == "AUTH" else b"250 ok\r\n")
        finally:
            stream.close()
            if isinstance(connection, ssl.SSLSocket):
                connection.close()

    def verdict(self, _raw: bytes) -> str:
        """The reply to a message for which the script says none."""
        return self.otherwise

    def _data(self, connection: socket.socket, stream, recipient: str) -> None:
        connection.sendall(b"354 go\r\n")
        lines = []
        while (line := stream.readline()) != b".\r\n":
            assert line, "the message breaks off"
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        self.asked += 1
        step = next(self.script, self.verdict(b"".join(lines)))
        if step == "silent":
            self.note()
            while not self._ended and connection.recv(1024):
                continue
            return
        if step in ("taken and reset", "250 taken"):
            self.raw.append(b"".join(lines))
            self.recipients.append(recipient)
        self.note()
        if step.endswith("reset"):
            reset(connection)
        connection.sendall(f"{step}\r\n".encode())


def notices(relay: Relay | None = None, *, receiver: Receiver | None = None, **more) -> dict:
    """Return the section `[notices]` for these."""
    section: dict = {"webhooks": {"secret": MASTER, "private_networks": ["127.0.0.0/8"]}, "digest_seconds": 0, **more}
    section.setdefault("security", {})
    if relay is not None:
        mail = {"host": "127.0.0.1", "port": relay.port, "security": "none", "sender": "locum@vendor.example"}
        section["mail"] = mail | section.get("mail", {})
    if receiver is not None:
        section["security"] |= {"webhook": hook_of(receiver), "webhook_secret": OWN_SECRET}
    return section


def hook_of(receiver: Receiver, path: str = "/hook") -> str:
    return f"http://127.0.0.1:{receiver.port}{path}"


@asynccontextmanager
async def telling(directory, section, *, mail=(), webhooks=(), change=lambda _wanted: None, **options):
    """Run a gateway that tells the contacts of acme, whom it knows from its store."""

    def configure(wanted):
        wanted["notices"] = section
        change(wanted)

    async with open_world(directory, change=configure, **options) as world:
        await put_contacts(world.gateway.store, mail=mail, webhooks=webhooks)
        yield world


async def put_contacts(store, account="acme", *, mail=(), webhooks=(), by="pat", version=1, at=None):
    now = at or utc_now()
    contacts = Contacts(
        account=AccountId(account), mail=tuple(mail), webhooks=tuple(webhooks), by=by, at=now, version=version
    )
    await store.save_contacts(contacts, tell=[], now=now)


async def recorded(world, count=1, **wanted):
    """Wait until so many records of notices have all of `wanted`; return them."""
    await eventually(lambda: len(world.records(kind="notice", **wanted)) >= count)
    return world.records(kind="notice", **wanted)


async def recorded_later(world, count=1, **wanted):
    """Let time go on until so many records of notices have all of `wanted`, as what has failed is tried again."""

    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(world.records(kind="notice", **wanted)) < count:
            if await rests(world.gateway.store, world.clock.now):
                world.clock.forward(seconds=90)
            await asyncio.sleep(0.02)
    return world.records(kind="notice", **wanted)


async def rests(store, now):
    """Whether something waits for its next try, not long from now: it is neither due, nor in anybody's hands.

    What somebody has they have for longer; time must not take it from them, or it would be sent once more.
    """
    return not await store.is_due(now=now) and await store.is_due(now=now + timedelta(seconds=90))


def is_signed(head: str, body: bytes, secret: str) -> bool:
    """Whether a webhook is signed as Standard Webhooks has it; by the specification, not by our code."""
    fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
    lower = {name.lower(): value for name, value in fields.items()}
    signed = f"{lower['webhook-id']}.{lower['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return lower["webhook-signature"] == "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def secret_of(account: str, url: str) -> str:
    key = hmac.digest(MASTER.encode(), b"locum webhook\0" + f"{account}\0{url}".encode(), "sha256")
    return "whsec_" + base64.b64encode(key).decode()


def payloads(receiver: Receiver) -> list[dict]:
    return [json.loads(body) for body in list(receiver.bodies)]


class Log(AuditLog):
    """Keeps records in memory; `full`: so many appends fail first."""

    def __init__(self, full=0):
        self.full = full
        self.records = []

    @property
    def healthy(self):
        return True

    async def append(self, record, *, durable=False, instead=None):
        if self.full:
            self.full -= 1
            raise JournalError("full")
        self.records.append(record)
        return len(self.records)

    def note(self, note):
        raise NotImplementedError

    async def close(self):
        return


class Hands(Courier):
    """Notes what it is asked to bring, on whichever thread; `fails`: so many times it cannot."""

    pause_seconds = 0.0

    def __init__(self, *, most=1, fails=0, takes=lambda: None):
        self.most = most
        self.fails = fails
        self.takes = takes
        self.brought = []
        self._lock = threading.Lock()

    def bring(self, parcel):
        with self._lock:
            if self.fails:
                self.fails -= 1
                raise NotNow("not now")
            self.brought.extend((parcel.target.address, notice.id) for notice in parcel.notices)
        self.takes()


class Time:
    def __init__(self):
        self.now = utc_now()

    def __call__(self):
        return self.now


@contextlib.asynccontextmanager
async def sending(store, courier, *, journal=None, clock=None, give_up=timedelta(hours=96)):
    """Run a sender until the block ends."""
    sender = Sender(
        store,
        journal or Log(),
        {"mail": courier},
        give_up=give_up,
        clock=clock or utc_now,
        counts=NoticeCounts(),
        spreader=Spreader(store, kept_by_app=False, clock=clock or utc_now, most=3, pause=timedelta()),
        poll_seconds=0.01,
    )
    task = asyncio.ensure_future(sender.run())
    try:
        yield sender
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until_waiting(store, holds):
    """Wait until so many notices wait as `holds` asks for."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds((await store.count_waiting()).count):  # noqa: ASYNC110 - nothing to wait on
            await asyncio.sleep(0.01)
