"""The entry point of the command `locum`."""

import gc
import signal


def main() -> None:
    """Run the command line."""
    # To a gateway a hang-up means a reload, and it would end one that is still being imported. So it waits for somebody
    # who hears it: `gateway.cli.root` and `gateway.workers.hang_up` let it through.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})

    # What is imported stays, and is half of what there is to do: `gateway.workers.collector.begin` spares it.
    gc.disable()

    from gateway.cli.root import cli  # noqa: PLC0415 - see above

    cli(prog_name="locum")


if __name__ == "__main__":
    main()
