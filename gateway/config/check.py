"""What the types of the configuration cannot say."""

import ipaddress

from gateway.config.model import Config, ConfigError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


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
    if unknown := set(config.identity.plain) - {"subject", "actor", "account", "assumption"}:
        raise ConfigError(f"identity.plain.{min(unknown)}: known are subject, actor, account and assumption")
    for where, seconds, most in (
        ("tokens.lifetime_seconds", config.tokens.lifetime_seconds, 900),
        ("identity.assertion_seconds", config.identity.assertion_seconds, 60),
        ("grants.fact_ttl_seconds", config.grants.fact_ttl_seconds, 2),
        ("grants.absent_ttl_seconds", config.grants.absent_ttl_seconds, 2),
    ):
        if not 0 < seconds <= most:
            raise ConfigError(f"{where}: must be above 0 and at most {most}")


def _check_accounts(config: Config) -> None:
    accounts = config.accounts
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
        if catch.network:
            parse_network(catch.network, f"catch[{index}].network")


def _check_staff(config: Config) -> None:
    if not config.staff.rules:
        raise ConfigError("staff.rules: without a rule nobody could ever stand in; add a [[staff.rules]] table")
    for index, rule in enumerate(config.staff.rules):
        if not (rule.subject or rule.group or rule.claim) or (rule.claim is None) != (rule.value is None):
            raise ConfigError(f"staff.rules[{index}]: set `subject`, `group`, or `claim` with `value`")


def parse_address(text: str, where: str) -> tuple[str, int]:
    """Return host and port of `host:port` or `[v6]:port`."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{where}: `{text}` is not host:port")
    return host.strip("[]"), int(port)


def parse_network(text: str, where: str) -> Network:
    """Return the network that a CIDR text names."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as exc:
        raise ConfigError(f"{where}: `{text}` is not a network such as 10.0.0.0/8") from exc
