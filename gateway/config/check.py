"""What the types of the configuration cannot say."""

import ipaddress
import re
from urllib.parse import urlsplit

from gateway.config.model import Config, ConfigError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # RFC 9110 section 5.6.2
# What a message is made of: whoever sets or strips one of these makes another message of it.
_FRAMING = frozenset(
    {"connection", "content-length", "expect", "host", "te", "trailer", "transfer-encoding", "upgrade"}
)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_MOST_SECONDS = 86400


def check(config: Config) -> None:
    """Raise ConfigError for what the types cannot say."""
    for where, listen in (("listen", config.server.listen), ("admin_listen", config.server.admin_listen)):
        parse_address(listen, f"server.{where}")
    for index, network in enumerate(config.server.trusted_proxies):
        parse_network(network, f"server.trusted_proxies[{index}]")
    if not config.server.issuer.startswith(("https://", "http://")) or config.server.issuer.endswith("/"):
        raise ConfigError("server.issuer: must be an http(s) URL without a slash at its end")
    _check_accounts(config)
    _check_catch(config)
    _check_staff(config)
    _check_headers(config)
    _check_limits(config)


def _check_headers(config: Config) -> None:
    identity = config.identity
    if unknown := set(identity.plain) - {"subject", "actor", "account", "assumption"}:
        raise ConfigError(f"identity.plain.{min(unknown)}: known are subject, actor, account and assumption")
    named = [("accounts.header", config.accounts.header)] if config.accounts.header else []
    named += [("identity.header", identity.header)]
    named += [(f"identity.plain.{what}", name) for what, name in identity.plain.items()]
    named += [(f"identity.strip[{index}]", name) for index, name in enumerate(identity.strip)]
    named += [(f"catch[{index}].header", catch.header) for index, catch in enumerate(config.catch) if catch.header]
    for where, name in named:
        # Folded as apps fold names: `Content_Length` would strip the real one.
        if _HEADER_NAME.fullmatch(name) is None or re.sub("[^a-z0-9]", "-", name.lower()) in _FRAMING:
            raise ConfigError(f"{where}: `{name}` is not the name of a header that can say this")


def _check_limits(config: Config) -> None:
    for where, seconds, most in (
        ("tokens.lifetime_seconds", config.tokens.lifetime_seconds, 900),
        ("identity.assertion_seconds", config.identity.assertion_seconds, 60),
        ("grants.fact_ttl_seconds", config.grants.fact_ttl_seconds, 2),
        ("grants.absent_ttl_seconds", config.grants.absent_ttl_seconds, 2),
        ("server.shutdown_seconds", config.server.shutdown_seconds, _MOST_SECONDS),
        ("upstream.connect_timeout_seconds", config.upstream.connect_timeout_seconds, _MOST_SECONDS),
        ("upstream.response_timeout_seconds", config.upstream.response_timeout_seconds, _MOST_SECONDS),
        ("upstream.idle_timeout_seconds", config.upstream.idle_timeout_seconds, _MOST_SECONDS),
        ("upstream.max_connections", config.upstream.max_connections, 65535),
        ("audit.segment_mib", config.audit.segment_mib, 65536),
        ("audit.checkpoint_seconds", config.audit.checkpoint_seconds, _MOST_SECONDS),
    ):
        if not 0 < seconds <= most:
            raise ConfigError(f"{where}: must be above 0 and at most {most}")


def _check_accounts(config: Config) -> None:
    accounts = config.accounts
    if not accounts.host.isascii():
        raise ConfigError("accounts.host: must be ASCII; an international name is written as xn--…")
    if accounts.source == "host" and accounts.host.count("{account}") != 1:
        raise ConfigError("accounts.host: must hold `{account}` once, such as {account}.helpdesk.example")
    if accounts.source == "header" and not (accounts.header and config.server.trusted_proxies):
        raise ConfigError("accounts.header: name the header, and in server.trusted_proxies who may send it")
    if accounts.source == "fixed" and not accounts.fixed:
        raise ConfigError("accounts.fixed: name the one account")


def _check_catch(config: Config) -> None:
    for index, catch in enumerate(config.catch):
        if not (catch.header or catch.host or catch.network):
            raise ConfigError(f"catch[{index}]: set at least one of `header`, `host` and `network`")
        if not catch.host.isascii():
            raise ConfigError(f"catch[{index}].host: must be ASCII; an international name is written as xn--…")
        if catch.network:
            parse_network(catch.network, f"catch[{index}].network")


def _check_staff(config: Config) -> None:
    if not _is_safe(config.staff.issuer):
        raise ConfigError("staff.issuer: must be an https URL; http is for this machine's own loopback only")
    if not config.staff.rules:
        raise ConfigError("staff.rules: without a rule nobody could ever stand in; add a [[staff.rules]] table")
    for index, rule in enumerate(config.staff.rules):
        if not (rule.subject or rule.group or rule.claim) or (rule.claim is None) != (rule.value is None):
            raise ConfigError(f"staff.rules[{index}]: set `subject`, `group`, or `claim` with `value`")


def _is_safe(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    )


def parse_address(text: str, where: str) -> tuple[str, int]:
    """Return host and port of `host:port` or `[v6]:port`."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or re.fullmatch(r"[0-9]{1,5}", port) is None or int(port) > 65535:
        raise ConfigError(f"{where}: `{text}` is not host:port")
    return host, int(port)


def parse_network(text: str, where: str) -> Network:
    """Return the network that a CIDR text names."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as exc:
        raise ConfigError(f"{where}: `{text}` is not a network such as 10.0.0.0/8") from exc
