"""Whether a server speaks PostgreSQL at all, asked before asyncpg is: it reads some other answers for ever, and nothing
else in the process gets its turn then.
"""

import asyncio
import struct
from urllib.parse import parse_qs, unquote, urlsplit

from gateway.stores.postgres.address import Address, Host
from gateway.stores.store import StoreError

# https://www.postgresql.org/docs/current/protocol-message-formats.html: SSLRequest and StartupMessage 3.0.
_SSL_REQUEST = struct.pack("!II", 8, 80877103)
_VERSION = struct.pack("!I", 196608)
_ANSWERS = (b"R", b"E")
_MOST_BYTES = 65536


async def greet(address: Address, host: Host) -> None:
    """Begin to log in at `host` and leave again; raises OSError, and StoreError if the answer is not PostgreSQL's.

    Behind TLS nothing is asked: who has the certificate is who was meant.
    """
    name, port = host
    local = name.startswith("/")
    way = asyncio.open_unix_connection(f"{name}/.s.PGSQL.{port}") if local else asyncio.open_connection(name, port)
    reader, writer = await way
    try:
        if not local:
            writer.write(_SSL_REQUEST)
            answer = await reader.readexactly(1)
            if answer == b"S":
                return
            _expect(answer == b"N", host)
        writer.write(_startup(address))
        kind, length = struct.unpack("!cI", await reader.readexactly(5))
        _expect(kind in _ANSWERS and 4 <= length <= _MOST_BYTES, host)
    except EOFError:
        _expect(False, host)
    finally:
        writer.transport.abort()


def _expect(good: bool, host: Host) -> None:
    if not good:
        raise StoreError(f"what listens at {host[0]}:{host[1]} does not speak PostgreSQL: check store.url")


def _startup(address: Address) -> bytes:
    parts = urlsplit(address.url)
    query = parse_qs(parts.query)
    user = unquote(parts.netloc.rpartition("@")[0].partition(":")[0]) or query.get("user", ["locum"])[-1]
    database = unquote(parts.path[1:]) or query.get("dbname", query.get("database", [user]))[-1]
    words = b"".join(word.encode() + b"\0" for word in ("user", user, "database", database))
    return struct.pack("!I", 4 + len(_VERSION) + len(words) + 1) + _VERSION + words + b"\0"
