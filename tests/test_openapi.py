"""The endpoints do what their own description says, whatever they are sent: schemathesis over real sockets."""

import asyncio
import json
import re
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
from tests.app_world import SECRET, open_app_world, signed
from tests.oauth_world import basic, open_oauth
from tests.sign_out_world import FORM, SET, event_token, logout_token
from tests.telling_world import notices
from tests.token_endpoint_world import form

shared = pytest.mark.asyncio(loop_scope="module")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
LOOKED_AT = [
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance",
]  # fmt: skip
schemathesis.serializer.alias("application/secevent+jwt", "text/plain")
# Each operation, and who asks.
OPERATIONS = {
    "exchange": "app", "introspect": "api", "revoke": "app", "device": None, "keys": None, "resource": None, "show": "app", "choose": "app",
    "list_requests": "app", "approve_request": "app", "decline_request": "app", "show_contacts": "app", "set_contacts": "app",
    "search": "auditor", "show_assumption": "auditor", "count_records": "auditor", "receipt": "auditor",
    "server": None, "log_out": None, "push_event": None, "hook": None, "session": None, "end_session": None,
    "checkpoints": None, "checkpoint": None, "log_key": None, "show_switch": "switch", "set_switch": "switch",
}  # fmt: skip
ADMIN = {
    "show",
    "choose",
    "list_requests",
    "approve_request",
    "decline_request",
    "show_contacts",
    "set_contacts",
    "search",
    "show_assumption",
    "count_records",
    "receipt",
    "show_switch",
    "set_switch",
}
APART = {"hook", "show_switch", "set_switch"}
"""At a gateway of their own, whose grants an app keeps: one of them stops everybody."""
TAKES_NOTHING = {
    "keys",
    "resource",
    "server",
    "session",
    "end_session",
    "checkpoints",
    "checkpoint",
    "log_key",
    "show_switch",
}
"""There is nothing in them that could be of the wrong kind."""
NOT_DESCRIBED = {
    "a page or form for people": {
        "/.locum/", "/.locum/sign-in", "/.locum/sign-in/callback", "/.locum/sign-out", "/.locum/assumptions", "/.locum/assumptions/end",
        "/.locum/assumptions/end-all", "/.locum/requests", "/.locum/requests/withdraw", "/.locum/enter", "/.locum/device", "/.locum/live",
    },
    "the description itself": {"/.locum/openapi.json"},
    "for whoever holds the signing key: no token that is issued has its scope": {
        "/.locum/selftest/ping", "/.locum/selftest/stream",
    },
    "for probes and scrapers, in the form that those ask for: see docs/operate.md": {"/healthz", "/readyz", "/metrics"},
}  # fmt: skip
PAGES = ("/.locum/account", "/console", "/.locum/static/")
"""Below these there is nothing but pages, and what pages load."""
EXAMPLES = {"receipt": 2}
"""Where each costs a process; otherwise a dozen."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory):
    """One gateway for all of these."""
    told = notices(security={"mail": ["guard@vendor.example"]}, mail={"host": "localhost", "sender": "a@b.example"})
    async with open_oauth(
        tmp_path_factory.mktemp("openapi"), change=lambda wanted: wanted.update(notices=told)
    ) as world:
        auditor = Client(id=ClientId("auditor"), secret_digest=digest_of("plain"), roles=frozenset({"audit"}))
        await world.gateway.store.add_client(auditor)
        await asyncio.to_thread(_index, world.gateway.config.journal_directory)
        world.described = await describe(world)
        world.operations = operations(world.described)
        yield world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def apart(tmp_path_factory):
    """Another one, for what the first is not set up for or would not survive."""
    async with open_app_world(tmp_path_factory.mktemp("apart")) as world:
        switch = Client(id=ClientId("switch"), secret_digest=digest_of("plain"), roles=frozenset({"kill_switch"}))
        await world.gateway.store.add_client(switch)
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
    generation, doors = world.gateway._generation, world.gateway._doors
    routes = {(one.method, one.path) for one in (*generation.control, *generation.admin)}
    routes |= {(one.method, one.resource.canonical) for one in doors._admin.app.router.routes() if one.method != "HEAD"}
    served = {(method, _plain(path)) for method, path in routes}
    left_out = set().union(*NOT_DESCRIBED.values()) | {path for _, path in served if path.startswith(PAGES)}
    assert left_out <= {path for _, path in served}
    described = {
        (method.upper(), _plain(path))
        for path, item in world.described["paths"].items()
        for method in item.keys() & {"get", "put", "post", "delete", "patch"}
    }
    assert described == {(method, path) for method, path in served if path not in left_out}
    assert ["https://assume.vendor.example"] == [server["url"] for server in world.described["servers"]]
    assert "3.1.0" == world.described["openapi"]


def _plain(path):
    """Return a path with its parameters' names left out; behind the metadata's there may be the issuer's own."""
    return re.sub(r"\{[^}]*\}", "{}", path.removesuffix("{path:.*}"))


@shared
@pytest.mark.parametrize("name", OPERATIONS)
async def test_no_input_gets_another_answer_than_is_described(world, apart, name):
    """Status, headers, media type and body are as the document says, of good requests and of bad ones."""
    operation = world.operations[name]
    gateway = (apart if name in APART else world).gateway
    base = gateway.admin_url if name in ADMIN else gateway.public_url
    headers = {"Host": "assume.vendor.example" if name == "server" else "acme.helpdesk.example"}
    if OPERATIONS[name] is not None:
        line = f"Authorization: {world.basic()}" if OPERATIONS[name] == "app" else basic(OPERATIONS[name])
        headers["Authorization"] = line.partition(": ")[2]
    checks = CHECKS.get_by_names(LOOKED_AT)
    modes = [schemathesis.GenerationMode.POSITIVE]
    if name not in TAKES_NOTHING:
        modes.append(schemathesis.GenerationMode.NEGATIVE)
    tried = []
    for mode in modes:

        @settings(
            max_examples=EXAMPLES.get(name, 12),
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


@shared
async def test_a_good_notice_is_as_described(world, apart):
    """Of a sign-out, of an event, and of an account's setting: what nobody signs by chance."""
    body = b'{"account": "acme"}'
    for place, name, kind, sent, headers, status in (
        (world, "log_out", FORM, {"logout_token": logout_token(world)}, {}, 200),
        (world, "push_event", SET, event_token(world).encode(), {}, 202),
        (apart, "hook", "application/json", body, signed(body, at=apart.clock.now.timestamp(), secret=SECRET), 204),
    ):
        case = world.operations[name].Case(headers=headers)
        checks = CHECKS.get_by_names(LOOKED_AT)
        options = {"data": sent} if isinstance(sent, bytes) else {"data": urlencode(sent).encode()}
        options["headers"] = {"Host": "acme.helpdesk.example", "Content-Type": kind, **headers}
        answer = await asyncio.to_thread(case.call, base_url=place.gateway.public_url, **options)
        case.validate_response(answer, checks=checks)
        assert (name, status) == (name, answer.status_code)
