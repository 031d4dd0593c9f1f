"""What the types of the configuration cannot say."""

import ipaddress
import re
from operator import attrgetter
from urllib.parse import urlsplit

import msgspec

from gateway.config.check_audit import check_audit
from gateway.config.check_console import check_console
from gateway.config.check_notices import check_notices
from gateway.config.check_rules import check_rules
from gateway.config.check_security import check_security
from gateway.config.check_sign_in import check_sign_in
from gateway.config.model import (
    Config,
    ConfigError,
    GrantsHttp,
    GrantsWebhook,
    OtherUpstream,
    UpstreamTls,
)
from gateway.config.urls import is_safe
from gateway.grants.patience import FACTS_SECONDS
from policy.documents import is_pointer
from policy.rules import is_attribute

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # RFC 9110 section 5.6.2
# What a message is made of: whoever sets or strips one of these makes another message of it.
_FRAMING = frozenset(
    {"connection", "content-length", "expect", "host", "te", "trailer", "transfer-encoding", "upgrade"}
)
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")  # every IPv4 address, as IPv6 writes it (RFC 4291 section 2.5.5.2)
_DAY = 86400
_MOST_WORKERS = 256
# Above 0 and at most so much: what is more is a slip of the hand, or as good as no limit.
_MOST = {
    "tokens.lifetime_seconds": 900,
    "browser.lifetime_seconds": 43_200,
    "browser.idle_seconds": 43_200,
    "identity.assertion_seconds": 60,
    "grants.fact_ttl_seconds": 2,
    "grants.absent_ttl_seconds": 2,
    "grants.requests.max_per_staff_and_account": 1000,
    "grants.requests.max_per_account": 1000,
    "grants.requests.max_per_staff": 1000,
    "server.shutdown_seconds": _DAY,
    "staff.max_age_seconds": 366 * _DAY,
    "staff.max_assumptions": 10_000,
    "staff.events.max_age_seconds": _DAY,
    "server.worker_deadline_seconds": _DAY,
    "limits.header_bytes": 1024 * 1024,
    "limits.header_lines": 10_000,
    "limits.header_timeout_seconds": _DAY,
    "limits.idle_timeout_seconds": _DAY,
    "limits.body_idle_timeout_seconds": _DAY,
    "limits.min_bytes_per_second": 1024 * 1024,
    "limits.write_stall_timeout_seconds": _DAY,
    "limits.linger_timeout_seconds": 60,
    "limits.connections_per_peer": 1_000_000,
    "limits.max_connections": 1_000_000,
    "limits.max_in_flight": 1_000_000,
    "limits.in_flight_per_peer": 1_000_000,
    "limits.websockets_per_peer": 1_000_000,
    "limits.queue_timeout_seconds": _DAY,
    "limits.tls_handshakes_per_peer": 1_000_000,
    "limits.tls_handshake_timeout_seconds": 300,
    "upstream.connect_timeout_seconds": _DAY,
    "upstream.header_bytes": 1024 * 1024,
    "upstream.response_timeout_seconds": _DAY,
    "upstream.idle_timeout_seconds": _DAY,
    "upstream.request_stall_timeout_seconds": _DAY,
    "upstream.queue_timeout_seconds": _DAY,
    "upstream.unreachable_pause_seconds": 60,
    "upstream.max_connections": 65535,
    "upstream.max_idle_connections": 65535,
    "upstream.max_idle_age_seconds": _DAY,
    "upstream.max_age_seconds": 365 * _DAY,
    "upstream.max_websockets": 1_000_000,
    "store.timeout_seconds": FACTS_SECONDS,
    "store.write_timeout_seconds": 60,
    "store.min_connections": 1000,
    "store.max_connections": 1000,
}
_HOST = re.compile(r"[A-Za-z0-9._-]*[A-Za-z0-9_-]|\[[0-9A-Fa-f:.]+\]", re.ASCII)
# Behind which a name is read as an address (RFC 1123 section 2.1), so with an account before it, as any.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE | re.ASCII)
# Escapes and delimiters are left out: a prefix has one spelling.
_PREFIX = re.compile(r"(?:/(?!\.\.?(?:/|\Z))[A-Za-z0-9._~-]+)+", re.ASCII)
# What can be sent as it stands, but for the account: no escape is ours to make, and no user and fragment is sent.
_ASKED = re.compile(r"https?://[!$-;=?A-Z\[\]_a-z~{}]+", re.IGNORECASE | re.ASCII)
# What an account's name cannot make another's host of: more labels come behind it.
_ASKED_HOST = re.compile(r"[A-Za-z0-9.-]*\{account\}[A-Za-z0-9-]*(?:\.[A-Za-z0-9-]+)+(?::[0-9]+)?", re.ASCII)
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?", re.ASCII)
_LEAST_SECRET_BYTES = 32  # as long as what HMAC-SHA256 puts out (RFC 2104 section 3)
_MOST_WINDOW_SECONDS = 3600
_MOST_ASKING_SECONDS = 0.4  # of FACTS_SECONDS: storing what has changed is waited for as well
_MOST_ASKING = 1024
_LEAST_TOKEN = 32  # of base64url letters: 192 random bits
_BEARER = re.compile(rf"[A-Za-z0-9._~+/-]{{{_LEAST_TOKEN},1024}}=*", re.ASCII)
# RFC 8414 section 2: neither query nor fragment.
_ISSUER = re.compile(r"https?://[!$-.0-;=A-Z_a-z~\[\]]+(?:/[!$-;=@-Z_a-z~]*)?", re.ASCII)
# With a worker's number behind it a journal is called so; these are the journals of the command line.
_NODE = re.compile(r"(?!(?:cli|selftest)\Z)[A-Za-z0-9][A-Za-z0-9._-]{0,39}", re.ASCII)
_SERVER_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*|[0-9A-Fa-f:.]+", re.ASCII)


