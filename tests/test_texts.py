"""Words of strangers as people read them: nothing hides, steers or reorders what stands around it, on any page."""

import re
import unicodedata
from pathlib import Path

import pytest

from gateway.pages.render import Pages, _templates
from policy.rules import StaffRule, StandInRules
from policy.staff import SignInPolicy, read_staff
from policy.texts import one_line, shown

TEMPLATES = Path(__file__).parent.parent / "gateway" / "pages" / "templates"


def test_whatever_steers_is_spelled():
    """Every one of them that Unicode has, and controls; what is left is as long as it looks."""
    steering = [char for char in map(chr, range(0x110000)) if unicodedata.category(char) in ("Cf", "Cs", "Zl", "Zp")]
    for char in [*steering, "\x00", "\x1b", "\x7f", "\x85", "\u115f", "\u3164"]:
        text = shown(f"Dana {char}one day")
        assert char not in text
        assert text.isprintable()
        assert text.startswith("Dana \\u")
        assert text.endswith("one day")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Dana Reyes",
        "José Ñandú",
        "山田 太郎",
        "می‌خواهم",
        "👩‍👩‍👧",
        "क्‍ष",
        "two\nlines\tand a tab",
        "a\u00a0b",
        "C:\\users",
    ],
)
def test_what_people_write_stays_as_it_is(text):
    """Joiners where letters or emoji are joined as well; and whether a backslash is theirs does not matter."""
    assert text == shown(text)


def test_a_joiner_that_joins_nothing_is_spelled():
    """It would only make one name out of two that look the same."""
    for char in "\u200c\u200d":
        for text in (f"da{char}na", f"{char}dana", f"dana{char}", f"山{char} 田"):
            assert char not in shown(text)


def test_a_line_is_one_and_no_longer_than_it_may_be():
    """What steers is left out of it; white space of any kind is a space."""
    assert "Dana Reyes asks" == one_line("  Dana\u2069 Reyes\u202d\n\u2028 asks\u200b ", 128)
    assert ("x" * 128, "x" * 127 + "…") == (one_line("x" * 128, 128), one_line("x" * 129, 128))
    assert "" == one_line("\u200b\u202e", 128)


@pytest.mark.parametrize(
    ("claim", "name"),
    [
        ("Dana\u2069\u202d asks for: look", "Dana asks for: look"),
        ("D" * 5000, "D" * 127 + "…"),
        ("\u200b", "u-1"),
        ("", "u-1"),
        (7, "u-1"),
        (None, "u-1"),
    ],
)
def test_a_staff_members_name_is_one_short_line(claim, name):
    """They may have chosen it themselves; the customer decides beside it. Without any, their subject stands for it."""
    rules = StandInRules(rules=(StaffRule(permissions=frozenset()),))
    said = read_staff({"iss": "https://id.example", "sub": "u-1", "name": claim, "iat": 1}, rules, SignInPolicy())
    assert (name, "u-1") == (said.name, said.id.subject)


def test_no_page_puts_anything_in_that_steers():
    """By whatever way: as text, in an attribute, through a macro, joined, in lower case, or put together."""
    page = _templates().from_string(
        "{% macro m(x) %}<i>{{ x }}</i>{% endmacro %}"
        '<b title="{{ x }}">{{ x }}|{{ m(x) }}|{{ [x, x] | join(", ") }}|{{ x | lower }}|{{ x ~ "<" }}|{{ x or "" }}</b>'
    )
    text = page.render(x="\u2069\u202eDana\u200b<script>")
    assert not re.search("[\u2069\u202e\u200b]", text)
    assert 8 == text.count(r"\u202e")
    assert "<script" not in text


def test_no_template_goes_round_that():
    """None marks a value as safe, nor turns escaping off."""
    for path in TEMPLATES.glob("*.html"):
        assert not re.search(r"\|\s*safe\b|autoescape", path.read_text()), path.name


def test_a_message_with_half_a_character_is_a_page():
    """What UTF-8 cannot say would be a fault of ours otherwise."""
    assert r"\ud800" in Pages().message("Title", "half \ud800", status=400).text
