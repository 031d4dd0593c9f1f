"""Every reason for keeping staff out is reached on the whole way, is told as it should be, and is on the record."""

import base64
import contextlib
import html
import json
import sqlite3
from dataclasses import dataclass
from typing import Any

import pytest
from joserfc.jwk import ECKey

from gateway.refusals import REFUSALS, headers, page, problem
from gateway.stores.local import channel_of, tell
from gateway.stores.store import KillSwitch
from policy.model import ActorId, Deny, DenyReason, Scope
from tests.attack_world import open_attack, request
from tests.browser_rows import hold
from tests.gateway_world import parse, profile_with_roles
from tests.oauth_world import payload_of, proof
from tests.rawwire import response
from tests.upstream_client import eventually

R = DenyReason
PROVING = ECKey.generate_key("P-256")
PERMISSIONS = ("read", "write")
WRITE = "tickets:read tickets:write"


@dataclass
class Stage:
    """A gateway, an attacker, and an app whose answers can be changed."""

    attacker: Any
    app: dict

    @property
    def world(self):
        return self.attacker.world

    async def sign_in(self, scope="tickets:read", subject="dana"):
        self.attacker.token = await self.world.token(scope, actor_token=self.world.actor_token(subject))

    def assumption(self):
        """Return the id of the attacker's assumption, read off the token."""
        payload = self.attacker.token.split(".")[1]
        return json.loads(base64.urlsafe_b64decode(payload + "=="))["sid"]

    @contextlib.asynccontextmanager
    async def forgotten(self, *, trusted=True):
        """What is done within is not in the store afterwards: an older copy of it is put back, and trusted or not."""
        path = self.world.directory / "locum.sqlite3"
        with contextlib.closing(sqlite3.connect(path)) as live, contextlib.closing(sqlite3.connect(":memory:")) as copy:
            live.backup(copy)
            yield
            [seen] = live.execute("SELECT max(position) FROM changes").fetchone()
            # Or nobody knows that there was more.
            await eventually(lambda: self.world.gateway.follower.position >= seen)
            if trusted:
                # As `raise_position` does, and before anybody can read it.
                copy.execute("INSERT INTO changes (position) VALUES (?)", (seen + 2,))
                copy.commit()
            copy.backup(live)
        if trusted:
            tell(channel_of(path))
            await eventually(lambda: self.world.gateway.follower.position > seen)
        self.world.clock.forward(seconds=3)


@contextlib.asynccontextmanager
async def open_stage(directory, *, signed_in):
    app = {b"/whoami": response(body=b'{"role": "agent"}')}

    def change(document):
        document["catch"] = [{"header": "X-Staff-Only"}]
        document["browser"] = {"idle_seconds": 60}
        document["staff"] |= {"require_amr": ["hwk"], "agent_claim": "sub", "max_assumptions": 3}
        document["upstream"]["profile"] = str(profile_with_roles(directory))

    def script(seen):
        return app.get(seen.target, response())

    options = {"change": change, "script": script, "permissions": PERMISSIONS, "token": False}
    async with open_attack(directory, **options) as attacker:
        stage = Stage(attacker, app)
        if signed_in:
            await stage.sign_in()
        yield stage


# --- the ways ---


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """A refusal of the proxy: `way` prepares the stage and returns the bytes to send."""

    status: int
    way: Any
    challenge: str | None = None
    scheme: str = "Bearer"
    recorded: bool = True
    signed_in: bool = True


@dataclass(frozen=True, kw_only=True)
class Token:
    """A refusal of the token endpoint: `way` prepares the stage and returns what to change in a good request."""

    error: str
    way: Any
    status: int = 400
    signed_in: bool = True


def sending(*lines, token=True, **options):
    async def way(stage):
        return request(stage.attacker.token if token else None, *lines, **options)

    return way


def asking(**changes):
    async def way(_stage):
        return changes

    return way


def presenting(**claims):
    async def way(stage):
        return {"actor_token": stage.world.actor_token(**claims)}

    return way


async def a_damaged_token(stage):
    return request(stage.attacker.token + "x")


