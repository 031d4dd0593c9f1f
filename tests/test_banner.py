"""The banner over the app's pages, as bytes on the wire: who gets it, in which answers, and what else changes of them."""

import asyncio
import re
import time

import pytest

from tests.browser_world import ASSUMPTION, HOST, PAGE, open_browser
from tests.oracle import parse_responses
from tests.rawwire import chunked_response, hold, response

HTML = (b"Content-Type", b"text/html; charset=utf-8")
BODY = b"<!doctype html><title>Desk</title><body class=a><h1>Tickets</h1>"
NAVIGATION = (f"Accept: {PAGE}", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Fetch-Site: none")
PACKED = (
    "Accept-Encoding: gzip, br",
    'If-None-Match: "a"',
    "If-Modified-Since: x",
    "Range: bytes=0-1",
    'If-Range: "a"',
)


class App:
    """Answers as the test says."""

    def __init__(self):
        self.answer = response(BODY, headers=[HTML])

    def __call__(self, _request):
        return self.answer


@pytest.fixture
async def browser(tmp_path, request):
    app = App()

    def on(document):
        document["browser"] = {"banner": {"enabled": getattr(request, "param", True)}}

    async with open_browser(tmp_path, script=app, change=on) as browser:
        browser.app = app
        yield browser


async def test_a_page_says_who_stands_in_for_whom_until_when(browser):
    """Behind the body's tag, once; the rest of the page keeps its bytes, and the length is that of both."""
    answer = await browser.ask("/tickets/1", *NAVIGATION)
    before, after = answer.body.split(b"<table role=", 1)
    banner, after = (b"<table role=" + after).split(b"</table>", 1)
    assert (b"<!doctype html><title>Desk</title><body class=a>", b"<h1>Tickets</h1>") == (before, after)
    words = re.sub(r"<[^>]*>", "", banner.decode("ascii"))
    until = answer.headers["x-locum-expires"][:16].replace("T", " ")
    said = f"Dana Reyes stands in for maria of acme until {until} UTC, ticket SUP-1"
    assert f"{said} &middot; Why, how far, and the end of it" == words
    assert b'href="https://acme.helpdesk.example/.locum/session" target="_self"' in banner
    assert str(len(answer.body)) == answer.headers["content-length"]
    assert ("no-store", 1) == (answer.headers["cache-control"], answer.raw.count(b"\r\nContent-Length: "))


async def test_no_content_security_policy_has_a_say_in_it(browser):
    """It has no script, no style and nothing to load; the policies of the page go through as they are."""
    policies = [(b"Content-Security-Policy", b"default-src 'none'; sandbox"), (b"Content-Security-Policy", b"x")]
    browser.app.answer = response(BODY, headers=[HTML, *policies])
    answer = await browser.ask("/tickets/1", *NAVIGATION)
    banner = re.search(rb"<table.*</table>", answer.body)[0].lower()
    assert [] == re.findall(rb"\sstyle=|<style|<script|<link|<img|\son[a-z]+=|\ssrc=|javascript:", banner)
    for name, value in policies:
        assert b"\r\n%b: %b\r\n" % (name, value) in answer.raw


async def test_the_app_is_asked_for_the_whole_page_as_it_is(browser):
    """Neither packed, nor a part, nor only if the browser has it not: it has one without a banner, maybe."""
    await browser.ask("/tickets/1", *NAVIGATION, *PACKED)
    [seen] = browser.world.upstream.requests
    asked = [seen.values(name.encode()) for name in ("accept-encoding", "if-none-match", "if-modified-since")]
    assert ([[b"identity"], [], []], [], []) == (asked, seen.values(b"range"), seen.values(b"if-range"))


@pytest.mark.parametrize(
    "lines",
    [
        ("Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty"),
        ("Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"),
        ("Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"),
        # Over plain HTTP browsers do not say what they ask for, but such scripts do.
        (f"Accept: {PAGE}", "X-Requested-With: XMLHttpRequest"),
        (f"Accept: {PAGE}", "HX-Request: true"),
    ],
)
async def test_what_no_person_opens_is_left_as_it_is(browser, lines):
    """A script's piece of a page and a frame get none, and are asked for as the browser does."""
    answer = await browser.ask("/tickets/1", "Sec-Fetch-Site: same-origin", *lines, *PACKED)
    [seen] = browser.world.upstream.requests
    assert (BODY, [b"gzip, br"], [b"bytes=0-1"]) == (
        answer.body,
        seen.values(b"accept-encoding"),
        seen.values(b"range"),
    )


SCRIPTS = {
    "whatever comes": ("Accept: */*",),
    "JSON": ("Accept: application/json",),
    "nothing said": (),
}


@pytest.mark.parametrize("kind", SCRIPTS)
async def test_a_script_whose_browser_does_not_say_so_gets_none(browser, kind):
    """Over plain HTTP browsers send no `Sec-Fetch-Mode`: there what a page is asked for by says whose it is."""
    answer = await browser.ask("/tickets/1", *SCRIPTS[kind], *PACKED)
    [seen] = browser.world.upstream.requests
    assert (BODY, [b"gzip, br"]) == (answer.body, seen.values(b"accept-encoding"))


async def test_a_page_whose_browser_says_no_more_gets_one(browser):
    """A page that is asked for as one, by a browser that sends no `Sec-Fetch-Mode`."""
    assert 1 == (await browser.ask("/tickets/1", f"Accept: {PAGE}")).body.count(b"stands in for")


async def test_a_type_costs_no_more_than_its_bytes(browser):
    """Whoever has uploaded a file may have chosen what the app says of it."""
    kind = b"text/html; charset=" + b" " * 4000 + b'"'
    browser.app.answer = response(BODY, headers=[(b"Content-Type", kind)])
    began = time.process_time()
    answer = await browser.ask("/tickets/1", *NAVIGATION)
    assert (BODY, True) == (answer.body, time.process_time() - began < 2)


async def test_neither_customers_nor_tokens_get_one(browser):
    """Ordinary traffic is not touched at all, and a program gets what the app says."""
    token = await browser.world.token()
    plain, with_token = "\r\n".join(NAVIGATION), f"Authorization: Bearer {token}"
    head = f"GET /tickets/1 HTTP/1.1\r\nHost: acme.helpdesk.example\r\nConnection: close\r\n{plain}"
    for line in ("X-Nothing: here", with_token):
        raw = await browser.world.raw(f"{head}\r\nAccept-Encoding: gzip\r\n{line}\r\n\r\n".encode())
        assert raw.endswith(b"\r\n\r\n" + BODY)
        assert [b"gzip"] == browser.world.upstream.requests[-1].values(b"accept-encoding")


@pytest.mark.parametrize("browser", [False], indirect=True)
async def test_it_is_off_unless_it_is_asked_for(browser):
    """Then nothing of a page or of its request changes."""
    answer = await browser.ask("/tickets/1", *NAVIGATION, *PACKED)
    [seen] = browser.world.upstream.requests
    assert (BODY, [b"gzip, br"]) == (answer.body, seen.values(b"accept-encoding"))


LEFT = {
    "packed": ([HTML, (b"Content-Encoding", b"gzip")], b"200 OK"),
    "packed twice": ([HTML, (b"Content-Encoding", b"identity"), (b"Content-Encoding", b"br")], b"200 OK"),
    "a part": ([HTML, (b"Content-Range", b"bytes 0-63/64")], b"206 Partial Content"),
    "a redirect": ([HTML, (b"Location", b"/b")], b"302 Found"),
    "a download": ([HTML, (b"Content-Disposition", b"attachment; filename=a.html")], b"200 OK"),
    "kept as it is": ([HTML, (b"Cache-Control", b"private, No-Transform")], b"200 OK"),
    "of UTF-16": ([(b"Content-Type", b"text/html; charset=UTF-16LE")], b"200 OK"),
    "of ISO-2022-JP": ([(b"Content-Type", b'text/html; charset="iso-2022-jp"')], b"200 OK"),
    "of an unclear type": ([(b"Content-Type", b"text/html; charset=utf-8; charset=utf-16")], b"200 OK"),
    "of two types": ([HTML, (b"Content-Type", b"text/plain")], b"200 OK"),
    "of XML": ([(b"Content-Type", b"application/xhtml+xml")], b"200 OK"),
    "of JSON": ([(b"Content-Type", b"application/json")], b"200 OK"),
    "of no type": ([], b"200 OK"),
}


@pytest.mark.parametrize("kind", LEFT)
async def test_an_answer_that_it_would_break_is_left_as_it_is(browser, kind):
    """With its validator and its digest, which are still true."""
    lines, status = LEFT[kind]
    browser.app.answer = response(BODY, status=status, headers=[*lines, (b"ETag", b'"a"'), (b"Digest", b"d")])
    answer = await browser.ask("/tickets/1", *NAVIGATION)
    assert (BODY, '"a"', "d") == (answer.body, answer.headers["etag"], answer.headers["digest"])


@pytest.mark.parametrize(
    "kind",
    [b"text/html", b'Text/HTML ; Charset="UTF-8"', b"text/html;charset=windows-1252", b"text/html; charset=Shift_JIS;"],
)
async def test_every_page_that_has_ascii_in_it_gets_one(browser, kind):
    """Whatever the app calls the charset; also a page that says what went wrong."""
    browser.app.answer = response(BODY, status=b"404 Not Found", headers=[(b"Content-Type", kind)])
    answer = await browser.ask("/tickets/1", *NAVIGATION)
    assert (404, 1) == (answer.status, answer.body.count(b"stands in for"))


async def test_what_is_said_of_the_bytes_goes_where_they_change(browser):
    """A validator, a digest, an offer of parts: none of it fits the page with the banner; the other lines stay."""
    said = [(b"ETag", b'"a"'), (b"Accept-Ranges", b"bytes"), (b"Digest", b"d"), (b"Repr-Digest", b"r")]
    browser.app.answer = response(BODY, headers=[HTML, *said, (b"Content-MD5", b"m"), (b"X-Frame-Options", b"DENY")])
    answer = await browser.ask("/tickets/1", *NAVIGATION)
    assert {"content-type", "content-length", "x-frame-options"} <= answer.headers.keys()
    assert set() == answer.headers.keys() & {"etag", "accept-ranges", "digest", "repr-digest", "content-md5"}


async def test_what_people_are_called_is_text(browser):
    """Markup in a name or a ticket, and letters outside ASCII, are shown as they are in a page of any charset."""
    await browser.sign_in(subject="eve", name="\u202e<script>alert(1)</script> Zoë")
    await browser.stand_in(ticket='\u202e"><img src=x onerror=alert(1)>')
    answer = await browser.ask("/tickets/1", *NAVIGATION)
    assert answer.body.isascii()
    assert (b"&lt;script&gt;alert(1)&lt;/script&gt; Zo&#235;" in answer.body, 0, 0) == (
        True,
        answer.body.count(b"<script"),
        answer.body.count(b"<img"),
    )
    assert rb"<bdi>\u202e&#34;&gt;&lt;img src=x onerror=alert(1)&gt;</bdi>" in answer.body
    assert b"&#8238;" not in answer.body, "what would turn it is spelled"


async def test_a_head_request_and_an_answer_without_content_stay_without(browser):
    """There is no page to put it into, and the length that the app tells is its own."""
    browser.app.answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 64\r\n\r\n"
    line = f"Cookie: {ASSUMPTION}={browser.held}"
    head = "\r\n".join(["HEAD /tickets/1 HTTP/1.1", f"Host: {HOST}", *NAVIGATION, line, "", ""])
    answer = await browser.world.raw(head.encode(), to_head=True)
    assert (b"200", 1) == (answer[9:12], answer.count(b"\r\nContent-Length: 64\r\n"))
    browser.app.answer = b"HTTP/1.1 204 No Content\r\nContent-Type: text/html\r\n\r\n"
    answer = await browser.ask("/tickets/1", *NAVIGATION)
    assert (204, b"") == (answer.status, answer.body)


async def test_a_page_that_comes_slowly_is_shown_as_it_comes(browser):
    """The head is there before the app has sent a body; the length goes, and trailers that spoke of the content."""
    go_on = asyncio.Event()
    first, then = b"<!doctype html><link rel=stylesheet href=/a.css><bo", b"dy><h1>Tickets</h1>"
    framed = b"%x\r\n%b\r\n"
    start = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
    end = b"0\r\nX-Sum: 5\r\n\r\n"
    browser.app.answer = hold(
        go_on, before=start + framed % (len(first), first), after=framed % (len(then), then) + end
    )
    line = f"Cookie: {ASSUMPTION}={browser.held}"
    head = "\r\n".join(["GET /tickets/1 HTTP/1.1", f"Host: {HOST}", *NAVIGATION, line])
    await browser.world.note_sent(f"{head}\r\n\r\n".encode())
    reader, writer = await asyncio.open_connection("127.0.0.1", browser.world.port)
    try:
        async with asyncio.timeout(10):
            writer.write(f"{head}\r\n\r\n".encode())
            early = await reader.readuntil(b"href=/a.css>\r\n")
            assert b"stands in" not in early
            go_on.set()
            late = await reader.readuntil(b"0\r\n\r\n")
    finally:
        writer.close()
        await writer.wait_closed()
    assert (1, 0) == (late.count(b"stands in for"), late.count(b"X-Sum"))
    assert late.index(b"<body>") < late.index(b"<table role=") < late.index(b"<h1>")


async def test_a_page_in_pieces_has_its_bytes_and_one_banner(browser):
    """However it is cut, and if there is no place in it for a banner, too."""
    page = b"<!doctype html><script>'<body>'</script><!-- <body> --><body>" + b"<p>text" * 10
    for size in (1, 7, 64):
        pieces = [page[at : at + size] for at in range(0, len(page), size)]
        browser.app.answer = chunked_response(*pieces, headers=[HTML], trailers=[(b"X-Sum", b"5")])
        [answer] = await parse_responses((await browser.ask("/tickets/1", *NAVIGATION)).raw)
        before, _, after = bytes(answer.body).partition(b"<table role=")
        assert page == before + after.partition(b"</table>")[2]
        assert before.endswith(b"--><body>")
    none = b"<script>'<body>'"
    browser.app.answer = chunked_response(*[bytes([byte]) for byte in none], headers=[HTML], trailers=[(b"X", b"5")])
    [answer] = await parse_responses((await browser.ask("/tickets/1", *NAVIGATION)).raw)
    assert none == answer.body


async def test_it_goes_when_the_assumption_does(browser):
    """Behind the end the page is refused, and with the cookie gone it is any visitor's."""
    await browser.post("/.locum/session/end")
    refused = await browser.ask("/tickets/1", *NAVIGATION)
    assert (403, 0) == (refused.status, refused.body.count(b"<table role="))
    browser.held = ""
    assert BODY == (await browser.ask("/tickets/1", *NAVIGATION)).body
