"""`locum demo`: the whole story on this machine, against a helpdesk that exists."""

import os
from pathlib import Path

import click


@click.command()
@click.option("--once", is_flag=True, help="Tell the story and end; 0 only if every step gave what it should.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a step.")
@click.option("--upstream", type=click.Choice(["demo", "django-helpdesk"]), default="demo", show_default=True)
@click.option(
    "--directory",
    metavar="PATH",
    type=click.Path(path_type=Path),
    default=Path("demo-data"),
    show_default=True,
    help="Where all of the demo's files are; made anew each time.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="The gateway's port.")
@click.option("--admin-port", type=click.IntRange(0, 65535), default=8081, show_default=True, help="Its admin port.")
@click.pass_context
def demo(
    context: click.Context, *, once: bool, as_json: bool, upstream: str, directory: Path, port: int, admin_port: int
) -> None:
    """Tell the story of account assumption, measured as it runs; then stay, to be tried out."""
    # Two helpdesks, an issuer and their story: no other command should wait for them to load.
    from gateway.demo.story.show import ShowError, show  # noqa: PLC0415 - the reason is above

    if os.environ.get("NO_COLOR"):
        context.color = False
    try:
        code = show(upstream, directory, port=port, admin_port=admin_port, stay=not once, as_json=as_json)
    except ShowError as exc:
        raise click.ClickException(str(exc)) from exc
    context.exit(code)