def by_cookie(*lines, idle_seconds=0, method="GET", target="/tickets/1"):
    async def way(stage):
        value = "C" * 43
        await hold(stage.world, stage.attacker.token, value)
        stage.world.clock.forward(seconds=idle_seconds)
        return request(None, b"Cookie: __Host-locum-assumption=" + value.encode(), *lines, method=method, target=target)

    return way


async def an_old_token(stage):
    stage.world.clock.forward(minutes=15)
    return request(stage.attacker.token)


async def another_accounts_host(stage):
    await stage.world.add_account("umbra")
    return request(stage.attacker.token, host="umbra.helpdesk.example")


async def a_suspended_account(stage):
    await stage.world.add_account("umbra", suspended=True)
    return {"account": "umbra"}


async def an_account_that_never_chose(stage):
    await stage.world.add_account("umbra")
    return {"account": "umbra"}


async def a_grant_taken_back(stage):
    assert 200 == (await stage.world.choose("off"))[0]
    return request(stage.attacker.token)


async def a_grant_that_ended(stage):
    stage.world.clock.forward(days=7)
    return {}


async def a_store_older_than_the_token(stage):
    async with stage.forgotten():
        assert 200 == (await stage.world.choose("month", PERMISSIONS))[0]
        await stage.sign_in()
    return request(stage.attacker.token)


async def a_store_put_back(stage):
    async with stage.forgotten(trusted=False):
        assert 200 == (await stage.world.choose("month", PERMISSIONS))[0]
        await stage.sign_in()
    await eventually(lambda: stage.world.gateway.follower.is_stale)
    return request(stage.attacker.token)


async def everything_stopped(stage):
    await stage.world.gateway.store.set_kill_switch(KillSwitch(on=True, by="robin", reason="an incident"))
    stage.world.clock.forward(seconds=3)
    return request(stage.attacker.token)


async def a_person_never_seen(stage):
    async with stage.forgotten():
        await stage.sign_in(subject="erin")
    return request(stage.attacker.token)


async def an_assumption_never_started(stage):
    async with stage.forgotten():
        await stage.sign_in()
    return request(stage.attacker.token)


async def an_assumption_that_ended(stage):
    assert await stage.world.gateway.store.end_assumption(stage.assumption(), at=stage.world.clock.now)
    return request(stage.attacker.token)


async def a_person_locked_out(stage):
    dana = ActorId(issuer=stage.world.issuer.issuer, subject="dana")
    assert await stage.world.gateway.store.disable_staff(dana, disabled=True)
    stage.world.clock.forward(seconds=3)
    return request(stage.attacker.token)


async def a_person_signed_out(stage):
    token = stage.world.actor_token()
    dana = ActorId(issuer=stage.world.issuer.issuer, subject="dana")
    await stage.world.gateway.store.sign_out(dana, since=stage.world.clock.now, at=stage.world.clock.now)
    stage.world.clock.forward(seconds=3)
    return {"actor_token": token}


async def a_permission_taken_back(stage):
    await stage.sign_in(WRITE)
    assert 200 == (await stage.world.choose("week", ("read",)))[0]
    return request(stage.attacker.token, method="POST", target="/tickets/1/reply")


async def as_many_open_as_may_be(stage):
    for _ in range(2):
        assert 200 == (await stage.world.ask(scope="tickets:read"))[0]
    return {}


async def an_agent_who_has_become_an_administrator(stage):
    stage.app[b"/whoami"] = response(body=b'{"role": "owner"}')
    return {}


async def a_bound_token_that_is_just_borne(stage):
    _bind(stage)
    return request(stage.attacker.token)


def with_the_proof(text):
    """With a proof that is this text, or one that lacks the nonce."""

    async def way(stage):
        _bind(stage)
        world, token = stage.world, stage.attacker.token
        said = text or proof(world, key=PROVING, token=token, nonce="")
        return request(None, b"Authorization: DPoP " + token.encode(), b"DPoP: " + said.encode())

    return way


