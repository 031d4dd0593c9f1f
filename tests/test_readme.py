"""What the README prints is what happens."""

import asyncio
import os
import re
import sys
from pathlib import Path

import click
import pytest

from tests.ports import free_port

PROJECT = Path(__file__).parent.parent
README = (PROJECT / "README.md").read_text()


def session():
    """Return the (command, output) pairs of the session that is marked in the README."""
    block = re.search(r"<!-- tests/test_readme.py.*?-->\n```console\n(.*?)```", README, re.DOTALL)[1]
    pairs = []
    for line in block.splitlines():
        if line.startswith("$ "):
            pairs.append((line[2:], []))
        else:
            pairs[-1][1].append(line)
    return [(command, "\n".join(output)) for command, output in pairs]


@pytest.fixture
async def demo(tmp_path):
    """A demo that stays up, on ports of its own; returns how to read the README's addresses there."""
    ports = {"8080": str(free_port()), "8081": str(free_port())}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "demo", "--port", ports["8080"], "--admin-port", ports["8081"]),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        async with asyncio.timeout(45):
            while b"Ctrl-C" not in (line := await process.stdout.readline()):
                assert line, "the demo ended before it could be tried"
        yield lambda command: re.sub(r"\b808[01]\b", lambda found: ports[found[0]], command)
    finally:
        process.terminate()
        await process.communicate()


async def test_the_session_works_as_printed(demo, tmp_path):
    """Each command of the README, typed into a shell beside the running demo, prints what stands under it."""
    (tmp_path / "dev").write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -m gateway "$@"\n')
    (tmp_path / "dev").chmod(0o700)
    assert session()
    for command, output in session():
        shell = await asyncio.create_subprocess_shell(demo(command), cwd=tmp_path, stdout=asyncio.subprocess.PIPE)
        printed, _ = await shell.communicate()
        assert (command, output) == (command, printed.decode().rstrip("\n"))


def test_every_file_that_the_docs_name_is_there():
    """A link or a path in a document leads somewhere."""
    for document in [PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")]:
        text = document.read_text()
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert (document.parent / link).exists(), (document.name, link)
        for path in re.findall(r"`((?:tests|policy|gateway)/[\w/.-]+\.\w+)`", text):
            assert (PROJECT / path).exists(), (document.name, path)


def test_every_command_that_the_docs_name_is_known():
    """`locum …` in a document is a command that exists, with options that it has."""
    from gateway.cli.root import cli  # noqa: PLC0415 - it loads everything

    def known(words, group):
        for word in words:
            if word.startswith("-"):
                return
            if not isinstance(group, click.Group):
                return
            group = group.get_command(None, word)
            assert group is not None, (words, word)

    for document in [PROJECT / "README.md", *(PROJECT / "docs").glob("*.md"), PROJECT / "config.example.toml"]:
        for line in re.findall(r"\blocum ((?:--config \S+ )?[a-z][a-z -]+)", document.read_text()):
            words = re.sub(r"--config \S+ ", "", line).split()
            if words[0] in cli.list_commands(None):
                known(words, cli)


def test_every_picture_is_small_and_shown():
    """None is kept that no document shows or leads to, and none is heavier than a page of it needs to be."""
    texts = "".join(path.read_text() for path in [PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")])
    pictures = [*(PROJECT / "docs" / "pictures").iterdir()]
    assert pictures
    for picture in pictures:
        assert f"pictures/{picture.name})" in texts, picture.name
        assert picture.stat().st_size <= 120 * 1024, picture.name
