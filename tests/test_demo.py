"""`locum demo`: the story holds, it notices when something does not, and it harms nothing around it."""

import http.client
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from contextlib import contextmanager
from datetime import timedelta
from importlib import resources

import pytest

from gateway.clock import utc_now
from gateway.demo.story import django, helpdesk
from gateway.demo.story.clock import StoryClock
from gateway.demo.story.folder import FolderError, open_folder
from gateway.demo.story.play import Chapter, Got, Step, Told, play
from gateway.demo.story.stage import free_port
from gateway.demo.story.text import line
from tests import ports

COMMAND = [
    sys.executable,
    "-m",
    "gateway",
    "demo",
    "--port",
    str(ports.free_port()),
    "--admin-port",
    str(ports.free_port()),
]


def environment(**more):
    return {name: value for name, value in os.environ.items() if not name.startswith("LOCUM")} | more


def tell(directory, *options, seconds, **more):
    """Run the demo once; return its exit code, its steps and what it said beside them."""
    command = [*COMMAND, "--once", "--json", "--directory", str(directory), *options]
    if "--upstream" not in options:
        # See tests/started.py; where pip may be asked for something, it needs them.
        more = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull} | more
    done = subprocess.run(
        command, env=environment(**more), capture_output=True, text=True, timeout=seconds, check=False
    )
    return done.returncode, [json.loads(each) for each in done.stdout.splitlines()], done.stderr


def steps_of(story):
    return [step.id for chapter in story for step in chapter.steps]


def failed(steps):
    return {step["id"]: step["got"] for step in steps if not step["ok"]}


def test_every_step_of_the_story_gives_what_it_should(tmp_path):
    """A newcomer sees the whole model hold, within 15 seconds."""
    code, steps, said = tell(tmp_path / "demo", seconds=55)

    assert ({}, 0) == (failed(steps), code), said
    assert steps_of(helpdesk.STORY) == [step["id"] for step in steps]
    assert all(step["milliseconds"] > 0 for step in steps)


LAX_RULES = {
    "get-that-writes": ("ticket-hold", "GET", "/tickets/{id:int}/hold", "200"),
    "query-that-writes": ("ticket-action", "GET", "/tickets/{id:int}", "200"),
    "makes-a-credential": ("api-tokens", "POST", "/api-tokens", "201"),
}


@pytest.fixture(scope="module")
def lax_story(tmp_path_factory):
    """The story before a gateway with every one of these rules made lax, and on which agents count as administrators."""
    folder = tmp_path_factory.mktemp("lax")
    text = resources.files("policy").joinpath("profiles", "demo-helpdesk.toml").read_text()
    for rule, method, path, _ in LAX_RULES.values():
        before, _, after = text.partition(f'id = "{rule}"')
        lax = f'id = "lax-{rule}"\nmethods = ["{method}"]\npath = "{path}"\nscope = "tickets:read"\n'
        text = before + lax + after[after.index("\n[[routes]]") :]
    profile = folder / "demo-helpdesk.toml"
    profile.write_text(text)
    return tell(
        folder / "demo",
        seconds=55,
        LOCUM__UPSTREAM__PROFILE=str(profile),
        LOCUM__GRANTS__ADMINISTRATOR_ROLES='["agent", "admin", "owner"]',
    )


@pytest.mark.parametrize("step", LAX_RULES)
def test_a_route_that_is_let_through_fails_the_story(lax_story, step):
    """With that rule of the profile made lax its step fails, and so does the command."""
    *_, got = LAX_RULES[step]
    code, steps, said = lax_story

    assert (got, 1) == (failed(steps).get(step), code), said


def test_an_agent_who_may_change_the_setting_fails_the_story(lax_story):
    """Where the roles are configured wrongly, the story says where it shows."""
    code, steps, said = lax_story

    assert ("enabled: day, read", 1) == (failed(steps)["not-administrator"], code), said


def test_a_step_fails_for_what_is_wrong_with_it_and_nothing_else(lax_story):
    """What else fails is only the step that finds the setting where the agent has left it; the story goes on."""
    _, steps, said = lax_story

    assert {*LAX_RULES, "not-administrator", "enable-day"} == set(failed(steps)), said
    assert steps_of(helpdesk.STORY) == [step["id"] for step in steps]


