"""The options that several commands of the journal take."""

from pathlib import Path

import click


def default_journal(context: click.Context, _parameter: click.Parameter, value: Path | None) -> Path:
    """Take the directory from the configuration where the root command has read one."""
    directory = value or getattr(context.obj, "journal_directory", None)
    if directory is None:
        raise click.UsageError("say where the journal is: `--journal DIR`")
    if not Path(directory).is_dir():
        raise click.UsageError(f"`{directory}` is no directory")
    return Path(directory)


journal_option = click.option(
    "--journal",
    metavar="DIR",
    type=click.Path(path_type=Path),
    callback=default_journal,
    help="The journal's directory; by default the configured one.",
)
