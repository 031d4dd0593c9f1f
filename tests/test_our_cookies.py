"""Our own cookies in a request's lines: exactly ours is read and taken out, and nobody else's byte is touched."""

import secrets
import sys
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.proxy.cookies import CookieCredential, OurCookies, digest_of, read_one
from policy.model import DenyReason

VALUE = b"A" * 43
NAME = b"__Host-locum-assumption"
OURS = NAME + b"=" + VALUE
STAFF = b"__Host-locum-staff=" + VALUE
SIGN_IN = b"__Host-locum-sign-in=" + VALUE
HELD = CookieCredential(digest=sha256(VALUE).digest(), value=VALUE)
COOKIES = OurCookies(secure=True)
PLAIN = OurCookies(secure=False)
AMBIGUOUS = DenyReason.AMBIGUOUS_HEADER
HOST = (b"Host", b"acme.helpdesk.example")


def find(*lines, cookies=COOKIES):
    """Return what is read of some `Cookie` lines, and those that are left; None if nothing was found."""
    found = cookies.find((HOST, *((b"Cookie", line) for line in lines), (b"X-Last", b"1")))
    if found is None:
        return None
    assert (HOST, (b"X-Last", b"1")) == (found.headers[0], found.headers[-1])
    return found.assumption, [value for _, value in found.headers[1:-1]]


TAKEN_OUT = {
    "alone": ([OURS], []),
    "first": ([OURS + b"; a=1; b=2"], [b"a=1; b=2"]),
    "last": ([b"a=1; b=2; " + OURS], [b"a=1; b=2"]),
    "in between": ([b"a=1; " + OURS + b"; b=2"], [b"a=1; b=2"]),
    "without spaces": ([b"a=1;" + OURS + b";b=2"], [b"a=1;b=2"]),
    "with tabs": ([b"a=1;\t" + OURS + b";\tb=2"], [b"a=1;\tb=2"]),
    "empty pieces": ([b";; a=1;;" + OURS + b";;b=2;"], [b";; a=1;;;b=2;"]),
    "nothing but separators beside it": ([b"; ;" + OURS + b"; ;"], []),
    "in a line of its own": ([b"a=1", OURS, b"b=2"], [b"a=1", b"b=2"]),
    "in the second line": ([b"a=1; b=2", b"c=3; " + OURS], [b"a=1; b=2", b"c=3"]),
    "between bytes beyond ASCII": ([b"a=\xff\x80\xc3; " + OURS + b"; \xe2\x80\x80b=\xfe"], [b"a=\xff\x80\xc3; \xe2\x80\x80b=\xfe"]),
    "a sandwich of quotes": ([b'x="a; ' + OURS + b'; y=b"'], [b'x="a; y=b"']),
    "beside both of the others": ([STAFF + b"; a=1; " + OURS + b"; " + SIGN_IN], [b"a=1"]),
}  # fmt: skip


@pytest.mark.parametrize("case", TAKEN_OUT)
def test_ours_is_taken_out_and_the_others_stay(case):
    """Wherever it stands; a line that held only ours is gone."""
    lines, left = TAKEN_OUT[case]
    assert (HELD, left) == find(*lines)


