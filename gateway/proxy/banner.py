"""The banner over the app's pages while somebody stands in: which pages get it, and how they are asked for.

It is plain markup: no script, no style, nothing to load, so no content security policy of a page has a say in it, and
none has to be read, changed or got round.
"""

import re
from collections.abc import Callable
from functools import partial

from gateway.origin import is_page_load
from gateway.proxy.forward import Onward
from gateway.proxy.headers import values
from gateway.proxy.insertion import Insertion
from gateway.proxy.wire import Headers, RequestHead, ResponseHead
from policy.model import Facts, Permit

Draw = Callable[[Permit, Facts], bytes]
"""Returns the banner's markup: who stands in for whom."""

# Those in which a byte of ASCII that stands for itself is itself, wherever a tag may stand.
_CHARSET = re.compile(
    rb"utf-?8|(?:us-)?ascii|latin-?1|iso-?8859-[0-9]{1,2}|(?:windows|cp)-?125[0-9]|koi8-[ru]|euc-(?:jp|kr)|shift_jis"
    rb"|big5|gb(?:k|2312|18030)"
)
# Whoever has uploaded something may have chosen its type: no part can match what another one can.
_TYPE = re.compile(
    rb"[ \t]*+text/html[ \t]*+(?:;[ \t]*+charset[ \t]*+=[ \t]*+(?:\"([^\"]*+)\"|([^\"; \t]*+))[ \t]*+;?[ \t]*+)?"
)
_WHOLE_PAGE: Headers = ((b"Accept-Encoding", b"identity"),)
_NOT_ASKED = frozenset({b"accept-encoding", b"if-none-match", b"if-modified-since", b"if-range", b"range"})
# Of an answer that is shown there and then; redirects and parts of a page are not.
_SHOWN = frozenset({*range(200, 300), *range(400, 600)}) - {204, 205, 206}
# Scripts say so of themselves.
_OF_SCRIPTS = frozenset({b"x-requested-with", b"hx-request"})


class Banner:
    """Puts a banner over pages of the app that somebody gets who stands in with a browser."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw

    def over(self, head: RequestHead, permit: Permit, facts: Facts) -> "Sign | None":
        """Return the banner for the answer to a request, if a browser asks for a page of its window by it."""
        if head.method not in (b"GET", b"POST") or not _is_page(head.headers):
            return None
        return Sign(partial(self._draw, permit, facts))


class Sign:
    """The banner for one answer."""

    def __init__(self, draw: Callable[[], bytes]) -> None:
        self._draw = draw

    def asked(self, lines: Onward) -> Onward:
        """Return the lines of the request as the app gets them: it asks for the whole page, and as it is.

        A page that the browser kept from before would come without a banner, and one that is packed could not get it.
        """
        kept = [line for line in lines.headers if line[0].lower() not in _NOT_ASKED]
        return Onward.of((*kept, *_WHOLE_PAGE))

    def into(self, said: ResponseHead, head: ResponseHead) -> Insertion | None:
        """Return what puts it into the answer whose head goes on as `head`; None leaves that alone.

        `said` is the app's own head. It may keep any page as it is by `Cache-Control: no-transform`.
        """
        return Insertion(head, self._draw()) if said.status in _SHOWN and _is_plain_page(said.headers) else None


def _is_page(headers: Headers) -> bool:
    """Tell whether a person is to see the answer: no script, which may put it anywhere, or read it as JSON.

    Browsers say so, but not over plain HTTP (W3C Fetch Metadata); there what they ask for tells.
    """
    if values(headers, b"sec-fetch-mode"):
        return is_page_load(headers)
    accepted = any(b"text/html" in value.lower() for value in values(headers, b"accept"))
    return accepted and not any(name.lower() in _OF_SCRIPTS for name, _ in headers) and is_page_load(headers)


def _is_plain_page(headers: Headers) -> bool:
    """Tell whether an answer is a page of HTML to be shown, in a charset with ASCII in it, and not packed."""
    types = values(headers, b"content-type")
    found = _TYPE.fullmatch(types[0].lower()) if len(types) == 1 else None
    if found is None:
        return False
    charset = found[1] or found[2]
    return not (
        (charset and not _CHARSET.fullmatch(charset))
        or any(value.lower() != b"identity" for value in values(headers, b"content-encoding"))
        or any(not value.lower().startswith(b"inline") for value in values(headers, b"content-disposition"))
        or any(b"no-transform" in value.lower() for value in values(headers, b"cache-control"))
        or values(headers, b"content-range")
    )
