"""`GET /-/checks`: what doctor finds, for tokens of operators alone."""

import json

from tests.integration.conftest import Hub


async def test_a_token_with_its_scope_gets_what_doctor_finds(hub: Hub) -> None:
    answer = await hub.get("/-/checks", token=hub.token(scope="operations:read"))
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    data = json.loads(answer.body)["data"]
    found = {each["check"]: each for each in data["findings"]}
    assert found["migrations"] == {"check": "migrations", "state": "ok", "detail": "hub: up to date", "fix": ""}
    assert found["capture"]["fix"].startswith("streamhub capture add")
    again = await hub.get("/-/checks", token=hub.token(scope="operations:read"))
    assert json.loads(again.body)["data"]["checked_at"] == data["checked_at"]


async def test_without_the_scope_nothing_is_told(hub: Hub) -> None:
    assert (await hub.get("/-/checks", token=hub.token(scope="events:read"))).codes == ["MISSING_SCOPE"]
