"""The story before a real django-helpdesk, which knows nothing of Locum but how to believe its assertion."""

import re
from collections.abc import Mapping
from http.cookies import SimpleCookie

from gateway.demo.django_helpdesk.runner import PASSWORD, DjangoHelpdesk
from gateway.demo.story.journal import JOURNAL, entries
from gateway.demo.story.moves import OWNER, call, choose, exchange, stop_requests
from gateway.demo.story.play import Chapter, Got, Step
from gateway.demo.story.scene import Answer, Scene

_TITLE = "Printer on floor 3 prints blank pages"
_REPLY = {"comment": "Fixed, please try again", "public": "1", "title": _TITLE, "queue": "1", "priority": "3"}
_AUTHORS = f"""
from helpdesk.models import FollowUp
print(*FollowUp.objects.filter(comment={_REPLY["comment"]!r}).values_list("user__username", flat=True))
"""
_CSRF = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')
_STATIC = re.compile(r'(?:href|src)="(/static/[^"]+\.(?:css|js))"')
_SEATS = ("users", "sessions", "logins")


class Browser:
    """Keeps cookies and fills in forms, for an agent who signs in or, with a token, for dana."""

    def __init__(self, scene: Scene[DjangoHelpdesk], *, token: str | None = None) -> None:
        self._scene = scene
        self._token = token
        self._cookies: dict[str, str] = {}

    async def send(self, method: str, target: str, *, form: Mapping[str, str] | None = None) -> Answer:
        """Send a request with the cookies that were set before."""
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        headers = {"Cookie": cookies} if cookies else {}
        answer = await self._scene.send(method, target, token=self._token, headers=headers, form=form)
        for header in answer.headers.getall("Set-Cookie", []):
            self._cookies |= {name: morsel.value for name, morsel in SimpleCookie(header).items()}
        return answer

    async def submit(self, target: str, fields: Mapping[str, str], *, page: str) -> Answer:
        """Fetch the page with the form, then post it with its CSRF token; raises LookupError without one."""
        found = _CSRF.search((await self.send("GET", page)).body.decode())
        if found is None:
            raise LookupError(f"there is no form on `{page}`")
        return await self.send("POST", target, form={"csrfmiddlewaretoken": found[1], **fields})


async def _set_up(scene: Scene[DjangoHelpdesk]) -> Got:
    answer = await scene.fetch("GET", f"{scene.app_url}/login/", headers={"Host": scene.host()})
    return Got(text=answer.outcome, note=f"after {scene.app_seconds:.1f} s, set-up included")


async def _sign_in(scene: Scene[DjangoHelpdesk]) -> Got:
    """Sign jonas in through the gateway; then count what must not change."""
    login = {"username": "jonas", "password": PASSWORD}
    browser = Browser(scene)
    answer = await browser.submit("/login/", login, page="/login/")
    page = await browser.send("GET", "/dashboard/")
    scene.counts = await scene.app.counts()
    return Got(text=f"{answer.status}, then {page.status}", note=_people(scene.counts))


async def _show_dashboard(scene: Scene[DjangoHelpdesk]) -> Got:
    browser = Browser(scene, token=scene.tokens["read"])
    page = await browser.send("GET", "/dashboard/")
    sheet = _STATIC.search(page.body.decode())
    if sheet is None:
        return Got(text=f"{page.outcome}, without a static file")
    static = await browser.send("GET", sheet[1])
    return Got(text=f"{page.outcome}, {static.outcome}", note=f"{len(page.body)} bytes; {sheet[1]}")


async def _try_reply(scene: Scene[DjangoHelpdesk]) -> Got:
    """Fill in the form that the page shows, and send it."""
    answer = await Browser(scene, token=scene.tokens["read"]).submit("/tickets/1/update/", _REPLY, page="/tickets/1/")
    written = len(await _authors(scene))
    return Got(text=f"{answer.outcome}, {written} written", note=answer.said)


async def _reply(scene: Scene[DjangoHelpdesk]) -> Got:
    browser = Browser(scene, token=scene.tokens["write"])
    answer = await browser.submit("/tickets/1/update/", _REPLY, page="/tickets/1/")
    text = f"{answer.outcome}, by {' and '.join(await _authors(scene)) or 'nobody'}"
    records = entries(scene, method="POST", path="/tickets/1/update/", decision="allow")
    acting = ", ".join(f"{record['actor']['subject']} for {record['subject']}" for record in records)
    return Got(text=f"{text}; on the record {acting}")


