"""A running gateway answers as its own OpenAPI document says; schemathesis asks. Endless streams are left out."""

import asyncio
import json
from typing import Any, Final

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from servers.ports import free_port
from streamhub.gateway.app import ROUTES
from tests.integration.conftest import Client, Hub, StartHub

CHECKS: Final = [
    status_code_conformance, content_type_conformance, response_headers_conformance, response_schema_conformance,
]  # fmt: skip
WINDOW: Final = {"date_from": "2026-01-01T00:00:00Z", "date_to": "2026-01-02T00:00:00Z"}
ENDPOINT: Final = {"url": "https://shop.example.com/hooks", "events": ["skus.*"]}
JSON: Final = {"media_type": "application/json"}
# Asked beside what is made up, which is rarely right as a whole, so that answers of each kind are seen by no chance.
WHOLE: Final[dict[str, list[dict[str, Any]]]] = {
    "replay": [{"query": WINDOW}, {}],
    "publishEvents": [{**JSON, "body": {"type": "query.received", "data": {}}}, {**JSON, "body": {}}],
    "createWebhook": [{**JSON, "body": ENDPOINT}, {**JSON, "body": {}}],
}
EXAMPLES: Final = 20  # of a route that takes parameters or a body
PATH: Final = {
    "org": "my-org",
    "file": "app.js",
    "job_id": "5f0c7e0e-2f8d-4c3b-9d0a-0d6f1c1f5a10",
    "endpoint_id": "0c9b1a52-7f53-4f0e-9d0a-3f1c1f5a1077",
    "delivery_id": "01a202b2-c57c-7000-8000-00000000002a",
}

# Without a database of examples, and with the same ones in each run.
BOUNDED: Final = settings(
    derandomize=True, database=None, deadline=None, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


async def document_of(hub: Hub) -> dict[str, Any]:
    """Asked for without a token."""
    document: dict[str, Any] = json.loads((await (await Client.open(hub.port, "/-/openapi.json")).answer()).body)
    return document


def asked_as_described(document: dict[str, Any], url: str, token: str) -> dict[str, set[int]]:
    """Operation → the statuses that requests of it were answered with. Fails at an answer that the document does not
    have."""
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=url)
    endless = {route.name for route in ROUTES if route.is_endless}
    seen = {}
    with requests.Session() as session:
        for result in schema.get_all_operations():
            assert isinstance(result, Ok), result
            operation = result.ok()
            name = operation.definition.raw["operationId"]
            if name not in endless:
                seen[name] = _asked(operation, session, token)
    return seen


def _asked(operation: APIOperation[Any, Any, Any, Any], session: requests.Session, token: str) -> set[int]:
    statuses = set()
    name = operation.definition.raw["operationId"]
    headers = {"Authorization": f"Bearer {token}"}  # schemathesis makes some of its own, too
    path = {each.name: PATH[each.name] for each in operation.path_parameters}
    requests_of_it = operation.as_strategy(path_parameters=path)
    varies = bool(operation.query or operation.body)
    if varies:
        requests_of_it |= operation.as_strategy(GenerationMode.NEGATIVE, path_parameters=path)

    def ask(case: Case[Any]) -> None:
        how: dict[str, Any] = {"session": session, "headers": headers, "timeout": 10, "allow_redirects": False}
        statuses.add(case.call_and_validate(checks=CHECKS, **how).status_code)

    for each in WHOLE.get(name, ()):
        ask(operation.Case(path_parameters=path, **each))
    settings(BOUNDED, max_examples=EXAMPLES if varies else 1)(given(requests_of_it)(ask))()
    return statuses


async def test_every_answer_of_a_running_gateway_is_in_its_document(hub: Hub, organization: int) -> None:
    document = await document_of(hub)
    token = hub.token(scope="events:read events:write webhooks:manage operations:read")
    await hub.history.append(organization, 3)
    seen = await asyncio.to_thread(asked_as_described, document, f"http://127.0.0.1:{hub.port}", token)
    assert seen["replay"] >= {200, 400}
    assert seen["publishEvents"] >= {202, 422}
    assert seen["createWebhook"] >= {201, 422}
    assert (seen["getDashboardFile"], seen["getChecks"]) == ({200}, {200})
    assert (seen["getLiveStatus"], seen["listReplays"], seen["getReplay"]) == ({200}, {200}, {404})


async def test_a_route_asks_of_a_token_what_its_table_says(hub: Hub) -> None:
    """A token that has all but what a route asks for is refused with a code of its rule."""
    guarded = [route for route in ROUTES if route.rule is not None]
    roles = {role for route in guarded if route.rule for role in route.rule.roles}
    refused = {}
    for route in guarded:
        assert route.rule is not None
        others = roles.difference(route.rule.roles)
        kind = "integration" if "integration" in others else "application"
        token = hub.token(application__kind=kind, scope=" ".join(others))
        answer = await hub.get(route.shown_path.format_map(PATH), token=token, method=route.method)
        (refused[route.name],) = answer.codes
    assert refused == {
        route.name: "NOT_INTEGRATION" if route.rule and "integration" in route.rule.roles else "MISSING_SCOPE"
        for route in guarded
    }


async def test_a_process_describes_the_routes_that_it_has(start_hub: StartHub) -> None:
    hub = await start_hub(roles=frozenset({"relay"}), operations_port=free_port())
    paths = (await document_of(hub))["paths"]
    assert "/-/docs" in paths
    assert not {"/{org}", "/-/metrics"} & set(paths)
