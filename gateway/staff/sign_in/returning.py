"""Where a browser is led after a sign-in: a page of ours on the same origin, and nowhere else."""

import re
from typing import Final

HOME: Final = "/.locum/"
_LONGEST = 512
# Segments of letters that every parser reads alike: no escape, no empty one, none of dots alone but our own prefix; and
# a query without delimiters of any other part.
_PATH = re.compile(
    r"/\.locum/(?:[A-Za-z0-9_~-][A-Za-z0-9._~-]*/)*(?:[A-Za-z0-9_~-][A-Za-z0-9._~-]*)?(?:\?[A-Za-z0-9._~&=+%:,-]*)?",
    re.ASCII,
)
# Led there, a browser would sign in again without an end.
_NEVER = re.compile(r"/\.locum/sign-(?:in|out)(?:[/?].*)?", re.ASCII | re.IGNORECASE)


def read_return(text: str) -> str:
    """Return the path, byte for byte, if it is one of our own pages, and else the home page's."""
    if len(text) > _LONGEST or _PATH.fullmatch(text) is None or _NEVER.fullmatch(text) is not None:
        return HOME
    return text
