"""After the story: assumption is on again, a token lies ready, and this is what to try with it."""

import shutil
from typing import Any

from gateway.demo.story.folder import write_secret
from gateway.demo.story.journal import HELD
from gateway.demo.story.moves import OWNER
from gateway.demo.story.scene import HELPDESK, Scene
from gateway.demo.story.stage import CONFIG

_INVITATION = """
Try it; assumption of acme is on for one day, and {folder}/token is dana's for 15 minutes:

  curl -i -H "Authorization: Bearer $(cat {folder}/token)" http://{host}:{port}{page}
  curl -i -H "Authorization: Bearer $(cat {folder}/token)" -X POST http://{host}:{port}{form}

the owner switches it off (`day` for on), after which the first line is refused:

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
    return _INVITATION.format(
        folder=scene.folder,
        locum="locum" if shutil.which("locum") else "./dev locum",
        host=scene.host(),
        port=scene.gateway.public_url.rpartition(":")[2],
        page=page,
        form=form,
        client=HELPDESK,
        admin=scene.gateway.admin_url,
        config=CONFIG,
        held=HELD,
    )
