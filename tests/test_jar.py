"""The app's own cookies, held for an assumption: as a browser would hold them, within bounds, for that host alone."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.proxy.jar import MOST_BYTES, MOST_COOKIES, Jar

NOW = datetime(2026, 3, 14, 12, tzinfo=UTC)
PAST, FUTURE = b"Sat, 14 Mar 2026 12:00:00 GMT", b"Sat, 14 Mar 2026 12:00:01 GMT"


def after(*lines, target=b"/tickets/1?x=1", jar=None, now=NOW):
    return (jar or Jar()).take(lines, target, now=now)


def sent(jar, target=b"/tickets/1", now=NOW):
    return Jar.read(jar.write()).line(target, now=now)


SENT = {
    "plain": (b"a=1", b"a=1"),
    "for the whole host": (b"a=1; Path=/", b"a=1"),
    "for a folder": (b"a=1; Path=/tickets", b"a=1"),
    "for a folder with a slash": (b"a=1; Path=/tickets/", b"a=1"),
    "for a page": (b"a=1; path=/tickets/1", b"a=1"),
    "for another folder": (b"a=1; Path=/ticket", b""),
    "for a page below": (b"a=1; Path=/tickets/1/2", b""),
    "for no path": (b"a=1; Path=tickets", b"a=1"),
    "for a domain, which is let alone": (b"a=1; Domain=helpdesk.example; Secure; HttpOnly; SameSite=None", b"a=1"),
    "with spaces": (b"  a \t= 1 2 ;Path=/", b"a=1 2"),
    "in quotes": (b'a="1, 2"; Path=/', b'a="1, 2"'),
    "beyond ASCII": (b"a=\xff\xc3\xbc; Path=/", b"a=\xff\xc3\xbc"),
    "without a value": (b"a=; Path=/", b"a="),
    "with signs of equality": (b"a=b=c==; Path=/", b"a=b=c=="),
    "without a name": (b"=1; Path=/", b""),
    "without a sign of equality": (b"a; Path=/", b""),
    "with a control character": (b"a=1\x01; Path=/", b""),
    "too long": (b"a=" + b"x" * 4096, b""),
    "for a while": (b"a=1; Max-Age=1", b"a=1"),
    "for no time": (b"a=1; Max-Age=0", b""),
    "for less": (b"a=1; Max-Age=-5", b""),
    "for longer than a calendar": (b"a=1; Max-Age=999999999999999999", b"a=1"),
    "for a time that is none": (b"a=1; Max-Age=soon", b"a=1"),
    "until later": (b"a=1; Expires=" + FUTURE, b"a=1"),
    "until now": (b"a=1; Expires=" + PAST, b""),
    "until now, in the old spelling": (b"a=1; expires=Sat, 14-Mar-2026 12:00:00 GMT", b""),
    "until long ago": (b"a=1; expires=Thu, 01 Jan 1970 00:00:00 GMT", b""),
    "until a day that is none": (b"a=1; expires=Thu, 31 Feb 2026 00:00:00 GMT", b"a=1"),
    "the age counts before the date": (b"a=1; Max-Age=5; Expires=" + PAST, b"a=1"),
    "the age counts behind the date": (b"a=1; Expires=" + PAST + b"; Max-Age=5", b"a=1"),
}  # fmt: skip


@pytest.mark.parametrize("case", SENT)
def test_what_the_app_sets_comes_back_to_it(case):
    """As RFC 6265 says, and the value byte for byte."""
    line, expected = SENT[case]
    assert expected == sent(after(line))


def test_a_cookie_goes_where_its_path_is():
    """Without one, to the folder of the page that set it (RFC 6265 section 5.1.4)."""
    for target, elsewhere in ((b"/a/b/c", b"/a/d"), (b"/a/b/", b"/a/c"), (b"/a/b?p=/c/", b"/b")):
        jar = after(b"x=1", target=target)
        assert (b"x=1", b"") == (sent(jar, target), sent(jar, elsewhere))
    assert b"x=1" == sent(after(b"x=1", target=b"/login"), b"/anything/else")


def test_longer_paths_go_first_and_then_the_older():
    """RFC 6265 section 5.4; set anew, a cookie keeps its place."""
    jar = after(b"a=1; Path=/", b"b=1; Path=/tickets", b"c=1; Path=/", b"a=2; Path=/", b"a=3; Path=/tickets")
    assert b"b=1; a=3; a=2; c=1" == sent(jar)


def test_a_cookie_ends_at_its_time_and_is_taken_back_by_the_app():
    """To the second; that of another path stays."""
    jar = after(b"a=1; Max-Age=10; Path=/", b"a=2; Path=/tickets")
    assert b"a=2; a=1" == sent(jar, now=NOW + timedelta(seconds=9))
    assert b"a=2" == sent(jar, now=NOW + timedelta(seconds=10))
    assert b"a=1" == sent(after(b"a=; Path=/tickets; Max-Age=0", jar=jar))


def test_a_jar_is_left_as_it_was_by_what_is_taken():
    """Whoever reads it at the same time is not disturbed."""
    jar = after(b"a=1")
    after(b"a=2", b"b=1", jar=jar)
    assert b"a=1" == sent(jar)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 80), st.integers(0, 4000)), max_size=200))
def test_a_jar_is_bounded(wanted):
    """However many and long the cookies are: the newest is there, the oldest go."""
    jar = after(*(b"n%d=%b; Path=/" % (name, b"x" * size) for name, size in wanted))
    pairs = [pair for pair in sent(jar).split(b"; ") if pair]
    assert len(pairs) <= MOST_COOKIES
    assert sum(map(len, pairs)) <= MOST_BYTES + MOST_COOKIES
    if wanted:
        assert any(pair.startswith(b"n%d=" % wanted[-1][0]) for pair in pairs)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=6), st.binary(max_size=20))
def test_whatever_the_app_sets_the_line_is_one_line(lines, target):
    """No byte of it begins another header or another cookie."""
    line = sent(after(*lines, target=b"/" + target), b"/" + target)
    assert not set(line) & set(b"\r\n\x00")
    assert line.count(b";") == max(0, line.count(b"; "))


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[["a","b","/"]]', '[["a",1,"/",null]]', "\x00"])
def test_a_jar_that_was_not_written_by_one_is_an_error(text):
    """Never a guess."""
    with pytest.raises(ValueError):
        Jar.read(text)
