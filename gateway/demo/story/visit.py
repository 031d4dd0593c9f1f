"""After the story: assumption is on again, a token lies ready, and this is what to try with it."""

import shutil
from typing import Any

from gateway.console.account.door import PATH
from gateway.demo.desk import PASSWORD
from gateway.demo.story.folder import write_secret
from gateway.demo.story.journal import HELD
from gateway.demo.story.moves import OWNER
from gateway.demo.story.scene import HELPDESK, Scene
from gateway.demo.story.stage import CONFIG

_CONSOLE = """\
its owner decides in a browser, signed in to the helpdesk as `owner` with the password `{password}`, and sees who is in:

  http://{host}:{port}/login and then http://{host}:{port}{path}

"""
_INVITATION = """
Try it; assumption of acme is on for one day, and {folder}/token is dana's for 15 minutes:

  curl -i -H "Authorization: Bearer $(cat {folder}/token)" http://{host}:{port}{page}
  curl -i -H "Authorization: Bearer $(cat {folder}/token)" -X POST http://{host}:{port}{form}

dana signs in with a browser, where there is no password, and stands in from there; or from a command line:

  {public}/.locum/
  {locum} assume --server {public} --account acme --agent maria --ticket SUP-1 --reason "widget not loading"

{console}the owner's program switches it off (`day` for on), after which the first line is refused:

  curl -X PUT -u "{client}:$(cat {folder}/{client}.secret)" -H "Content-Type: application/json" \\
    -d '{{"assumption_duration": "off", "administrator": {{"id": "owner", "roles": {{"support": "owner"}}}}}}' \\
    {admin}/api/v1/accounts/acme/assumption

the journal, followed, searched, and verified with the checkpoint from the story:

  {locum} --config {folder}/{config} audit tail --follow
  {locum} --config {folder}/{config} audit search decision:deny actor:dana
  {locum} --config {folder}/{config} audit verify --checkpoint {folder}/{held}

Ctrl-C ends it."""


async def invite(scene: Scene[Any], *, page: str, form: str) -> str:
    """Switch assumption on, put a token into the folder, and return what to print."""
    await scene.choose("day", by=OWNER)
    answer = await scene.exchange("tickets:read")
    write_secret(scene.folder / "token", str(answer.document.get("access_token", "")))
    host, port = scene.host(), scene.gateway.public_url.rpartition(":")[2]
    has_page = scene.config.console.account is not None
    return _INVITATION.format(
        console=_CONSOLE.format(host=host, port=port, path=PATH, password=PASSWORD) if has_page else "",
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
