"""No secret gets out: what is put into any input of a running gateway shows up in no output but those named here."""

import asyncio
import base64
import hashlib
import json
import logging
import re
from urllib.parse import unquote

import pytest

from gateway.audit.search import read
from tests.canary_outputs import INDEX, KEY, STORE, files_of, index, keep_keys, kept, told
from tests.gateway_world import HOST, open_world
from tests.rawwire import response
from tests.upstream_client import eventually

WORDS = {"user-agent": "user_agent", "path": "path", "target": "path", "recorded": "query_values", "ticket": "ticket", "why": "stated_reason",
         "admin": "granted_by", "names": "query_names", "traceparent": "traceparent"}  # fmt: skip
"""The inputs that are on the record because they are meant to be, and the one field of it where each may stand."""
HEADERS = (
    "Cookie", "Proxy-Authorization", "X-Api-Key", "X-Auth-Token", "X-Forwarded-For", "X-Forwarded-User", "Referer", "Origin",
    "Accept", "Accept-Language", "If-None-Match", "X-Request-Id", "tracestate", "baggage", "Forwarded", "Via", "From",
)  # fmt: skip
LISTED = '\n[[routes]]\nid = "report"\nmethods = ["GET"]\npath = "/report"\nscope = "tickets:read"\nquery_recorded = ["page"]\n'


class Canaries:
    """Texts that nobody would write by chance, one for each input."""

    def __init__(self):
        self.by_input: dict[str, str] = {}

    def of(self, name):
        return self.by_input.setdefault(name, f"canary{len(self.by_input):03d}q7zk")

    def keep(self, name, secret):
        """Watch for a secret that is what it is."""
        self.by_input[name] = secret

    def in_(self, text: bytes):
        """Return the inputs whose canaries a text has, as they are or in base64."""
        return {
            name
            for name, canary in self.by_input.items()
            if canary.encode() in text or base64.b64encode(canary.encode()).rstrip(b"=")[:-1] in text
        }


async def by_staff(world, canaries, token):
    """Put one into each place of requests that are permitted, and of such as are refused in every way."""
    heads = [(name, canaries.of(f"header {name}")) for name in HEADERS]
    agent = [("User-Agent", canaries.of("user-agent"))]
    secret = f"/tickets/1?token={canaries.of('query')}&{canaries.of('names')}=1"
    await world.get(token, secret, headers=[*heads, *agent])
    await world.get(token, f"/report?page={canaries.of('recorded')}&token={canaries.of('query beside')}")
    await world.get(token, f"/{canaries.of('path')}")
    for target in (f"/tickets/1;a={canaries.of('target')}", f"/tickets/%zz?a={canaries.of('bad target')}"):
        await world.get(token, target, headers=agent)
    await world.get(token, "/tickets/1/reply", method="POST", body=canaries.of("body").encode())
    await world.get(token, headers=[("X-Locum-Actor", canaries.of("forged"))])
    await world.get(token, headers=[("traceparent", f"00-{canaries.of('no traceparent')}-00")])
    await world.get(f"{token}{canaries.of('token')}")
    await world.get(None, headers=[("Authorization", f"Basic {canaries.of('basic')}"), *heads])
    await world.get(None, headers=[("DPoP", canaries.of("proof")), ("Cookie", f"__Host-locum={canaries.of('cookie')}")])
    for raw in (
        f"GET /tickets/1 HTTP/1.1\r\nHost: {HOST}\r\nX-Bad\x00: {canaries.of('bad line')}\r\n\r\n",
        f"{canaries.of('method')} / HTTP/9.9\r\n\r\n",
        f"POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n{canaries.of('bad chunk')}\r\n",
        f"GET / HTTP/1.1\r\nHost: {HOST}\r\nHost: {canaries.of('second host')}\r\n\r\n",
    ):
        reply = await world.raw(raw.encode(), responses=None)
        yield reply


async def by_programs(world, canaries):
    """Put one into each field of what programs send to our own endpoints; yield what they are answered."""
    detail = {"ticket": canaries.of("ticket"), "reason": canaries.of("why")}
    for change in (
        {"detail": detail},
        {"actor_token": canaries.of("actor token")},
        {"subject_token_type": canaries.of("token type")},
        {"extra": [("password", canaries.of("unknown field")), ("client_secret", canaries.of("client secret"))]},
        {"authorization": "Basic " + base64.b64encode(f"app:{canaries.of('wrong secret')}".encode()).decode()},
        {"authorization": f"Bearer {canaries.of('wrong scheme')}"},
        {"authorization_details": canaries.of("no details")},
    ):
        yield json.dumps((await world.ask(**change))[1]).encode()
    yield json.dumps((await world.choose("day", id=canaries.of("admin")))[1]).encode()
    urls = [
        f"{world.gateway.public_url}/.locum/{end}" for end in ("oauth/introspect", "oauth/revoke", "oauth/token", "x")
    ]
    urls += [f"{world.gateway.admin_url}/api/v1/accounts/acme/assumption"]
    for number, url in enumerate(urls):
        headers = {
            "Authorization": f"Basic {canaries.of(f'basic {number}')}",
            "Cookie": f"a={canaries.of(f'jar {number}')}",
        }
        form = {"token": canaries.of(f"token {number}"), "grant_type": "x"}
        async with world.http.post(f"{url}?q={canaries.of(f'query {number}')}", data=form, headers=headers) as answer:
            yield await answer.read()


