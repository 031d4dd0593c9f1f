"""`locum contacts`: who of an account is told what happens there."""

import click

from gateway.cli.context import Context, by_option, run_async
from gateway.cli.office import open_office, open_store
from gateway.clock import utc_now
from gateway.config.model import Config
from gateway.proxy.triage import is_account_name
from gateway.stores.outbox import Contacts
from gateway.stores.store import StoreConflict
from gateway.telling.addresses import shown
from gateway.telling.contacts import BadContact, open_book
from gateway.telling.secret import derive
from policy.model import AccountId


@click.group()
def contacts() -> None:
    """Say who of an account is told what happens there."""


@contacts.command()
@click.argument("name", metavar="ACCOUNT")
@click.option("--secrets", is_flag=True, help="Also by which secret each webhook tells ours from others.")
@click.pass_obj
def show(context: Context, name: str, *, secrets: bool) -> None:
    """Show who is told."""

    async def work() -> None:
        async with open_store(context.config) as store:
            found = await store.find_contacts(AccountId(name))
        click.echo(describe_contacts(found))
        if secrets and found is not None:
            _show_secrets(context.config, found)

    run_async(work())


@contacts.command("set")
@click.argument("name", metavar="ACCOUNT")
@click.argument("addresses", metavar="[MAIL|URL]...", nargs=-1)
@by_option
@click.pass_obj
def set_command(context: Context, name: str, *, addresses: tuple[str, ...], by: str) -> None:
    """Have these mail addresses and webhooks told from now on; with none, nobody is.

    Whoever was told before is told of it, too.
    """
    if not is_account_name(name) and name != context.config.accounts.fixed:
        raise click.UsageError("an account's name is a host's label: lower-case letters, digits and hyphens")
    notices = context.config.notices
    webhooks = [each for each in addresses if "://" in each]

    async def work() -> None:
        async with open_office(context.config) as office:
            book = open_book(notices, office.store, office.journal, clock=utc_now)
            mail = [each for each in addresses if "://" not in each]
            try:
                after = await book.change(AccountId(name), mail=mail, webhooks=webhooks, by=by)
            except BadContact as exc:
                raise click.UsageError(str(exc)) from exc
            except StoreConflict as exc:
                raise click.ClickException("the contacts have changed meanwhile: look at them again") from exc
        click.echo(f"{name}: {describe_contacts(after)}")
        _show_secrets(context.config, after)
        if notices is None:
            click.echo("nobody is told anything until the configuration has [notices]", err=True)

    run_async(work())


def describe_contacts(found: Contacts | None, *, whole: bool = True) -> str:
    """Return one line on who is told; if not `whole`, of a webhook only its server, for its path can be a secret."""
    webhooks = () if found is None else found.webhooks
    told = [] if found is None else [*found.mail, *(url if whole else shown("webhook", url) for url in webhooks)]
    return f"told are {', '.join(told)}" if told else "nobody is told: name them with `locum contacts set`"


def _show_secrets(config: Config, found: Contacts) -> None:
    master = None if config.notices is None else config.notices.webhooks.secret
    for url in found.webhooks:
        if master is None:
            click.echo(f"{url}: gets nothing without notices.webhooks.secret", err=True)
        else:
            click.echo(f"{url} knows ours by {derive(master, found.account, url).reveal()}")
