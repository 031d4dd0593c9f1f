"""Verifies a journal in a process of its own, behind all others: `python -m gateway.audit.evidence JOURNAL KEY`.

A process and no thread, because a thread would take the interpreter from the requests.
"""

import os
import sys
from pathlib import Path

import msgspec

from gateway.audit.evidence.making import read_public_key
from gateway.audit.evidence.verdict import Verdict
from gateway.audit.evidence.verify import verify

_NICE = 19


def main() -> None:
    """Print what was found, as JSON."""
    os.nice(_NICE)
    journal, key = (Path(argument) for argument in sys.argv[1:])
    report = verify(journal, public_key=read_public_key(key))
    first = next((f"{each.segment}:{each.line}: {each.what}" for each in report.findings), "")
    covered = {extent.origin: extent.covered for extent in report.extents}
    verdict = Verdict(count=len(report.findings), first=first, covered=covered)
    sys.stdout.buffer.write(msgspec.json.encode(verdict))


if __name__ == "__main__":
    main()