def check(config: Config) -> None:
    """Raise ConfigError for what the types cannot say."""
    for where, listen in (("listen", config.server.listen), ("admin_listen", config.server.admin_listen)):
        parse_address(listen, f"server.{where}")
    if config.server.listen == config.server.admin_listen and not config.server.listen.endswith(":0"):
        raise ConfigError("server.admin_listen: is server.listen as well: give it a port of its own")
    for index, network in enumerate(config.server.trusted_proxies):
        if _is_everybody(parse_network(network, where := f"server.trusted_proxies[{index}]")):
            raise ConfigError(f"{where}: `{network}` is everybody, whose word would count: name the proxies in front")
    if not _is_issuer(config.server.issuer):
        raise ConfigError(
            "server.issuer: must be an http(s) URL in ASCII, without query, fragment and user, and without a slash at"
            " its end"
        )
    if config.server.workers != "auto" and not 0 < config.server.workers <= _MOST_WORKERS:
        raise ConfigError(f'server.workers: must be "auto", or above 0 and at most {_MOST_WORKERS}')
    if _NODE.fullmatch(config.server.node) is None:
        raise ConfigError(
            "server.node: must be 1 to 40 letters, digits, dots, dashes and underscores, begin with a letter or a"
            " digit, and be neither `cli` nor `selftest`"
        )
    _check_accounts(config)
    _check_catch(config)
    _check_staff(config)
    _check_grants(config)
    _ = config.store.address
    _check_headers(config)
    _check_limits(config)
    _check_tls(config)
    _check_upstreams(config.upstreams)
    check_audit(config.audit)
    check_console(config)
    check_notices(config)
    check_security(config, parse_address(config.server.admin_listen, "server.admin_listen")[0])


