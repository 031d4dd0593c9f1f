"""What listens where the database should be: a command and a gateway say so in time, whatever it answers."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from gateway.stores.postgres import moving
from gateway.stores.postgres.address import parse_url
from gateway.stores.postgres.store import open_postgres
from gateway.stores.postgres.terms import StoreTerms
from gateway.stores.store import StoreError
from tests.patience import within

TERMS = StoreTerms(write_seconds=0.5)

# What it says to the request for TLS, and to the first message of a login.
STRANGERS = {
    "zeros": (b"N", b"\0" * 64),
    "zeros at once": (b"\0" * 64, b""),
    "a web server": (b"HTTP/1.1 400 Bad Request\r\n\r\n", b""),
    "a length below its own": (b"N", b"R\0\0\0\3"),
    "a length beyond all": (b"N", b"R\xff\xff\xff\xff"),
    "another type": (b"N", b"Z\0\0\0\5I"),
}


@asynccontextmanager
async def listening(*answers, hangs_up):
    async def serve(reader, writer):
        try:
            for answer in answers:
                if not await reader.read(1000):
                    break
                writer.write(answer)
                await writer.drain()
            if not hangs_up:
                await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def url(*ports):
    return parse_url(f"postgresql://u:p@{','.join(f'127.0.0.1:{port}' for port in ports)}/d")


async def check(address):
    async with moving.read_database(address, TERMS):
        raise AssertionError("it was read")


CALLS = {
    "check": check,
    "migrate": lambda address: moving.migrate_database(address, TERMS),
    "start": lambda address: open_postgres(address, TERMS),
}


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("call", CALLS)
async def test_what_does_not_speak_postgresql_is_named(stranger, call):
    """Some answers would be read for ever, with the loop held: none is given to whoever reads so."""
    async with listening(*STRANGERS[stranger], hangs_up=False) as port:
        with pytest.raises(StoreError, match=f"127.0.0.1:{port} does not speak PostgreSQL: check store.url"):
            await CALLS[call](url(port))


async def test_who_hangs_up_does_not_speak_postgresql():
    """At whatever point of the greeting."""
    for answers in ((), (b"N",), (b"N", b"R\0")):
        async with listening(*answers, hangs_up=True) as port:
            with pytest.raises(StoreError, match=r"does not speak PostgreSQL|cannot be used"):
                await check(url(port))


@pytest.mark.parametrize("answers", [(), (b"N",), (b"S",)])
async def test_who_accepts_and_says_nothing_is_given_up(answers):
    """In the time that there is for it, and the message says what to look at."""
    async with listening(*answers, hangs_up=False) as port, within(2):
        with pytest.raises(StoreError, match=r"does not answer in time: check the way there, and store\.url"):
            await open_postgres(url(port), TERMS)


async def test_a_stranger_and_a_silent_one_keep_nobody_from_the_database(postgres, database):
    """They stand before it in the URL."""
    real = postgres.url(database)
    async with listening(*STRANGERS["zeros"], hangs_up=False) as one, listening(hangs_up=False) as two:
        hosts = f"127.0.0.1:{one},127.0.0.1:{two}"
        head, _, rest = real.partition("@")
        there = rest.partition("/")
        store = await open_postgres(parse_url(f"{head}@{hosts},{there[0]}/{there[2]}"), StoreTerms(read_seconds=2))
        assert [] == list(await store.list_accounts())
        await store.close()
