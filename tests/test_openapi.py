"""The endpoints do what their own description says, whatever they are sent: schemathesis over real sockets."""

import asyncio
import json
from urllib.parse import urlencode

import pytest
import pytest_asyncio
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from schemathesis.checks import CHECKS

from gateway.audit.index.building import Builder
from gateway.audit.index.database import beside
from gateway.clients import digest_of
from gateway.stores.store import Client
from policy.model import ClientId
from tests.oauth_world import basic, open_oauth
from tests.token_endpoint_world import form

shared = pytest.mark.asyncio(loop_scope="module")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
LOOKED_AT = [
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance",
]  # fmt: skip
OPERATIONS = {
    "exchange": "app", "introspect": "api", "revoke": "app", "device": None, "keys": None, "resource": None, "show": "app", "choose": "app",
    "search": "auditor", "show_assumption": "auditor", "count_records": "auditor",
}  # fmt: skip
EXAMPLES = 12


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory):
    """One gateway for all of these."""
    async with open_oauth(tmp_path_factory.mktemp("openapi")) as world:
        auditor = Client(id=ClientId("auditor"), secret_digest=digest_of("plain"), roles=frozenset({"audit"}))
        await world.gateway.store.add_client(auditor)
        await asyncio.to_thread(_index, world.gateway.config.journal_directory)
        world.described = await describe(world)
        world.operations = operations(world.described)
        yield world


def _length(query):
    return len(urlencode(query or {}, doseq=True))


def _index(journal):
    with Builder(journal, beside(journal)) as builder:
        builder.catch_up()


async def describe(world):
    async with world.http.get(f"{world.gateway.public_url}/.locum/openapi.json") as answer:
        assert (200, "application/json") == (answer.status, answer.content_type)
        return json.loads(await answer.read())


def operations(document):
    schema = schemathesis.openapi.from_dict(document)
    found = (result.ok() for result in schema.get_all_operations())
    return {operation.definition.raw["operationId"]: operation for operation in found}


@shared
async def test_everything_is_described_and_nothing_else(world):
    """What is described is served, and what the token service serves is described."""
    assert set(OPERATIONS) == set(world.operations)
    assert ["https://assume.vendor.example"] == [server["url"] for server in world.described["servers"]]
    assert "3.1.0" == world.described["openapi"]


@shared
@pytest.mark.parametrize("name", OPERATIONS)
async def test_no_input_gets_another_answer_than_is_described(world, name):
    """Status, headers, media type and body are as the document says, of good requests and of bad ones."""
    operation = world.operations[name]
    admin = name in ("show", "choose") or OPERATIONS[name] == "auditor"
    base = world.gateway.admin_url if admin else world.gateway.public_url
    headers = {"Host": "acme.helpdesk.example"}
    if OPERATIONS[name] is not None:
        line = f"Authorization: {world.basic()}" if OPERATIONS[name] == "app" else basic(OPERATIONS[name])
        headers["Authorization"] = line.partition(": ")[2]
    checks = CHECKS.get_by_names(LOOKED_AT)
    modes = [schemathesis.GenerationMode.POSITIVE]
    if name not in ("keys", "resource"):
        # These two take nothing that could be wrong.
        modes.append(schemathesis.GenerationMode.NEGATIVE)
    tried = []
    for mode in modes:

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def attempt(case):
            # What is longer than a line may be is refused before anybody looks at it.
            assume(len(case.as_transport_kwargs(base_url=base).get("url", "")) + _length(case.query) < 8000)
            response = case.call(base_url=base, headers=headers)
            tried.append(response.status_code)
            case.validate_response(response, checks=checks)

        await asyncio.to_thread(attempt)
    assert tried


@shared
async def test_a_good_exchange_is_as_described(world):
    """What nobody finds by chance: the answers of a request that is right in every part."""
    operation = world.operations["exchange"]
    case = operation.Case(
        body=form(world), media_type="application/x-www-form-urlencoded", headers={"Authorization": world.basic()}
    )
    checks = CHECKS.get_by_names(LOOKED_AT)
    answer = await asyncio.to_thread(case.call, base_url=world.gateway.public_url)
    case.validate_response(answer, checks=checks)
    assert 200 == answer.status_code
    token = answer.json()["access_token"]
    for name, line, members in (
        ("introspect", basic("api").partition(": ")[2], "active"),
        ("revoke", world.basic(), None),
        ("introspect", basic("api").partition(": ")[2], "active"),
    ):
        operation = world.operations[name]
        case = operation.Case(
            body={"token": token}, media_type="application/x-www-form-urlencoded", headers={"Authorization": line}
        )
        answer = await asyncio.to_thread(case.call, base_url=world.gateway.public_url)
        case.validate_response(answer, checks=checks)
        assert 200 == answer.status_code
        assert members is None or members in answer.json()
