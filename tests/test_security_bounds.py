"""What somebody may take of the console is counted by who they are, and what power they have ends when it is taken."""

import asyncio
import re

import pytest

from gateway.console.security.export_jobs import FOLDER
from gateway.console.security.live import LIVE_STREAM, MOST_OF_ONE
from gateway.console.security.visit import PATH
from policy.model import ActorId
from tests.patience import PATIENCE_SECONDS
from tests.security_log_world import make_entries, open_security_log, progress_of
from tests.security_world import CLIENT_ID, open_guard, open_guard_at_provider, security
from tests.test_cli import Shell
from tests.upstream_client import eventually

EXPORT = f"{PATH}/log/export"


async def test_somebody_who_was_never_staff_is_thrown_out(tmp_path):
    """An operator locks out whoever only reads the console: at their next request they see nothing, and stay out."""
    async with open_guard_at_provider(tmp_path) as guard:
        issuer = guard.world.issuer.issuer
        await guard.enter_at_provider("sam")
        boss = guard.another()
        await boss.enter_at_provider("olga", groups=["security-operators"])
        assert 200 == (await guard.page()).status
        assert 303 == (await boss.do("staff", issuer=issuer, subject="sam", do="lock", confirm="yes")).status
        assert 403 == (await guard.page()).status
        await guard.another().enter_at_provider("sam")
        assert (await guard.world.gateway.store.find_staff(ActorId(issuer=issuer, subject="sam"))).disabled
        [record] = guard.world.records(kind="staff", reason="locked")
        assert ("olga", "sam") == (record["by"], record["actor"]["subject"])
        elsewhere = await boss.do("staff", issuer="https://x.example", subject="sam", do="lock", confirm="yes")
        assert 404 == elsewhere.status


async def test_the_command_line_locks_out_the_unseen_only_when_told_to(tmp_path, monkeypatch):
    """A name that was mistyped is not taken for somebody; who is meant all the same is locked, and unlocked again."""
    monkeypatch.chdir(tmp_path)
    locum = Shell(tmp_path)
    assert "--unseen" in await locum("staff", "lock", "sam", code=1)
    assert "sam: locked" in await locum("staff", "lock", "sam", "--unseen")
    assert "sam: unlocked" in await locum("staff", "unlock", "sam")


def few_tries(document):
    document["console"]["security"]["sign_in_tries"] = 1


async def junk(guard, attempt, *lines, code="junk"):
    """Come back with a code that nobody gave, for a sign-in that has begun; returns the answer's status."""
    location = guard.world.issuer.consent(attempt, "sam")
    state, iss = (location.partition(f"{name}=")[2].partition("&")[0] for name in ("state", "iss"))
    return (await guard.come_back(f"code={code}&state={state}&iss={iss}", *lines)).status


async def test_codes_that_somebody_makes_up_are_not_redeemed_without_end(tmp_path):
    """So many, and the provider is asked no more, nor is anything recorded; a good one does not count."""

    async with open_guard_at_provider(tmp_path, change=few_tries) as guard:
        for _ in range(12):
            assert 303 == (await guard.another().enter_at_provider()).status
        asked = len(guard.world.issuer.asked)
        for wanted in (*[400] * 10, 429, 429):
            other = guard.another()
            assert wanted == await junk(other, await other.begin())
        assert asked + 10 == len(guard.world.issuer.asked)
        assert 10 == len(guard.world.records(kind="audit", reason="code_refused"))


async def test_one_sign_in_is_not_good_for_any_number_of_codes(tmp_path):
    """Whoever has begun one, and keeps its cookie, asks the provider once: all else takes nobody's turn."""
    async with open_guard_at_provider(tmp_path, change=few_tries) as guard:
        stranger = guard.another()
        attempt = await stranger.begin()
        cookies, asked = dict(stranger.cookies), len(guard.world.issuer.asked)
        for number in range(30):
            stranger.cookies = dict(cookies)
            assert 400 == await junk(stranger, attempt, code=f"junk{number}")
        assert asked + 1 == len(guard.world.issuer.asked)
        assert 1 == len(guard.world.records(kind="audit", reason="code_refused"))
        assert 1 == len(guard.world.records(kind="audit", reason="answer_used"))
        assert 303 == (await guard.another().enter_at_provider()).status


async def test_behind_a_front_a_stranger_uses_up_only_their_own_turns(tmp_path):
    """By what the front says, whatever somebody has put before it; and nobody else's word on the address counts."""

    def change(document):
        few_tries(document)
        document["server"]["trusted_proxies"] = ["127.0.0.1/32"]

    said = "X-Forwarded-For: {}198.51.100.7"
    async with open_guard_at_provider(tmp_path, change=change) as guard:
        answers = []
        for number in range(12):
            other = guard.another()
            answers.append(await junk(other, await other.begin(), said.format(f"192.0.2.{number}, ")))
        assert [*[400] * 10, 429, 429] == answers
        person, query = guard.another(), {"audience": CLIENT_ID, "groups": ["security"]}
        location = guard.world.issuer.consent(await person.begin(), "sam", **query)
        assert 303 == (await person.come_back(location, "X-Forwarded-For: 203.0.113.9")).status
        # And their wrong secrets are their own as well.
        wrong = ("sign-in/client", {"client_id": "guard", "client_secret": "wrong"})
        for wanted in (403, 429):
            assert wanted == (await guard.another().post(*wrong, said.format(""))).status
        assert 403 == (await guard.another().post(*wrong, "X-Forwarded-For: 203.0.113.9")).status


