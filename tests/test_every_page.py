"""Every address that we answer, and everybody who may come there: who is let in, and that nobody else learns anything."""

from tests.browser_world import STAFF_HOST
from tests.pages_world import ACME, GLOBEX, open_pages

ANYBODY = "anybody"
STREAMS = {
    "/.locum/live",
    *("/.locum/account/live", "/.locum/account/live/log", "/.locum/account/live/last"),
    *("/console/live", "/console/log/tail/events"),
}
CONSOLE = "auditor operator limited"
MAY = {
    # Who gets an answer; an empty form gets a refusal whoever sends it. What is anybody's tells everybody the same.
    "POST /.locum/oauth/token": "",
    "POST /.locum/oauth/introspect": "",
    "POST /.locum/oauth/revoke": "",
    "POST /.locum/oauth/device": "",
    "GET /.locum/jwks.json": ANYBODY,
    "GET /.locum/openapi.json": ANYBODY,
    "GET /.well-known/oauth-authorization-server{path:.*}": ANYBODY,
    "GET /.locum/oauth-protected-resource": ANYBODY,
    "GET /.locum/": ANYBODY,
    "GET /.locum/sign-in": ANYBODY,
    "GET /.locum/sign-in/callback": "",
    "POST /.locum/sign-out": ANYBODY,
    "POST /.locum/assumptions": "",
    "POST /.locum/enter": "",
    "POST /.locum/assumptions/end": "",
    "POST /.locum/assumptions/end-all": "",
    "POST /.locum/requests": "",
    "GET /.locum/live": "staff",
    "POST /.locum/requests/withdraw": "",
    "GET /.locum/session": ANYBODY,
    "POST /.locum/session/end": ANYBODY,
    "GET /.locum/device": "staff",
    "POST /.locum/device": "",
    "POST /.locum/hooks/grants": "",
    "GET /.locum/account": "owner",
    # The app's sign-in is what counts here; those of a customer's own provider are in tests/test_customer_sign_in.py.
    "GET /.locum/account/sign-in": "",
    "GET /.locum/account/sign-in/callback": "",
    "POST /.locum/account/sign-out": "",
    "POST /.locum/account/backchannel-logout": "",
    "GET /.locum/account/contacts": "owner",
    "POST /.locum/account/contacts": "",
    "POST /.locum/account/setting": "",
    "POST /.locum/account/off": "",
    "POST /.locum/account/end": "",
    "POST /.locum/account/end-all": "",
    "POST /.locum/account/requests/approve": "",
    "POST /.locum/account/requests/decline": "",
    "GET /.locum/account/live": "owner",
    "GET /.locum/account/log": "owner",
    "GET /.locum/account/log/{sid}": "owner",
    "GET /.locum/account/log/{sid}/receipt": "owner",
    "GET /.locum/account/live/log": "owner",
    "GET /.locum/account/live/last": "owner",
    "POST /.locum/backchannel-logout": "",
    "POST /.locum/ssf/events": "",
    # Hashes, which tell nothing of what they are of.
    "GET /.locum/log/checkpoint": ANYBODY,
    "GET /.locum/log/checkpoint/{origin}": ANYBODY,
    "GET /.locum/log/key": ANYBODY,
    # With the secret of a run of it alone.
    "GET /.locum/selftest/ping": "",
    "GET /.locum/selftest/stream": "",
    # The admin listener.
    "GET /api/v1/accounts/{account}/assumption": "app",
    "PUT /api/v1/accounts/{account}/assumption": "",
    "GET /api/v1/accounts/{account}/assumption/requests": "app",
    "POST /api/v1/accounts/{account}/assumption/requests/{request}/approve": "",
    "POST /api/v1/accounts/{account}/assumption/requests/{request}/decline": "",
    "GET /api/v1/accounts/{account}/contacts": "app",
    "PUT /api/v1/accounts/{account}/contacts": "",
    "GET /api/v1/kill-switch": "operator",
    "PUT /api/v1/kill-switch": "",
    "GET /.locum/log/receipts/{assumption}": "auditor",
    "GET /.locum/log/records": "auditor limited",
    "GET /.locum/log/assumptions/{sid}": "auditor",
    "GET /.locum/log/stats": "auditor limited",
    "GET /console/sign-in": ANYBODY,
    # There is no provider here.
    "GET /console/sign-in/begin": ANYBODY,
    "GET /console/sign-in/callback": "",
    "POST /console/sign-in/client": "",
    "POST /console/sign-out": ANYBODY,
    "GET /console": CONSOLE,
    "POST /console/end": "",
    "POST /console/end-all": "",
    "POST /console/off": "",
    "POST /console/kill-switch": "",
    "POST /console/staff": "",
    "GET /console/live": CONSOLE,
    "GET /console/evidence": "auditor operator",
    "GET /console/log": CONSOLE,
    "GET /console/log/record/{id:-?[0-9]+}": "auditor operator",
    "GET /console/log/assumption/{sid:[A-Za-z0-9_-]+}": "auditor operator",
    "GET /console/log/tail": CONSOLE,
    "GET /console/log/tail/events": CONSOLE,
    "POST /console/log/export": "",
    "GET /console/log/export": CONSOLE,
    # Of an export that there is not; those of others are in tests/test_security_log_export.py.
    "GET /console/log/export/{id:[0-9a-f]+}": "",
    "GET /console/log/export/{id:[0-9a-f]+}/data": "",
    "POST /console/log/export/{id:[0-9a-f]+}/delete": "",
}
KEPT = {
    "GET /.locum/jwks.json",
    "GET /.locum/openapi.json",
    "GET /.well-known/oauth-authorization-server{path:.*}",
    "GET /.locum/oauth-protected-resource",
    "GET /.locum/log/checkpoint",
    "GET /.locum/log/checkpoint/{origin}",
    "GET /.locum/log/key",
}
"""What caches may keep, because it is the same for everybody."""
ONE_PLACE = {"GET /.locum/device": STAFF_HOST, "GET /.locum/live": STAFF_HOST}
"""The host of what is not at the account's, where one of the two is all that may answer."""
KNOW = {"owner", "auditor", "operator", "app"}
"""Who may know of what Dana does at acme; the owner is acme's."""
LAST = ("POST /.locum/session/end", "POST /.locum/sign-out", "POST /console/sign-out")
"""By these everybody ends what is their own."""


