"""`locum assume` on a staff member's own machine: real processes, a real gateway, a provider and a browser by hand."""

import asyncio
import base64
import json
import re
import signal
import sys
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from click.testing import CliRunner

from gateway.cli.root import cli
from gateway.remote.server import Refused, Server, ServerFault, Wish
from gateway.remote.tokens import Unreadable, read
from tests import started
from tests.certificates import Authority
from tests.gateway_world import AUDIENCE
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port
from tests.process_world import open_process_world
from tests.provider_world import CLIENT_SECRET, Browser, Provider

SIGN_IN = f"""
[staff.sign_in]
client_id = "{AUDIENCE}"
client_secret = "{CLIENT_SECRET}"
"""
ASK = ("--account", "acme", "--agent", "maria", "--ticket", "SUP-1", "--reason", "cannot see it")


class Command:
    """A `locum` process in a directory without a configuration."""

    def __init__(self, process):
        self.process = process

    @classmethod
    async def start(cls, directory, *words, **environment):
        away = directory / "elsewhere"
        away.mkdir(exist_ok=True)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway",
            "assume",
            *words,
            cwd=away,
            env=started.environment(**environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        return cls(process)

    async def code(self):
        """Return the code that it shows, and its page."""
        said = b""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while b"Waiting" not in said:
                line = await self.process.stderr.readline()
                assert line, said
                said += line
        return re.search(rb"code: ([A-Z]{4}-[A-Z]{4})", said)[1].decode(), said.decode()

    async def ends(self):
        """Return its exit code, and what it has said on both ways out."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            out, err = await self.process.communicate()
        return self.process.returncode, out.decode(), err.decode()


async def test_the_whole_way(tmp_path):
    """Asked on one machine, signed in and approved in a browser, used, and ended: by a token and by a command."""
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    environment = {"LOCUM__SERVER__ISSUER": issuer, "LOCUM__ACCOUNTS__HOST": "{account}.helpdesk.example"}
    async with open_process_world(tmp_path, issuer_class=Provider) as world:
        world.configure(listen=f"127.0.0.1:{port}", more=SIGN_IN)
        add = ("client", "add", "locum-cli", "--public", "--role", "device")
        status, said = await world.told(*add, **environment)
        assert (0, "without a secret") == (status, said.strip().rpartition(", ")[2])
        settings = {"listen": f"127.0.0.1:{port}", "more": SIGN_IN, "environment": environment}
        async with world.running(**settings):
            assert 200 == (await world.choose("week", ["read"]))[0]
            script = "import os, sys; print(os.environ['LOCUM_TOKEN'], os.environ['LOCUM_SERVER']); sys.exit(7)"
            printing, running, stopped = [
                await Command.start(tmp_path, "--server", issuer, *ASK),
                await Command.start(tmp_path, *ASK, "--", sys.executable, "-c", script, LOCUM_SERVER=issuer),
                await Command.start(tmp_path, "--server", issuer, *ASK),
            ]
            browser = Browser(world, host=f"127.0.0.1:{port}")
            for command in (printing, running):
                code, said = await command.code()
                assert f"{issuer}/.locum/device?user_code={code}" in said
                await approve(browser, code, issuer)
            code, _ = await stopped.code()
            stopped.process.send_signal(signal.SIGINT)
            ended, out, said = await stopped.ends()
            assert (1, "") == (ended, out)
            assert "nothing is wanted any more" in said
            assert 404 == (await browser.send(f"/.locum/device?user_code={code}")).status

            ended, token, said = await printing.ends()
            assert (0, 1) == (ended, token.count("\n")), said
            assert "maria of acme" in said
            token = token.strip()
            assert 200 == (await world.get(token))[0]
            show = await (await Command.start(tmp_path, "show", LOCUM_TOKEN=token)).ends()
            assert 0 == show[0]
            for line in ("actor: dana", "agent: maria", "account: acme", "ticket: SUP-1"):
                assert line in show[1]
            (tmp_path / "token").write_text(f"{token}\n")
            end = await (await Command.start(tmp_path, "end", "--token-file", str(tmp_path / "token"))).ends()
            assert (0, "") == end[:2], end
            assert 403 == (await world.get(token))[0]

            ended, out, said = await running.ends()
            assert 7 == ended, said
            inner, server = out.split()
            assert (issuer, 403) == (server, (await world.get(inner))[0])
        assert 3 == len(world.records(reason="device_asked"))
        assert 2 == len(world.records(reason="device_approved"))
        assert 1 == len(world.records(reason="device_withdrawn"))
        assert 2 == len(world.records(kind="assumption", reason="ended"))


async def approve(browser, code, issuer):
    """Open the page, sign in where that is asked for, and press the button."""
    page = await browser.send(f"/.locum/device?user_code={code}")
    if page.status == 303:
        begun = await browser.send(page.location)
        query = browser.world.issuer.consent(begun.location, "dana")
        back = await browser.send(f"/.locum/sign-in/callback?{query}")
        assert f"/.locum/device?user_code={code}" == back.location
        page = await browser.send(back.location)
    assert code in page.text
    fields = {"form_token": page.form_token, "user_code": code, "word": "approve"}
    assert 200 == (await browser.post("/.locum/device", fields, origin=issuer)).status


TOKEN = {
    "access_token": "a.b.c", "token_type": "Bearer", "expires_in": 900, "scope": "tickets:read", "issued_token_type": "x",
}  # fmt: skip


class Gateway:
    """Answers as a test says; `heard` are the forms that came, by path."""

    def __init__(self):
        self.heard = []
        self.codes = {}
        self.answers = []
        self.device = None
        self.asked = asyncio.Event()

    @property
    def taken_back(self):
        return [form["token"] for path, form in self.heard if path.endswith("/revoke")]

    async def answer(self, request):
        form = dict(await request.post())
        self.heard.append((request.path, form))
        if request.path.endswith("/device"):
            return self.device() if self.device else web.json_response(self.codes)
        if request.path.endswith("/revoke"):
            return web.json_response({})
        self.asked.set()
        answer = self.answers.pop(0) if self.answers else error("authorization_pending")
        return await answer() if asyncio.iscoroutinefunction(answer) else answer


def error(code, status=400):
    return web.json_response({"error": code, "error_description": "said \x1b[31mthis"}, status=status)


@asynccontextmanager
async def scripted():
    gateway = Gateway()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", gateway.answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    gateway.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    gateway.codes = {
        "device_code": "d" * 43,
        "user_code": "BCDF-GHJK",
        "verification_uri": f"{gateway.url}/.locum/device",
        "expires_in": 60,
        "interval": 1,
    }
    try:
        yield gateway
    finally:
        await runner.cleanup()


async def test_it_waits_through_faults_and_stops_at_an_answer(tmp_path):
    """Not answered, or not well: asked again later. Declined: the exit code is 1, nothing is printed, all is said."""
    async with scripted() as gateway:
        gateway.answers = [error("temporarily_unavailable", 503), error("access_denied")]
        command = await Command.start(tmp_path, "--server", gateway.url, *ASK, "--scope", "tickets:read")
        ended, out, said = await command.ends()
        assert (1, "") == (ended, out)
        assert "access_denied" in said
        assert "\x1b" not in said
        path, form = gateway.heard[0]
        assert ("/.locum/oauth/device", "locum-cli", "tickets:read") == (path, form["client_id"], form["scope"])
        [entry] = json.loads(form["authorization_details"])
        assert {"acme", "maria", "SUP-1", "cannot see it", "account_assumption"} == set(entry.values())


async def test_ctrl_c_while_the_token_is_on_its_way_ends_it(tmp_path):
    """The question that is under way is heard out, so that what has begun meanwhile is ended."""
    async with scripted() as gateway:
        let_go = asyncio.Event()

        async def late():
            await let_go.wait()
            return web.json_response(TOKEN)

        gateway.answers = [late]
        command = await Command.start(tmp_path, "--server", gateway.url, *ASK)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await gateway.asked.wait()
        command.process.send_signal(signal.SIGTERM)
        let_go.set()
        ended, out, _ = await command.ends()
        assert (1, "", ["a.b.c"]) == (ended, out, gateway.taken_back)


async def test_a_command_that_is_told_to_end_ends_its_assumption(tmp_path):
    """SIGTERM reaches the command, whose end is waited for and passed on."""
    async with scripted() as gateway:
        gateway.answers = [web.json_response(TOKEN)]
        script = (
            "import signal, sys; signal.signal(15, lambda *_: sys.exit(9)); print('up', flush=True); signal.pause()"
        )
        command = await Command.start(tmp_path, "--server", gateway.url, *ASK, "--", sys.executable, "-c", script)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert b"up\n" == await command.process.stdout.readline()
        assert [] == gateway.taken_back
        command.process.send_signal(signal.SIGTERM)
        assert 9 == (await command.ends())[0]
        assert ["a.b.c"] == gateway.taken_back


async def test_a_command_that_is_not_there_ends_its_assumption(tmp_path):
    """As a shell would say it; and one that dies of a signal likewise."""
    async with scripted() as gateway:
        gateway.answers = [web.json_response(TOKEN), web.json_response(TOKEN)]
        missing, killed = [
            await Command.start(tmp_path, "--server", gateway.url, *ASK, "--", *words)
            for words in (["/no/such/command"], ["sh", "-c", "kill -9 $$"])
        ]
        assert [127, 137] == [(await command.ends())[0] for command in (missing, killed)]
        assert ["a.b.c"] * 2 == gateway.taken_back


@pytest.mark.parametrize(
    ("device", "changes", "fault", "said"),
    [
        (lambda: error("invalid_scope"), {}, Refused, "said"),
        (lambda: error("server_error", 500), {}, ServerFault, "cannot answer now"),
        (lambda: web.Response(status=404, text="<html>"), {}, ServerFault, "check the address"),
        (lambda: web.Response(status=307, headers={"Location": "/else"}), {}, ServerFault, "check the address"),
        (lambda: web.Response(body=b"x" * 100_000), {}, ServerFault, "longer"),
        (lambda: web.Response(status=400, body=b"{" * 100_000), {}, ServerFault, "check the address"),
        (lambda: web.json_response([]), {}, ServerFault, "does not answer as it should"),
        (None, {"verification_uri": "https://evil.example/.locum/device"}, ServerFault, "does not fit"),
        (None, {"verification_uri_complete": "https://evil.example/?user_code=BCDF-GHJK"}, ServerFault, "does not fit"),
        (None, {"user_code": "\x1b[2J"}, ServerFault, "does not fit"),
        (None, {"interval": 0}, ServerFault, "does not fit"),
        (None, {"expires_in": 10**9}, ServerFault, "does not fit"),
        (None, {"expires_in": "600"}, ServerFault, "does not answer as it should"),
        (None, {"device_code": ""}, ServerFault, "does not fit"),
    ],
)
async def test_what_a_server_answers_is_read_strictly(device, changes, fault, said):
    """Long, odd, elsewhere or not ours: nothing of it is used, and nothing is sent on to another address."""
    async with scripted() as gateway:
        gateway.device = device
        gateway.codes |= changes
        server = Server(gateway.url, client="locum-cli")
        wish = Wish(account="acme", agent="maria", ticket="", reason="", scopes=())
        with pytest.raises(fault, match=said) as caught:
            await asyncio.to_thread(server.ask, wish)
        assert str(caught.value).isprintable()
        assert 1 == len(gateway.heard)


@pytest.mark.parametrize(
    "change", [{"token_type": "DPoP"}, {"access_token": "a\nb"}, {"expires_in": "x"}, {"scope": None}]
)
async def test_a_token_of_another_kind_is_not_taken(change):
    """What could not be used as it is, or not be handed to a shell."""
    async with scripted() as gateway:
        gateway.answers = [web.json_response(TOKEN | change)]
        with pytest.raises(ServerFault):
            await asyncio.to_thread(Server(gateway.url, client="x").fetch, "d")


async def test_what_the_operator_has_to_mend_has_an_exit_code_of_its_own(tmp_path):
    """78, and which command to run."""
    async with scripted() as gateway:
        gateway.device = lambda: error("invalid_client", 401)
        ended, out, said = await (await Command.start(tmp_path, "--server", gateway.url, *ASK)).ends()
        assert (78, "") == (ended, out)
        assert "locum client add" in said


@pytest.mark.parametrize(
    "url",
    [
        "http://assume.vendor.example",
        "https://dana:secret@assume.vendor.example",
        "https://assume.vendor.example/path",
        "https://assume.vendor.example?x=1",
        "ftp://assume.vendor.example",
        "assume.vendor.example",
        "https://",
        "https://[::1",
        "http://127.0.0.1.evil.example",
    ],
)
def test_nothing_is_sent_to_an_odd_address(url):
    """Only to https, or to this machine itself, and never with a password in it."""
    with pytest.raises(ValueError):
        Server(url, client="x")


async def test_a_certificate_of_nobody_we_know_is_refused(tmp_path):
    """Nothing is said to whoever shows one."""
    context = Authority(tmp_path).issue("127.0.0.1").as_server()
    heard = []

    async def hear(reader, writer):
        heard.append(await reader.read(1))
        writer.close()

    server = await asyncio.start_server(hear, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        asked = Server(f"https://127.0.0.1:{port}", client="x").take_back
        with pytest.raises(ServerFault, match="certificate"):
            await asyncio.to_thread(asked, "secret")
    assert [] == heard


@pytest.mark.parametrize(
    "text",
    ["", "a.b", "a.b.c", "a.e30.c", "..", "a.W10.c", "x" * 20_000, f"a.{'é'}.c", "a.eyJleHAiOjFlOTk5fQ.c"],
)
def test_what_is_no_token_is_not_read(text):
    """Whatever it is, it is said to be none."""
    with pytest.raises(Unreadable):
        read(text)


async def test_show_steers_no_terminal_and_says_when_it_is_over(tmp_path):
    """Whoever has made the token; the exit code is 1 once it has expired."""
    claims = {"iss": "https://x", "sub": "maria\x1b[2J", "act": {"sub": "d\u202ena", "iss": "i"}}
    claims |= {"client_id": "c", "exp": 1, "sid": "as_1"}
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    ended, out, said = await (await Command.start(tmp_path, "show", LOCUM_TOKEN=f"a.{body}.c")).ends()
    assert (1, True) == (ended, "expired" in said)
    assert ("maria?[2J", "d?na") == tuple(re.findall(r"(?:agent|actor): (.*)", out))[::-1]


@pytest.mark.parametrize(
    "words",
    [
        ["--role", "device"],
        ["--public", "--role", "token"],
        ["--public", "--role", "device", "--role", "token"],
        ["--public", "--role", "device", "--jwks", __file__],
    ],
    ids=" ".join,
)
def test_a_public_client_has_one_role_and_no_key(words):
    """Everything else that is public would be anybody's."""
    result = CliRunner().invoke(cli, ["client", "add", "x", *words])
    assert (2, True) == (result.exit_code, "--public goes with" in result.output)
