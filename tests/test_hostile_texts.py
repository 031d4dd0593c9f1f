"""Whatever somebody is called, or gives as a ticket or a reason: it is a text wherever it is shown, and nothing else."""

import csv
import io
import json
import re
from dataclasses import replace
from html import unescape

from gateway.audit.formats.forms import FORMS
from gateway.audit.record import Record, encode
from gateway.audit.search import printable, render
from gateway.audit.segment import build_line, read_entry
from tests.hostile_texts import CLASSES, HALVES, LONGEST, TEXTS
from tests.journals import NOON
from tests.security_log_world import open_security_log
from tests.security_world import open_guard
from tests.store_examples import begin
from tests.test_formats import FIELDS, one_line, read_cell, read_row, with_text
from tests.test_security_log_attacks import LOG, _check
from tests.test_telling_mail import a_notice, wording

TURNS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff]")
"""What steers or turns what stands beside it in a page, where tabs and ends of lines are spaces, and emoji are joined."""
UNSEEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


def test_there_are_hundreds_of_every_kind():
    """As many as the lists that others attack with, each once, each of a length that a name may have."""
    assert len(TEXTS) > 515
    assert all(len(texts) > 10 for texts in CLASSES.values())
    assert max(map(len, TEXTS)) <= LONGEST
    assert all(text.encode() for text in TEXTS if text)


def test_each_is_kept_on_one_line_of_the_journal():
    """It is read back as it was, by any reader, and nothing in the bytes steers whoever looks at them."""
    for text in (*TEXTS, *HALVES):
        record = Record(kind="decision", ticket=text, stated_reason=text, path=text, user_agent=text)
        line = build_line(*encode(record, origin="node", seq=7, at=NOON))[1].decode()
        assert (1, True) == (len(line.splitlines()), line.endswith("}\n")), text
        assert None is UNSEEN.search(line[:-1]), text
        entry = read_entry(line.encode())
        if text not in HALVES:
            assert {text} == {entry[name] for name in ("ticket", "stated_reason", "path", "user_agent")}


def test_each_leaves_as_a_text_in_every_format():
    """On one line that is one record; from JSON Lines and the table the very text is read again."""
    for text in TEXTS:
        entry = with_text(text)
        lines = {form: one_line(form, entry) for form in FORMS}
        assert entry == json.loads(lines["jsonl"])
        assert {text} == {read_cell(read_row(lines["csv"])[field]) for field in FIELDS}


def test_no_cell_of_a_table_is_a_formula():
    """Wherever a spreadsheet takes a cell to begin, and whatever it takes to part them."""
    for text in TEXTS:
        line = FORMS["csv"].line(with_text(text)).decode().removesuffix("\r")
        for parts in (",", ";", "\t"):
            for row in csv.reader(io.StringIO(line), delimiter=parts):
                for cell in row:
                    assert not re.match(r"\s*[=+@\-＝＋－＠]", cell), (text, cell)


def test_each_is_one_line_for_a_terminal():
    """What it would do there is spelled, and a value with spaces is not two columns."""
    for text in (*TEXTS, *HALVES):
        line = render(with_text(text) | {"at": NOON.isoformat(), "kind": "decision"})
        assert None is UNSEEN.search(line), text
        assert 1 == len(f"{line}x".splitlines()), text
        assert printable(text).isprintable() or not text.isprintable(), text


def test_no_mail_has_a_line_or_a_head_of_theirs():
    """Each fact is a part of a line of ours, and the subject is one line."""
    names = ["staff", "subject", "ticket", "stated_reason", "scopes", "change", "by", "why"]
    words = wording()
    ours = words.mail([a_notice(facts=json.dumps(dict.fromkeys(names, "x")))])
    for text in TEXTS:
        mail = words.mail([a_notice(facts=json.dumps(dict.fromkeys(names, text)))])
        assert None is UNSEEN.search(mail.subject + mail.body), text
        assert 1 == len(f"{mail.subject}x".splitlines()), text
        heads = [
            [line.partition(":")[0] for line in each.body.splitlines() if ":" in line[:20]] for each in (mail, ours)
        ]
        assert heads[0] == heads[1] or not text, text


async def test_each_is_text_on_the_pages_of_the_access_log(tmp_path):
    """In every column, every link and every field of the pages that list them."""
    fields = ("ticket", "stated_reason", "account", "assumption", "rule", "user_agent")
    entries = [
        with_text(texts[0], "subject", "path", "host", "method", "client_ip")
        | dict(zip(fields, texts * 2, strict=True))
        | {"seq": number, "at": NOON.isoformat()}
        for number, texts in enumerate(zip(TEXTS, TEXTS[1:], TEXTS[2:], strict=False))
        if number % 3 == 0
    ]
    async with open_security_log(tmp_path, entries=entries) as world:
        address, shown = f"{LOG}?range=all", 0
        while address:
            status, page = await world.get(address)
            assert 200 == status
            _check(page)
            shown += page.count('<td data-label="Time (UTC)">')
            older = re.search(r'<a rel="next" href="([^"]*)">Older', page)
            address = unescape(older[1]) if older else None
        assert len(entries) == shown > 250


async def test_each_is_text_on_the_page_of_who_stands_in(tmp_path):
    """As a ticket, a reason and an agent's name: nothing of it is markup, and what would turn a line is spelled."""
    async with open_guard(tmp_path) as guard:
        store = guard.world.gateway.store
        await guard.world.choose("week")
        await guard.world.token()
        [one] = await store.list_assumptions(at=guard.world.clock.now)
        for number, text in enumerate(TEXTS):
            theirs = {"ticket": text, "reason": text, "subject": text}
            await begin(store, replace(one, id=f"sid-{number:04}", **theirs))
        await guard.enter("boss", "operate")
        shown = 0
        for number in range(1, len(TEXTS) // 50 + 2):
            page = (await guard.page(f"/console?page={number}")).body.decode()
            shown += page.count('<td data-label="Reason">')
            assert None is TURNS.search(page)
            tags = {tag.lower() for tag in re.findall(r"<([a-zA-Z]+)", page)}
            assert set() == tags & {"img", "svg", "iframe", "base", "style", "plaintext", "math", "template"}
            assert not re.search(r"<[^>]*\son[a-z]+=", re.sub(r'"[^"]*"', '""', page))
            assert 2 == page.count("<script")
        assert len(TEXTS) + 1 == shown
