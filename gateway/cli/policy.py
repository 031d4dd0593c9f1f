"""`locum policy`: what a profile says about a request, and why."""

import click

from gateway.profiles import load_profile, shipped
from policy.scopes import ScopeError, covers, format_scopes, parse_scopes
from policy.target import TargetError, parse_target


@click.group()
def policy() -> None:
    """Read app profiles."""


@policy.command(name="list")
def list_() -> None:
    """Name the profiles that come with Locum."""
    for name in shipped():
        profile = load_profile(name)
        click.echo(f"{name}: {profile.description} ({len(profile.rules)} rules, {format_scopes(profile.scopes)})")


@policy.command()
@click.option("--profile", "name", required=True, help="A shipped profile's name, or a .toml file.")
@click.option("--method", default="GET", show_default=True)
@click.option("--path", "target", required=True, help="The request target, with its query.")
@click.option("--scope", default="", help="The scopes held, with spaces between.")
def explain(name: str, method: str, target: str, scope: str) -> None:
    """Say which rules speak about a request, and whether the scopes suffice; exits with 1 if they do not."""
    profile = load_profile(name)
    try:
        held = parse_scopes(scope)
        rules = profile.match(method, parse_target(target.encode("utf-8")))
    except (ScopeError, TargetError) as exc:
        raise click.ClickException(str(exc)) from exc
    for rule in rules:
        click.echo(f"{rule.id}: " + (f"never: {rule.never}" if rule.scope is None else f"needs {rule.scope}"))
    suffices = bool(rules) and all(rule.scope is not None and covers(held, rule.scope) for rule in rules)
    click.echo("permitted" if suffices else "refused" if rules else "refused: no rule speaks about it")
    if not suffices:
        raise click.exceptions.Exit(1)
