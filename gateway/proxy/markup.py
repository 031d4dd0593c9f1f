"""Where the body of an HTML page begins: read as a browser reads it, no further than it has to be.

What stands before it are white space, comments, a few tags, and elements whose text is no markup (WHATWG HTML sections
13.2.5 and 13.2.6.4). Whatever is not known for sure is left alone: a page may go without a banner, and never gets one
in the middle of a script, a comment or an attribute.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

MOST_BYTES: Final = 256 * 1024
"""So far into a page its body is looked for; pages with all of their styles in the head have some 100 KiB there."""
MOST_TOKENS: Final = 4096
"""So many tags and comments may stand before it: each costs more than its bytes."""
MOST_AGAIN: Final = 512 * 1024
"""So many bytes of tags that have not come whole are read, once for each piece that such a tag waits for."""

_BLANK = rb"\t\n\f\r "
_SPACE = re.compile(rb"[" + _BLANK + rb"]*+")
_VALUE = rb"\"[^\"]*+\"|'[^']*+'|(?=>)|[^" + _BLANK + rb">\"'][^" + _BLANK + rb">]*+"
_ASSIGNED = rb"[" + _BLANK + rb"]*+=[" + _BLANK + rb"]*+(?:" + _VALUE + rb")"
_UNASSIGNED = rb"(?![" + _BLANK + rb"]*+=)"
_ATTRIBUTE = rb"[^" + _BLANK + rb"/>][^" + _BLANK + rb"/>=]*+(?:" + _ASSIGNED + rb"|" + _UNASSIGNED + rb")"
_TAG = re.compile(rb"<(/?)([A-Za-z][^" + _BLANK + rb"/>]*+)(?:[" + _BLANK + rb"/]++|" + _ATTRIBUTE + rb")*+>")
_TAG_BEGINS = re.compile(rb"</?[A-Za-z]")
_COMMENT_BEGINS: Final = b"<!--"
# Behind each end stands where the page goes on.
_COMMENT_ENDS = re.compile(rb"(?:--!?>|(?<=<!--)-?>)()")
_BOGUS_COMMENT_ENDS = re.compile(rb">()")
_LONGEST_BEGINNING = len(_COMMENT_BEGINS)
# Of UTF-16 and of ISO-2022-JP: what looks like a tag there may be none.
_OTHER_CODE = re.compile(rb"[\x00\x1b]")
_MARK: Final = b"\xef\xbb\xbf"
_OTHER_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")

_PASSED = frozenset({b"html", b"head", b"meta", b"link", b"base", b"basefont", b"bgsound"})
_RAW_ENDS = {
    name: re.compile(rb"()</" + name + rb"(?=[" + _BLANK + rb"/>])", re.IGNORECASE)
    for name in (b"script", b"style", b"title", b"noscript", b"noframes")
}
_LONGEST_END = len(b"</noscript>")
# In a script, "<!-- <script" makes the next "</script" another thing than its end. One is looked for behind the other:
# a pattern for both would look for the second behind each of the first.
_NESTED = re.compile(rb"<script", re.IGNORECASE)
# A template's content is no part of the page, and a page of frames has no body.
_UNFIT = frozenset({b"template", b"frameset"})
_ENDS_IN_BODY = frozenset({b"body", b"html", b"br"})


class _Said(Enum):
    GO_ON = "it is passed over"
    MORE = "more has to come"
    HERE = "the body begins"
    NEVER = "it cannot be told"


@dataclass(slots=True)
class _Inside:
    """A comment, or an element whose text is no markup, whose end is looked for in what is held back."""

    ends: re.Pattern[bytes]
    content: int
    """Where it begins."""
    seen: int
    """So far its end does not stand, and is not looked for again."""
    is_script: bool = False


class BodyStart:
    """Finds the place in a page that comes in pieces; of each, no more is held back than the last tag or element.

    The work grows with the bytes and not with the pieces, and has an end: see the bounds above.
    """

    __slots__ = ("_again", "_at", "_inside", "_is_over", "_text", "_tokens")

    def __init__(self) -> None:
        self._text = bytearray()
        """What is held back, and while a piece is read that piece behind it."""
        self._at = 0
        """How much of the page has gone on."""
        self._inside: _Inside | None = None
        """What is held back, if that is in the middle of one."""
        self._tokens = self._again = 0
        self._is_over = False

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Return what of the page goes on, and what stands behind the beginning of its body, if that is found.

        It is found once at the most; then, and once it is given up, all the rest goes on.
        """
        if self._is_over:
            return data, None
        self._text += data
        end = min(len(self._text), MOST_BYTES - self._at)
        said, at = self._read(end)
        if (said is _Said.MORE and end < len(self._text)) or _OTHER_CODE.search(self._text, 0, at + _LONGEST_BEGINNING):
            said = _Said.NEVER
        if said is _Said.MORE:
            self._at += at
            if self._inside is not None:
                self._inside.content -= at
                self._inside.seen -= at
            return self._take(at), None
        self._is_over = True
        return (self._take(at), self.rest()) if said is _Said.HERE else (self.rest(), None)

    def rest(self) -> bytes:
        """Return what was held back, because the page has ended."""
        return self._take(len(self._text))

    def _take(self, count: int) -> bytes:
        taken = bytes(self._text[:count])
        del self._text[:count]
        return taken

    def _read(self, end: int) -> tuple[_Said, int]:
        """Return what is to be said of the page up to `end`, and how much of it goes on."""
        at = 0
        if not self._at and self._inside is None:
            if end < len(_MARK):
                return _Said.MORE, 0
            if self._text.startswith(_OTHER_MARKS):
                return _Said.NEVER, 0
            at = len(_MARK) if self._text.startswith(_MARK) else 0
        said = _Said.GO_ON
        while said is _Said.GO_ON:
            if self._inside is not None:
                said, at = self._pass_over_content(self._inside, at, end)
                continue
            if (blank := _SPACE.match(self._text, at, end)) is not None:
                at = blank.end()
            said, at = self._pass_over(at, end)
            self._tokens += said is _Said.GO_ON
            if self._tokens > MOST_TOKENS:
                return _Said.NEVER, at
        return said, at

    def _pass_over(self, at: int, end: int) -> tuple[_Said, int]:
        """Return what is to be said of the token at `at`, and where it ends, or where the body begins."""
        if at == end:
            return _Said.MORE, at
        if _TAG_BEGINS.match(self._text, at, end):
            return self._pass_over_tag(at, end)
        if self._text.startswith(_COMMENT_BEGINS, at, end):
            return self._go_into(_COMMENT_ENDS, at, at + len(_COMMENT_BEGINS))
        if end - at < _LONGEST_BEGINNING and self._text.startswith(b"<", at):
            return _Said.MORE, at
        if self._text.startswith((b"<!", b"<?", b"</"), at):
            return self._go_into(_BOGUS_COMMENT_ENDS, at, at + 2)
        return _Said.HERE, at

    def _pass_over_tag(self, at: int, end: int) -> tuple[_Said, int]:
        tag = _TAG.match(self._text, at, end)
        if tag is None:
            self._again += end - at
            return (_Said.MORE if self._again <= MOST_AGAIN else _Said.NEVER), at
        name = tag[2].lower()
        if tag[1]:
            return (_Said.HERE, at) if name in _ENDS_IN_BODY else (_Said.GO_ON, tag.end())
        if name in _RAW_ENDS:
            return self._go_into(_RAW_ENDS[name], at, tag.end(), is_script=name == b"script")
        if name in _PASSED:
            return _Said.GO_ON, tag.end()
        if name in _UNFIT:
            return _Said.NEVER, at
        # Any other tag stands in a body that begins without one.
        return _Said.HERE, tag.end() if name == b"body" else at

    def _go_into(self, ends: re.Pattern[bytes], at: int, content: int, *, is_script: bool = False) -> tuple[_Said, int]:
        self._inside = _Inside(ends=ends, content=content, seen=content, is_script=is_script)
        return _Said.GO_ON, at

    def _pass_over_content(self, inside: _Inside, at: int, end: int) -> tuple[_Said, int]:
        found = inside.ends.search(self._text, inside.seen, end)
        if found is None:
            inside.seen = max(inside.content, end - _LONGEST_END)
            return _Said.MORE, at
        if inside.is_script and self._is_nested(inside.content, found.start(1)):
            return _Said.NEVER, at
        self._inside = None
        return _Said.GO_ON, found.start(1)

    def _is_nested(self, content: int, end: int) -> bool:
        comment = self._text.find(_COMMENT_BEGINS, content, end)
        return comment >= 0 and _NESTED.search(self._text, comment + len(_COMMENT_BEGINS), end) is not None
