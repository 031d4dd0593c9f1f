"""Reading a body of bounded length."""

from collections.abc import Sequence
from urllib.parse import parse_qsl

from aiohttp import StreamReader, web

_MOST_FIELDS = 64

Fields = Sequence[tuple[str, str]]
"""Names and values of a form, in their order."""


class FormError(ValueError):
    """The caller's fault: there is no form in the body, or parameters elsewhere."""


async def read_at_most(stream: StreamReader, most: int) -> bytes | None:
    """Return the whole body, or None once it proves longer than `most` bytes.

    If it breaks off, the request has nobody any more who hears an answer, and ends with one that goes nowhere.
    """
    body = bytearray()
    try:
        while not stream.at_eof():
            body += await stream.read(most + 1 - len(body))
            if len(body) > most:
                return None
    except ConnectionError as exc:
        raise web.HTTPBadRequest from exc
    return bytes(body)


async def read_form(request: web.Request, most: int) -> list[tuple[str, str]]:
    """Return the fields of an urlencoded form of at most `most` bytes and 64 fields, or raise FormError."""
    if request.query_string:
        raise FormError("send the parameters in the body, never in the query")
    if request.content_type != "application/x-www-form-urlencoded":
        raise FormError("send application/x-www-form-urlencoded")
    body = await read_at_most(request.content, most)
    if body is None:
        raise FormError(f"the form is longer than {most} bytes")
    try:
        return parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=_MOST_FIELDS,
        )
    except (UnicodeDecodeError, ValueError) as exc:
        raise FormError("the body is not a form") from exc


def read_one(fields: Fields, name: str) -> str:
    """Return the value of a field that has to be there once; raises FormError."""
    found = [value for key, value in fields if key == name]
    if len(found) != 1:
        raise FormError(f"`{name}` must be there once")
    return found[0]
