"""How much staff may ask for: of the configuration and of the store, and so without what either imports."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How many requests there may be that wait or were made within `policy.asking.LATELY`, whatever became of them."""

    per_staff_and_account: int = 3
    per_account: int = 20
    per_staff: int = 20
