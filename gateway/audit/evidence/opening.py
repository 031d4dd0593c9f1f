"""Makes what watches over the evidence, for one configuration."""

from contextlib import AsyncExitStack
from pathlib import Path

from gateway.audit.evidence.verdict import DIRECTORY
from gateway.audit.evidence.watch import Watch
from gateway.config.model import Config
from gateway.state import State
from gateway.tasks import run_on

_HOUR = 3600.0


def open_watch(stack: AsyncExitStack, config: Config, state: State) -> None:
    """Verify the journal now and then until `stack` ends, unless `audit.verify_hours` is 0; heed witnesses always."""
    watch = Watch(
        config.journal_directory,
        config.journal_key,
        Path(config.server.data_directory) / DIRECTORY,
        log_to=state.journal,
        conflicts=lambda: {name: tally.conflicts for name, tally in state.witnesses.tallies.items()},
        every_seconds=config.audit.verify_hours * _HOUR,
        clock=state.clock,
    )
    run_on(stack, watch.run(), name="watch over the evidence")
