"""What the types of `[[console.account.sign_in]]` cannot say."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from gateway.config.account_sign_in import AccountSignIn
from gateway.config.check_sign_in import check_client
from gateway.config.model import Config, ConfigError
from gateway.config.urls import is_safe
from gateway.origin import Origin

_WHERE: Final = "console.account.sign_in"
_MOST: Final = {"idle_seconds": 28_800, "absolute_seconds": 28_800}
"""Until then somebody whom the customer has let go may be in: a working day, and no more."""
_MOST_TABLES: Final = 1000
_LONGEST_ISSUER: Final = 255
_ACCOUNT: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)


def check_account_sign_in(config: Config) -> None:
    """Raise ConfigError for what could let somebody in who is no administrator of that account, or nobody at all."""
    section = config.console.account
    tables = () if section is None else section.sign_in
    if not tables:
        return
    if not Origin.of(config.server.issuer).is_safe:
        raise ConfigError(f"{_WHERE}: goes with a server.issuer of https; http is for this machine's own loopback only")
    if len(tables) > _MOST_TABLES:
        raise ConfigError(f"{_WHERE}: {_MOST_TABLES} at the most")
    for index, table in enumerate(tables):
        where = f"{_WHERE}[{index}]"
        check_client(table, where)
        _check_issuer(table, where, config)
        _check_people(table, where)
        _check_accounts(table, where, config)
    _check_together(tables)


def _check_issuer(table: AccountSignIn, where: str, config: Config) -> None:
    if not is_safe(table.issuer) or "?" in table.issuer:
        raise ConfigError(
            f"{where}.issuer: must be an https URL without a query; http is for this machine's own loopback only"
        )
    if len(table.issuer) > _LONGEST_ISSUER:
        raise ConfigError(f"{where}.issuer: must have at most {_LONGEST_ISSUER} characters, for it is part of a name")
    if (table.issuer, table.client_id) in set(_other_clients(config)):
        raise ConfigError(
            f"{where}.client_id: is staff's, or the security team's: register another one there, so that nobody's"
            " sign-in to the one is ever good for the other"
        )


def _other_clients(config: Config) -> Iterator[tuple[str, str]]:
    staff, security = config.staff, config.console.security
    yield staff.issuer, staff.audience
    if staff.sign_in is not None:
        yield staff.issuer, staff.sign_in.client_id
    if security is not None and security.sign_in is not None:
        yield security.sign_in.issuer or staff.issuer, security.sign_in.client_id


def _check_people(table: AccountSignIn, where: str) -> None:
    if not table.claim:
        raise ConfigError(f"{where}.claim: name the claim that says who is an administrator")
    if not table.administrators:
        raise ConfigError(f"{where}.administrators: without a value of `{table.claim}` nobody could ever sign in")
    if "" in table.administrators:
        raise ConfigError(f"{where}.administrators: an empty value is nobody's")
    if table.max_age_seconds is not None and table.max_age_seconds <= 0:
        raise ConfigError(f"{where}.max_age_seconds: must be above 0, or left out")
    for name, most in _MOST.items():
        if not 0 < getattr(table, name) <= most:
            raise ConfigError(f"{where}.{name}: must be above 0 and at most {most}")


def _check_accounts(table: AccountSignIn, where: str, config: Config) -> None:
    for index, account in enumerate(table.accounts):
        is_one = account == config.accounts.fixed if config.accounts.source == "fixed" else _ACCOUNT.fullmatch(account)
        if not is_one:
            raise ConfigError(f"{where}.accounts[{index}]: no request could ever be for `{account}`")
    if not (table.accounts or table.account_claim):
        raise ConfigError(
            f"{where}.accounts: name them, or in `account_claim` the claim that says of which account somebody is"
        )


def _check_together(tables: tuple[AccountSignIn, ...]) -> None:
    """Raise ConfigError where two tables are for one account, or could make somebody of the one the other's."""
    taken: dict[str, int] = {}
    issuers = Counter(table.issuer for table in tables)
    for index, table in enumerate(tables):
        # A table without accounts is for all that have none.
        for account in table.accounts or ("",):
            twin = taken.setdefault(account, index)
            if twin != index or table.accounts.count(account) > 1:
                what = f"`{account}` is" if account else "every other account is"
                raise ConfigError(f"{_WHERE}[{index}].accounts: {what} in {_WHERE}[{twin}] already")
        if issuers[table.issuer] > 1 and not table.account_claim:
            raise ConfigError(
                f"{_WHERE}[{index}].account_claim: another table has this issuer: without a claim that says of which"
                " account somebody is, an administrator of the one would be one of the other"
            )