async def shown(world):
    """Yield what monitoring and operators see."""
    for path in ("/metrics", "/healthz", "/readyz", "/api/v1/accounts/acme/assumption"):
        async with world.http.get(world.gateway.admin_url + path, headers={"Authorization": world.basic()}) as answer:
            yield await answer.read()


@pytest.fixture
def everything_logged(caplog):
    caplog.set_level(logging.DEBUG)
    return caplog


def look_through(canaries, keys, directory):
    """Read all files: the store has what an assumption was begun for, the index what the journal has, and keys are where they are."""
    for name, content in files_of(directory).items():
        on_record = WORDS.keys() if name == INDEX or name.startswith("journal/") else set()
        allowed = {"ticket", "why", "admin"} if name in STORE else on_record
        assert canaries.in_(content) <= allowed | {key for key, where in keys.items() if name in where}, name


async def test_no_canary_of_any_input_gets_into_any_output(tmp_path, everything_logged):
    """Journal, log at its most talkative, metrics, health, the admin API, and every answer of ours to anybody.

    Nor into the store, the index or any other file, nor into what commands say. No private key gets there either.
    """
    canaries = Canaries()

    def with_report(_document):
        path = tmp_path / "demo-helpdesk.toml"
        path.write_text(path.read_text() + LISTED)

    change, document = kept(with_report)
    app = response(
        canaries.of("app's body").encode(), headers=[(b"Set-Cookie", b"s=" + canaries.of("app's cookie").encode())]
    )
    async with open_world(tmp_path, script=app, change=change) as world:
        await world.choose("day", ("read", "write"))
        token = await world.token()
        canaries.keep("the assumption token", token.rpartition(".")[2])
        canaries.keep("the client's secret", world.secret)
        answers = [answer async for answer in by_programs(world, canaries)]
        answers += [answer async for answer in by_staff(world, canaries, token)]
        assertions = [
            one.values(b"x-locum-assertion")[0] for one in world.upstream.requests if one.values(b"x-locum-assertion")
        ]
        canaries.keep("the assertion", assertions[0].rpartition(b".")[2].decode())
        await eventually(lambda: len(world.records(decision="allow", kind="decision")) == len(world.ends()))
        answers += [answer async for answer in shown(world)]
        assert set() == {name for answer in answers for name in canaries.in_(answer)} - {"admin", "ticket"}
        keys = dict(keep_keys(canaries, tmp_path))
        assert {*STORE, KEY} <= files_of(tmp_path).keys()
        look_through(canaries, keys, tmp_path)
    index(tmp_path)
    look_through(canaries, keys, tmp_path)
    assumption = next(entry["assumption"] for entry in read(tmp_path / "journal") if "assumption" in entry)
    for words, said in await asyncio.to_thread(lambda: list(told(tmp_path, document, assumption))):
        assert canaries.in_(said) <= (WORDS.keys() if words[0] == "audit" else {"admin"}), words
    files = {path.name: path.read_bytes() for path in (tmp_path / "journal").rglob("*") if path.is_file()}
    assert set(WORDS) - {"traceparent"} >= {name for content in files.values() for name in canaries.in_(content)}
    for entry in read(tmp_path / "journal"):
        for field, value in entry.items():
            found = canaries.in_(json.dumps(value).encode())
            assert {WORDS[name] for name in found} <= {field}, entry
    assert {"path", "recorded", "why", "names"} <= {
        name for entry in read(tmp_path / "journal") for name in canaries.in_(json.dumps(entry).encode())
    }, "so that this test can fail"
    logged = "\n".join(f"{line.getMessage()} {line.__dict__}" for line in everything_logged.records)
    assert set() == canaries.in_(logged.encode())


def escaped(text, times=1, upper=True):
    """Return a text with each of its characters percent-encoded, so many times over."""
    for _ in range(times):
        text = "".join(f"%{ord(letter):02X}" if upper else f"%{ord(letter):02x}" for letter in text)
    return text