def _bind(stage):
    """Have the attacker's token say that it is for the holder of a key."""
    claims = payload_of(stage.attacker.token) | {"cnf": {"jkt": PROVING.thumbprint()}}
    stage.attacker.token = stage.world.gateway.keys.signing.sign(claims, type_="at+jwt")


async def an_agent_the_app_does_not_know(stage):
    stage.app[b"/whoami"] = response(status=b"404 Not Found")
    return {"subject_token": "ghost"}


async def an_app_that_cannot_say(stage):
    stage.app[b"/whoami"] = response(status=b"500 Oops")
    return {}


async def a_closed_store(stage):
    await stage.world.gateway.store.close()
    stage.world.clock.forward(seconds=3)
    return request(stage.attacker.token)


async def a_closed_journal(stage):
    await stage.world.gateway.journal.close()
    return request(stage.attacker.token)


async def an_issuer_that_is_away(stage):
    stage.world.issuer.down()
    return {}


CASES: dict[DenyReason, Proxy | Token] = {
    R.KILL_SWITCH: Proxy(status=403, way=everything_stopped),
    R.TOKEN_MISSING: Proxy(status=401, challenge="", way=sending(b"X-Staff-Only: 1", token=False)),
    R.TOKEN_INVALID: Proxy(status=401, challenge="invalid_token", way=a_damaged_token),
    R.TOKEN_EXPIRED: Proxy(status=401, challenge="invalid_token", way=an_old_token),
    R.PROOF_MISSING: Proxy(status=401, challenge="invalid_token", way=a_bound_token_that_is_just_borne, scheme="DPoP"),
    R.PROOF_INVALID: Proxy(status=401, challenge="invalid_dpop_proof", way=with_the_proof("x"), scheme="DPoP"),
    R.PROOF_NONCE: Proxy(status=401, challenge="use_dpop_nonce", way=with_the_proof(None), scheme="DPoP"),
    R.COOKIE_UNKNOWN: Proxy(
        status=403, way=sending(b"Cookie: __Host-locum-assumption=" + b"A" * 43, token=False), signed_in=False
    ),
    R.COOKIE_IDLE: Proxy(status=403, way=by_cookie(idle_seconds=60)),
    R.CROSS_SITE: Proxy(
        status=403, way=by_cookie(b"Origin: https://evil.example", method="POST", target="/tickets/search")
    ),
    R.WRONG_ACCOUNT: Proxy(status=403, challenge="invalid_token", way=another_accounts_host),
    R.UNKNOWN_ACCOUNT: Proxy(status=403, way=sending(host="helpdesk.example")),
    R.ACCOUNT_SUSPENDED: Token(error="invalid_request", way=a_suspended_account),
    R.GRANT_OFF: Token(error="invalid_request", way=an_account_that_never_chose),
    R.GRANT_REVOKED: Proxy(status=403, way=a_grant_taken_back),
    R.GRANT_EXPIRED: Token(error="invalid_request", way=a_grant_that_ended),
    R.GRANT_STALE: Proxy(status=503, way=a_store_older_than_the_token),
    R.STAFF_UNKNOWN: Proxy(status=403, way=a_person_never_seen),
    R.STAFF_DISABLED: Proxy(status=403, way=a_person_locked_out),
    R.STAFF_NOT_ALLOWED: Token(error="invalid_request", way=presenting(groups=("sales",))),
    R.STAFF_AUTHENTICATION_WEAK: Token(error="insufficient_user_authentication", way=presenting(amr=("pwd",))),
    R.STAFF_SIGNED_OUT: Token(error="insufficient_user_authentication", way=a_person_signed_out),
    R.AGENT_INVALID: Token(error="invalid_request", way=asking(subject_token="maria\t")),
    R.TOO_MANY_ASSUMPTIONS: Token(error="invalid_request", way=as_many_open_as_may_be),
    R.AGENT_IS_ACTOR: Token(error="invalid_request", way=asking(subject_token="dana")),
    R.AGENT_ADMINISTRATOR: Token(error="invalid_request", way=an_agent_who_has_become_an_administrator),
    R.AGENT_UNKNOWN: Token(error="invalid_request", way=an_agent_the_app_does_not_know),
    R.ASSUMPTION_UNKNOWN: Proxy(status=403, way=an_assumption_never_started),
    R.ASSUMPTION_ENDED: Proxy(status=403, way=an_assumption_that_ended),
    R.AMBIGUOUS_TARGET: Proxy(status=400, way=sending(target="/tickets//1")),
    R.AMBIGUOUS_HEADER: Proxy(status=400, way=sending(b"Authorization: Basic YTpi")),
    R.FORGED_HEADER: Proxy(status=400, way=sending(b"x_locum_assertion: admin")),
    R.METHOD_NOT_ALLOWED: Proxy(status=403, way=sending(method="PROPFIND")),
    R.METHOD_OVERRIDE: Proxy(status=403, way=sending(target="/tickets/1?_method=DELETE")),
    R.BODY_NOT_ALLOWED: Proxy(status=400, way=sending(body=b"hello")),
    R.UPGRADE_NOT_ALLOWED: Proxy(status=403, way=sending(b"Connection: Upgrade", b"Upgrade: websocket")),
    R.NO_ROUTE_RULE: Proxy(status=403, way=sending(target="/new-in-the-next-version")),
    R.NEVER_ALLOWED: Proxy(status=403, way=sending(target="/admin/agents")),
    R.INSUFFICIENT_SCOPE: Proxy(
        status=403, challenge="insufficient_scope", way=sending(method="POST", target="/tickets/1/reply")
    ),
    R.PERMISSION_NOT_GRANTED: Proxy(status=403, challenge="insufficient_scope", way=a_permission_taken_back),
    R.EXCHANGE_MALFORMED: Token(error="unsupported_grant_type", way=asking(grant_type="password")),
    R.EXCHANGE_CHAINED: Token(error="invalid_request", way=presenting(act={"sub": "x"})),
    R.INVALID_TARGET: Token(error="invalid_target", way=asking(audience="umbra.helpdesk.example")),
    R.INVALID_SCOPE: Token(error="invalid_scope", way=asking(scope="tickets:read wiki:read")),
    R.TICKET_MISSING: Token(error="invalid_authorization_details", way=asking(detail={"ticket": " "})),
    R.REASON_MISSING: Token(error="invalid_authorization_details", way=asking(detail={"reason": ""})),
    R.STORE_STALE: Proxy(status=503, way=a_store_put_back),
    R.STORE_UNAVAILABLE: Proxy(status=503, way=a_closed_store),
    R.JOURNAL_UNAVAILABLE: Proxy(status=503, recorded=False, way=a_closed_journal),
    R.ISSUER_UNAVAILABLE: Token(
        status=503, error="temporarily_unavailable", signed_in=False, way=an_issuer_that_is_away
    ),
    R.APP_UNAVAILABLE: Token(status=503, error="temporarily_unavailable", way=an_app_that_cannot_say),
}


