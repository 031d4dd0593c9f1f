"""Trailers whose names apps fold into framing, routing or content names."""

import pytest

from gateway.proxy.headers import behind
from gateway.proxy.names import Names


@pytest.mark.parametrize("name", [b"Content_Length", b"Transfer.Encoding", b"Content_Type", b"Set_Cookie"])
def test_no_alias_of_a_forbidden_trailer_goes_on(name):
    """Whatever CGI, WSGI, Rack or PHP folds into one."""
    assert () == behind(((name, b"1"),), Names())
