"""A live stream seen and ended from outside: `GET /{org}/status` and `DELETE /{org}`."""

import json
import time
from datetime import timedelta
from typing import Any

import pytest

from streamhub.core import ids
from streamhub.core.window import parse_instant
from streamhub.history import newest
from tests.integration.conftest import Hub, StartHub


async def status(hub: Hub) -> dict[str, Any]:
    client = await hub.open("/my-org/status")
    assert client.status == 200
    assert client.headers["content-type"].startswith("application/json")
    document = json.loads((await client.answer()).body)
    assert list(document) == ["data"]
    return document["data"]


# -- DELETE


async def test_deleting_ends_the_stream_with_an_error_that_is_not_to_be_resumed(hub: Hub, organization: int) -> None:
    client = await hub.live()
    append = await hub.history.append(organization)
    await client.frame()
    answer = await hub.get("/my-org", method="DELETE")
    assert (answer.status, answer.body) == (204, b"")
    (end,) = await client.rest()
    assert end.event == "stream_error"
    assert (end.data["code"], end.data["resumable"], end.data["last_id"]) == ("DELETED", False, append.last_id)


async def test_a_stream_that_another_gateway_holds_is_ended_there(start_hub: StartHub, organization: int) -> None:
    holder, other = await start_hub(), await start_hub()
    client = await holder.live()
    assert (await other.get("/my-org", method="DELETE")).status == 204
    assert [frame.data["code"] for frame in await client.rest()] == ["DELETED"]


async def test_a_deleted_stream_is_stale_for_five_seconds(hub: Hub, organization: int) -> None:
    await hub.live()
    began = time.monotonic()
    await hub.get("/my-org", method="DELETE")
    (refused,) = (await hub.get("/my-org")).errors
    assert 4_000 < refused["meta"]["retry_after_ms"] <= 5_000
    await hub.live_once_free()
    assert 4.9 < time.monotonic() - began < 6


async def test_deleting_where_nobody_consumes_is_404(hub: Hub, organization: int) -> None:
    answer = await hub.get("/my-org", method="DELETE")
    assert (answer.status, answer.codes) == (404, ["NOT_FOUND"])


async def test_deleting_a_stale_stream_is_404_and_does_not_lengthen_the_wait(hub: Hub, organization: int) -> None:
    await hub.live()
    await hub.get("/my-org", method="DELETE")
    before = (await status(hub))["stale_until"]
    assert (await hub.get("/my-org", method="DELETE")).codes == ["NOT_FOUND"]
    assert (await status(hub))["stale_until"] == before


async def test_a_reader_that_has_stopped_is_ended_too(hub: Hub, organization: int) -> None:
    await hub.live(receive_buffer=4096)
    for _ in range(5):
        await hub.history.append(organization, 1_000, size=2_000)
    assert (await hub.get("/my-org", method="DELETE")).status == 204


async def test_the_next_consumer_is_not_ended_by_a_request_for_the_one_before(
    start_hub: StartHub, organization: int
) -> None:
    hub = await start_hub(stale_after=timedelta(milliseconds=100))
    await hub.live()
    await hub.get("/my-org", method="DELETE")
    client, _ = await hub.live_once_free()
    assert await client.quiet(1.2)


async def test_a_parameter_stops_a_deletion(hub: Hub, organization: int) -> None:
    client = await hub.live()
    assert (await hub.get("/my-org?x=1", method="DELETE")).codes == ["UNKNOWN_PARAMETER"]
    assert await client.quiet()


@pytest.mark.parametrize(("path", "method"), [("/my-org", "DELETE"), ("/my-org/status", "GET")])
async def test_both_want_an_integration_of_the_organization(hub: Hub, path: str, method: str) -> None:
    assert (await hub.get(path, method=method, token=hub.token(application__kind="user"))).codes == ["NOT_INTEGRATION"]
    other = hub.token(organization__slug="other")
    assert (await hub.get(path, method=method, token=other)).codes == ["ORGANIZATION_MISMATCH"]


# -- status


