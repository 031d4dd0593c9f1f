"""What has happened in this process, in plain numbers: whoever does it counts it, and monitoring reads it when it asks.

Nothing here waits, locks or knows of monitoring, so that counting costs a request one addition.
"""

from gateway.telling.counts import NoticeCounts
from policy.model import DenyReason


class Counts:
    """Numbers that only go up, and begin at 0 with the process; a reload keeps them."""

    __slots__ = (
        "assumed",
        "control",
        "cuts",
        "notices",
        "ordinary",
        "permits",
        "refusals",
        "tokens",
        "tokens_refused",
        "upstream_faults",
    )

    def __init__(self) -> None:
        self.ordinary = 0
        """Requests that were passed on as they came."""
        self.assumed = 0
        """Requests that were, or should have been, a staff member's."""
        self.control = 0
        """Requests to Locum itself, through the public listener."""
        self.permits = 0
        """Assumed requests that were recorded and let through."""
        self.refusals = dict.fromkeys(DenyReason, 0)
        """Assumed requests that were not, by the reason that staff were told."""
        self.cuts = dict.fromkeys(DenyReason, 0)
        """What had been let through and was cut while it was open."""
        self.notices = NoticeCounts()
        """Who was told of what, or could not be."""
        self.upstream_faults = {502: 0, 504: 0}
        """Requests to the app that it did not answer, by what the client is told."""
        self.tokens = 0
        """Assumption tokens that were issued."""
        self.tokens_refused = dict.fromkeys(DenyReason, 0)
        """Requests for one that were refused, by the reason that was told."""
