"""Where the body of an HTML page begins: read as a browser reads it, no further than it has to be.

What stands before it are white space, comments, a few tags, and elements whose text is no markup (WHATWG HTML sections
13.2.5 and 13.2.6.4). Whatever is not known for sure is left alone: a page may go without a banner, and never gets one
in the middle of a script, a comment or an attribute.
"""

import re
from enum import Enum
from typing import Final

MOST_BYTES: Final = 256 * 1024
"""So far into a page its body is looked for; pages with all of their styles in the head have some 100 KiB there."""

_BLANK = rb"\t\n\f\r "
_SPACE = re.compile(rb"[" + _BLANK + rb"]*+")
_VALUE = rb"\"[^\"]*+\"|'[^']*+'|(?=>)|[^" + _BLANK + rb">\"'][^" + _BLANK + rb">]*+"
_ASSIGNED = rb"[" + _BLANK + rb"]*+=[" + _BLANK + rb"]*+(?:" + _VALUE + rb")"
_UNASSIGNED = rb"(?![" + _BLANK + rb"]*+=)"
_ATTRIBUTE = rb"[^" + _BLANK + rb"/>][^" + _BLANK + rb"/>=]*+(?:" + _ASSIGNED + rb"|" + _UNASSIGNED + rb")"
_TAG = re.compile(rb"<(/?)([A-Za-z][^" + _BLANK + rb"/>]*+)(?:[" + _BLANK + rb"/]++|" + _ATTRIBUTE + rb")*+>")
_TAG_BEGINS = re.compile(rb"</?[A-Za-z]")
_COMMENT_BEGINS: Final = b"<!--"
_COMMENT = re.compile(rb"<!--(?:-?>|(?s:.*?)--!?>)")
_BOGUS_COMMENT = re.compile(rb"<[!?/][^>]*+>")
_LONGEST_BEGINNING = len(_COMMENT_BEGINS)
# Of UTF-16 and of ISO-2022-JP: what looks like a tag there may be none.
_OTHER_CODE = re.compile(rb"[\x00\x1b]")
_MARK: Final = b"\xef\xbb\xbf"
_OTHER_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")

_PASSED = frozenset({b"html", b"head", b"meta", b"link", b"base", b"basefont", b"bgsound"})
_RAW_ENDS = {
    name: re.compile(rb"</" + name + rb"(?=[" + _BLANK + rb"/>])", re.IGNORECASE)
    for name in (b"script", b"style", b"title", b"noscript", b"noframes")
}
# In a script, "<!-- <script" makes the next "</script" another thing than its end.
_NESTED = re.compile(rb"<!--(?s:.*)<script", re.IGNORECASE)
# A template's content is no part of the page, and a page of frames has no body.
_UNFIT = frozenset({b"template", b"frameset"})
_ENDS_IN_BODY = frozenset({b"body", b"html", b"br"})


class _Said(Enum):
    GO_ON = "it is passed over"
    MORE = "more has to come"
    HERE = "the body begins"
    NEVER = "it cannot be told"


class BodyStart:
    """Finds the place in a page that comes in pieces; of each, no more is held back than the last tag or element."""

    __slots__ = ("_at", "_is_over", "_pending")

    def __init__(self) -> None:
        self._pending = b""
        self._at = 0
        """How much of the page has gone on."""
        self._is_over = False

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Return what of the page goes on, and what stands behind the beginning of its body, if that is found.

        It is found once at the most; then, and once it is given up, all the rest goes on.
        """
        if self._is_over:
            return data, None
        text = self._pending + data
        said, at = self._read(text)
        if self._at + (len(text) if said is _Said.MORE else at) > MOST_BYTES:
            said = _Said.NEVER
        if _OTHER_CODE.search(text, 0, at + _LONGEST_BEGINNING):
            said = _Said.NEVER
        self._pending = b""
        if said is _Said.MORE:
            self._pending, self._at = text[at:], self._at + at
            return text[:at], None
        self._is_over = True
        return (text[:at], text[at:]) if said is _Said.HERE else (text, None)

    def rest(self) -> bytes:
        """Return what was held back, because the page has ended."""
        left, self._pending = self._pending, b""
        return left

    def _read(self, text: bytes) -> tuple[_Said, int]:
        at = 0
        if not self._at:
            if len(text) < len(_MARK):
                return _Said.MORE, 0
            if text.startswith(_OTHER_MARKS):
                return _Said.NEVER, 0
            at = len(_MARK) if text.startswith(_MARK) else 0
        said = _Said.GO_ON
        while said is _Said.GO_ON:
            if (blank := _SPACE.match(text, at)) is not None:
                at = blank.end()
            said, at = _pass_over(text, at)
        return said, at


def _pass_over(text: bytes, at: int) -> tuple[_Said, int]:
    """Return what is to be said of the token at `at`, and where it ends, or where the body begins."""
    if at == len(text):
        return _Said.MORE, at
    if _TAG_BEGINS.match(text, at):
        return _pass_over_tag(text, at)
    if text.startswith(_COMMENT_BEGINS, at):
        return _passed(_COMMENT.match(text, at), at)
    if len(text) - at < _LONGEST_BEGINNING and text[at : at + 1] == b"<":
        return _Said.MORE, at
    if text.startswith((b"<!", b"<?", b"</"), at):
        return _passed(_BOGUS_COMMENT.match(text, at), at)
    return _Said.HERE, at


def _pass_over_tag(text: bytes, at: int) -> tuple[_Said, int]:
    tag = _TAG.match(text, at)
    if tag is None:
        return _Said.MORE, at
    name = tag[2].lower()
    if tag[1]:
        return (_Said.HERE, at) if name in _ENDS_IN_BODY else (_Said.GO_ON, tag.end())
    if name in _RAW_ENDS:
        return _pass_over_raw(text, at, tag.end(), name)
    if name in _PASSED:
        return _Said.GO_ON, tag.end()
    if name in _UNFIT:
        return _Said.NEVER, at
    # Any other tag stands in a body that begins without one.
    return _Said.HERE, tag.end() if name == b"body" else at


def _pass_over_raw(text: bytes, at: int, content: int, name: bytes) -> tuple[_Said, int]:
    end = _RAW_ENDS[name].search(text, content)
    if end is None:
        return _Said.MORE, at
    if name == b"script" and _NESTED.search(text, content, end.start()):
        return _Said.NEVER, at
    return _Said.GO_ON, end.start()


def _passed(token: re.Match[bytes] | None, at: int) -> tuple[_Said, int]:
    return (_Said.MORE, at) if token is None else (_Said.GO_ON, token.end())
