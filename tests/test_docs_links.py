"""Every link in the documents leads to something: a file of the project, and in a document to one of its headings."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def anchors(path):
    """The names by which headings are reached, as forges make them."""
    headings = re.findall(r"^#+ (.+)$", _CODE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead(path):
    for target in _LINK.findall(_CODE.sub("", path.read_text(encoding="utf-8"))):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        if not there.exists() or (anchor and anchor not in anchors(there)):
            yield target


def test_there_are_documents_to_look_at():
    """And links in them; the other test would pass on none."""
    assert {"operate.md", "staff.md"} <= {path.name for path in DOCUMENTS}
    assert any(_LINK.search(path.read_text(encoding="utf-8")) for path in DOCUMENTS)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_no_link_is_dead(path):
    """Whatever has been moved since."""
    assert [] == list(dead(path))


def test_a_dead_link_is_found(tmp_path):
    """A file that is not there, and a heading that is not; what is in a block of code is no link."""
    page = tmp_path / "a.md"
    page.write_text("# A b!\n[x](#a-b) [y](#c) [z](b.md) [w](a.md#a-b)\n```\n[v](none.md)\n```\n")
    assert ["#c", "b.md"] == list(dead(page))
