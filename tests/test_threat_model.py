"""The threat model names tests that are there."""

import ast
import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
NAMED = sorted(set(re.findall(r"`(tests/\w+\.py)::(\w+)`", (PROJECT / "docs" / "threat-model.md").read_text())))


def test_the_table_names_tests():
    """So that the test below can fail."""
    assert len(NAMED) > 40


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_test_that_the_threat_model_names_exists(path, name):
    """By its full name, in its file."""
    tree = ast.parse((PROJECT / path).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
