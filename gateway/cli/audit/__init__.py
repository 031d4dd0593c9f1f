"""`locum audit`: the commands that read and judge the journal."""

import importlib

import click

# Each command, and the module of this package that holds it as `<name>_command`, hyphens being underscores.
_MODULES = {
    "check-receipt": "evidence",
    "consistency": "evidence",
    "erase": "erase",
    "export": "export",
    "hold": "retention",
    "holds": "retention",
    "evidence": "evidence",
    "fetch": "database",
    "receipt": "evidence",
    "release": "retention",
    "reindex": "reading",
    "retain": "retention",
    "search": "reading",
    "show": "reading",
    "stats": "reading",
    "tail": "reading",
    "verify": "verify",
}


class Audit(click.Group):
    """Imports a command's module when somebody asks for it."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return sorted(_MODULES)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """Return a command, or None if there is none of that name."""
        if name not in _MODULES:
            return None
        module = importlib.import_module(f"gateway.cli.audit.{_MODULES[name]}")
        command: click.Command = getattr(module, f"{name.replace('-', '_')}_command")
        return command


@click.group(cls=Audit)
def audit() -> None:
    """Follow, search and verify the journal."""
