"""The story before the demo helpdesk: the whole model of account assumption, one chapter for each of its facts."""

from gateway.demo.story import desk_acts as acts
from gateway.demo.story import staff
from gateway.demo.story.day import DAY
from gateway.demo.story.desk_acts import Backstage
from gateway.demo.story.journal import JOURNAL
from gateway.demo.story.moves import call, choose, exchange
from gateway.demo.story.play import Chapter, Step
from gateway.demo.story.scene import Person

_MARIA = Person(id="maria", roles={"support": "agent"})
_CHLOE = Person(id="chloe", roles={"support": "agent", "explore": "admin"})
_TEXT = {"text": "Fixed, please try again"}

# A table, which the formatter would spread over three times the lines.
# fmt: off
STORY: tuple[Chapter[Backstage], ...] = (
    Chapter("Off by default", (
        Step("seats-before", "acme's seats are all taken; ben signs in and works on, as ever",
             "5 of 5 seats used", acts.count_seats),
        Step("off-by-default", "dana of the vendor's support asks to stand in for maria",
             "400 grant_off", exchange("tickets:read")),
    )),
    Chapter("Any administrator, of any product, switches it on", (
        Step("not-administrator", "maria, an agent, tries to enable it",
             "403 not_administrator", choose("day", by=_MARIA)),
        Step("enable-day", "chloe, agent in Support and administrator in Explore, enables One day",
             "enabled: day, read", choose("day", by=_CHLOE)),
    )),
    Chapter("Staff stand in for an agent who is there already, and look", (
        Step("token", "dana asks again, to read",
             "200 sub=maria act=dana scope=tickets:read", exchange("tickets:read", keep="read")),
        Step("whoami", "GET /whoami says whom the helpdesk sees",
             "200 maria, by dana", call("GET", "/whoami", look=acts.whoami)),
        Step("ticket", "GET /tickets/1",
             "200 Widget not loading", call("GET", "/tickets/1", look=acts.title)),
        Step("latency", "GET /tickets/1 many times, and straight from the helpdesk",
             "200 each time", acts.compare_latency),
        Step("post-that-reads", "POST /tickets/search, which only reads",
             "200 1 found", call("POST", "/tickets/search", form={"q": "widget"}, look=acts.found)),
        Step("reply", "POST /tickets/1/reply",
             "403 insufficient_scope", call("POST", "/tickets/1/reply", form=_TEXT)),
        Step("get-that-writes", "GET /tickets/1/hold, which writes",
             "403 insufficient_scope", call("GET", "/tickets/1/hold")),
        Step("query-that-writes", "GET /tickets/1?action=close, which writes",
             "403 insufficient_scope", call("GET", "/tickets/1?action=close")),
    )),
    Chapter("With a browser, and from a command line", (
        Step("sign-in", "dana signs in at /.locum/ with a browser, by way of the identity provider",
             "200 /.locum/ Dana Reyes", staff.sign_in),
        Step("browser", "she fills in the form, goes on to acme's host and opens GET /tickets/1",
             "200 as maria (dana stands in), holding locum-assumption", staff.stand_in),
        Step("browser-end", "/.locum/session says what she holds, and its button ends it",
             "Standing in for maria, then Standing in for nobody", staff.end_it),
        Step("assume", "`locum assume` asks for a code, and she approves it in that browser",
             "Stand in for maria of acme? Approved", staff.ask_for_code),
        Step("assume-token", "it gets the token, GET /tickets/1 with that, and ends it",
             "200, and once it is ended 403 assumption_ended", staff.fetch_token),
    )),
    Chapter("What is talked past other proxies is stopped here", (
        Step("method-override", "GET /tickets/1 with X-HTTP-Method-Override: POST",
             "403 method_override", call("GET", "/tickets/1", headers={"X-HTTP-Method-Override": "POST"})),
        Step("ambiguous-target", "GET /tickets/..%2fadmin",
             "400 ambiguous_target", call("GET", "/tickets/..%2fadmin")),
        Step("forged-names", "GET /whoami as the owner, by X-Forwarded-User and two more",
             "200 maria, by dana, none of them arrived", acts.send_forged_names),
        Step("forged-assertion", "GET /whoami with X_Locum-Assertion, which apps cannot tell apart",
             "400 forged_header", call("GET", "/whoami", headers={"X_Locum-Assertion": "e30.e30."})),
        Step("tampered-token", "GET /tickets/1 with one letter of the token changed",
             "401 token_invalid", acts.send_tampered),
        Step("other-account", "GET /tickets/1 of globex, with the token for acme",
             "403 wrong_account", call("GET", "/tickets/1", account="globex")),
        Step("unknown-agent", "dana asks to stand in for ghost, whom the helpdesk does not know when it is asked",
             "400 agent_unknown", exchange("tickets:read", subject="ghost")),
        Step("takes-a-seat", "POST /admin/agents, which takes a seat",
             "403 never_allowed", call("POST", "/admin/agents", form={"name": "dana"})),
        Step("makes-a-credential", "POST /api-tokens, which makes a credential",
             "403 never_allowed", call("POST", "/api-tokens")),
        Step("not-listed", "GET /reports, of which the profile says nothing",
             "403 no_route_rule", call("GET", "/reports")),
    )),
    Chapter("No changes without explicit permission; test tickets have one of their own", (
        Step("test-not-permitted", "dana asks to create test tickets",
             "400 permission_not_granted", exchange("tickets:write:test")),
        Step("permit-test", "the owner permits test tickets",
             "extended: day, read, test_tickets", choose("day", ("read", "test_tickets"))),
        Step("test-token", "dana asks again",
             "200 sub=maria act=dana scope=tickets:read tickets:write:test",
             exchange("tickets:read tickets:write:test", keep="test")),
        Step("test-ticket", "POST /tickets/test",
             "201 [test] Does it route?",
             call("POST", "/tickets/test", using="test", form={"title": "[test] Does it route?"}, look=acts.title)),
        Step("test-is-no-write", "POST /tickets/1/reply with that token",
             "403 insufficient_scope", call("POST", "/tickets/1/reply", using="test", form=_TEXT)),
        Step("permit-write", "the owner permits changes",
             "extended: day, read, write", choose("day", ("read", "write"))),
        Step("write-token", "dana asks again",
             "200 sub=maria act=dana scope=tickets:read tickets:write",
             exchange("tickets:read tickets:write", keep="write")),
        Step("reply-written", "POST /tickets/1/reply with that token",
             "201 dana for maria", call("POST", "/tickets/1/reply", using="write", form=_TEXT, look=acts.last_reply)),
    )),
    Chapter("Extended, reduced, switched off at any time; it bites on what is open", (
        Step("every-duration", "the owner chooses week, month, year, indefinitely, then day, all of them to read",
             "extended, extended, extended, extended, reduced", acts.extend_and_reduce),
        Step("permission-gone", "POST /tickets/1/reply, with the token that could write",
             "403 permission_not_granted", call("POST", "/tickets/1/reply", using="write", form=_TEXT)),
        Step("turn-off", "the owner switches it off while dana watches GET /events",
             "stream cut, 0 bytes after, next request 403 grant_revoked, within 1 s", acts.turn_off),
        Step("on-again", "the owner enables One day again",
             "enabled: day, read", choose("day")),
        Step("old-token", "GET /tickets/1, with the token from before",
             "403 grant_revoked", call("GET", "/tickets/1")),
    )),
    Chapter("It ends by itself", (
        Step("expire", "the clock is moved to a moment before the end, and the end comes",
             "stream cut within 1 s of it, the token 401 token_expired, a new one 400 grant_expired", acts.expire),
    )),
    Chapter("A trial is always assumable, until it is converted (the clock is moved to the real time)", (
        Step("trial-setting", "initech's setting, as its helpdesk reads it",
             "trial, assumable always: read", acts.show_trial),
        Step("trial-refuses", "its owner tries to choose One week",
             "409 trial_account", choose("week", account="initech")),
        Step("trial-token", "dana asks to stand in for peter of initech",
             "200 sub=peter act=dana scope=tickets:read",
             exchange("tickets:read", subject="peter", account="initech", keep="trial")),
        Step("trial-ticket", "GET /tickets/1 of initech",
             "200 Printer is on fire",
             call("GET", "/tickets/1", using="trial", account="initech", look=acts.title)),
        Step("trial-converted", "the vendor converts it, beside the gateway, while dana watches GET /events",
             "stream cut, 0 bytes after, next request 403 grant_revoked, within 1 s", acts.convert_trial),
        Step("trial-off", "dana asks again: it is off, until the customer chooses",
             "400 grant_off", exchange("tickets:read", subject="peter", account="initech")),
    )),
    DAY,
    Chapter("No seat, no user, no login", (
        Step("seats-after", "acme's seats, users, logins and sessions are counted again",
             "5 of 5 seats used, all as before", acts.compare_seats),
        Step("ben", "ben has been working all the while",
             "never disturbed", acts.look_at_ben),
    )),
    JOURNAL,
)
# fmt: on
