"""What three nodes answered while things failed around them, and whether any of it breaks the promise."""

from dataclasses import dataclass, field

NEVER = float("inf")


@dataclass(frozen=True)
class Answer:
    """One request of staff; times are seconds of one clock."""

    node: int
    token: str
    began: float
    allowed: bool


@dataclass
class Partition:
    """A stretch in which a node could not reach the database, nor be reached by it."""

    node: int
    began: float
    ended: float = NEVER

    def hides(self, answer, revoked_at):
        """Tell whether the answer is from within, and the revoke too, so that nobody could have told the node of it."""
        return self.node == answer.node and self.began < revoked_at and answer.began < self.ended


@dataclass
class History:
    """Every operation, and when the end of each token's grant was acknowledged."""

    answers: list[Answer] = field(default_factory=list)
    revoked_at: dict[str, float] = field(default_factory=dict)
    faults: list[tuple[float, str]] = field(default_factory=list)
    partitions: list[Partition] = field(default_factory=list)

    @property
    def operations(self):
        return len(self.answers) + len(self.revoked_at) + len(self.faults)

    def violations(self, bound):
        """Requests that were let through though they began later than `bound` after the acknowledged revoke."""
        return [answer for answer in self.answers if answer.allowed and self._behind(answer) > bound]

    def latest(self):
        """How long behind an acknowledged revoke the latest request began that was let through; 0 if none was."""
        return max((self._behind(answer) for answer in self.answers if answer.allowed), default=0.0)

    def latest_cut_off(self):
        """Likewise, of a node that could not know: there nothing but the age of its facts has ended the allows."""
        return max(
            (self._behind(answer) for answer in self.answers if answer.allowed and self._cut_off(answer)), default=0.0
        )

    def allowed(self, node):
        return sum(answer.allowed for answer in self.answers if answer.node == node)

    def refused(self, node):
        return sum(not answer.allowed for answer in self.answers if answer.node == node)

    def _behind(self, answer):
        return max(0.0, answer.began - self.revoked_at.get(answer.token, NEVER))

    def _cut_off(self, answer):
        revoked_at = self.revoked_at.get(answer.token, NEVER)
        return any(partition.hides(answer, revoked_at) for partition in self.partitions)
