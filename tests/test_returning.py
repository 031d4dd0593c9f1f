"""Where a sign-in leads back to: one of our own pages, byte for byte, and nowhere else."""

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.staff.sign_in.returning import HOME, read_return

GOOD = [
    "/.locum/",
    "/.locum/session",
    "/.locum/console/accounts/acme-1",
    "/.locum/console/accounts/acme_1~x/",
    "/.locum/console?account=acme&after=2026-11-23&q=a+b%20c",
    "/.locum/signing",
    "/.locum/a?next=%2Fb:c,d",
]
TRICKY = [
    # somewhere else
    "https://evil.example/",
    "HTTPS://evil.example/.locum/",
    "//evil.example/.locum/",
    "///evil.example/.locum/",
    "////evil.example",
    "http:evil.example",
    "https:/evil.example",
    "https:///evil.example",
    "evil.example",
    ".evil.example/.locum/",
    "@evil.example/.locum/",
    "javascript:alert(1)//.locum/",
    "data:text/html,/.locum/",
    "/.locum/@evil.example",
    # backslashes, which browsers read as slashes
    "\\\\evil.example\\.locum\\",
    "/\\evil.example/.locum/",
    "\\/evil.example",
    "/.locum\\..\\..\\evil.example",
    "/.locum/\\evil.example",
    "/.locum//evil.example",
    # characters that browsers drop, or that end a line
    "/\t/evil.example/.locum/",
    "/\n/evil.example",
    "/\r\n/evil.example",
    "\t//evil.example",
    " //evil.example",
    "\x00//evil.example",
    "/.locum/\r\nSet-Cookie: a=b",
    "/.locum/\r\nLocation: https://evil.example",
    "/.locum/a\x00b",
    "/.locum/a b",
    "/.locum/\x7f",
    "/.locum/\n",
    # dot segments, in every spelling
    "/.locum/..//evil.example",
    "/.locum/../evil",
    "/.locum/./",
    "/.locum/a/../../../evil",
    "/.locum/%2e%2e/%2e%2e/evil",
    "/.locum/.%2e/",
    "/.locum/%2E%2E%2Fevil.example",
    "/.locum/..;/evil",
    "/./.locum/",
    "/../.locum/",
    # escapes
    "/%2f/evil.example",
    "/%5cevil.example",
    "%2f%2fevil.example",
    "/.locum/%0d%0aSet-Cookie:%20a=b",
    "/.locum/%2f%2fevil.example",
    "/.locum/%00",
    "/%2elocum/",
    # look-alikes of slashes and dots
    "/\uff0fevil.example",
    "/\u2215evil.example",
    "/.locum/\u3002\u3002/",
    "/\uff0elocum/",
    "/.locum/\u202eevil",
    "/.locum/é",
    # our origin, but none of our pages
    "/",
    "",
    "/tickets/1",
    "/.locum",
    "/.locumx/",
    "/.LOCUM/",
    "/.locum/#fragment",
    "/.locum/a#//evil.example",
    "/.locum/?a?b",
    "/.locum/?a=<script>",
    "/.locum/?a=\"onload=",
    "/.locum/;//evil.example",
    "?/.locum/",
    # in a circle
    "/.locum/sign-in",
    "/.locum/sign-in?return=/.locum/sign-in",
    "/.locum/sign-in/callback?code=x&state=y",
    "/.locum/Sign-In",
    "/.locum/sign-out",
    # too long
    "/.locum/" + "a" * 512,
]  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_a_page_of_ours_is_returned_to(text):
    """Byte for byte as it was asked for."""
    assert text == read_return(text)


@pytest.mark.parametrize("text", TRICKY, ids=range(len(TRICKY)))
def test_whatever_else_leads_home(text):
    """No open redirect, whichever parser reads it."""
    assert HOME == read_return(text)


@given(text=st.text(st.sampled_from("/\\.locum:@%2ef5c?#;\t\n\r\x00 aevil,&=\u3002"), max_size=24))
def test_no_text_leads_off_our_own_pages(text):
    """As a browser resolves it, with whatever a browser strips, it stays below `/.locum/` of the same origin."""
    for wanted in (text, f"/.locum/{text}", f"/.locum/a?{text}"):
        led = urlsplit(urljoin("https://assume.example/.locum/sign-in/callback", read_return(wanted)))
        assert ("https", "assume.example") == led[:2]
        assert led.path.startswith("/.locum/")
        assert not {"", ".", ".."} & set(led.path.split("/")[1:-1])
