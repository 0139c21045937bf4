"""Replay jobs seen and cancelled from outside: `GET` and `DELETE /{org}/replays…`."""

import asyncio
import json
from typing import Any

import pytest

from streamhub.core.window import timestamp
from tests.integration.conftest import Hub, StartHub

JOB = "5e1f7a52-7d0f-4c0e-9a43-9f6f5cf0b1aa"  # that there is none of


async def lately(hub: Hub) -> str:
    now = await hub.history.now_ms()
    return f"/my-org/replay?date_from={timestamp(now - 3_600_000)}&date_to={timestamp(now + 60_000)}"


async def data(hub: Hub, path: str = "/my-org/replays", **more: Any) -> Any:
    answer = await hub.get(path, **more)
    assert answer.status == 200, answer
    document = json.loads(answer.body)
    assert list(document) == ["data"]
    return document["data"]


async def slow_replay(hub: Hub, organization: int) -> tuple[Any, str]:
    """(a client that has read little, its job)."""
    for n in range(10):
        await hub.history.append(organization, 1_000, first=n * 1_000, size=2_000)
    client = await hub.open(await lately(hub), receive_buffer=4096)
    started, _ = await client.frames(2)
    return client, started.data["job_id"]


async def queued_replay(hub: Hub) -> tuple[Any, str]:
    for _ in range(64):
        await hub.kinds.replay.slots.acquire()
    client = await hub.open(await lately(hub))
    return client, (await client.frame()).data["job_id"]


async def completed(hub: Hub, **more: Any) -> str:
    client = await hub.open(await lately(hub), **more)
    return (await client.rest())[0].data["job_id"]


async def test_without_a_replay_the_list_is_empty(hub: Hub, organization: int) -> None:
    assert await data(hub) == []


async def test_a_completed_one_is_told_with_its_counts_and_what_was_asked(hub: Hub, organization: int) -> None:
    append = await hub.history.append(organization, 3)
    client = await hub.open((await lately(hub)) + "&resource_type_eq=skus")
    started = (await client.rest())[0].data
    (found,) = await data(hub)
    assert list(found) == [
        "job_id", "state", "test", "events", "bytes", "progress", "created_at", "started_at", "finished_at", "request",
    ]  # fmt: skip
    assert (found["job_id"], found["state"], found["test"]) == (started["job_id"], "completed", False)
    assert (found["events"], found["bytes"]) == (3, sum(len(event.frame) for event in append.events))
    assert found["progress"] == 1.0
    assert found["created_at"] <= found["started_at"] <= found["finished_at"]
    asked = ("date_from", "date_to", "resource_type_eq", "resource_id_in", "types", "filters")
    assert found["request"] == {name: started[name] for name in asked}


async def test_the_newest_comes_first(hub: Hub, organization: int) -> None:
    jobs = [await completed(hub) for _ in range(3)]
    assert [found["job_id"] for found in await data(hub)] == jobs[::-1]


async def test_one_job_is_an_object(hub: Hub, organization: int) -> None:
    job = await completed(hub)
    (listed,) = await data(hub)
    assert await data(hub, f"/my-org/replays/{job}") == listed
    assert await data(hub, f"/my-org/replays/{job.upper()}") == listed


async def test_the_progress_of_a_running_one_is_told(hub: Hub, organization: int) -> None:
    client, job = await slow_replay(hub, organization)

    async def has_moved() -> bool:
        await client.frames(20)
        found = await data(hub, f"/my-org/replays/{job}")
        assert found["state"] == "running"
        assert found["finished_at"] is None
        return 0 < found["progress"] <= 1 and found["events"] > 0 and found["bytes"] > 0

    await hub.eventually(has_moved, 10)


async def test_a_queued_one_has_not_started(hub: Hub, organization: int) -> None:
    _, job = await queued_replay(hub)
    found = await data(hub, f"/my-org/replays/{job}")
    assert (found["state"], found["started_at"], found["progress"]) == ("queued", None, 0.0)


async def test_one_whose_process_died_has_failed(hub: Hub, organization: int) -> None:
    await hub.history.pool.execute(
        "INSERT INTO streamhub_hub.replays (organization_id, test, node, state, request) "
        "VALUES ('org_1', false, gen_random_uuid(), 'running', '{}')"
    )
    assert [found["state"] for found in await data(hub)] == ["failed"]


@pytest.mark.parametrize("test", [False, True])
async def test_only_the_tokens_environment_is_listed(hub: Hub, organization: int, test: bool) -> None:
    jobs = {each: await completed(hub, token=hub.token(test=each)) for each in (False, True)}
    found = await data(hub, token=hub.token(test=test))
    assert [(each["job_id"], each["test"]) for each in found] == [(jobs[test], test)]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_job_of_the_other_environment_is_404(hub: Hub, organization: int, method: str) -> None:
    job = await completed(hub, token=hub.token(test=True))
    answer = await hub.get(f"/my-org/replays/{job}", method=method)
    assert (answer.status, answer.codes) == (404, ["NOT_FOUND"])


