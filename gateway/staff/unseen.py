"""Locking out somebody who was never seen as staff: who only reads the console, or has not come yet."""

from datetime import datetime

from gateway.stores.store import Store
from policy.model import ActorId, Staff


async def lock_unseen(store: Store, actor: ActorId, *, at: datetime) -> None:
    """Store that they are locked out, also if they have been seen by now; raises StoreError."""
    await store.save_staff(Staff(id=actor, name=actor.subject, permissions=frozenset(), disabled=True), at=at)
