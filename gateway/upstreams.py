"""The upstreams: from the configuration to their pools, and which of them a request is for."""

import asyncio
import re
from collections.abc import Callable, Iterable
from typing import Protocol

from gateway.config.model import Config, ConfigError, UpstreamTls
from gateway.proxy.headers import values
from gateway.proxy.pool import Pool, UpstreamAddress, parse_upstream_url
from gateway.proxy.triage import name_of
from gateway.proxy.wire import Body, RequestHead, ResponseHead, Trailers, Upstream, UpstreamFault, UpstreamResponse
from gateway.tls import upstream_context

# RFC 3986 section 2.3: written plain or escaped, these mean the same, and nothing else does.
_ESCAPE = re.compile(rb"%(?:2[DdEe]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[Ff]|7[Ee])")


class Counted(Upstream, Protocol):
    """An upstream that knows how many connections it has."""

    @property
    def open_count(self) -> int:
        """How many there are, in use or idle."""

    def apart(self) -> "Counted":
        """Return the same way, over connections that it does not share; closed with this one."""


def open_upstreams(config: Config, faults: dict[int, int] | None = None) -> Counted:
    """Return the way to the app, connected to nothing yet; raises ConfigError for a URL or a file that cannot be used.

    Of `faults` the number of each status grows with every request that is not answered.

    Whoever opens it closes it. It belongs to the event loop it is used in.
    """
    addresses = read_upstreams(config)

    def count(fault: UpstreamFault) -> None:
        if faults is not None:
            faults[fault.status] += 1

    pools = [Pool(address, limits=config.upstream.pool, on_fault=count) for address in addresses]
    if not config.upstreams:
        return pools[0]
    return Upstreams(
        pools[0],
        [(other.host, other.path, pool) for other, pool in zip(config.upstreams, pools[1:], strict=True)],
    )


def read_upstreams(config: Config) -> list[UpstreamAddress]:
    """Return where each upstream is, that of [upstream] first; raises ConfigError."""
    main = config.upstream
    others = [_read(other.url, other.tls, f"upstreams[{index}]") for index, other in enumerate(config.upstreams)]
    return [_read(main.url, main.tls, "upstream"), *others]


class Upstreams:
    """Several upstreams as one `Upstream`: each request goes to the most specific whose host and path it has."""

    def __init__(self, default: Counted, others: Iterable[tuple[str, str, Counted]]) -> None:
        """Take what fits nothing to `default`; the others come with their host and path prefix, empty for any.

        A host alone is more specific than a path alone. No two may have the same of both.
        """
        self._default = default
        self._others = list(others)
        self._by_host: dict[bytes, list[tuple[bytes, Counted]]] = {}
        for host, path, upstream in self._others:
            self._by_host.setdefault(name_of(host.encode("ascii")), []).append((path.encode("ascii"), upstream))
        for candidates in self._by_host.values():
            candidates.sort(key=lambda candidate: len(candidate[0]), reverse=True)

    @property
    def open_count(self) -> int:
        """How many connections there are to all of them."""
        return sum(upstream.open_count for upstream in self._all())

    def apart(self) -> "Upstreams":
        """See `Counted.apart`."""
        return Upstreams(self._default.apart(), [(host, path, other.apart()) for host, path, other in self._others])

    def choose(self, head: RequestHead) -> Upstream:
        """Return whom a request is for.

        The target is read as it stands, but that a letter may be escaped: for staff, what was judged reads the same.
        Dot segments, doubled and encoded slashes are not resolved.
        """
        hosts = values(head.headers, b"host")
        path = _ESCAPE.sub(_unescape, head.target.partition(b"?")[0])
        for host in (name_of(hosts[0]) if len(hosts) == 1 else b"", b""):
            for prefix, upstream in self._by_host.get(host, ()):
                if path == prefix or path.startswith(prefix + b"/") or not prefix:
                    return upstream
        return self._default

    async def send(
        self,
        head: RequestHead,
        body: Body | None,
        *,
        upgrade: bool = False,
        inform: Callable[[ResponseHead], None] | None = None,
        trailers: Trailers | None = None,
    ) -> UpstreamResponse:
        """See `Upstream.send`."""
        return await self.choose(head).send(head, body, upgrade=upgrade, inform=inform, trailers=trailers)

    def where(self, head: RequestHead) -> str:
        """See `Upstream.where`."""
        return self.choose(head).where(head)

    async def close(self) -> None:
        """Close every connection of every upstream."""
        await asyncio.gather(*(upstream.close() for upstream in self._all()))

    def _all(self) -> list[Counted]:
        return [self._default, *(upstream for candidates in self._by_host.values() for _, upstream in candidates)]


def _read(url: str, tls: UpstreamTls | None, where: str) -> UpstreamAddress:
    secure = url.lower().startswith("https:")
    context = upstream_context(tls or UpstreamTls(), f"{where}.tls") if secure else None
    try:
        return parse_upstream_url(url, tls=context, server_name=tls.server_name if tls is not None else "")
    except ValueError as exc:
        raise ConfigError(f"{where}.url: {exc}") from exc


def _unescape(found: re.Match[bytes]) -> bytes:
    return bytes((int(found[0][1:], 16),))