async def test_a_job_of_another_organization_is_404(hub: Hub, organization: int) -> None:
    await hub.history.register("org_2", "other")
    token = hub.token(organization__id="org_2", organization__slug="other")
    job = await completed(hub)
    assert (await hub.get(f"/other/replays/{job}", token=token)).codes == ["NOT_FOUND"]


@pytest.mark.parametrize("job", [JOB, "x", "%00", "a" * 36])
async def test_a_job_that_does_not_exist_is_404_and_named(hub: Hub, organization: int, job: str) -> None:
    answer = await hub.get(f"/my-org/replays/{job}")
    assert (answer.status, answer.codes) == (404, ["NOT_FOUND"])


@pytest.mark.parametrize("path", ["/my-org/replays", f"/my-org/replays/{JOB}"])
async def test_they_want_an_integration(hub: Hub, path: str) -> None:
    assert (await hub.get(path, token=hub.token(application__kind="user"))).codes == ["NOT_INTEGRATION"]


async def test_an_unknown_parameter_is_refused(hub: Hub, organization: int) -> None:
    assert (await hub.get("/my-org/replays?state=running")).codes == ["UNKNOWN_PARAMETER"]


# -- cancelling


async def ended_as_cancelled(client: Any) -> bool:
    end = (await client.rest())[-1]
    return (end.event, end.data["code"], end.data["resumable"]) == ("stream_error", "REPLAY_CANCELLED", False)


async def test_cancelling_a_running_one_ends_its_stream_with_an_error(hub: Hub, organization: int) -> None:
    client, job = await slow_replay(hub, organization)
    answer = await hub.get(f"/my-org/replays/{job}", method="DELETE")
    assert (answer.status, answer.body) == (204, b"")
    assert await ended_as_cancelled(client)
    assert (await data(hub, f"/my-org/replays/{job}"))["state"] == "cancelled"


async def test_one_that_another_gateway_streams_is_ended_there(start_hub: StartHub, organization: int) -> None:
    holder, other = await start_hub(), await start_hub()
    client, job = await slow_replay(holder, organization)
    assert (await other.get(f"/my-org/replays/{job}", method="DELETE")).status == 204
    async with asyncio.timeout(5):
        assert await ended_as_cancelled(client)


async def test_cancelling_a_queued_one_ends_its_stream_too(hub: Hub, organization: int) -> None:
    client, job = await queued_replay(hub)
    assert (await hub.get(f"/my-org/replays/{job}", method="DELETE")).status == 204
    assert await ended_as_cancelled(client)


async def test_a_cancelled_one_keeps_the_counts_of_what_was_sent(hub: Hub, organization: int) -> None:
    client, job = await slow_replay(hub, organization)
    await hub.get(f"/my-org/replays/{job}", method="DELETE")
    sent = 1 + sum(frame.id is not None for frame in await client.rest())

    async def is_counted() -> bool:
        found = await data(hub, f"/my-org/replays/{job}")
        return (found["state"], found["events"]) == ("cancelled", sent)

    await hub.eventually(is_counted)


async def test_a_cancelled_one_makes_room_at_once(hub: Hub, organization: int) -> None:
    jobs = [(await slow_replay(hub, organization))[1] for _ in range(4)]
    await hub.get(f"/my-org/replays/{jobs[0]}", method="DELETE")
    assert (await hub.open(await lately(hub))).status == 200


@pytest.mark.parametrize("end", ["completed", "cancelled"])
async def test_one_that_has_ended_cannot_be_cancelled(hub: Hub, organization: int, end: str) -> None:
    job = await completed(hub)
    await hub.history.pool.execute("UPDATE streamhub_hub.replays SET state = $1", end)
    answer = await hub.get(f"/my-org/replays/{job}", method="DELETE")
    assert (answer.status, answer.codes) == (409, ["REPLAY_FINISHED"])
    assert end in answer.errors[0]["detail"]


async def test_one_whose_process_died_cannot_be_cancelled(hub: Hub, organization: int) -> None:
    job = await hub.history.pool.fetchval(
        "INSERT INTO streamhub_hub.replays (organization_id, test, node, state, request) "
        "VALUES ('org_1', false, gen_random_uuid(), 'running', '{}') RETURNING id::text"
    )
    answer = await hub.get(f"/my-org/replays/{job}", method="DELETE")
    assert (answer.status, answer.codes) == (409, ["REPLAY_FINISHED"])
