"""What readiness tells of a gateway whose topic does not bring everything."""

import json
from typing import Any

import pytest


@pytest.mark.parametrize("publisher", ["kafka"], indirect=True)
async def test_readiness_tells_that_live_streams_come_from_history(hub: Any, organization: int) -> None:
    async def tells_of_it() -> bool:
        body = json.loads((await hub.get("/-/ready")).body)
        return bool((body["status"], body["tail"]) == ("ready", "degraded"))

    assert not await tells_of_it()
    hub.history.publisher = None  # it is appended, and not published
    await hub.history.append(organization)
    await hub.eventually(tells_of_it)
