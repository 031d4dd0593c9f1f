"""The writing of header lines, either way: the last gate, since a line too many is another message over there."""

from collections.abc import Iterable

from gateway.proxy.wire import Headers


def join_lines(lines: Iterable[bytes], what: str) -> bytes:
    """Each line with its CRLF, and the empty line behind them; raises ValueError, about `what`, for one that is two."""
    every = (*lines, b"\r\n")
    raw = b"\r\n".join(every)
    if not len(every) == raw.count(b"\n") == raw.count(b"\r"):
        raise ValueError(f"{what} has a line break where none may be")
    return raw


def encode_end(trailers: Headers) -> bytes:
    """The last chunk of a body with the trailers behind it; raises ValueError for one that would be two lines."""
    return join_lines((b"0", *map(b": ".join, trailers)), "a trailer")
