"""Where a page's body begins, by every trick that a page may play with what looks like a tag."""

import time
from itertools import product

import pytest

from gateway.proxy.markup import MOST_BYTES, MOST_TOKENS, BodyStart

HERE = b"\xc2\xa7"
"""Stands in a page where its body begins; taken out before it is read."""

FOUND = [
    b"<!doctype html><html><head><title>A</title></head><body>\xc2\xa7<p>x",
    b"<BODY CLASS=a>\xc2\xa7x",
    b"<body\n\tdata-a='>' data-b=\">\" c = d>\xc2\xa7x",
    b"<body a=b>\xc2\xa7>x",
    b"<body a='\"' b=\"'>'\">\xc2\xa7x",
    b'<body a"b>\xc2\xa7c">x',
    b"<body/>\xc2\xa7x",
    b"<body =a=>\xc2\xa7x",
    b"\xef\xbb\xbf \n<html><body>\xc2\xa7x",
    b"<!-- <body> --><body>\xc2\xa7x",
    b"<!--><body>\xc2\xa7-->",
    b"<!---><body>\xc2\xa7-->",
    b"<!-- a --!><body>\xc2\xa7x",
    b"<!-- a -- > <body> --><body>\xc2\xa7x",
    b"<!----><body>\xc2\xa7x",
    b"<?php <body ?><body>\xc2\xa7x",
    b"</ <body><body>\xc2\xa7x",
    b"<!x <body><body>\xc2\xa7x",
    b"<![CDATA[<body>\xc2\xa7]]><body>",
    b"<script>'<body>' < 1</script><body>\xc2\xa7x",
    b"<script><!--\nf()\n//--></script><body>\xc2\xa7x",
    b"<script>'</scripts><body>'</SCRIPT\n><body>\xc2\xa7x",
    b'<script src="a>b"></script><body>\xc2\xa7x',
    b"<style>/* <body> */</style><title><body></title><noscript><body></noscript><body>\xc2\xa7x",
    b'<meta name="a" content="<body>"><link rel=x href=y><base href=/ target=_blank><body>\xc2\xa7x',
    # A body whose tag was left out begins with the first thing that only a body can hold.
    b"<!doctype html><title>A</title>\xc2\xa7<h1>Tickets</h1>",
    b"<!doctype html><title>A</title>\xc2\xa7hello <b>you</b>",
    b"<head></head>\xc2\xa7</body>",
    b"<title>A</title>\xc2\xa7<svg><body></svg>",
    b"<title>A</title>\xc2\xa7<textarea><body></textarea>",
    b"<title>A</title>\xc2\xa7<iframe><body></iframe>",
    b"\xc2\xa7plain text <body>",
]
NEVER = [
    b"",
    b"<html><head>",
    b"<!-- <body>",
    b"<script>'<body>'",
    b"<title><body>",
    b"<body a='>",
    b"<script><!-- <script></script><body></script> --></script><body>x",
    b"<template><body></template><body>x",
    b"<frameset><frame src=a></frameset>",
    "<html><body>x".encode("utf-16"),
    "<html><body>x".encode("utf-16-le"),
    "<html><body>x".encode("utf-16-be"),
    b"<title>\x1b$B<body>\x1b(B</title><body>x",
    b"<style>" + b"a" * MOST_BYTES + b"</style><body>x",
    b" " * MOST_BYTES + b"<p",
    b"</a>" * (MOST_TOKENS + 1) + b"<body>x",
]


def read(*pieces):
    """What went on before the place, and behind it; None for no place."""
    start, before, behind = BodyStart(), b"", None
    for piece in pieces:
        passed, after = start.feed(piece)
        if behind is None:
            before, behind = before + passed, after
        else:
            assert after is None, "it is found once"
            behind += passed
    rest = start.rest()
    return (before + rest, None) if behind is None else (before, behind + rest)


@pytest.mark.parametrize("marked", FOUND)
def test_the_place_is_where_a_browser_begins_the_body(marked):
    """However the page is cut on its way."""
    before, _, behind = marked.partition(HERE)
    page = before + behind
    assert (before, behind) == read(page)
    for cut in range(1, len(page)):
        assert (before, behind) == read(page[:cut], page[cut:])
    assert (before, behind) == read(*[page[at : at + 1] for at in range(len(page))])


@pytest.mark.parametrize("page", NEVER, ids=lambda page: repr(page[:30]))
def test_a_page_that_cannot_be_read_for_sure_is_left_alone(page):
    """All of it goes on, in order."""
    assert (page, None) == read(page)
    assert (page, None) == read(*[page[at : at + 1000] for at in range(0, len(page), 1000)])
    if len(page) < 1000:
        assert (page, None) == read(*[page[at : at + 1] for at in range(len(page))])


def test_a_page_is_not_held_back():
    """What has been read for sure goes on at once; a browser may load the styles that the head names."""
    start = BodyStart()
    assert (b"<!doctype html><link rel=stylesheet href=/a.css>\n", None) == start.feed(
        b"<!doctype html><link rel=stylesheet href=/a.css>\n<scr"
    )
    assert (b"<script src=b></script><body>", b"<p>") == start.feed(b"ipt src=b></script><body><p>")
    assert (b"anything", None) == start.feed(b"anything")


def test_an_attribute_that_never_ends_costs_no_more_than_its_bytes():
    """No page of hostile markup is read in more than one pass for each piece that it came in."""
    page = b"<body " + b"a=b/ c = '" * 20_000
    assert (page, None) == read(page)


LONG = 128 * 1024
BEGINNINGS = (b"", b"<script>'", b"<style>", b"<title>", b"<!--", b"<?", b"<html ", b"<html a='", b"<html a")
REPEATED = (
    b"<!--", b"-->", b"<!--<", b"</scrip", b"<script", b"</", b"--", b"<", b"a b=c ", b"a='", b'="', b"= ", b" ", b"/",
    b"<!---->", b"<meta>", b"</a>", b"<title>x</title>",
)  # fmt: skip


@pytest.mark.parametrize("size", [LONG * 2, 16])
@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_no_page_costs_more_than_its_bytes(beginning, size):
    """Whatever is repeated, nested or never ended in it, and however it is cut: each in less than a second."""
    for repeated, end in product(REPEATED if size > LONG else REPEATED[:5], (b"", b"'></script><body>x")):
        page = beginning + repeated * (LONG // len(repeated)) + end
        start, began = BodyStart(), time.process_time()
        for at in range(0, len(page), size):
            start.feed(page[at : at + size])
        start.rest()
        assert time.process_time() - began < 1, (repeated, end)


def test_a_tag_that_comes_in_a_thousand_pieces_is_given_up():
    """It would be read anew for each of them; one of a usual length is read."""
    long, usual = (b"<body " + b"a=b " * times + b">" for times in (20_000, 500))
    assert (long + b"x", None) == read(*[long[at : at + 16] for at in range(0, len(long), 16)], b"x")
    assert (usual, b"x") == read(*[usual[at : at + 16] for at in range(0, len(usual), 16)], b"x")


def test_content_is_looked_through_once():
    """An end that is cut in two is found all the same, behind any number of pieces."""
    page = b"<style>" + b"a{}" * 20_000 + b"</style><!--" + b"- " * 20_000 + b"--><body>"
    for size in (1, 7, 1460):
        assert (page, b"x") == read(*[page[at : at + size] for at in range(0, len(page), size)], b"x")
