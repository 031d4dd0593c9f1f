"""What the types of the section `[console]` cannot say."""

import re

import msgspec

from gateway.config.check_account_sign_in import check_account_sign_in
from gateway.config.console import ConsoleAccount, WhoFields
from gateway.config.model import Config, ConfigError
from policy.documents import is_pointer

_WHERE = "console.account"
# As it goes over the wire: a path and maybe a query, of which nothing is escaped or resolved on the way.
_TARGET = re.compile(r"/(?!/)[A-Za-z0-9._~!$&'()*+,;=:@%/-]*(?:\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?", re.ASCII)
_NAME = re.compile(r"[!#$%&'*+.^`|~0-9A-Za-z-]+", re.ASCII)
_VALUE = re.compile(r"[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?", re.ASCII)
# What we say ourselves, what makes another message of it, and what is never anybody's but ours.
_NEVER = re.compile(
    r"(?i)accept|accept-encoding|connection|content-.*|cookie|expect|forwarded|host|if-.*|keep-alive|proxy-.*|range|te"
    r"|trailer|transfer-encoding|upgrade|x-forwarded-for|x-locum-.*"
)
_SECONDS = {"timeout_seconds": (0.05, 10), "remember_seconds": (0, 10)}


def check_console(config: Config) -> None:
    """Raise ConfigError for what could let somebody choose who is no administrator, or nobody at all."""
    section = config.console.account
    if section is None:
        return
    check_account_sign_in(config)
    # Where every account has a provider of its own, the app need not be asked.
    if section.who_am_i or not section.sign_in:
        _check_question(section, is_one_account=config.accounts.source == "fixed")
    if not config.grants.administrator_roles:
        raise ConfigError("grants.administrator_roles: without a role nobody could ever use [console.account]")
    identity = config.identity
    _check_sent(
        section,
        ours={
            name.lower()
            for name in (identity.header, *identity.plain.values(), *identity.strip, config.accounts.header)
        },
    )
    for name, (least, most) in _SECONDS.items():
        if not least <= getattr(section, name) <= most:
            raise ConfigError(f"{_WHERE}.{name}: must be at least {least} and at most {most}")


def _check_question(section: ConsoleAccount, *, is_one_account: bool) -> None:
    if _TARGET.fullmatch(section.who_am_i) is None or section.who_am_i.startswith("/."):
        raise ConfigError(f"{_WHERE}.who_am_i: must be a path of the app such as /api/whoami, without a host")
    _check_fields(section.fields, is_one_account=is_one_account)


def _check_fields(fields: WhoFields, *, is_one_account: bool) -> None:
    for name, pointer in msgspec.to_builtins(fields).items():
        if pointer and not is_pointer(pointer):
            raise ConfigError(f"{_WHERE}.fields.{name}: must be a JSON pointer such as /user/{name}, or empty")
    for name in ("user", "roles"):
        if not getattr(fields, name):
            raise ConfigError(f"{_WHERE}.fields.{name}: the answers have to hold it: say where")
    if not (fields.account or is_one_account):
        why = "or whoever is known in one account would count in another"
        raise ConfigError(f"{_WHERE}.fields.account: say where the answers name the account, {why}")


def _check_sent(section: ConsoleAccount, *, ours: set[str]) -> None:
    named = [(f"pass_headers[{index}]", name) for index, name in enumerate(section.pass_headers)]
    named += [("headers", name) for name in section.headers]
    seen: set[str] = set()
    for key, name in named:
        if _NAME.fullmatch(name) is None or _NEVER.fullmatch(name) or name.lower() in ours:
            raise ConfigError(f"{_WHERE}.{key}: `{name}` is not a header that can be sent on")
        if name.lower() in seen:
            raise ConfigError(f"{_WHERE}.{key}: `{name}` is there twice, in whatever letters")
        seen.add(name.lower())
    for name, value in section.headers.items():
        if _VALUE.fullmatch(value) is None:
            raise ConfigError(f"{_WHERE}.headers: what `{name}` is to say must be one line of ASCII")