async def test_before_any_consumer_nothing_but_the_head_is_known(hub: Hub, organization: int) -> None:
    append = await hub.history.append(organization)
    assert await status(hub) == {
        "connected_since": None, "gateway": None, "cursor": None, "head": append.last_id, "lag_events": None,
        "lag_seconds": None, "last_gap": None, "stale_until": None,
    }  # fmt: skip


async def test_an_organization_not_registered_yet_has_a_status(hub: Hub) -> None:
    assert (await status(hub))["head"] is None


async def test_the_head_is_the_last_event_of_this_organization(hub: Hub, organization: int) -> None:
    append = await hub.history.append(organization, 2)
    await hub.history.append(await hub.history.register("org_2", "other"))
    assert (await status(hub))["head"] == append.last_id


async def test_while_a_consumer_is_connected_it_is_told_since_when_and_where(hub: Hub, organization: int) -> None:
    await hub.live()
    found = await status(hub)
    of_node = await hub.history.pool.fetchval("SELECT host || '/' || pid FROM streamhub_hub.nodes")
    assert found["gateway"] == of_node
    assert abs(parse_instant(found["connected_since"]).ms - await hub.history.now_ms()) < 2_000
    assert found["stale_until"] is None


async def test_after_the_consumer_has_gone_it_is_stale_and_then_nothing(start_hub: StartHub, organization: int) -> None:
    hub = await start_hub(stale_after=timedelta(seconds=1))
    (await hub.live()).close()

    async def is_stale() -> bool:
        return (await status(hub))["stale_until"] is not None

    async def is_free() -> bool:
        return not await is_stale()

    await hub.eventually(is_stale)
    found = await status(hub)
    assert (found["connected_since"], found["gateway"]) == (None, None)
    await hub.eventually(is_free)


async def test_a_consumer_whose_gateway_died_is_not_told_as_connected(hub: Hub, organization: int) -> None:
    await hub.history.pool.execute(
        "INSERT INTO streamhub_hub.streams (organization_id, node, epoch, connected_at) "
        "VALUES ('org_1', gen_random_uuid(), 1, clock_timestamp())"
    )
    found = await status(hub)
    assert (found["connected_since"], found["stale_until"]) == (None, None)


async def test_a_consumer_that_read_everything_has_no_lag(hub: Hub, organization: int) -> None:
    client = await hub.live()
    append = await hub.history.append(organization, 3)
    await client.frames(3)

    async def caught_up() -> bool:
        return (await status(hub))["cursor"] == append.last_id

    await hub.eventually(caught_up)
    found = await status(hub)
    assert (found["lag_events"], found["lag_seconds"]) == (0, 0)


async def test_the_lag_is_what_was_published_since_the_cursor_and_the_age_of_its_first(
    hub: Hub, organization: int
) -> None:
    now = await hub.history.now_ms()
    await hub.history.append_past(organization, [timedelta(seconds=n) for n in (90, 60, 30)])
    await hub.history.pool.execute(
        "INSERT INTO streamhub_hub.streams (organization_id, cursor) VALUES ('org_1', $1)",
        ids.event_id(now - 70_000, 0),
    )
    found = await status(hub)
    assert found["lag_events"] == 2
    assert 60 <= found["lag_seconds"] < 65


async def test_a_long_lag_is_counted_no_further_than_its_bound(
    hub: Hub, organization: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newest, "_BEHIND", newest._BEHIND.replace("10000", "100"))
    await hub.history.append(organization, 150)
    await hub.history.pool.execute(
        "INSERT INTO streamhub_hub.streams (organization_id, cursor) VALUES ('org_1', $1)", ids.MIN_ID
    )
    assert (await status(hub))["lag_events"] == 100


async def test_the_last_gap_stays_with_when_it_was_told(hub: Hub, organization: int) -> None:
    old, _ = await hub.history.append_past(organization, [timedelta(hours=2), timedelta(hours=1)])
    client = await hub.live(last_event_id=old)
    gap = await client.frame()
    found = (await status(hub))["last_gap"]
    assert abs(parse_instant(found.pop("at")).ms - await hub.history.now_ms()) < 2_000
    assert found == gap.data