async def test_a_step_that_breaks_off_fails_and_the_story_goes_on():
    """Nothing that a step meets keeps the next one from being played, and none of it counts as fine."""

    async def break_off(_scene):
        raise LookupError("there is no token")

    async def hold(_scene):
        return Got(text="as expected")

    story = [Chapter("One", [Step("a", "breaks", "fine", break_off), Step("b", "holds", "as expected", hold)])]
    told = [each async for each in play(story, None)]

    assert [("a", False), ("b", True)] == [(each.id, each.ok) for each in told]
    assert "there is no token" in told[0].got


@contextmanager
def staying(directory, **more):
    """A demo that was left running on a terminal, once it has said so; yields it and what it printed."""
    ours, theirs = pty.openpty()
    command = [*COMMAND, "--directory", str(directory)]
    demo = subprocess.Popen(command, env=environment(**more), stdout=theirs, stderr=theirs)
    os.close(theirs)
    printed = b""
    try:
        while b"Ctrl-C ends it" not in printed:
            # Where the demo ends too early, reading fails instead of waiting for ever.
            printed += os.read(ours, 65536)
        yield demo, printed.decode()
    finally:
        demo.kill()
        demo.wait()
        os.close(ours)


class Here(http.client.HTTPConnection):
    """Every host of the demo is this machine."""

    def connect(self):
        self.sock = socket.create_connection(("127.0.0.1", self.port), timeout=30)


class ToHere(urllib.request.HTTPHandler):
    def http_open(self, request):
        return self.do_open(Here, request)


def follow(url):
    """Where a link leads a client that keeps cookies and knows nobody yet: the address, the page's heading, whom it names first."""
    opener = urllib.request.build_opener(ToHere(), urllib.request.HTTPCookieProcessor())
    said = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "none"}
    opener.addheaders = list(said.items())
    with opener.open(url) as answer:
        page = answer.read().decode()
        return answer.url, *(re.findall(each, page)[:1] for each in ("<h1[^>]*>([^<]*)<", "<bdi>([^<]*)</bdi>"))


def test_after_the_story_it_stays_to_be_tried_out_until_interrupted(tmp_path):
    """Each link signs its person in, the token in the folder opens the ticket, the command line reads the journal, and SIGINT ends it well."""
    folder = tmp_path / "demo"
    with staying(folder, NO_COLOR="1") as (demo, printed):
        config = tomllib.loads((folder / "config.toml").read_text())
        customer, staff, security = re.findall(r"\r\n  (http://\S+)\r\n", printed)[:3]
        public, admin = (f"http://{config['server'][name]}" for name in ("listen", "admin_listen"))
        port = public.rpartition(":")[2]
        assert f"http://acme.helpdesk.localhost:{port}/.locum/account" == follow(customer)[0]
        with pytest.raises(urllib.error.HTTPError, match="401"):
            follow(customer)  # it signs in once
        assert [(f"{public}/.locum/", ["Stand in"], ["Dana Reyes"])] * 2 == [follow(staff), follow(staff)]
        assert (f"{admin}/console", ["Now"], ["Sam Ito"]) == follow(security)
        request = urllib.request.Request(
            f"http://{config['server']['listen']}/tickets/1",
            headers={"Host": "acme.helpdesk.localhost", "Authorization": f"Bearer {(folder / 'token').read_text()}"},
        )
        with urllib.request.urlopen(request) as answer:  # noqa: S310 - our own http address
            assert "Widget not loading" == json.load(answer)["title"]
        cli = [sys.executable, "-m", "gateway", "--config", str(folder / "config.toml")]
        verify = [*cli, "audit", "verify", "--checkpoint", str(folder / "held.checkpoint")]
        assert 0 == subprocess.run(verify, check=False, capture_output=True, env=environment()).returncode
        # Only its owner may read what would let others in.
        assert {0o600} == {(folder / name).stat().st_mode & 0o777 for name in ("token", "helpdesk.secret")}
        second = subprocess.run(
            [*COMMAND, "--once", "--directory", str(folder)], check=False, capture_output=True, env=environment()
        )
        assert (1, True) == (second.returncode, b"a demo is running in" in second.stderr)

        demo.send_signal(signal.SIGINT)
        assert 0 == demo.wait(timeout=10)
    assert "\x1b" not in printed
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(request)  # noqa: S310 - our own http address


