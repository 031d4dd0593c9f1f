"""What keeps a gateway from starting without being a fault of ours: whoever starts one tells it as it is."""

from gateway.audit.log import JournalError
from gateway.config.model import ConfigError
from gateway.stores.store import StoreError

START_ERRORS = (ConfigError, StoreError, JournalError, OSError)
