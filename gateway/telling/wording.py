"""What a notice says, in words and as a document for programs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from gateway.pages.render import Texts
from gateway.stores.outbox import Notice
from gateway.telling.addressing import read_facts
from gateway.telling.events import TO_ALL
from gateway.telling.text import clean

_TYPES: Final = {
    "setting": "account_assumption.setting_changed",
    "begun": "account_assumption.begun",
    "ended": "account_assumption.ended",
    "asked": "account_assumption.requested",
    "kill_switch": "kill_switch.used",
    "evidence": "evidence.broken",
    "mended": "evidence.mended",
    "contacts": "account.contacts_changed",
}
_KINDS: Final = {
    "setting": "The setting of account assumption was changed",
    "begun": "A staff member stands in",
    "ended": "A staff member no longer stands in",
    "asked": "A staff member asks for access",
    "kill_switch": "The kill-switch was used",
    "evidence": "The journal is not what it was",
    "mended": "The journal is whole again",
    "contacts": "Who is told has changed",
}
_KINDS_TO_ALL: Final = {
    "kill_switch": "Account assumption was stopped, or may go on, at every account",
    "evidence": "The record of what staff did could not be verified",
    "mended": "The record of what staff did could be verified again",
}
_REPEATED: Final = frozenset({"begun", "ended"})
_LONGEST_SUBJECT: Final = 160
_MOST_SUBJECTS: Final = 10


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

    def mail(self, notices: Sequence[Notice], *, is_bare: bool = False) -> Words:
        """Return one message that tells all of them; there is at least one. Raises ValueError for a broken one.

        What one person has begun or ended at one account is told once, and how often. If it `is_bare`, nothing is said
        that a stranger has said, and no notice is a broken one.
        """
        worded = [_bare(notice) for notice in notices] if is_bare else [self._some(each) for each in _grouped(notices)]
        subject = worded[0].subject
        if len(notices) > 1:
            subject = f"{subject} (and {len(notices) - 1} more)"
        accounts = dict.fromkeys(notice.account for notice in notices)
        links = [clean(link) for account in accounts if account and (link := self._link(account))]
        end = ["See who is in, and stop it, here:", *links, ""] if links else []
        parts = "\n\n----------------------------------------\n\n".join(
            f"{words.subject}\n\n{words.body}" if len(worded) > 1 else words.body for words in worded
        )
        return Words(
            subject, "\n".join([parts, "", *end, "This mail was sent by Locum. Nobody reads answers to it.", ""])
        )

    def document(self, notice: Notice, *, is_bare: bool = False) -> bytes:
        """Return the body of a webhook, as Standard Webhooks has it, raises ValueError; `is_bare` as in `mail`."""
        data: dict[str, Any] = {"id": notice.id, **({"reduced": True} if is_bare else read_facts(notice))}
        if notice.account:
            data["account"] = notice.account
        if notice.account and (link := self._link(notice.account)):
            data["link"] = link
        what = {"type": _TYPES.get(notice.event, notice.event), "timestamp": notice.happened_at, "data": data}
        return msgspec.json.encode(what)

    def _some(self, notices: Sequence[Notice]) -> Words:
        """Return what tells the first, and how many more there are like it."""
        words = self._one(notices[0])
        if len(notices) == 1:
            return words
        subjects = dict.fromkeys(read_facts(notice).get("subject", "") for notice in notices[1:])
        named = ", ".join([clean(each) for each in subjects if each][:_MOST_SUBJECTS])
        more = f"And {len(notices) - 1} more by the same staff member, the last: {_when(notices[-1])}"
        for_whom = f"\nThose for: {named}{' and others' if len(subjects) > _MOST_SUBJECTS else ''}" if named else ""
        return Words(words.subject, f"{words.body}\n{more}{for_whom}")

    def _one(self, notice: Notice) -> Words:
        facts = _Facts(read_facts(notice))
        text = self._texts.text(_template(notice), fact=facts, account=notice.account, at=notice.happened_at)
        subject, _, body = text.strip().partition("\n")
        return Words(clean(subject)[:_LONGEST_SUBJECT], f"{body.strip()}\nWhen: {_when(notice)}")


def _grouped(notices: Sequence[Notice]) -> list[list[Notice]]:
    """Return them in their order, but what one person has done again and again with the first time."""
    groups: dict[tuple[str, ...], list[Notice]] = {}
    for notice in notices:
        key: tuple[str, ...] = (notice.id,)
        if notice.event in _REPEATED and (staff := (facts := read_facts(notice)).get("staff")):
            key = (notice.event, notice.account, staff, facts.get("change", ""))
        groups.setdefault(key, []).append(notice)
    return list(groups.values())


def _template(notice: Notice) -> str:
    """Return which text it is: what concerns many is said to an account in words of its own."""
    return f"{'account_' if _is_to_all(notice) else ''}{notice.event}.txt"


def _is_to_all(notice: Notice) -> bool:
    return notice.account != "" and notice.event in TO_ALL


def _bare(notice: Notice) -> Words:
    if _is_to_all(notice):
        kind = _KINDS_TO_ALL[notice.event]
        return Words(kind, "\n".join([f"{kind}.", "", f"Account: {clean(notice.account)}", f"When: {_when(notice)}"]))
    kind = _KINDS.get(notice.event, "Something was recorded")
    account = [f"Account: {clean(notice.account)}"] if notice.account else []
    why = "What belongs to it was left out, because it was not taken with it: the account's log has it."
    return Words(kind, "\n".join([f"{kind}.", "", *account, why, f"When: {_when(notice)}"]))


def _when(notice: Notice) -> str:
    return f"{notice.happened_at:%Y-%m-%d %H:%M:%S} UTC"