def test_what_is_told_is_coloured_and_says_what_was_expected():
    """A failed step shows both what was expected and what came."""
    told = Told(number=1, id="a", chapter="One", title="GET /", expected="403", got="200", ok=False, milliseconds=1.0)
    text = line(told, seconds=0.5)

    assert "\x1b[" in text
    assert "expected: 403" in text
    assert "200" in text


def test_a_folder_that_is_no_demos_is_left_alone(tmp_path):
    """Whatever lies in a folder without the mark stays there, and the command says what to do."""
    (tmp_path / "thesis.txt").write_text("years of work")
    done = subprocess.run(
        [*COMMAND, "--once", "--directory", str(tmp_path)], check=False, capture_output=True, env=environment()
    )

    assert (1, True) == (done.returncode, b"name another folder with --directory" in done.stderr)
    assert ["thesis.txt"] == [path.name for path in tmp_path.iterdir()]


def test_a_mark_that_leads_elsewhere_is_not_written_through(tmp_path):
    """Whoever puts a link in the mark's place does not get the file behind it overwritten."""
    demo, precious = tmp_path / "demo", tmp_path / "precious"
    demo.mkdir()
    precious.write_text("mine")
    (demo / ".locum-demo").symlink_to(precious)
    with pytest.raises(FolderError), open_folder(demo):
        pass
    assert "mine" == precious.read_text()


def test_a_demos_folder_is_emptied_but_nothing_that_it_links_to(tmp_path):
    """A link in the folder goes, what it points to stays; a folder that is itself a link is refused."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "thesis.txt").write_text("years of work")
    demo = tmp_path / "demo"
    with open_folder(demo):
        (demo / "link").symlink_to(elsewhere)
        (demo / "old").mkdir()
        (demo / "old" / "file").write_text("x")
    with open_folder(demo):
        assert [".locum-demo"] == [path.name for path in demo.iterdir()]
    (tmp_path / "alias").symlink_to(demo)
    with pytest.raises(FolderError, match="is no folder"), open_folder(tmp_path / "alias"):
        pass

    assert "years of work" == (elsewhere / "thesis.txt").read_text()


def test_a_port_that_is_taken_is_replaced():
    """Somebody else's port is left to them."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        found = free_port(taken)

    assert taken != found
    assert free_port(found, taken=found) != found


def test_the_clock_goes_forward_only_and_never_past_the_real_time():
    """However far it is moved, it is never in the future, and both of its hands go together."""
    clock = StoryClock(behind=timedelta(hours=1))
    start, ticks = clock.utc(), clock.ticks()
    clock.forward(timedelta(minutes=-5))
    clock.forward_to(start - timedelta(minutes=5))
    assert start <= clock.utc() < start + timedelta(minutes=1)

    clock.forward(timedelta(minutes=30))
    assert pytest.approx((clock.utc() - start).total_seconds(), abs=1) == clock.ticks() - ticks
    clock.forward(timedelta(days=7))
    assert clock.utc() <= utc_now()


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_every_step_of_the_story_holds_before_a_real_helpdesk(tmp_path):
    """django-helpdesk is read and, with permission, written to as maria, and has no user or session more."""
    code, steps, said = tell(tmp_path / "demo", "--upstream", "django-helpdesk", seconds=280)
    if "is not installed" in said and os.environ.get("CI") != "true":
        pytest.skip(said)

    assert ({}, 0) == (failed(steps), code), said
    assert steps_of(django.STORY) == [step["id"] for step in steps]


@pytest.mark.e2e
def test_a_helpdesk_that_cannot_be_had_is_said_plainly(tmp_path):
    """Without pip's registry nothing is told, and the last line says what is missing."""
    nowhere = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    code, steps, said = tell(tmp_path / "demo", "--upstream", "django-helpdesk", seconds=55, **nowhere)

    assert (1, []) == (code, steps)
    assert "django-helpdesk is not installed: see that pip reaches its registry" in said
    assert "Traceback" not in said
