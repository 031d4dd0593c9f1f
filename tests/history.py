"""What three nodes answered while things failed around them, and whether any of it breaks the promise."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Answer:
    """One request of staff; times are seconds of one clock."""

    node: int
    token: str
    began: float
    allowed: bool


@dataclass
class History:
    """Every operation, and when the end of each token's grant was acknowledged."""

    answers: list[Answer] = field(default_factory=list)
    revoked_at: dict[str, float] = field(default_factory=dict)
    faults: list[tuple[float, str]] = field(default_factory=list)

    @property
    def operations(self):
        return len(self.answers) + len(self.revoked_at) + len(self.faults)

    def violations(self, bound):
        """Requests that were let through though they began later than `bound` after the acknowledged revoke."""
        return [
            answer
            for answer in self.answers
            if answer.allowed and answer.began > self.revoked_at.get(answer.token, float("inf")) + bound
        ]

    def shows_something(self, nodes):
        """Tell whether each node has let staff in and refused them more than a few times."""
        return all(self.allowed(node.number) > 50 and self.refused(node.number) > 50 for node in nodes)

    def allowed(self, node):
        return sum(answer.allowed for answer in self.answers if answer.node == node)

    def refused(self, node):
        return sum(not answer.allowed for answer in self.answers if answer.node == node)
