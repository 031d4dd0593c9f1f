"""A node's own name stands in every record that it writes."""

import pytest

from gateway.audit.search import read
from gateway.config.load import build
from gateway.config.model import ConfigError
from tests.gateway_world import document, open_world


async def test_every_record_says_the_node(tmp_path):
    """As the origin of its journal, and so in its checkpoints."""
    async with open_world(tmp_path, change=lambda wanted: wanted["server"].update(node="eu-1")) as world:
        assert 200 == (await world.choose())[0]
        await world.get(await world.token())
    origins = {entry["origin"] for entry in read(tmp_path / "journal")}
    assert {"eu-1"} == origins
    assert (tmp_path / "journal" / "eu-1.checkpoint").exists()


@pytest.mark.parametrize("name", ["", "cli", "selftest", "-a", "a b", "a/b", "..", "é", "a\n", "a" * 41])
def test_what_cannot_be_a_journals_name_is_refused(tmp_path, name):
    """So is a name that the command line's own journals have."""
    whole = document(tmp_path, upstream="http://127.0.0.1:1", issuer="http://127.0.0.1:2")
    whole["server"]["node"] = name
    with pytest.raises(ConfigError, match=r"server\.node: must be 1 to 40"):
        build(whole, {}, base=tmp_path)
