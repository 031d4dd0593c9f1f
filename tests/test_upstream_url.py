"""The upstream's URL: where to connect, and nothing that would be left out silently."""

import ssl

import pytest

from gateway.proxy.pool import UpstreamAddress, parse_upstream_url


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("http://127.0.0.1:3000", ("127.0.0.1", 3000, None)),
        ("http://app", ("app", 80, None)),
        ("HTTP://App.Example/", ("app.example", 80, None)),
        ("http://[::1]:3000", ("::1", 3000, None)),
        ("unix:/run/app.sock", ("", 0, "/run/app.sock")),
    ],
)
def test_an_upstream_url_says_where(url, where):
    """Host and port, or a path."""
    address = parse_upstream_url(url)

    assert where == (address.host, address.port, address.path)


def test_https_goes_with_a_tls_context_only():
    """A context that is forgotten or not used is a mistake in the configuration."""
    context = ssl.create_default_context()

    assert UpstreamAddress(url="https://app", host="app", port=443, tls=context) == parse_upstream_url(
        "https://app", tls=context
    )
    for url, tls in (("https://app", None), ("http://app", context), ("unix:/run/app.sock", context)):
        with pytest.raises(ValueError, match="TLS"):
            parse_upstream_url(url, tls=tls)


@pytest.mark.parametrize(
    "url",
    [
        "", "app:3000", "//app", "ftp://app", "http://", "http:///x", "http://:80", "http://app:0", "http://app:x",
        "http://app:70000", "http://app/path", "http://app?q", "http://app/?", "http://app#f", "http://user@app",
        "http://user:secret@app", "http://app\n", "http://a pp", "http://\u212aelvin", "http://[::1", "unix:", "unix:app.sock",
        "unix://run/app.sock", "unix:/run/\0",
    ],
)  # fmt: skip
def test_anything_else_is_no_upstream_url(url):
    """Nothing is guessed, and nothing is silently left out."""
    with pytest.raises(ValueError, match="upstream URL"):
        parse_upstream_url(url)
