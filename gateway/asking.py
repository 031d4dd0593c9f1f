"""How Locum itself asks others over HTTP: the app for a setting, the issuer for its keys."""

import ssl

import aiohttp

from gateway.resolving import OwnThreads


def open_asker(*, most: int, tls: ssl.SSLContext | None = None, unpack: bool = True) -> aiohttp.ClientSession:
    """Return a way to ask, at most `most` times at once, that takes nothing over from one question to the next.

    Each question has a connection of its own, because on one that was kept a stray answer would be taken for that to
    the next question. No cookie is kept, no proxy of the environment used, and no deadline set: the caller has one.
    Without `tls`, whoever is asked over TLS is checked as the system does. Whoever opens it closes it.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=most, ssl=tls or True, force_close=True, resolver=OwnThreads(most)),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=unpack,
        timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_read=None, sock_connect=None),
    )
