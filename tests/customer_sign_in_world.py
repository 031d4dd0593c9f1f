"""An administrator's browser before a whole gateway, signing in at a provider of the customer's own, in raw bytes."""

from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from urllib.parse import quote_plus

from tests.console_world import PATH, open_customer
from tests.provider_world import Browser, Provider

SESSION = "__Host-locum-administrator"
ARRIVAL = "__Host-locum-arrival"
CALLBACK = f"{PATH}/sign-in/callback"
CLIENT = "locum-at-acme"
ADMINS = ["helpdesk-admins"]
NAVIGATE = [("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document"), ("Accept", "text/html")]


class Administrator(Browser):
    """Keeps the cookies of one account's host; `provider` is where it signs in."""

    def __init__(self, world, provider, account="acme", client=CLIENT):
        super().__init__(world, host=f"{account}.helpdesk.example")
        self.provider = provider
        self.account = account
        self.client = client

    @property
    def origin(self):
        return f"https://{self.host}"

    @property
    def session(self):
        return self.cookies.get(SESSION, "")

    def another(self):
        """Return another browser."""
        return Administrator(self.world, self.provider, self.account, self.client)

    async def page(self, target=PATH, *, site="none", more=(), **options):
        """Load a page as a person does."""
        return await self.send(target, headers=[*NAVIGATE, ("Sec-Fetch-Site", site), *more], **options)

    async def begin(self, return_to=None, *, query=""):
        """Be sent to the provider; returns the address there."""
        query = query if return_to is None else f"?return={quote_plus(return_to)}"
        reply = await self.page(f"{PATH}/sign-in{query}", site="same-origin")
        assert 303 == reply.status, reply.text
        return reply.location

    def consent(self, location, subject="olivia", **claims):
        """Sign somebody in at the provider, an administrator if nothing else is said; returns what comes back."""
        claims = {"groups": ["staff", *ADMINS], "name": "Olivia Owner", "audience": self.client} | claims
        return self.provider.consent(location, subject, **claims)

    async def come_back(self, query, **options):
        return await self.page(f"{CALLBACK}?{query}", site="cross-site", **options)

    async def enter(self, subject="olivia", *, return_to=None, **claims):
        """Go all the way; returns the last answer."""
        return await self.come_back(self.consent(await self.begin(return_to), subject, **claims))

    async def form(self):
        page = await self.page()
        assert 200 == page.status, page.text
        return page.form_token

    async def change(self, name, fields, **options):
        """Send a form as a page of this host would."""
        return await self.post(f"{PATH}/{name}", fields, origin=options.pop("origin", self.origin), **options)

    async def choose(self, duration="week", *, token=None, epoch=0, **options):
        """Choose how long staff may stand in, with the token of the page as it is now."""
        fields = {"form_token": await self.form() if token is None else token, "epoch": str(epoch)}
        return await self.change("setting", fields | {"duration": duration}, **options)

    async def leave(self):
        return await self.change("sign-out", {"form_token": await self.form()})

    async def grant(self):
        return (await self.world.gateway.store.find_account(self.account)).grant


def sign_in(provider, *accounts, **changes):
    """Return a table of the configuration; None takes a key out."""
    table = {"issuer": provider.issuer, "client_id": CLIENT, "accounts": list(accounts), "administrators": ADMINS}
    return {name: value for name, value in (table | changes).items() if value is not None}


@asynccontextmanager
async def open_administrator(directory, *, tables=None, change=None, **options):
    """Run a gateway for acme and globex, each with a provider of its own; initech's people sign in at the app.

    `tables` makes the configuration's tables of the two providers.
    """
    now = SimpleNamespace(clock=None)
    async with AsyncExitStack() as stack:
        ours, theirs = [await stack.enter_async_context(Provider(clock=lambda: now.clock.now)) for _ in range(2)]

        def changed(document):
            made = tables(ours, theirs) if tables else [sign_in(ours, "acme"), sign_in(theirs, "globex")]
            document["console"]["account"]["sign_in"] = made
            if change is not None:
                change(document)

        accounts = ("globex", "initech")
        customer = await stack.enter_async_context(
            open_customer(directory, change=changed, accounts=accounts, **options)
        )
        now.clock = customer.world.clock
        administrator = Administrator(customer.world, ours)
        administrator.other = Administrator(customer.world, theirs, "globex")
        yield administrator