def routes_of(gateway):
    """Return every route but those of files that are the same for everybody, each with the hosts to ask for it at."""
    generation = gateway._generation
    for offer, hosts in ((generation.control, (ACME, STAFF_HOST)), (generation.admin, ("",))):
        for route in offer:
            if not route.path.startswith("/.locum/static/"):
                yield f"{route.method} {route.path}", hosts


def is_let_in(key, name, host):
    may = MAY[key]
    if may == ANYBODY:
        return True
    home = ONE_PLACE.get(key, ACME) if host else ""
    return host == home and name in may.split()


def is_refusal(answer):
    """Tell whether somebody was sent away: with an error that is theirs, or to sign in."""
    if answer.status == 303:
        return answer.headers["location"].partition("?")[0] in ("/.locum/sign-in", "/console/sign-in")
    return answer.status in (400, 401, 403, 404)


def unsafe_parts(key, answer):
    """Name what is wrong with an answer's head: nobody keeps what is somebody's, and no page stands in another's frame."""
    if key not in KEPT and "no-store" not in answer.headers.get("cache-control", ""):
        yield "may be kept"
    if answer.headers.get("content-type", "").startswith("text/html"):
        if "frame-ancestors 'none'" not in answer.headers.get("content-security-policy", ""):
            yield "may be framed"
        if answer.headers.get("x-content-type-options") != "nosniff":
            yield "may be taken for something else"


async def test_everybody_gets_what_is_theirs_and_nothing_else(tmp_path):
    """A route that is not in the table fails; nothing is changed by an empty form, whoever sends it."""
    async with open_pages(tmp_path) as pages:
        found = dict(routes_of(pages.world.gateway))
        assert MAY.keys() == found.keys(), "say in the table who may"
        before = await pages.standing()
        told = set()
        wrong = []

        async def ask(key):
            method, _, path = key.partition(" ")
            target = pages.fill(path)
            for host in found[key]:
                for name, person in pages.people.items():
                    let_in = is_let_in(key, name, host)
                    answer = await pages.ask(method, target, person, host=host, to_head=path in STREAMS)
                    knows = pages.tells(answer, target)
                    is_right = answer.status == 200 if let_in else is_refusal(answer)
                    if not (is_right or (MAY[key] == ANYBODY and answer.status < 500)):
                        wrong.append((key, host, name, answer.status))
                    if knows and not (let_in and name in KNOW and MAY[key] != ANYBODY):
                        wrong.append((key, host, name, "knows"))
                    if knows:
                        told.add(name)
                    wrong.extend((key, host, name, answer.status, part) for part in unsafe_parts(key, answer))

        for key in found:
            if key not in LAST:
                await ask(key)
        assert before == await pages.standing()
        # An owner who is at home, with the names of what is another account's.
        for key in found:
            method, _, path = key.partition(" ")
            if path.startswith("/.locum/account") and path not in STREAMS:
                target = pages.fill(path)
                answer = await pages.ask(method, target, pages.people["other owner"], host=GLOBEX)
                is_there = "{sid}" not in path and "/sign-" not in path and "logout" not in path
                right = 404 if not is_there else 200 if MAY[key] else 403
                if (right, False) != (answer.status, pages.tells(answer, target)):
                    wrong.append((key, GLOBEX, answer.status))
        for key in LAST:
            await ask(key)
        assert [] == wrong
        assert KNOW == told, "those who may know do, so the words are there to be found"