def spellings(token):
    """Yield a token as people and programs may write it into a path, a query, or a header."""
    header, claims, signature = parts = token.split(".")
    yield token
    for dot in ("%2E", "%2e", "%252E", "%25252e", "%%32E"):
        yield dot.join(parts)
    yield from (escaped(token), escaped(token, upper=False), escaped(token, times=2))
    yield escaped(token).replace("%", "%25252525")
    yield "%2525252525252525252E".join(parts)
    yield f"{escaped(header[:30])}{header[30:]}.{claims}.{signature}"
    for between in ("/", ";", "&", "=", "/x/", "%2F", "?a=", "?", "#"):
        yield between.join(parts)
    yield f"{header[:25]}/{header[25:]}/{claims}/{signature}"
    yield f"{claims}.{signature}"
    yield f"{header}={claims}={signature}=1"


async def test_no_spelling_of_a_token_is_recorded(tmp_path):
    """Wherever somebody puts it, and however it is escaped: its header is no secret, and the rest is in no record."""
    async with open_world(tmp_path) as world:
        await world.choose("day")
        token = await world.token()
        _, claims, signature = token.split(".")
        sent = 0
        for spelled in spellings(token):
            word = spelled.replace("#", "%23")
            for target in (
                f"/tickets/1/{word}/end",
                f"/tickets/1?page=2&{word}&a={word}&{word}=1",
                f"/tickets/1;a={word}",
            ):
                await world.get(token, target)
                sent += 1
            await world.get(token, headers=[("User-Agent", f"Reader/1 ({spelled}) of mail")])
            host = f"GET /tickets/1 HTTP/1.1\r\nHost: {spelled}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
            await world.raw(host.encode(), responses=None)
            async with world.http.post(
                f"{world.gateway.public_url}/.locum/oauth/token", data={}, headers={"User-Agent": spelled}
            ) as answer:
                await answer.read()
        assert sent < len(world.records(kind="decision")), "so that this test can fail"
        paths = [record["path"] for record in world.records(kind="decision")]
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*.jsonl")).decode()
    assert set() == {text for text in (claims, signature) if text[8:40] in everything(written)}
    assert "/tickets/1/(token)/end" in paths


def everything(text):
    """Return a text with what it becomes by undoing its escapes, over and over."""
    readings = [text]
    while (less := unquote(readings[-1])) != readings[-1]:
        readings.append(less)
    return "\n".join(readings)


async def test_what_is_like_no_token_is_recorded_as_it_was_sent(tmp_path):
    """So that nobody hides what they have done behind escapes, or behind a token elsewhere in the same line."""
    async with open_world(tmp_path) as world:
        await world.choose("day")
        token = await world.token()
        ours = escaped(token[:60])
        number = "0190b2f4-7d2c-7d3e-8a44-5f0c5d2f1a77"
        for target in (f"/tickets/{number}%2Fx?page=2%20", f"/tickets/{number};{ours}/reply?{ours}=1&page=2"):
            await world.get(token, target)
        first, second = world.records(kind="decision")
    assert (f"/tickets/{number}%2Fx", ["page"]) == (first["path"], first["query_names"])
    assert (f"/tickets/{number};(token)/reply", ["(token)", "page"]) == (second["path"], second["query_names"])


async def test_of_a_long_user_agent_the_beginning_is_recorded(tmp_path):
    """And how long it was: what somebody makes up anew for each request is neither kept in memory nor on the disk."""
    async with open_world(tmp_path) as world:
        await world.choose("day")
        token = await world.token()
        await world.get(token, headers=[("User-Agent", "u" * 20_000)])
        await world.get(token, headers=[("User-Agent", f"{'u' * 900}{token}")])
        agents = [record["user_agent"] for record in world.records(kind="decision")]
    assert f"{'u' * 1024}…[cut, 20000 bytes, SHA-256 {hashlib.sha256(b'u' * 20_000).hexdigest()}]" == agents[0]
    assert agents[1].startswith("(token)…[cut, ")


ODD = (
    b"\xff", b"\\xff", b"\\\\xff", b"\\", b"\\\\", b"a\xed\xa0\x80b", b"a\\ud800b", b"\xc3\xa9", b"\xe9", b"a\tb", b"\xc2\x9b2J",
    b"\xe2\x80\xaegnp.exe", b"\"'},{\"kind\":\"journal\",\\", bytes(range(0x80, 0x100)), b"\xf0\x9f\x98\x80\xf0\x9f\x98",
)  # fmt: skip
"""Programs that call themselves by what is no UTF-8, by what such bytes are written as, and by what steers."""


