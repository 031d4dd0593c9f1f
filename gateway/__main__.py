"""The entry point of the command `locum`."""

from gateway.cli.root import cli


def main() -> None:
    """Run the command line."""
    cli(prog_name="locum")


if __name__ == "__main__":
    main()