OTHERS = {
    "no cookie": [],
    "an empty line": [b""],
    "plain": [b"a=1; b=2"],
    "odd": [b';; =; a; "b=\xff"; ,'],
    "a longer name": [b"__Host-locum-assumption2=" + VALUE],
    "a longer beginning": [b"x__Host-locum-assumption=" + VALUE],
    "without our prefix": [b"locum-assumption=" + VALUE],
    "another prefix": [b"__Secure-locum-assumption=" + VALUE],
    "another product's": [b"locum-session=1; xlocum-staffy=2"],
    "lower case": [b"__host-locum-assumption=" + VALUE],
    "upper case": [b"__HOST-LOCUM-ASSUMPTION=" + VALUE],
    "percent-encoded": [b"__%48ost-locum-assumption=" + VALUE],
    "underscores": [b"__Host_locum_assumption=" + VALUE],
    "in an address": [b"a=1; last=/docs/__Host-locum-assumption"],
    "in an address with a value": [b"last=/docs?__Host-locum-assumption=" + VALUE + b"; b=2"],
    "as a value": [b"a=" + OURS],
    "as a value in quotes": [b'a="' + OURS + b'"'],
    "as the name of a value": [b"a=" + NAME + b"; b=2"],
    "no equals sign": [NAME],
    "no equals sign but the next one's": [NAME + b"; a=1"],
    "the staff's in a search": [b"sid=9; q=__Host-locum-staff; z=1"],
    "the staff's with a value as a value": [b"q=" + STAFF],
    "the sign-in's in quotes": [b'a="__Host-locum-sign-in"; b="x/' + SIGN_IN + b'"'],
    "the staff's without a value": [b"__Host-locum-staff"],
    "many": [b"a=" + b"/".join([NAME, b"__Host-locum-staff"] * 9)],
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_is_not_ours_is_let_alone(case):
    """Nothing is found, so nothing is worked out or written anew."""
    assert None is find(*OTHERS[case])


DOUBTFUL = {
    "twice": [OURS + b"; " + OURS],
    "twice, with another value": [OURS + b"; " + NAME + b"=" + b"B" * 43],
    "in two lines": [OURS, OURS],
    "in two lines, one of them odd": [b"a=1; " + OURS, b'"' + NAME + b'"=x'],
    "empty beside it": [NAME + b"=; " + OURS],
    "quoted name": [b'"' + NAME + b'"=' + VALUE],
    "a space before the equals sign": [NAME + b" =" + VALUE],
    "no name": [b"=" + OURS],
    "a comma for a semicolon": [b"a=1, " + OURS],
    "a comma in front": [b"," + OURS],
    "a Unicode space in front": [b"\xe2\x80\x80" + OURS],
    "a no-break space in front": [b"\xa0" + OURS],
    "a vertical tab in front": [b"\x0b" + OURS],
    "a Unicode space behind the name": [NAME + b"\xc2\xa0=" + VALUE],
    "white space for a semicolon": [b"a=1 " + OURS],
    "a Unicode space for a semicolon": [b"a=1\xe2\x80\x83" + OURS],
    "no name behind another": [b"a=1; =" + OURS],
    "a quote behind a comma": [b'a=1,"' + NAME + b'"=' + VALUE],
    "as a value beside it": [b"a=" + OURS + b"; " + OURS],
    "named in a value beside it": [b"a=/docs/" + NAME + b"; " + OURS],
    "$Version": [b"$Version=1; " + OURS],
    "$Version in another line": [b"$Version=1", OURS],
    "$Path behind it": [OURS + b"; $Path=/"],
    "another letter case beside it": [OURS + b"; __host-LOCUM-assumption=" + VALUE],
    "another letter case in another line": [b"__HOST-locum-ASSUMPTION=x", OURS],
}


@pytest.mark.parametrize("case", DOUBTFUL)
def test_what_has_two_readings_is_refused(case):
    """Some app would read ours there, or another one, so nobody says which counts."""
    assert AMBIGUOUS is find(*DOUBTFUL[case])[0]


@pytest.mark.parametrize(
    "piece", [STAFF, SIGN_IN, STAFF + b"; " + STAFF, b'"__Host-locum-staff"=x', b"__HOST-LOCUM-STAFF=1; " + STAFF]
)
def test_the_others_of_ours_decide_nothing_here(piece):
    """Also twice, quoted or in another letter case: they are taken out, and the request is what it would be without."""
    assert (None, [b"a=1; b=2"]) == find(b"a=1; " + piece + b"; b=2")


@pytest.mark.parametrize(
    "value",
    [b"", b"x", VALUE + b"A", VALUE[1:], b'"' + VALUE + b'"', VALUE[1:] + b"=", VALUE + b" ", VALUE[1:] + b"\xff"],
)
def test_a_value_that_we_never_make_is_a_claim_all_the_same(value):
    """It is told from no cookie at all, so that the browser is told to drop it; the store need not be asked."""
    found, left = find(NAME + b"=" + value + b"; a=1")
    assert (DenyReason.COOKIE_UNKNOWN, None, [b"a=1"]) == (found, digest_of(value), left)


def test_what_a_credential_says_of_itself_is_not_its_value():
    """In a log or a traceback."""
    assert VALUE.decode() not in repr(find(OURS))


@pytest.mark.parametrize(
    "line",
    [
        b"a=locum-" + b";" * 30_000,
        STAFF + b";" * 30_000,
        OURS + b";" * 30_000,
        b"__Host-locum-assumption=x" + b";$" * 15_000,
        b"; " * 15_000 + OURS,
        b"\x80" * 30_000 + STAFF,
        b" " * 30_000 + OURS,
        b",;" * 15_000 + b"a" + OURS,
    ],
    ids=range(8),
)
def test_a_line_costs_no_more_for_having_many_pieces(line):
    """As little as a search of it: nothing is made of each piece, and nothing is looked at again for each."""
    calls = steps_of(lambda: find(line))
    assert calls < 200


def steps_of(work):
    """Count the calls of Python's own and of built-in functions."""
    count = 0

    def note(_frame, event, _argument):
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def test_on_loopback_the_names_have_no_prefix_and_elsewhere_only_that_counts():
    """Without TLS browsers refuse the prefix; with it any neighbouring host may set the plain name."""
    assert (HELD, [b"a=1"]) == find(b"locum-assumption=" + VALUE + b"; a=1; locum-staff=x", cookies=PLAIN)
    assert None is find(OURS + b"; a=1", cookies=PLAIN)
    assert None is find(b"locum-assumption=" + VALUE)


BYTES = st.binary(max_size=12).map(lambda raw: raw.translate(None, b"\r\n\x00;$"))
THEIRS = st.lists(BYTES.map(lambda piece: b" " + piece), max_size=6)
SPOTS = st.lists(st.tuples(st.sampled_from([STAFF, SIGN_IN, b"__Host-locum-staff="]), st.integers(0, 6)), max_size=3)


@settings(max_examples=250, deadline=None)
@given(st.lists(THEIRS, min_size=1, max_size=3), SPOTS, st.integers(0, 6), st.integers(0, 2))
def test_the_others_keep_their_bytes_and_order(theirs, spots, at, line):
    """Put ours anywhere into any lines: what goes on is those lines as they were, save those that held ours alone."""
    mixed = [list(pieces) for pieces in theirs]
    mixed[line % len(mixed)].insert(at, b" " + OURS)
    for n, (piece, spot) in enumerate(spots):
        mixed[n % len(mixed)].insert(spot, piece)
    assumption, left = find(*(b";".join(pieces).strip(b" \t") for pieces in mixed))
    wanted = [
        b";".join(pieces).strip(b" \t")
        for pieces, before in zip(theirs, mixed, strict=True)
        if pieces == before or any(piece.strip(b" \t") for piece in pieces)
    ]
    assert (HELD, wanted) == (assumption, [value.rstrip(b" \t") for value in left])


BITS = st.one_of(
    st.sampled_from([b"; ", b";", b"=", b",", b'"', b" ", b"locum-", b"__Host-", NAME, OURS, STAFF, b"$V=1"]), BYTES
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.lists(BITS, max_size=12).map(b"".join), max_size=3))
def test_whatever_the_lines_hold_what_goes_on_is_theirs_and_holds_none_of_ours(lines):
    """The pieces that go on stood there in that order; read again there is nothing of ours among them."""
    found = find(*lines)
    if found is None or found[0] is AMBIGUOUS:
        return
    before = iter([piece for line in lines for piece in line.split(b";")])
    for piece in (piece for line in found[1] for piece in line.split(b";")):
        assert any(piece.strip(b" \t") == other.strip(b" \t") for other in before)
    assert find(*found[1]) in (None, (None, found[1]))


