"""The formats by name, as the configuration and the command line know them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from gateway.audit.formats import table
from gateway.audit.formats.cef import to_cef
from gateway.audit.formats.ecs import to_document
from gateway.audit.formats.ocsf import to_event
from gateway.audit.formats.text import to_line
from gateway.audit.segment import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One format; `line` and `header` are without the line feed that ends them."""

    name: str
    line: Callable[[Entry], bytes]
    document: Callable[[Entry], Mapping[str, Any]] | None = None
    """For a format that is JSON: what the line holds."""
    header: bytes = b""
    """The first line of a file, if it has one."""


def _json(name: str, document: Callable[[Entry], Mapping[str, Any]]) -> Form:
    return Form(name=name, document=document, line=lambda entry: to_line(document(entry)))


FORMS: Mapping[str, Form] = MappingProxyType(
    {
        form.name: form
        for form in (
            _json("jsonl", lambda entry: entry),
            Form(name="csv", line=table.to_row, header=table.HEADER),
            _json("ocsf", to_event),
            _json("ecs", to_document),
            Form(name="cef", line=to_cef),
        )
    }
)