async def _turn_off(scene: Scene[DjangoHelpdesk]) -> Got:
    return await stop_requests(scene, scene.tokens["read"], "/dashboard/", lambda: scene.choose("off", by=OWNER))


async def _compare_counts(scene: Scene[DjangoHelpdesk]) -> Got:
    counts = await scene.app.counts()
    same = all(counts[name] == scene.counts[name] for name in _SEATS)
    more = counts["followups"] - scene.counts["followups"]
    return Got(text=f"{'as' if same else 'not as'} before, {more} reply more", note=_people(counts))


async def _authors(scene: Scene[DjangoHelpdesk]) -> list[str]:
    """Return who wrote the story's reply, as the helpdesk itself has it."""
    return (await scene.app.manage("shell", "--no-imports", "-c", _AUTHORS)).decode().split()


def _people(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {counts[name]}" for name in (*_SEATS, "tickets", "followups"))


def _listed(answer: Answer) -> str:
    return f"{answer.document['count']} tickets"


# A table, which the formatter would spread over three times the lines.
# fmt: off
STORY: tuple[Chapter[DjangoHelpdesk], ...] = (
    Chapter("A helpdesk that exists", (
        Step("set-up", "django-helpdesk 2.6 runs behind the gateway",
             "200", _set_up),
        Step("ordinary-login", "jonas signs in through the gateway, as ever",
             "302, then 200", _sign_in),
    )),
    Chapter("Off by default", (
        Step("off-by-default", "dana of the vendor's support asks to stand in for maria",
             "400 grant_off", exchange("tickets:read")),
        Step("enable-day", "the owner enables One day",
             "enabled: day, read", choose("day")),
    )),
    Chapter("Staff look", (
        Step("token", "dana asks again, to read",
             "200 sub=maria act=dana scope=tickets:read", exchange("tickets:read", keep="read")),
        Step("dashboard", "GET /dashboard/ and a static file of it",
             "200, 200", _show_dashboard),
        Step("rest", "GET /api/tickets/",
             "200 3 tickets", call("GET", "/api/tickets/", look=_listed)),
        Step("reply", "dana fills in the reply form of ticket 1 and sends it",
             "403 insufficient_scope, 0 written", _try_reply),
        Step("get-that-writes", "GET /tickets/1/hold/, which writes",
             "403 insufficient_scope", call("GET", "/tickets/1/hold/")),
        Step("query-that-writes", "GET /tickets/1/?take, which writes",
             "403 insufficient_scope", call("GET", "/tickets/1/?take")),
        Step("rewrites-an-author", "PUT /api/followups/1/, which can put words into another's mouth",
             "403 never_allowed", call("PUT", "/api/followups/1/", form={"user": "1"})),
        Step("takes-a-seat", "POST /api/users/, which makes a user with a password",
             "403 never_allowed", call("POST", "/api/users/", form={"username": "dana"})),
        Step("admin", "GET /admin/",
             "403 never_allowed", call("GET", "/admin/")),
        Step("ambiguous-target", "GET /tickets/..%2fadmin/",
             "400 ambiguous_target", call("GET", "/tickets/..%2fadmin/")),
        Step("unknown-agent", "dana asks to stand in for ghost, whom the helpdesk does not know when it is asked",
             "400 agent_unknown", exchange("tickets:read", subject="ghost")),
    )),
    Chapter("No changes without explicit permission", (
        Step("permit-write", "the owner permits changes",
             "extended: day, read, write", choose("day", ("read", "write"))),
        Step("write-token", "dana asks again",
             "200 sub=maria act=dana scope=tickets:read tickets:write",
             exchange("tickets:read tickets:write", keep="write")),
        Step("reply-written", "dana sends the reply form, with the CSRF token of its page",
             "302, by maria; on the record dana for maria", _reply),
    )),
    Chapter("Switched off at any time", (
        Step("turn-off", "the owner switches it off",
             "next request 403 grant_revoked within 1 s", _turn_off),
    )),
    Chapter("No seat, no user, no login", (
        Step("seats-after", "users, sessions and logins are counted again",
             "as before, 1 reply more", _compare_counts),
    )),
    JOURNAL,
)
# fmt: on
