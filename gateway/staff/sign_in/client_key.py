"""The key by which we prove to a provider who asks, as a configuration gives it."""

from gateway.config.model import ConfigError
from gateway.config.section import Secret
from gateway.tokens.signing import KeyRefused, SigningKey


def read_client_key(key: Secret | None, key_id: str, where: str) -> SigningKey | None:
    """Return the key in PEM that stands at `where`, None if there is none; raises ConfigError."""
    if key is None:
        return None
    try:
        return SigningKey.from_pem(key_id or None, key.reveal().encode("utf-8"))
    except KeyRefused as exc:
        raise ConfigError(f"{where}.client_key: {exc}") from exc
