"""What a notice says, in words and as a document for programs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from gateway.pages.render import Texts
from gateway.stores.outbox import Notice
from gateway.telling.addressing import read_facts
from gateway.telling.text import clean

_TYPES: Final = {
    "setting": "account_assumption.setting_changed",
    "begun": "account_assumption.begun",
    "ended": "account_assumption.ended",
    "asked": "account_assumption.requested",
    "kill_switch": "kill_switch.used",
    "evidence": "evidence.broken",
    "contacts": "account.contacts_changed",
}
_LONGEST_SUBJECT: Final = 160


class _Facts(dict[str, str]):
    """Facts by name, of which any may be missing."""

    def __missing__(self, name: str) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class Words:
    """One message to a person."""

    subject: str
    body: str


class Wording:
    """Words notices; what strangers have said in them is one line each, whatever they said."""

    def __init__(self, texts: Texts, link: Callable[[str], str]) -> None:
        """`link` returns the page on which somebody of an account sees and changes all this; empty if there is none."""
        self._texts = texts
        self._link = link

    def mail(self, notices: Sequence[Notice]) -> Words:
        """Return one message that tells all of them; there is at least one. Raises ValueError for a broken one."""
        worded = [self._one(notice) for notice in notices]
        subject = worded[0].subject
        if len(worded) > 1:
            subject = f"{subject} (and {len(worded) - 1} more)"
        accounts = dict.fromkeys(notice.account for notice in notices)
        links = [clean(link) for account in accounts if account and (link := self._link(account))]
        end = ["See who is in, and stop it, here:", *links, ""] if links else []
        parts = "\n\n----------------------------------------\n\n".join(
            f"{words.subject}\n\n{words.body}" if len(worded) > 1 else words.body for words in worded
        )
        return Words(
            subject, "\n".join([parts, "", *end, "This mail was sent by Locum. Nobody reads answers to it.", ""])
        )

    def document(self, notice: Notice) -> bytes:
        """Return the body of a webhook, as Standard Webhooks has it; raises ValueError."""
        data: dict[str, Any] = {"id": notice.id, **read_facts(notice)}
        if notice.account:
            data["account"] = notice.account
        if notice.account and (link := self._link(notice.account)):
            data["link"] = link
        what = {"type": _TYPES.get(notice.event, notice.event), "timestamp": notice.happened_at, "data": data}
        return msgspec.json.encode(what)

    def _one(self, notice: Notice) -> Words:
        facts = _Facts(read_facts(notice))
        text = self._texts.text(f"{notice.event}.txt", fact=facts, account=notice.account, at=notice.happened_at)
        subject, _, body = text.strip().partition("\n")
        when = f"When: {notice.happened_at:%Y-%m-%d %H:%M:%S} UTC"
        return Words(clean(subject)[:_LONGEST_SUBJECT], f"{body.strip()}\n{when}")
