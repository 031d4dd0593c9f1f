"""What is worked out from a text of the client's once, and remembered within bounds that no client can move."""

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
_MOST = 4096


class Remembered(dict[bytes, T], Generic[T]):
    """The answer to each text, worked out at its first sight; what `work_out` raises is not remembered."""

    def __init__(self, work_out: Callable[[bytes], T], *, longest: int) -> None:
        """Work longer texts out each time; forget all when there are too many."""
        super().__init__()
        self._work_out = work_out
        self._longest = longest

    def __missing__(self, text: bytes) -> T:
        """Work the answer out."""
        answer = self._work_out(text)
        if len(text) <= self._longest:
            if len(self) >= _MOST:
                self.clear()
            self[text] = answer
        return answer
