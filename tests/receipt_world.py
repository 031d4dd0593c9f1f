"""A journal in which staff stood in for somebody: two workers, a few assumptions, one of them looked at."""

import asyncio
from pathlib import Path

from gateway.audit.evidence.receipts import Receipt, build_receipt
from gateway.audit.evidence.sources import JournalFiles
from gateway.audit.record import Record, name_actor
from policy.model import AccountId, ActorId, AgentId, AssumptionId, GrantId
from tests.journals import KEY, SecondHand, open_journal

PUBLIC = KEY.public_key()
OURS, THEIRS = AssumptionId("as_ours"), AssumptionId("as_theirs")
ORIGINS = ("gateway-0", "gateway-1")


def entry(assumption: AssumptionId = OURS, *, account: str = "acme", **more) -> Record:
    """A record as requests of one assumption leave them; the words are a stranger's."""
    return Record(
        **{
            "kind": "decision",
            "decision": "allow",
            "method": "GET",
            "rule": "ticket-show",
            "assumption": assumption,
            "account": AccountId(account),
            "actor": name_actor(ActorId(issuer="https://idp.example", subject="dana"), "D\u00e4na \u202e"),
            "subject": AgentId("maria"),
            "grant_id": GrantId("grant_1"),
            "granted_by": "owner@acme.example",
            "ticket": "SUP-1",
            "stated_reason": 'she said: "cannot reproduce"\n',
            "client_ip": "192.0.2.1",
            **more,
        }
    )


def write(directory: Path, *, rounds: int = 3) -> None:
    """Let both workers write, each in its turn; every assumption is in both."""

    async def work() -> None:
        clock = SecondHand()
        for origin in ORIGINS:
            journal = await open_journal(directory, origin=origin, clock=clock)
            await journal.append(entry(kind="token", method=None, rule=None, request_id="req_token"))
            for number in range(rounds):
                await journal.append(entry(THEIRS, account="globex", request_id=f"req_{number}"))
                await journal.append(entry(request_id=f"req_{number}"))
                await journal.append(entry(decision="deny", reason="read_only", method="POST", rule="ticket-change"))
            await journal.append(entry(kind="assumption", decision=None, reason="ended", method=None, rule=None))
            await journal.close()

    asyncio.run(work())


def receipt_of(directory: Path, assumption: AssumptionId = OURS) -> Receipt:
    receipt, later = build_receipt(JournalFiles(directory), assumption, key=PUBLIC)
    assert 0 == later
    return receipt