@pytest.mark.parametrize("value", [
    b"__Host-locum-assumption=x; Path=/; Secure", b" __Host-locum-assumption =x", b"\t__Host-locum-staff=", b"=__Host-locum-assumption=x",
    b"__Host-locum-staff", b"__host-LOCUM-assumption=x", b'"__Host-locum-assumption"=x', b"\xe2\x80\x80__Host-locum-staff=x", b"__Host-locum-sign-in=; Max-Age=0",
])  # fmt: skip
def test_the_app_cannot_set_one_of_ours(value):
    """Whatever some browser passes over before a name."""
    assert COOKIES.is_set(value)


@pytest.mark.parametrize("value", [
    b"session=1; Path=/", b"a=__Host-locum-assumption", b"locum-assumption=x", b"x__Host-locum-assumption=1", b"__Host-locum-assumption2=1",
    b"a=1; Path=/__Host-locum-staff", b"", b";__Host-locum-staff=1",
])  # fmt: skip
def test_the_apps_own_cookies_are_let_alone(value):
    """Whatever they hold."""
    assert not COOKIES.is_set(value)


def test_one_cookie_is_read_by_its_exact_name_and_only_if_it_is_the_only_one():
    """As our own endpoints read it."""
    name = b"__Host-locum-staff"
    assert VALUE == read_one([b"a=1; " + STAFF + b"; b=2", b"c=3"], name)
    for lines in (
        [],
        [b"a=1"],
        [STAFF, STAFF],
        [STAFF + b"; " + STAFF],
        [b'"' + name + b'"=x'],
        [b"__host-locum-staff=x"],
    ):
        assert None is read_one(lines, name)


def test_a_value_of_ours_is_known_by_its_digest():
    """Of 256 bits in base64url and nothing else."""
    value = secrets.token_urlsafe(32).encode()
    assert sha256(value).digest() == digest_of(value)
    assert [None] * 3 == [digest_of(other) for other in (b"", value + b"=", value[:-1])]
