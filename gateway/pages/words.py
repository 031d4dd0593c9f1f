"""The words of every page for what an account can choose, and for how long."""

from collections.abc import Mapping
from typing import Final

from policy.model import Duration, Permission

DURATIONS: Final[Mapping[Duration, str]] = {
    Duration.DAY: "One day",
    Duration.WEEK: "One week",
    Duration.MONTH: "One month",
    Duration.YEAR: "One year",
    Duration.ALWAYS: "Indefinitely",
}
"""What can be chosen, in its order."""
PERMISSIONS: Final[Mapping[Permission, tuple[str, str]]] = {
    Permission.READ: ("Look", "See what the agent sees, and change nothing. This is always included."),
    Permission.TEST_TICKETS: ("Test tickets", "Also create and use tickets that are marked as tests."),
    Permission.WRITE: ("Changes", "Also make changes, such as replying to a ticket or correcting a setting."),
    Permission.ADMINISTRATORS: (
        "Administrators",
        "Also stand in for administrators. Without this, staff stand in for agents only.",
    ),
}
"""What staff may be allowed, in its order, with what it means."""
