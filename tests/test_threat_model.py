"""The threat model names, for each attack, tests that are there."""

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
TEXT = (PROJECT / "docs" / "threat-model.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/\w+\.py)::(\w+)`", TEXT)))
FILES = sorted(set(re.findall(r"`(tests/\w+\.py)", TEXT)))
ROWS = [line.strip("| ").split(" | ") for line in TEXT.splitlines() if line.startswith("| ") and "shown by" not in line]
BY_BYTE = {"A": 10, "B": 3, "C": 14, "D": 8, "E": 5, "F": 9, "G": 6, "L": 14}
"""How many known attacks of each kind there are."""
IDS = [f"{kind}{number}" for kind, most in BY_BYTE.items() for number in range(1, most + 1)]
FAULTY = {"aiohttp": (3, 14, 3), "pyjwt": (2, 13)}
"""Below these versions there are published faults that concern us."""


@cache
def names_in(path):
    tree = ast.parse((PROJECT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_the_table_names_tests():
    """So that the tests below can fail."""
    assert len(NAMED) > 150
    assert len(ROWS) > 140


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_test_that_the_threat_model_names_exists(path, name):
    """By its full name, in its file."""
    assert name in names_in(path)


def test_a_file_that_the_threat_model_names_exists():
    """Also where all of it shows something."""
    assert [] == [path for path in FILES if not (PROJECT / path).is_file()]


def test_each_attack_is_shown_to_fail_by_a_test():
    """Whoever adds a row says where it is shown."""
    assert [] == [row for row in ROWS if "`tests/" not in row[-1] and "](#" not in row[-1] and row[0] not in IDS]


def test_each_known_attack_has_its_row_with_a_named_test_or_why_it_does_not_apply():
    """In their order, none twice, and none left out."""
    known = [row for row in ROWS if row[0] in IDS]
    assert [row[0] for row in known] == IDS
    assert [] == [row for row in known if "::test_" not in row[2] and not row[2].startswith("does not apply: ")]


def test_no_library_may_be_older_than_the_faults_that_are_known():
    """Whoever installs without the constraints gets none of those either."""
    wanted = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    least = dict(re.match(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", each).groups() for each in wanted)
    assert {} == {
        name: least[name]
        for name, sound in FAULTY.items()
        if tuple(int(part) for part in least[name].split(".")) < sound
    }
