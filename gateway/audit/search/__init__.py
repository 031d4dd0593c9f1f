"""Finding records: the language of queries, reading the files in the order of time, lines for people."""

from gateway.audit.formats.text import printable
from gateway.audit.search.query import Query, QueryError
from gateway.audit.search.reading import Follower, read
from gateway.audit.search.render import render
from gateway.audit.segment import Entry

__all__ = ["Entry", "Follower", "Query", "QueryError", "printable", "read", "render"]
