"""Brings notices by e-mail, through a relay that is verified (RFC 6409, RFC 3207, RFC 8314)."""

import hashlib
import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import BinaryIO, Final

from gateway.audit.sinks.outlet import Unreachable
from gateway.audit.sinks.sockets import connect, cut_after, secured
from gateway.clock import Clock
from gateway.config.model import UpstreamTls
from gateway.config.notices import NoticesMail
from gateway.telling.addresses import is_mail
from gateway.telling.courier import Never, NotNow, NotThis, Parcel
from gateway.telling.wording import Wording
from gateway.tls import upstream_context

_PERMANENT: Final = range(500, 600)
_MOST: Final = 100
_READY: Final = 220
_QUIT_SECONDS: Final = 2.0
_MOST_REPLY_BYTES: Final = 64 * 1024
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
        except smtplib.SMTPDataError as error:
            why = f"the relay answers {error.smtp_code}"
            if error.smtp_code in _PERMANENT:
                raise NotThis(why, for_good=True) from None
            raise NotNow(why) from None
        except smtplib.SMTPResponseException as error:
            # What it has said may name the recipient, or hold a credential.
            raise NotNow(f"the relay answers {error.smtp_code}") from None
        except Unreachable as error:
            raise NotNow(f"the relay cannot be used: {error}") from None
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise NotNow(f"the relay cannot be used: {type(error).__name__}") from None

    def _message(self, parcel: Parcel) -> EmailMessage:
        words = self._wording.mail(parcel.notices, is_bare=parcel.is_bare)
        sender = self._section.sender
        message = EmailMessage(policy=SMTP)
        message["From"] = Address(self._section.sender_name, addr_spec=sender)
        message["To"] = Address(addr_spec=parcel.target.address)
        message["Subject"] = words.subject
        message["Date"] = format_datetime(self._clock())
        # The same each time these are sent together, so that whoever gets them twice can see that.
        ids = "\0".join(notice.id for notice in parcel.notices)
        message["Message-ID"] = f"<{hashlib.sha256(ids.encode()).hexdigest()[:32]}@{sender.rpartition('@')[2]}>"
        # RFC 3834 section 5: nothing answers it by itself.
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(words.body, charset="utf-8", cte="quoted-printable")
        return message

    @contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        section = self._section
        seconds = section.timeout_seconds
        # Named, for else it would ask the DNS for a name of this machine's, and tell it.
        relay = _Relay(local_hostname=section.sender.rpartition("@")[2], timeout=seconds)
        tls = self._tls if section.security == "tls" else None
        relay.sock = connect(section.host, section.port, tls=tls, server_name=section.host, seconds=seconds)
        try:
            with cut_after(seconds, relay.sock):
                relay.greet()
                if section.security == "starttls":
                    relay.ask_for_tls()
            if section.security == "starttls" and self._tls is not None:
                relay.sock = secured(relay.sock, tls=self._tls, server_name=section.host, seconds=seconds)
            with cut_after(2 * seconds, relay.sock):
                if section.user and section.password is not None:
                    relay.login(section.user, section.password.reveal())
                yield relay
            with suppress(smtplib.SMTPException, OSError), cut_after(_QUIT_SECONDS, relay.sock):
                relay.quit()
        finally:
            relay.close()


class _Relay(smtplib.SMTP):
    """Whoever is at the other end, who can neither keep us long nor have us remember much."""

    def getreply(self) -> tuple[int, bytes]:
        """Return the next reply; raises SMTPException, also where it is longer than any that a relay has reason for."""
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected("it is closed")
        self.file = _Bounded(self.file or self.sock.makefile("rb"), _MOST_REPLY_BYTES)
        try:
            return super().getreply()
        finally:
            if isinstance(self.file, _Bounded):
                self.file = self.file.file

    def greet(self) -> None:
        """Read its greeting; raises SMTPException."""
        code, _ = self.getreply()
        if code != _READY:
            raise smtplib.SMTPConnectError(code, b"")

    def ask_for_tls(self) -> None:
        """Have it begin TLS, and forget what it has said; raises SMTPException where it does not offer that.

        Nothing is ever sent in the open instead.
        """
        self.ehlo_or_helo_if_needed()
        if not self.has_extn("starttls"):
            raise smtplib.SMTPNotSupportedError("no STARTTLS")
        code, _ = self.docmd("STARTTLS")
        if code != _READY:
            raise smtplib.SMTPResponseException(code, b"")
        # RFC 3207 section 4.2: whatever came in the open is nobody's word, also what came behind the reply.
        if self.file is not None:
            self.file.close()
        self.file = None
        self.ehlo_resp = self.helo_resp = None
        self.esmtp_features, self.does_esmtp = {}, False


class _Bounded:
    """A reader of lines, up to a limit for all of them."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        self.file = file
        self._left = most

    def readline(self, most: int) -> bytes:
        """Return the next line; raises OSError once it is too much."""
        line = self.file.readline(most)
        self._left -= len(line)
        if self._left < 0:
            raise OSError("the reply is too long")
        return line

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def _context(section: NoticesMail) -> ssl.SSLContext:
    context = upstream_context(UpstreamTls(ca=section.ca), _WHERE)
    # No HTTP is spoken here.
    context.set_alpn_protocols([])
    return context
