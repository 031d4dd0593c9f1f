"""What the types of `[[audit.witnesses]]` cannot say."""

import re
from collections.abc import Sequence

from gateway.audit.witnesses.cosignature import parse_key
from gateway.config.audit import Witness
from gateway.config.model import ConfigError
from gateway.config.urls import is_in_the_open, split_url

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", re.ASCII)
_TOKEN = re.compile(r"[!-~]{1,1024}", re.ASCII)
_LEAST_SECONDS, _MOST_SECONDS = 0.1, 86400
_OTHERS = {"http": ("path",), "file": ("url", "token", "ca_file", "key")}


def check_witnesses(witnesses: Sequence[Witness]) -> None:
    """Raise ConfigError for what the types cannot say."""
    names = [witness.name for witness in witnesses]
    for number, witness in enumerate(witnesses):
        where = f"audit.witnesses[{number}]"
        if _NAME.fullmatch(witness.name) is None:
            raise ConfigError(f"{where}.name: it names files and metrics: use letters, digits, hyphens, underscores")
        if witness.name in names[:number]:
            raise ConfigError(f"{where}.name: `{witness.name}` is another one's, too")
        if not _LEAST_SECONDS <= witness.every_seconds <= _MOST_SECONDS:
            raise ConfigError(f"{where}.every_seconds: must be at least {_LEAST_SECONDS} and at most {_MOST_SECONDS}")
        for key in _OTHERS[witness.kind]:
            if getattr(witness, key):
                raise ConfigError(f'{where}.{key}: means nothing to a witness of kind "{witness.kind}"')
        if witness.kind == "file":
            if not witness.path:
                raise ConfigError(
                    f"{where}.path: must be given: a file that the operator of this machine cannot change"
                )
        else:
            _check_http(witness, where)


def _check_http(witness: Witness, where: str) -> None:
    if (parts := split_url(witness.url)) is None:
        raise ConfigError(
            f"{where}.url: must be an http or https URL with a host, without a fragment and a user (give a `token`)"
        )
    if is_in_the_open(parts):
        raise ConfigError(f"{where}.url: must be https, except to this machine: anybody on the way could answer")
    if witness.token is not None and _TOKEN.fullmatch(witness.token.reveal()) is None:
        raise ConfigError(f"{where}.token: must be 1 to 1024 characters of ASCII without spaces")
    if witness.key:
        try:
            parse_key(witness.key)
        except ValueError as error:
            raise ConfigError(f"{where}.key: {error}") from error
