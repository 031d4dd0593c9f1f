"""After the story: assumption is on again, a token lies ready, and this is what to try with it."""

import shutil
from typing import Any

from gateway.console.security.sign_in import BEGIN
from gateway.console.security.visit import PATH as CONSOLE
from gateway.demo.desk import PASSWORD
from gateway.demo.story.folder import write_secret
from gateway.demo.story.journal import HELD
from gateway.demo.story.moves import OWNER
from gateway.demo.story.scene import HELPDESK, Scene
from gateway.demo.story.stage import CONFIG
from gateway.staff.sign_in.home import SIGN_IN
from gateway.staff.sign_in.returning import HOME

_CUSTOMER = """
  the customer's administrator, who decides and sees who is in (once; later as `{agent}` with the password `{password}`)
  {link}
"""
_INVITATION = """
Try it. Assumption of acme is on for one day. Each link signs somebody in, and leads to their page.
Open staff's in a private window: one browser stands in at acme, or is acme's own, not both.
{customer}
  Dana Reyes of the vendor's support, who stands in: look for acme, where maria is an agent (later {public}{home})
  {staff}

  Sam Ito of the vendor's security team, which watches over it (later {admin}{console})
  {security}

Without a browser: {folder}/token is dana's for 15 minutes

  curl -i -H "Authorization: Bearer $(cat {folder}/token)" http://{host}:{port}{page}
  curl -i -H "Authorization: Bearer $(cat {folder}/token)" -X POST http://{host}:{port}{form}

dana stands in from a command line:

  {locum} assume --server {public} --account acme --agent maria --ticket SUP-1 --reason "widget not loading"

the owner's program switches it off (`day` for on), after which the first line is refused:

  curl -X PUT -u "{client}:$(cat {folder}/{client}.secret)" -H "Content-Type: application/json" \\
    -d '{{"assumption_duration": "off", "administrator": {{"id": "owner", "roles": {{"support": "owner"}}}}}}' \\
    {admin}/api/v1/accounts/acme/assumption

the journal, followed, searched, and verified with the checkpoint from the story:

  {locum} --config {folder}/{config} audit tail --follow
  {locum} --config {folder}/{config} audit search decision:deny actor:dana
  {locum} --config {folder}/{config} audit verify --checkpoint {folder}/{held}

Ctrl-C ends it."""


def staff_link(scene: Scene[Any]) -> str:
    """Return the address that signs dana in, by way of the identity provider, and leads to staff's home page."""
    return scene.issuer.invite("dana", then=scene.gateway.public_url + SIGN_IN)


def security_link(scene: Scene[Any]) -> str:
    """Return the address that signs sam in, by way of the identity provider, and leads to the security console."""
    return scene.issuer.invite("sam", then=scene.gateway.admin_url + BEGIN)


async def invite(scene: Scene[Any], *, page: str, form: str, customer: str = "") -> str:
    """Switch assumption on, put a token into the folder, and return what to print.

    `customer` is the path by which the customer's administrator is signed in to the helpdesk, where that is possible.
    """
    await scene.choose("day", by=OWNER)
    answer = await scene.exchange("tickets:read")
    write_secret(scene.folder / "token", str(answer.document.get("access_token", "")))
    host, port = scene.host(), scene.gateway.public_url.rpartition(":")[2]
    link = scene.account_url(customer)
    return _INVITATION.format(
        customer=_CUSTOMER.format(link=link, agent=OWNER.id, password=PASSWORD) if customer else "",
        staff=staff_link(scene),
        home=HOME,
        security=security_link(scene),
        console=CONSOLE,
        folder=scene.folder,
        locum="locum" if shutil.which("locum") else "./dev locum",
        host=host,
        port=port,
        page=page,
        form=form,
        client=HELPDESK,
        admin=scene.gateway.admin_url,
        public=scene.gateway.public_url,
        config=CONFIG,
        held=HELD,
    )
