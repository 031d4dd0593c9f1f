"""The examples for other languages, as the page has them, believe what is good and refuse each attack."""

import asyncio
import json
import re
import shutil
from pathlib import Path

import pytest
import pytest_asyncio

from tests.asserting import KEYS, assertion, jwk
from tests.test_verifier import HEADERS, unfit_claims

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]
PAGE = Path(__file__).parent.parent / "docs" / "verify-assertion.md"
MARK = "<!-- run by tests/test_verifier_examples.py -->\n"
# The file's name, how it is made ready, and how it is run.
LANGUAGES = {
    "js": ("verify.mjs", [], ["node", "verify.mjs"]),
    "go": ("verify.go", ["go", "build", "-o", "verify", "verify.go"], ["./verify"]),
    "java": ("Verify.java", ["javac", "Verify.java"], ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "Verify"]),
}
# The account is the app's own to compare; a header with a member twice nobody but the gateway could sign.
APPS_OWN = "another account"
FORGED = {name: make for name, make in HEADERS.items() if name != "a kid that is there twice"}


def examples():
    """What the page says is run, by language."""
    return {found[1]: found[2] for found in re.finditer(MARK + r"```(\w+)\n(.*?)```\n", PAGE.read_text(), re.DOTALL)}


async def test_the_page_says_of_each_example_whether_it_is_run():
    """Those of the table above are; the others are said not to be."""
    assert set(LANGUAGES) == set(examples())
    page = PAGE.read_text()
    for section in page.partition("## Other languages")[2].split("\n### ")[1:]:
        assert (MARK in section) != ("Not run by our tests." in section)


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=LANGUAGES)
async def example(request, tmp_path_factory):
    name, ready, words = LANGUAGES[request.param]
    if shutil.which((ready or words)[0]) is None:
        pytest.skip(f"{(ready or words)[0]} is not installed")
    directory = tmp_path_factory.mktemp(request.param)
    (directory / name).write_text(examples()[request.param])
    (directory / "jwks.json").write_text(json.dumps({"keys": [jwk(algorithm) for algorithm in KEYS]}))
    if ready:
        code, out = await run(ready, directory)
        assert 0 == code, out
    return lambda tokens: judge([*words, "jwks.json"], directory, tokens)


async def judge(words, directory, tokens):
    """Return what is said of each of these."""
    lines = "".join(f"{token}\n" for token in tokens.values())
    code, out = await run(words, directory, lines.encode())
    assert 0 == code, out
    return dict(zip(tokens, out.splitlines(), strict=True))


async def run(words, directory, lines=b""):
    process = await asyncio.create_subprocess_exec(
        *words,
        cwd=directory,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate(lines)
    return process.returncode, out.decode()


async def test_what_is_good_is_believed(example):
    """Signed with a key of each kind."""
    found = await example({algorithm: assertion(algorithm) for algorithm in KEYS})
    assert dict.fromkeys(KEYS, "maria dana") == found


async def test_each_attack_is_refused(example):
    """What the verifier for Python refuses, one by one, and some damage to the text itself."""
    good = assertion()
    head, body, signature = good.split(".")
    told = await example(
        {
            **{name: make() for name, make in FORGED.items()},
            **{name: assertion(**change) for name, change in unfit_claims().items() if name != APPS_OWN},
            "one bit of the body": f"{head}.{body[:40]}{chr(ord(body[40]) ^ 1)}{body[41:]}.{signature}",
            "one bit of the signature": good[:-5] + chr(ord(good[-5]) ^ 1) + good[-4:],
            "half a signature": good[:-43],
            "padding": good + "=",
            "a fourth part": good + ".x",
            "a blank behind it": good + " ",
            "two": f"{good}, {good}",
            "too long": assertion(sub="x" * 9000),
            "hello": "hello",
            "nothing": "",
        }
    )
    assert {} == {name: said for name, said in told.items() if not said.startswith("refused")}
