"""Makes what tells people, for one configuration; what is opened goes on a stack."""

from contextlib import AsyncExitStack

from aiohttp import web

from gateway.clients import ClientAuthenticator
from gateway.config.model import Config
from gateway.grants.source import AccountSource
from gateway.places import Places
from gateway.state import State
from gateway.telling.api import ContactsApi
from gateway.telling.contacts import ContactBook


async def open_notices(
    stack: AsyncExitStack,
    config: Config,
    state: State,
    *,
    book: ContactBook | None,
    clients: ClientAuthenticator,
    accounts: AccountSource,
    places: Places,
) -> list[web.AbstractRouteDef]:
    """Tell people from now on, if that is configured; return the routes of the admin listener. Raises ConfigError.

    They are the same ones whether that is configured, and so whether there is a `book`, or not.
    """
    section = config.notices
    if section is not None and book is not None:
        # Mail and its formats are a library of their own, and most tell nobody.
        from gateway.telling.running import tell  # noqa: PLC0415

        await tell(stack, config, section, state, places, addressing=book.addressing)
    return ContactsApi(
        book,
        clients,
        accounts=accounts,
        accepted_roles=frozenset(config.grants.administrator_roles),
        secret=section.webhooks.secret if section is not None else None,
    ).routes()
