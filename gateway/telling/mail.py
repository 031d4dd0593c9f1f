"""Brings notices by e-mail, through a relay that is verified (RFC 6409, RFC 3207, RFC 8314)."""

import hashlib
import smtplib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final

from gateway.clock import Clock
from gateway.config.model import UpstreamTls
from gateway.config.notices import NoticesMail
from gateway.telling.addresses import is_mail
from gateway.telling.courier import Never, NotNow, Parcel
from gateway.telling.wording import Wording
from gateway.tls import upstream_context

_PERMANENT: Final = range(500, 600)
_MOST: Final = 50
_WHERE: Final = "notices.mail"


class MailCourier:
    """Implements Courier: one mail for all that a parcel holds."""

    most = _MOST

    def __init__(self, section: NoticesMail, wording: Wording, *, pause_seconds: float, clock: Clock) -> None:
        """Connect to nobody yet; raises ConfigError where the certificates of `ca` cannot be read."""
        self.pause_seconds = pause_seconds
        self._section = section
        self._wording = wording
        self._clock = clock
        self._tls = None if section.security == "none" else _context(section)

    def bring(self, parcel: Parcel) -> None:
        """See `Courier.bring`."""
        if not is_mail(parcel.target.address):
            raise Never("that is no mail address")
        data = self._message(parcel).as_bytes(policy=SMTP)
        try:
            with self._connected() as relay:
                relay.sendmail(self._section.sender, [parcel.target.address], data)
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            if codes and all(code in _PERMANENT for code in codes):
                raise Never("the relay does not take mail for this recipient") from None
            raise NotNow("the relay does not take mail for this recipient now") from None
        except smtplib.SMTPResponseException as error:
            # What it has said may name the recipient, or hold a credential.
            raise NotNow(f"the relay answers {error.smtp_code}") from None
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise NotNow(f"the relay cannot be used: {_reason(error)}") from None

    def _message(self, parcel: Parcel) -> EmailMessage:
        words = self._wording.mail(parcel.notices)
        sender = self._section.sender
        message = EmailMessage(policy=SMTP)
        message["From"] = Address(self._section.sender_name, addr_spec=sender)
        message["To"] = Address(addr_spec=parcel.target.address)
        message["Subject"] = words.subject
        message["Date"] = format_datetime(self._clock())
        # The same each time it is sent, so that whoever gets it twice can see that.
        ids = "\0".join(notice.id for notice in parcel.notices)
        message["Message-ID"] = f"<{hashlib.sha256(ids.encode()).hexdigest()[:32]}@{sender.rpartition('@')[2]}>"
        # RFC 3834 section 5: nothing answers it by itself.
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(words.body, charset="utf-8", cte="quoted-printable")
        return message

    @contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        section = self._section
        # Named, for else it would ask the DNS for a name of this machine's, and tell it.
        name, seconds = section.sender.rpartition("@")[2], section.timeout_seconds
        relay: smtplib.SMTP
        if section.security == "tls":
            relay = smtplib.SMTP_SSL(
                section.host, section.port, local_hostname=name, timeout=seconds, context=self._tls
            )
        else:
            relay = smtplib.SMTP(section.host, section.port, local_hostname=name, timeout=seconds)
        try:
            with _cut_after(3 * seconds, relay):
                if section.security == "starttls":
                    # Raises where the relay does not offer it: nothing is ever sent in the open instead.
                    relay.starttls(context=self._tls)
                if section.user and section.password is not None:
                    relay.login(section.user, section.password.reveal())
                yield relay
                with suppress(smtplib.SMTPException, OSError):
                    relay.quit()
        finally:
            relay.close()


@contextmanager
def _cut_after(seconds: float, relay: smtplib.SMTP) -> Iterator[None]:
    """Break the connection if the block takes longer, also if a byte comes now and then."""

    def cut() -> None:
        if (connection := relay.sock) is not None:
            with suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _context(section: NoticesMail) -> ssl.SSLContext:
    context = upstream_context(UpstreamTls(ca=section.ca), _WHERE)
    # No HTTP is spoken here.
    context.set_alpn_protocols([])
    return context


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return type(error).__name__
