"""`locum config`: is it right, and what is in force."""

import click
import msgspec

from gateway.cli.context import Context
from gateway.config.section import Secret
from gateway.profiles import load_profile
from gateway.tls import listener_context
from gateway.upstreams import read_upstreams


@click.group()
def config() -> None:
    """Check and show the configuration."""


@config.command()
@click.pass_obj
def check(context: Context) -> None:
    """Say whether the file of `locum --config` can be used as it stands; exits with 78 if not.

    Ports, the store and the data directory are not looked at.
    """
    found = context.config
    profile = load_profile(found.upstream.profile)
    urls = [address.url for address in read_upstreams(found)]
    if found.grants.http is not None:
        # It asks by HTTP, and brings aiohttp along.
        from gateway.grants.http_source import read_tls  # noqa: PLC0415

        read_tls(found.grants.http)
    if found.server.tls is not None:
        listener_context(found.server.tls)
    click.echo(f"ok: {', '.join(urls)} with profile {profile.name}, {len(profile.rules)} rules")


@config.command()
@click.pass_obj
def show(context: Context) -> None:
    """Print what is in force after the environment and the defaults, with secrets hidden."""
    document = msgspec.to_builtins(context.config, enc_hook=_hide)
    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())


def _hide(value: object) -> str:
    if isinstance(value, Secret):
        return "(hidden)"
    raise NotImplementedError
