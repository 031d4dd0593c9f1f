"""Runs a module and notes again and again where its processor time goes. `python bench/sampled.py OUT -m MODULE …`.

It is noted for every millisecond of that time, or as often as the kernel's clock ticks. It begins with SIGUSR2, so that
the start is left out. What the loop and the kernel take between two callbacks is counted for the callback that follows,
and other threads' time for whatever the main thread does just then.
"""

import json
import runpy
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

_SECONDS = 0.001


def main(out: Path, module: str) -> None:
    """Run `module` to its end, then write each stack, innermost first, with how often it was seen."""
    seen: Counter[tuple[str, ...]] = Counter()

    def begin(_number: int, _frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_PROF, _SECONDS, _SECONDS)

    def note(_number: int, frame: FrameType | None) -> None:
        seen[tuple(_stack(frame))] += 1

    signal.signal(signal.SIGUSR2, begin)
    signal.signal(signal.SIGPROF, note)
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        stacks = [{"stack": stack, "seen": count} for stack, count in seen.items()]
        out.write_text(json.dumps(stacks), encoding="utf-8")


def _stack(frame: FrameType | None) -> list[str]:
    stack = []
    while frame is not None:
        module = str(frame.f_globals.get("__name__", "?"))
        stack.append(f"{module}.{frame.f_code.co_qualname}")
        frame = frame.f_back
    return stack


if __name__ == "__main__":
    target, _, name = sys.argv[1:4]
    sys.argv[1:4] = []
    # `python -m` would have put the directory it is called in here, not this file's.
    sys.path[0] = ""
    main(Path(target), name)
