"""The gateway's public keys, fetched with the standard library and kept."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

import jwt

ALGORITHMS = {"OKP": "EdDSA", "EC": "ES256", "RSA": "RS256"}
"""The one algorithm of each type of key."""

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_MOST_BYTES = 64 * 1024
_TIMEOUT_SECONDS = 5.0
_PATIENCE_SECONDS = 1.0
_FRESH_SECONDS = 60.0
_KEPT_SECONDS = 600.0
_REFETCH_SECONDS = 60.0
_RETRY_SECONDS = 1.0
_RETRY_KNOWN_SECONDS = 10.0
_LEAST_RSA_BITS = 2048


class _Fetch:
    """One try to fetch the keys, on a thread of its own."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.done = threading.Event()


class KeySet:
    """Knows the keys at an address; safe for several threads.

    They are fetched when one is first asked for, again after a minute, so that a key that was withdrawn is forgotten
    by then, and for an id that is not known, of which any number cause one fetch a minute at the most. While they
    cannot be fetched, those that are known go on counting until ten minutes after they were, and then none counts; for
    ids that are not known one try a second is made at the most. One thread fetches, and whoever asks for a known key
    waits for it one second at the most; for one that is not known, five.
    """

    def __init__(self, url: str, *, ticks: Callable[[], float] = time.monotonic) -> None:
        """Use an https address, http on this machine's loopback, or a `file:`; raises ValueError for any other.

        No redirect is followed, and no proxy of the environment is used.
        """
        parts = urlsplit(url)
        if not (parts.scheme in ("https", "file") or (parts.scheme == "http" and parts.hostname in _LOOPBACK)):
            raise ValueError("the keys must be asked for over https, or on this machine's own loopback")
        self._url = url
        self._ticks = ticks
        self._opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, Any]] = {}
        self._known_until = self._stale_at = self._quiet_until = float("-inf")
        self._had_one = False
        self._running: _Fetch | None = None

    def find(self, kid: str) -> tuple[str, Any] | None:
        """Return the algorithm and the key of this id, or None if no key that the gateway publishes is known by it."""
        with self._lock:
            now = self._ticks()
            known = self._look_up(kid, now)
            if now < (self._quiet_until if known is None else self._stale_at):
                return known
            fetch = self._running
            # One that takes longer than it can is not waited for: its thread may have been lost in a fork.
            if fetch is None or now >= fetch.began + 2 * _TIMEOUT_SECONDS:
                fetch = self._running = self._begin(now)
        patience = _TIMEOUT_SECONDS if known is None else _PATIENCE_SECONDS
        fetch.done.wait(max(0.0, fetch.began + patience - now))
        with self._lock:
            return self._look_up(kid, self._ticks())

    def _look_up(self, kid: str, now: float) -> tuple[str, Any] | None:
        return self._known.get(kid) if now < self._known_until else None

    def _begin(self, now: float) -> _Fetch:
        fetch = _Fetch(now)
        threading.Thread(target=self._refresh, args=(fetch,), name="locum-keys", daemon=True).start()
        return fetch

    def _refresh(self, fetch: _Fetch) -> None:
        found = None
        try:
            with suppress(OSError, ValueError, HTTPException, RecursionError):
                found = self._fetch()
        finally:
            with self._lock:
                if self._running is fetch:
                    self._running = None
                    self._take(found, fetch)
            fetch.done.set()

    def _take(self, found: dict[str, tuple[str, Any]] | None, fetch: _Fetch) -> None:
        """Keep what a fetch has found, None if it has failed; the pauses begin now, when it is over."""
        now = self._ticks()
        if found is None:
            self._quiet_until = now + _RETRY_SECONDS
            if now >= self._stale_at:
                self._stale_at = now + _RETRY_KNOWN_SECONDS
            return
        self._known = found
        self._known_until = fetch.began + _KEPT_SECONDS
        self._stale_at = fetch.began + _FRESH_SECONDS
        # A key that was made just behind the first fetch is to be found at once.
        self._quiet_until = now + (_REFETCH_SECONDS if self._had_one else _RETRY_SECONDS)
        self._had_one = True

    def _fetch(self) -> dict[str, tuple[str, Any]]:
        with self._opener.open(self._url, timeout=_TIMEOUT_SECONDS) as answer:
            body = answer.read(_MOST_BYTES + 1)
        document = json.loads(body) if len(body) <= _MOST_BYTES else None
        listed = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(listed, list):
            raise ValueError("not a key set")  # noqa: TRY004 - the gateway's fault, and no bug here
        found = [(entry["kid"], key) for entry in listed if (key := _read(entry)) is not None]
        # Of two keys with one id nobody can say which is meant.
        return {kid: key for kid, key in found if [each for each, _ in found].count(kid) == 1}


def _read(entry: Any) -> tuple[str, Any] | None:
    """Return algorithm and key of an entry that may verify signatures, or None (RFC 7517 section 4)."""
    if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str) or entry.get("use", "sig") != "sig":
        return None
    algorithm = ALGORITHMS.get(str(entry.get("kty")))
    if algorithm is None or entry.get("alg", algorithm) != algorithm or "d" in entry:
        return None
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    if algorithm != "RS256" and entry.get("crv") not in ("Ed25519", "P-256"):
        return None
    try:
        key = jwt.PyJWK(entry, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    return None if algorithm == "RS256" and key.key_size < _LEAST_RSA_BITS else (algorithm, key)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Whoever moves the keys could be anybody: the address is the operator's, and no other."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None