def of_kind(kind):
    return [reason for reason, case in CASES.items() if isinstance(case, kind)]


def test_every_reason_has_a_way_and_a_refusal():
    """A reason that is new has to be reached here, and to be told, before the tests are green again."""
    assert set(DenyReason) == set(CASES)
    assert set(DenyReason) == set(REFUSALS)


@pytest.mark.parametrize("reason", of_kind(Proxy))
async def test_the_proxy_refuses_for_each_reason(tmp_path, reason):
    """The client is told once, in one form, with the right challenge; the app hears nothing; one record says why."""
    case = CASES[reason]
    async with open_stage(tmp_path, signed_in=case.signed_in) as stage:
        raw = await case.way(stage)
        outcome = await stage.attacker.refused(raw)
        since = len(stage.world.upstream.requests)
        assert (case.status, reason, 0, [reason] * case.recorded) == outcome.verdict
        document = json.loads(parse(outcome.answer)[2])
        assert (f"urn:locum:refusal:{reason}", case.status) == (document["type"], document["status"])
        assert [(document["request_id"], "deny")] * case.recorded == [
            (record["request_id"], record["decision"]) for record in outcome.records
        ]
        told = outcome.headers
        assert ("application/problem+json", "no-store") == (told["content-type"], told["cache-control"])
        assert ("1" if case.status == 503 else None) == told.get("retry-after")
        assert case.challenge == _challenge(told.get("www-authenticate"), case.scheme)
        secrets = [stage.attacker.token, stage.attacker.token.rpartition(".")[2], stage.world.secret, str(tmp_path)]
        assert [] == [secret for secret in secrets if secret and secret.encode() in outcome.answer]
        assert [] == await stage.attacker.heard_late(since)


