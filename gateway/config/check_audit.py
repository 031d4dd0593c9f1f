"""What the types of the section `[audit]` cannot say."""

from operator import attrgetter

from gateway.config.audit import Audit, RetentionSection
from gateway.config.check_sinks import check_sinks
from gateway.config.check_witnesses import check_witnesses
from gateway.config.model import ConfigError

_DAY = 86400
_MOST_HOURS = 8784  # a year
_MOST_DAYS = 36525  # a century
_MOST_MIB = 1024 * 1024 * 1024
# Above 0 and at most so much: what is more is a slip of the hand, or as good as no limit.
_MOST = {
    "segment_mib": 65536,
    "checkpoint_seconds": _DAY,
    "patience_seconds": 30,
}


def check_audit(audit: Audit) -> None:
    """Raise ConfigError for what the types cannot say."""
    for where, most in _MOST.items():
        if not 0 < attrgetter(where)(audit) <= most:
            raise ConfigError(f"audit.{where}: must be above 0 and at most {most}")
    if not 0 <= audit.verify_hours <= _MOST_HOURS:
        raise ConfigError(f"audit.verify_hours: must be 0, never, or at most {_MOST_HOURS}")
    _check_retention(audit.retention)
    check_witnesses(audit.witnesses)
    check_sinks(audit.sinks)


def _check_retention(retention: RetentionSection) -> None:
    bounds = [("days", retention.days, _MOST_DAYS), ("account_mib", retention.account_mib, _MOST_MIB)]
    for index, account in enumerate(retention.accounts):
        bounds += [(f"accounts[{index}].days", account.days or 0, _MOST_DAYS)]
        bounds += [(f"accounts[{index}].mib", account.mib or 0, _MOST_MIB)]
        if account.account in {other.account for other in retention.accounts[:index]}:
            raise ConfigError(f"audit.retention.accounts[{index}]: `{account.account}` is named twice")
    for where, value, most in bounds:
        if not 0 <= value <= most:
            raise ConfigError(f"audit.retention.{where}: must be 0, for ever, or at most {most}")
