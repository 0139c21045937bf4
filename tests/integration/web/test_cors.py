"""Browsers of other origins: what a page may ask for, and what it gets to read."""

from typing import Any

import pytest

from streamhub.core.window import timestamp
from streamhub.gateway import operations
from streamhub.gateway.app import ROUTES
from tests.integration.conftest import Hub, StartHub

ORIGIN = "https://app.example.com"
FROM_THERE = {"Origin": ORIGIN}
PREFLIGHT = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "GET",
    "Access-Control-Request-Headers": "authorization,last-event-id",
}


@pytest.fixture
async def hub(start_hub: StartHub) -> Hub:
    return await start_hub(cors_origins=(ORIGIN, "http://localhost:3000"))


async def preflight(hub: Hub, path: str = "/my-org", **headers: str) -> Any:
    """Without a token, as browsers send it."""
    return await hub.get(path, method="OPTIONS", token="", headers={**PREFLIGHT, **headers})


async def test_a_preflight_of_an_allowed_origin_is_204_without_a_token_on_every_route(hub: Hub) -> None:
    for route in (*ROUTES, *operations.ROUTES):
        path = route.shown_path.replace("{org}", "my-org").replace("{job_id}", "1")
        answer = await preflight(hub, path, **{"Access-Control-Request-Method": route.method})
        assert (answer.status, answer.body) == (204, b""), path
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert route.method in answer.headers["access-control-allow-methods"]


async def test_it_allows_the_headers_that_a_client_sends(hub: Hub) -> None:
    allowed = (await preflight(hub)).headers["access-control-allow-headers"].lower().split(", ")
    assert {"authorization", "last-event-id"} <= set(allowed)


async def test_it_names_the_methods_of_the_path(hub: Hub) -> None:
    assert (await preflight(hub)).headers["access-control-allow-methods"] == "DELETE, GET"


async def test_a_preflight_of_another_origin_is_405_and_allows_nothing(hub: Hub) -> None:
    answer = await preflight(hub, Origin="https://evil.example.com")
    assert answer.codes == ["METHOD_NOT_ALLOWED"]
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/", "/my-org/nothing", "/My_Org", "/-/nothing", "/a/b/c"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_a_preflight_of_a_path_that_does_not_exist_lets_the_page_ask_and_read_its_404(
    hub: Hub, path: str, method: str
) -> None:
    answer = await preflight(hub, path, **{"Access-Control-Request-Method": method})
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (204, ORIGIN)
    assert method in answer.headers["access-control-allow-methods"]
    refused = await hub.get(path, method=method, headers=FROM_THERE)
    assert (refused.codes, refused.headers["access-control-allow-origin"]) == (["NOT_FOUND"], ORIGIN)


async def test_a_preflight_of_another_origin_for_a_path_that_does_not_exist_is_404(hub: Hub) -> None:
    assert (await preflight(hub, "/my-org/nothing", Origin="https://evil.example.com")).codes == ["NOT_FOUND"]


async def test_an_options_request_that_is_no_preflight_is_405(hub: Hub) -> None:
    assert (await hub.get("/my-org", method="OPTIONS", headers=FROM_THERE)).codes == ["METHOD_NOT_ALLOWED"]


async def test_a_stream_can_be_read_by_an_allowed_origin(hub: Hub, organization: int) -> None:
    client = await hub.live(headers=FROM_THERE)
    assert client.headers["access-control-allow-origin"] == ORIGIN
    assert client.headers["vary"] == "Origin"


async def test_a_broadcast_and_its_types_can_be_read_by_an_allowed_origin(hub: Hub, organization: int) -> None:
    token = hub.token(scope="events:read")
    client = await hub.open("/my-org/events/stream", token=token, headers=FROM_THERE)
    assert client.headers["access-control-allow-origin"] == ORIGIN
    answer = await hub.get("/my-org/types", token=token, headers=FROM_THERE)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, ORIGIN)


async def test_a_replay_can_be_read_by_an_allowed_origin(hub: Hub, organization: int) -> None:
    now = await hub.history.now_ms()
    path = f"/my-org/replay?date_from={timestamp(now - 1_000)}&date_to={timestamp(now)}"
    client = await hub.open(path, headers={"Origin": "http://localhost:3000"})
    assert client.headers["access-control-allow-origin"] == "http://localhost:3000"


async def test_a_refusal_can_be_read_with_its_retry_after(hub: Hub, organization: int) -> None:
    await hub.live()
    answer = await hub.get("/my-org", headers=FROM_THERE)
    assert answer.codes == ["ACTIVE_CONSUMER_EXISTS"]
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "Retry-After" in answer.headers["access-control-expose-headers"]


async def test_another_origin_is_answered_and_may_not_read_it(hub: Hub) -> None:
    answer = await hub.get("/my-org/status", headers={"Origin": "https://evil.example.com"})
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["vary"] == "Origin"


async def test_any_origin_may_be_allowed(start_hub: StartHub) -> None:
    hub = await start_hub(cors_origins=("*",))
    assert (await preflight(hub, Origin="https://x.example")).headers["access-control-allow-origin"] == "*"


async def test_without_the_setting_no_origin_is_allowed(start_hub: StartHub) -> None:
    hub = await start_hub()
    assert (await preflight(hub)).codes == ["METHOD_NOT_ALLOWED"]