def _challenge(value, scheme):
    """Return the error of a challenge (RFC 6750 section 3): empty without one, None without a challenge."""
    if value is None:
        return None
    assert value.startswith(f'{scheme} realm="locum"')
    return value.partition('error="')[2].partition('"')[0]


@pytest.mark.parametrize("reason", of_kind(Token))
async def test_the_token_endpoint_refuses_for_each_reason(tmp_path, reason):
    """The caller gets an OAuth error (RFC 6749 section 5.2) and the reason, no token, and one record says why."""
    case = CASES[reason]
    async with open_stage(tmp_path, signed_in=case.signed_in) as stage:
        changes = {"scope": "tickets:read"} | await case.way(stage)
        before = len(stage.world.records(kind="token"))
        status, document = await stage.world.ask(**changes)
        assert (case.status, case.error, reason) == (status, document["error"], document["reason"])
        assert {"error", "error_description", "reason"} == set(document)
        records = stage.world.records(kind="token")[before:]
        assert [("deny", reason)] == [(record["decision"], record["reason"]) for record in records]
        assert stage.world.secret not in json.dumps(document)


async def test_a_good_request_passes_the_same_stage(tmp_path):
    """What the cases change is what they are refused for."""
    async with open_stage(tmp_path, signed_in=True) as stage:
        outcome = await stage.attacker.send(request(stage.attacker.token))
        assert (200, None, 1, [None]) == outcome.verdict
        assert 200 == (await stage.world.ask(scope="tickets:read"))[0]


# --- how it is told ---


async def test_browsers_get_a_page_and_programs_get_problem_details(tmp_path):
    """Whoever asks for HTML first gets a page that loads nothing; everybody else gets JSON."""
    async with open_stage(tmp_path, signed_in=True) as stage:
        for accept, kind in (
            (b"text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", "text/html; charset=utf-8"),
            (b" Text/HTML", "text/html; charset=utf-8"),
            (b"*/*", "application/problem+json"),
            (b"application/json, text/html", "application/problem+json"),
            (b"", "application/problem+json"),
        ):
            raw = request(stage.attacker.token, b"Accept:" + accept, target="/admin/agents")
            outcome = await stage.attacker.refused(raw)
            assert (403, kind) == (outcome.status, outcome.headers["content-type"])
            assert b"never_allowed" in outcome.answer
            if kind.startswith("text/html"):
                assert "default-src 'none'; frame-ancestors 'none'" == outcome.headers["content-security-policy"]


@pytest.mark.parametrize("reason", DenyReason)
def test_each_refusal_reads_well_and_is_stable(reason):
    """Titles are one plain line; the page holds what the document holds; a 401 always has its challenge."""
    deny = Deny(reason=reason, detail='<script>"&', needs=frozenset({Scope(resource="tickets", write=True)}))
    document = json.loads(problem(deny, request_id="req_1"))
    title = document["title"]
    assert (title, f"urn:locum:refusal:{reason}") == (title.strip().rstrip("."), document["type"])
    assert title[0].islower() or title.startswith("`")
    shown = page(deny, request_id="req_<1>").decode()
    assert [] == [raw for raw in ("<script>", "req_<1>") if raw in shown]
    assert title.lower() in html.unescape(shown).lower()
    names = {name for name, _ in headers(deny)}
    assert b"WWW-Authenticate" in names or REFUSALS[reason].status != 401
    assert (REFUSALS[reason].status == 503) == (b"Retry-After" in names)
    assert REFUSALS[reason].status in (400, 401, 403, 503)
