"""GET /{org}/types."""

import json
from typing import Any

from tests.integration.conftest import Hub


async def types_of(hub: Hub, **claims: Any) -> list[str]:
    answer = await hub.get("/my-org/types", token=hub.token(scope="events:read", **claims))
    assert answer.status == 200, answer.body
    found: list[str] = json.loads(answer.body)["data"]
    return found


async def test_the_types_of_the_last_30_days_are_listed_of_the_tokens_organization_and_environment(
    hub: Hub, organization: int
) -> None:
    other = await hub.history.register("org_2", "other")
    await hub.history.pool.executemany(
        "INSERT INTO streamhub_hub.event_types VALUES ($1, $2, $3, clock_timestamp() - $4::text::interval)",
        [
            (organization, False, "skus.update", "0"),
            (organization, False, "orders.create", "30 days"),
            (organization, False, "old.update", "30 days 2 hours"),
            (organization, True, "test.update", "1 minute"),
            (other, False, "other.update", "0"),
        ],
    )
    assert await types_of(hub) == ["orders.create", "skus.update"]
    assert await types_of(hub, test=True) == ["test.update"]


async def test_an_organization_that_is_not_registered_has_no_types(hub: Hub) -> None:
    assert await types_of(hub) == []


async def test_it_takes_no_parameters(hub: Hub, organization: int) -> None:
    answer = await hub.get("/my-org/types?test=true", token=hub.token(scope="events:read"))
    assert answer.codes == ["UNKNOWN_PARAMETER"]
