"""What is to be kept, as the configuration and the store say it."""

from gateway.audit.removal.retention import Keeping, Terms
from gateway.config.audit import RetentionSection
from gateway.stores.holding import Holding

_MIB = 1024 * 1024


def read_retention(section: RetentionSection) -> Terms:
    """Return the terms of the section `[audit.retention]`."""
    usual = Keeping(days=section.days, bytes=section.account_mib * _MIB)
    accounts = {
        account.account: Keeping(
            days=usual.days if account.days is None else account.days,
            bytes=usual.bytes if account.mib is None else account.mib * _MIB,
        )
        for account in section.accounts
    }
    return Terms(usual=usual, accounts=accounts)


async def held_accounts(store: Holding) -> frozenset[str]:
    """Return the accounts under legal hold; raises StoreError, and then nothing may be taken away."""
    return frozenset(hold.account for hold in await store.list_holds())