async def test_an_odd_user_agent_can_be_read_back_as_the_bytes_that_were_sent(tmp_path):
    """No two are written alike, whoever made them up; also at our own endpoints, which another parser reads."""
    async with open_world(tmp_path) as world:
        await world.choose("day")
        token = await world.token()
        form = (
            "Content-Type: application/x-www-form-urlencoded",
            "Content-Length: 8",
            f"Authorization: {world.basic()}",
        )
        for agent in ODD:
            for first, lines, body in (
                ("GET /tickets/1", [f"Authorization: Bearer {token}"], b""),
                ("POST /.locum/oauth/token", form, b"audience"),
            ):
                head = "\r\n".join([f"{first} HTTP/1.1", f"Host: {HOST}", "Connection: close", *lines])
                await world.raw(b"%b\r\nUser-Agent: %b\r\n\r\n%b" % (head.encode(), agent, body))
        asked = [record["user_agent"] for record in world.records(kind="decision")]
        tokens = [record["user_agent"] for record in world.records(kind="token", decision="deny")]
    assert [*ODD] == [as_sent(text) for text in asked] == [as_sent(text) for text in tokens]


def as_sent(agent):
    """Undo what `describe_agent` has done."""
    escape = re.compile(rb"\\(?:(\\)|x([0-9a-f]{2}))")
    return escape.sub(lambda found: found[1] or bytes([int(found[2], 16)]), agent.encode())


async def test_a_refusal_for_the_wrong_account_is_the_tokens_own_accounts_to_read(tmp_path):
    """Whose host it was sent to learns nothing of whom, why and under which grant; the other's choice is not said."""
    async with open_world(tmp_path) as world:
        await world.choose("day", id="olga")
        token = await world.token()
        await world.add_account("beta")
        await world.choose("forever", account="beta", id="berta")
        for host, target in (("beta", "/tickets/1"), ("beta", "/tickets/%zz"), ("no.where", "/tickets/1")):
            name = HOST.replace("acme", host)
            raw = f"GET {target} HTTP/1.1\r\nHost: {name}\r\nAuthorization: Bearer {token}\r\n\r\n"
            await world.raw(raw.encode())
        denied = world.records(kind="decision")
    assert ["wrong_account", "ambiguous_target", "unknown_account"] == [record["reason"] for record in denied]
    assert ["acme"] * 3 == [record["account"] for record in denied]
    assert ["beta", "beta", None] == [record.get("asked_account") for record in denied]
    for record in denied:
        assert ("maria", "dana") == (record["subject"], record["actor"]["subject"])
        assert set() == {"granted_by", "grant_epoch", "scopes"} & record.keys()


async def test_a_traceparent_that_is_one_is_recorded_and_another_is_not(tmp_path):
    """Of W3C Trace Context's form, not all noughts, and once; it is somebody's choice, and judged by nobody."""
    good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    bad = [
        good.upper(),
        good[:-1],
        f"ff{good[2:]}",
        good.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32),
        f"{good}-x",
    ]
    async with open_world(tmp_path) as world:
        await world.choose("day")
        token = await world.token()
        for lines in ([("traceparent", good)], [("traceparent", good)] * 2, *([("traceparent", one)] for one in bad)):
            assert 200 == (await world.get(token, headers=lines))[0]
        said = [record.get("traceparent") for record in world.records(kind="decision")]
    assert [good, *[None] * 6] == said


async def test_a_decision_says_all_of_whom_what_and_why(tmp_path):
    """Who acted and by which groups, for whom, under which grant of whom, with what, from where, to where."""
    async with open_world(tmp_path) as world:
        await world.choose("day", id="olga")
        token = await world.token(actor_token=world.actor_token(groups=("support", "night shift")))
        assert 200 == (await world.get(token, "/tickets/1?page=2", headers=[("User-Agent", "Browser/1")]))[0]
        assert 403 == (await world.get(token, "/admin/users"))[0]
        allowed, denied = world.records(kind="decision")
        [begun] = world.records(kind="token", decision="allow")
        address = world.upstream.url
    for record in (allowed, denied, begun):
        assert {"issuer": world.issuer.issuer, "subject": "dana", "name": "dana", "groups": ["support"]} == record[
            "actor"
        ]
    said = {
        "account": "acme", "subject": "maria", "granted_by": "olga", "ticket": "SUP-1", "stated_reason": "cannot reproduce",
        "client_ip": "127.0.0.1", "method": "GET", "host": HOST, "client_id": "app", "scopes": ["tickets:read"], "grant_epoch": 1,
    }  # fmt: skip
    assert said == {field: allowed[field] for field in said}
    assert said == {field: denied[field] for field in said}
    assert ("ticket-show", ["page"], address, "Browser/1") == (
        allowed["rule"], allowed["query_names"], allowed["upstream"], allowed["user_agent"]
    )  # fmt: skip
    assert ("admin", "never_allowed", 403, None) == (
        denied["rule"], denied["reason"], denied["status"], denied.get("upstream")
    )  # fmt: skip
    assert {"token_id", "assumption", "request_id", "grant_id", "origin", "seq", "at"} <= allowed.keys() & denied.keys()
