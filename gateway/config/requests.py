"""What the section `[grants.requests]` holds; each key's meaning, unit and reason stand in `config.example.toml`."""

from gateway.config.section import Section
from gateway.stores.request_room import Room

_ROOM = Room()


class GrantRequestLimits(Section, frozen=True, kw_only=True):
    """How often staff may ask accounts for a grant: `Room`."""

    max_per_staff_and_account: int = _ROOM.per_staff_and_account
    max_per_account: int = _ROOM.per_account
    max_per_staff: int = _ROOM.per_staff

    @property
    def room(self) -> Room:
        """As the store takes them."""
        return Room(
            per_staff_and_account=self.max_per_staff_and_account,
            per_account=self.max_per_account,
            per_staff=self.max_per_staff,
        )