async def test_without_a_trusted_front_nobody_says_who_they_are(tmp_path):
    """Another address in each request, and all of them are one stranger's."""
    async with open_guard_at_provider(tmp_path, change=few_tries) as guard:
        answers = []
        for number in range(12):
            other = guard.another()
            answers.append(await junk(other, await other.begin(), f"X-Forwarded-For: 192.0.2.{number}"))
        assert [*[400] * 10, 429, 429] == answers


async def test_what_an_operator_does_to_the_kill_switch_says_from_where(tmp_path):
    """The record of it has the address, the browser and the request, as every other change from the console."""
    async with open_guard(tmp_path) as guard:
        await guard.enter("boss", "operate")
        for wish in ("on", "off"):
            fields = {"form_token": await guard.form_token(), "set": wish, "reason": "drill", "confirm": "yes"}
            assert 303 == (await guard.post("kill-switch", fields, "User-Agent: Sentry/1")).status
        records = guard.world.records(kind="kill_switch")
        assert [("127.0.0.1", "Sentry/1")] * 2 == [(one["client_ip"], one["user_agent"]) for one in records]
        assert all(one["request_id"].startswith("req_") for one in records)


async def test_one_person_has_so_many_streams_by_however_many_sessions(tmp_path):
    """The next is refused, whichever session asks; another person has theirs."""
    async with open_guard(tmp_path) as guard:
        secret = await guard.add_client("sam", "audit")
        sessions = [guard.another(), guard.another()]
        for session in sessions:
            assert 303 == (await session.sign_in("sam", secret)).status
        writers = []

        async def opened(who):
            reader, writer = await asyncio.open_connection("127.0.0.1", guard.port)
            writers.append(writer)
            line = f"Cookie: {who.cookie_name}={who.cookie}\r\nSec-Fetch-Site: same-origin\r\n"
            writer.write(f"GET {LIVE_STREAM} HTTP/1.1\r\nHost: {who.host}\r\n{line}\r\n".encode())
            async with asyncio.timeout(PATIENCE_SECONDS):
                return int((await reader.readline()).split()[1])

        assert [200] * MOST_OF_ONE == [await opened(sessions[number % 2]) for number in range(MOST_OF_ONE)]
        assert [503, 503] == [await opened(session) for session in sessions]
        assert 200 == await opened(await guard.another().enter("other"))
        for writer in writers:
            writer.close()


async def test_a_page_without_scripts_does_not_keep_its_session(tmp_path):
    """Asked to, it is loaded anew as the script does it, which is no use of the session: who has gone is signed out.

    By itself it is not: what somebody has begun to write is not taken away from them.
    """

    def change(document):
        security(document, idle_seconds=600)

    async with open_guard(tmp_path, change=change) as guard:
        await guard.enter("sam")
        page = (await guard.page()).text
        assert 'http-equiv="refresh"' not in page
        [wanted] = re.findall(r'<a href="([^"]*)">Look again every 30 seconds', page)
        page = (await guard.page(wanted)).text
        again = page.partition('http-equiv="refresh" content="30; url=')[2].partition('"')[0].replace("&amp;", "&")
        assert again.startswith(PATH)
        for _ in range(2):
            assert 200 == (await guard.page(again)).status
            guard.world.clock.forward(minutes=6)
        assert 303 == (await guard.page(again)).status


async def test_a_download_ends_with_the_session(tmp_path):
    """Whoever is signed out meanwhile gets the piece that is under way, and no other."""
    async with open_security_log(tmp_path, entries=make_entries(1300)) as world:
        _, _, address = await world.post(EXPORT, format="jsonl", range="all")
        job = address.rpartition("/")[2]
        assert "done" == await progress_of(world, job)
        [data] = (tmp_path / "exports").glob("*/*/data")
        await asyncio.to_thread(data.write_bytes, bytes(64 * 1024 * 1024))
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port, limit=2**16)
        lines = "".join(f"{name}: {value}\r\n" for name, value in world.headers("all").items())
        writer.write(f"GET {address}/data HTTP/1.1\r\nHost: 127.0.0.1:{world.port}\r\n{lines}\r\n".encode())
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
            await world.people.end(world.cookies["all"])
            got = 0
            while piece := await _piece(reader):
                got += len(piece)
        assert got < 64 * 1024 * 1024
        writer.close()


async def _piece(reader):
    try:
        return await reader.read(2**16)
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize("console", [True, False])
async def test_what_a_crash_has_left_is_deleted_with_the_console_or_without(tmp_path, console):
    """Exports of a process that lives no more are gone once a gateway starts, also one that has no console."""

    def change(document):
        if console:
            security(document)

    left = tmp_path / FOLDER / "0123456789abcdef" / ("0" * 32)
    left.mkdir(parents=True)
    (left / "data").write_bytes(b"secret")
    async with open_guard(tmp_path, change=change):
        await eventually(lambda: not left.exists())
