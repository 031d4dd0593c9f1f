"""How the command line words what it shows."""

from datetime import datetime

import click

from gateway.config.model import Config
from gateway.stores.store import AccountRecord
from policy.grants import GrantState, state


def found(record: AccountRecord | None, account: str) -> AccountRecord:
    """Return the record, or end the command if there is no such account."""
    if record is None:
        raise click.ClickException(f"there is no account `{account}`: add it with `locum account add`")
    return record


def refuse_kept_by_app(config: Config) -> None:
    """End the command if what it would change is kept by the app."""
    if config.grants.kept_by_app:
        raise click.ClickException("the app keeps this setting (`grants.source`), and is asked for it: change it there")


def describe_account(record: AccountRecord, *, now: datetime) -> str:
    """Return one line on an account."""
    account, grant = record.account, record.grant
    match state(account, grant, now):
        case GrantState.TRIAL:
            setting = "always assumable, because it is a trial"
        case GrantState.ON if grant is not None:
            until = f"until {grant.expires_at:%Y-%m-%d %H:%M:%S} UTC" if grant.expires_at else "until switched off"
            setting = f"on, {grant.duration}, {until}, {' '.join(sorted(grant.permissions))} ({grant.id})"
        case GrantState.EXPIRED:
            setting = "off, the time has run out"
        case _:
            setting = "off"
    attributes = "".join(f", {name}={value}" for name, value in sorted(account.attributes))
    return f"{account.id}: {account.type}{', suspended' if account.suspended else ''}{attributes}; assumption {setting}"
