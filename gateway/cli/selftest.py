"""`locum selftest`: what Locum promises, measured where it runs."""

import json
import math
import ssl
from collections.abc import Sequence

import aiohttp
import click

from gateway.cli.context import Context, run_async
from gateway.cli.office import open_office
from gateway.clock import boot_seconds, utc_now
from gateway.config.model import Config
from gateway.proxy.triage import AccountReader
from gateway.selftest.revocation import ACCOUNT, Bench, Node, SelfTestError, measure
from gateway.tokens.keys import open_keys, read_terms

_ORIGIN = "selftest"


@click.group()
def selftest() -> None:
    """Measure in this deployment what Locum promises."""


@selftest.command()
@click.option("--node", "urls", multiple=True, metavar="URL", help="A public listener; by default this machine's.")
@click.option("--rounds", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Revocations.")
@click.option("--bound", type=click.FloatRange(0.01, 60), default=1.0, show_default=True, help="Seconds allowed.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a node, times in milliseconds.")
@click.option("--ca", type=click.Path(exists=True, dir_okay=False), help="Whom the nodes' certificates come from.")
@click.pass_obj
def revocation(
    context: Context, *, urls: tuple[str, ...], rounds: int, bound: float, as_json: bool, ca: str | None
) -> None:
    """Switch an account of its own on and off, and print how long each node went on letting staff in.

    Fails if anything took longer than the bound.
    """
    config = context.config
    if config.accounts.source == "fixed" or config.grants.kept_by_app:
        raise click.ClickException(
            "this needs an account of its own that can be switched here: accounts.source must not be `fixed`, and"
            " grants.source must be `own`"
        )
    nodes = [Node(url=url.rstrip("/")) for url in urls or (_own_url(config),)]
    try:
        run_async(_measure(config, nodes, rounds=rounds, bound=bound, ca=ca))
    except* SelfTestError as group:
        raise click.ClickException(str(group.exceptions[0])) from group
    for node in nodes:
        click.echo(_as_json(node) if as_json else _as_text(node))
    worst = max(max(node.seconds_to_last_request + node.seconds_to_cut) for node in nodes)
    if worst > bound or any(sum(node.bytes_late) for node in nodes):
        raise click.ClickException(f"it took {1000 * worst:.0f} ms, and {1000 * bound:.0f} ms are allowed")
    if not as_json:
        click.echo(f"ok: nothing took longer than {1000 * bound:.0f} ms")


async def _measure(config: Config, nodes: Sequence[Node], *, rounds: int, bound: float, ca: str | None) -> None:
    verify = ssl.create_default_context(cafile=ca)
    connector = aiohttp.TCPConnector(ssl=verify, limit=0)
    async with (
        open_office(config, origin=_ORIGIN) as office,
        aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        keys = await open_keys(office.store, read_terms(config), now=utc_now())
        bench = Bench(
            store=office.store,
            grants=office.grants,
            key=keys.signing,
            issuer=config.server.issuer,
            host=AccountReader(config.accounts, ()).host_of(ACCOUNT),
            role=config.grants.administrator_roles[0],
            clock=utc_now,
            ticks=boot_seconds,
        )
        await measure(bench, nodes, http, rounds=rounds, bound_seconds=bound)


def _own_url(config: Config) -> str:
    return f"{'https' if config.server.tls else 'http'}://{config.server.listen}"


def _as_text(node: Node) -> str:
    return f"""{node.url}: {len(node.seconds_to_cut)} revocations, from the acknowledgement on
  to the last request let through  {_in_words(node.seconds_to_last_request)}
  to the cut of an open stream     {_in_words(node.seconds_to_cut)}
  bytes on it later than the bound {sum(node.bytes_late)}"""


def _as_json(node: Node) -> str:
    document = {
        "node": node.url,
        "revocations": len(node.seconds_to_cut),
        "last_request_ms": _shares(node.seconds_to_last_request),
        "stream_cut_ms": _shares(node.seconds_to_cut),
        "bytes_late": sum(node.bytes_late),
    }
    return json.dumps(document)


def _in_words(seconds: Sequence[float]) -> str:
    return "  ".join(f"{name} {value:7.1f} ms" for name, value in _shares(seconds).items())


def _shares(seconds: Sequence[float]) -> dict[str, float]:
    """Return each share in milliseconds, by the nearest rank, so that none is better than what was measured."""
    ordered = sorted(seconds)
    return {name: round(1000 * ordered[math.ceil(share * len(ordered)) - 1], 1) for name, share in _SHARES.items()}


_SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
