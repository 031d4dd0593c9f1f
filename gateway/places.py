"""Where our own endpoints are, by configuration alone: never by what a request says of the host it was sent to."""

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from policy.model import AccountId

SERVER_METADATA = "/.well-known/oauth-authorization-server"
"""On the issuer's host alone: on every other the app owns that path."""
RESOURCE_METADATA = "/.locum/oauth-protected-resource"


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The addresses of one configuration."""

    issuer: str
    host_of: Callable[[AccountId], str]
    """The account's host."""

    @property
    def origin(self) -> str:
        """Where staff sign in and clients exchange: the issuer's scheme and host."""
        parts = urlsplit(self.issuer)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def host(self) -> str:
        """The issuer's host, in lower case and without a port."""
        return urlsplit(self.issuer).hostname or ""

    @property
    def server_metadata(self) -> str:
        """The path of the metadata document: an issuer's own path goes behind the known one (RFC 8414 section 3.1)."""
        return SERVER_METADATA + urlsplit(self.issuer).path

    def of_account(self, account: AccountId) -> str:
        """Return the origin of an account's host; staff come in there by the same door as at the issuer's."""
        parts = urlsplit(self.issuer)
        port = "" if parts.port is None else f":{parts.port}"
        return f"{parts.scheme}://{self.host_of(account)}{port}"