def _is_issuer(text: str) -> bool:
    """Tell whether an address can be our own name, from which those of our endpoints are made."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    return bool(parts.hostname) and _ISSUER.fullmatch(text) is not None and not text.endswith("/")


def _check_grants(config: Config) -> None:
    grants = config.grants
    if grants.kept_by_app != (grants.http is not None):
        raise ConfigError('grants.source: "http" and the table [grants.http] go together')
    if not (grants.administrator_roles or grants.kept_by_app):
        raise ConfigError("grants.administrator_roles: without a role no administrator could ever choose anything")
    if grants.http is not None:
        _check_question(grants.http, "grants.http")
        _check_sent(grants.http, "grants.http")
        _check_answer(grants.http, "grants.http")
        _check_upstream_tls(grants.http.tls, "grants.http.tls", grants.http.url)
    if grants.webhook is not None:
        if grants.http is None:
            raise ConfigError('grants.webhook: goes with `source = "http"` only: all it says is that the app be asked')
        _check_webhook(grants.webhook, "grants.webhook")


def _is_everybody(network: Network) -> bool:
    return network.prefixlen == 0 or (isinstance(network, ipaddress.IPv6Network) and _MAPPED.subnet_of(network))


def _check_webhook(webhook: GrantsWebhook, where: str) -> None:
    for name, secret in (("secret", webhook.secret), ("previous_secret", webhook.previous_secret)):
        if secret is not None and len(secret.reveal().encode("utf-8")) < _LEAST_SECRET_BYTES:
            raise ConfigError(f"{where}.{name}: must have at least {_LEAST_SECRET_BYTES} bytes")
    if webhook.secret == webhook.previous_secret:
        raise ConfigError(f"{where}.previous_secret: is the secret itself: give the old one, or leave it out")
    if not 0 < webhook.window_seconds <= _MOST_WINDOW_SECONDS:
        raise ConfigError(f"{where}.window_seconds: must be above 0 and at most {_MOST_WINDOW_SECONDS}")
    if not is_pointer(webhook.account):
        raise ConfigError(f"{where}.account: must be a JSON pointer such as /account")


def _check_question(http: GrantsHttp, where: str) -> None:
    if _ASKED.fullmatch(http.url) is None or http.url.count("{account}") != 1:
        raise ConfigError(f"{where}.url: must be an ASCII URL without user or fragment, with `{{account}}` in it once")
    host = http.url.partition("://")[2].partition("/")[0].partition("?")[0]
    last = host.partition(":")[0].rpartition(".")[2]
    if "{account}" in host and (_ASKED_HOST.fullmatch(host) is None or _NUMBER.fullmatch(last) is not None):
        raise ConfigError(
            f"{where}.url: an account is one label of a host of yours, such as {{account}}.helpdesk.example"
        )
    # A name in place of the account: no account can make this machine's loopback of another host.
    if not is_safe(http.url.replace("{account}", "a")):
        raise ConfigError(
            f"{where}.url: must be an https URL with a host and a port that there can be; "
            "http is for this machine's own loopback only"
        )
    for name, most in (("timeout_seconds", _MOST_ASKING_SECONDS), ("max_connections", _MOST_ASKING)):
        if not 0 < getattr(http, name) <= most:
            raise ConfigError(f"{where}.{name}: must be above 0 and at most {most}")


def _check_sent(http: GrantsHttp, where: str) -> None:
    lines = [(f"{where}.headers", *line) for line in http.headers.items()]
    if http.credential is not None:
        lines.append((f"{where}.credential_header", http.credential_header, http.credential.reveal()))
    seen: set[str] = set()
    for key, name, value in lines:
        if name.lower() in seen:
            raise ConfigError(f"{key}: `{name}` is there twice, in whatever letters")
        seen.add(name.lower())
        if _HEADER_NAME.fullmatch(name) is None or name.lower() in _FRAMING:
            raise ConfigError(f"{key}: `{name}` is not the name of a header that can be sent")
        if _HEADER_VALUE.fullmatch(value) is None:
            raise ConfigError(f"{key}: what `{name}` is to say must be one line of ASCII")


def _check_answer(http: GrantsHttp, where: str) -> None:
    fields = msgspec.to_builtins(http.fields)
    attributes = fields.pop("attributes")
    for name in attributes:
        if not is_attribute(name, "…"):
            raise ConfigError(f"{where}.fields.attributes: `{name}` is not a name such as region")
    pointers = [*fields.items(), *((f"attributes.{name}", pointer) for name, pointer in attributes.items())]
    for name, pointer in pointers:
        if pointer and not is_pointer(pointer):
            raise ConfigError(f"{where}.fields.{name}: must be a JSON pointer such as /settings/{name}, or empty")
    if not (http.fields.assumable or http.fields.duration):
        raise ConfigError(f"{where}.fields: one of `assumable` and `duration` has to be there")
    for name, words in msgspec.to_builtins(http.words).items():
        if fields[name] and not words:
            raise ConfigError(f"{where}.words.{name}: without a word no answer could ever be read")


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
    for where, most in _MOST.items():
        value = attrgetter(where)(config)
        if value is not None and not 0 < value <= most:
            raise ConfigError(f"{where}: must be above 0 and at most {most}")
    if not 0 <= config.upstream.websocket_idle_timeout_seconds <= _DAY:
        raise ConfigError(f"upstream.websocket_idle_timeout_seconds: must be at most {_DAY}, or 0 for no limit")


def _check_tls(config: Config) -> None:
    server = config.server.tls
    if server is not None:
        _check_files("server.tls", certificate=server.certificate, key=server.key)
        for name, path in (("certificate", server.certificate), ("key", server.key)):
            if not path:
                raise ConfigError(f"server.tls.{name}: name its PEM file, or leave the table out for plain HTTP")
    _check_upstream_tls(config.upstream.tls, "upstream.tls", config.upstream.url)
    for index, other in enumerate(config.upstreams):
        _check_upstream_tls(other.tls, f"upstreams[{index}].tls", other.url)


def _check_upstream_tls(tls: UpstreamTls | None, where: str, url: str) -> None:
    if tls is None:
        return
    if not url.lower().startswith("https:"):
        raise ConfigError(f"{where}: goes with a url that begins with https:, and only with such a one")
    _check_files(where, ca=tls.ca, certificate=tls.certificate, key=tls.key)
    if bool(tls.certificate) != bool(tls.key):
        raise ConfigError(f"{where}: `certificate` and `key` go together")
    if tls.server_name and _SERVER_NAME.fullmatch(tls.server_name) is None:
        raise ConfigError(f"{where}.server_name: `{tls.server_name}` is not a host name or an address")


def _check_files(where: str, **files: str) -> None:
    for name, path in files.items():
        # Checked before anything could repeat it in a message.
        if "-----BEGIN" in path or "\n" in path:
            raise ConfigError(f"{where}.{name}: give the path of a PEM file, not what is in it")


def _check_upstreams(others: tuple[OtherUpstream, ...]) -> None:
    seen: dict[tuple[str, str], int] = {}
    for index, other in enumerate(others):
        where = f"upstreams[{index}]"
        if not (other.host or other.path):
            raise ConfigError(f"{where}: set `host`, `path` or both; what fits no table goes to upstream.url")
        if other.host and _HOST.fullmatch(other.host.removesuffix(".")) is None:
            raise ConfigError(f"{where}.host: `{other.host}` is not a host name without a port")
        if other.path and _PREFIX.fullmatch(other.path) is None:
            raise ConfigError(
                f"{where}.path: `{other.path}` is not plain segments such as /chat, without a slash at the end"
            )
        if other.path == "/.locum" or other.path.startswith("/.locum/"):
            raise ConfigError(f"{where}.path: `/.locum/` is answered by Locum itself")
        twin = seen.setdefault((other.host.lower().removesuffix("."), other.path), index)
        if twin != index:
            raise ConfigError(f"{where}: is for the same requests as upstreams[{twin}]")


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
    if not is_safe(config.staff.issuer):
        raise ConfigError(
            "staff.issuer: must be an https URL with a host and a port that there can be; "
            "http is for this machine's own loopback only"
        )
    token = config.staff.events.push_token
    if token is not None and _BEARER.fullmatch(token.reveal()) is None:
        raise ConfigError(f"staff.events.push_token: must have at least {_LEAST_TOKEN} letters, digits or -._~+/")
    check_rules(config.staff)
    check_sign_in(config)


def parse_address(text: str, where: str) -> tuple[str, int]:
    """Return host and port of `host:port` or `[v6]:port`."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or re.fullmatch(r"[0-9]{1,5}", port) is None or int(port) > 65535:
        raise ConfigError(f"{where}: `{text}` is not host:port")
    return host, int(port)


def format_address(host: str, port: int) -> str:
    """Return `host:port`, or `[v6]:port`: what `parse_address` reads."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_network(text: str, where: str) -> Network:
    """Return the network that a CIDR text names."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as exc:
        raise ConfigError(f"{where}: `{text}` is not a network such as 10.0.0.0/8") from exc
