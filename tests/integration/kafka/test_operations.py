"""What an operator is told of Kafka: by readiness, by metrics and by `doctor`."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from streamhub.config import Settings
from streamhub.health.doctor import examine
from streamhub.health.findings import Finding
from tests.integration.conftest import Hub
from tests.support.stage import running, until
from tests.support.topics import Broadcasting, create

NOBODY = "127.0.0.1:1"


@pytest.fixture
def settings(stage: Broadcasting) -> dict[str, Any]:
    return {"database_url": stage.url, "kafka_bootstrap_servers": [stage.bootstrap], "kafka_topic": stage.topic}


async def findings(settings: dict[str, Any]) -> list[Finding]:
    return [finding for finding in await examine(Settings(**settings)) if finding.check == "kafka"]


async def told(hub: Hub) -> tuple[Any, Any]:
    body = json.loads((await hub.get("/-/ready", token="")).body)
    return body["broker"], body["broker_lag_seconds"]


async def test_where_all_is_well_everything_says_so(
    stage: Broadcasting, settings: dict[str, Any], start_hub: Callable[..., Awaitable[Hub]]
) -> None:
    await stage.shop()
    async with stage.relaying():
        await stage.started()
        await stage.write(1, 10)
        await stage.published()
    hub = await start_hub(**settings)
    assert await told(hub) == ("ok", 0)
    metrics = (await hub.get("/-/metrics", token="")).body.decode()
    assert "streamhub_kafka_up 1.0\n" in metrics
    assert "streamhub_kafka_lag_seconds 0.0\n" in metrics
    assert [finding.state for finding in await findings(settings)] == ["ok", "ok"]


async def test_what_the_topic_has_not_got_is_told_with_its_age(
    stage: Broadcasting, settings: dict[str, Any], start_hub: Callable[..., Awaitable[Hub]]
) -> None:
    await stage.shop()
    async with stage.relaying():
        await stage.started()
    async with running(stage.relay_without_kafka()):
        await stage.write(1, 10)
        await stage.drained()
    await stage.sql(
        "UPDATE streamhub_hub.publications SET fault = 'no broker acknowledged a batch', "
        "published_id = '00000000-0000-7000-8000-000000000000'"
    )
    broker, lag = await told(await start_hub(**settings))
    assert broker == "no broker acknowledged a batch"
    assert lag > 0
    assert [finding.state for finding in await findings(settings)] == ["ok", "fail", "fail"]


async def test_a_broker_that_no_relay_has_reached_is_unknown(
    settings: dict[str, Any], start_hub: Callable[..., Awaitable[Hub]]
) -> None:
    assert await told(await start_hub(**settings)) == ("unknown", None)


async def test_without_kafka_nothing_is_told_of_it(start_hub: Callable[..., Awaitable[Hub]]) -> None:
    hub = await start_hub()
    assert await told(hub) == (None, None)
    assert b"streamhub_kafka_up" not in (await hub.get("/-/metrics", token="")).body


async def test_doctor_names_a_broker_that_does_not_answer(settings: dict[str, Any]) -> None:
    (finding,) = await findings({**settings, "kafka_bootstrap_servers": [NOBODY]})
    assert finding.state == "fail"
    assert NOBODY in finding.detail
    assert "STREAMHUB_KAFKA_BOOTSTRAP_SERVERS" in finding.fix


async def test_doctor_names_wrong_settings_of_the_topic_and_the_command_that_mends_them(
    stage: Broadcasting, settings: dict[str, Any]
) -> None:
    await create(stage.bootstrap, stage.topic, 1, cleanup_policy="compact", max_message_bytes="1000000")
    size, policy = await findings(settings)
    assert (size.state, policy.state) == ("fail", "fail")
    assert size.fix.endswith(f"--alter --topic {stage.topic} --add-config max.message.bytes=16793600")
    assert policy.fix.endswith(f"--alter --topic {stage.topic} --add-config cleanup.policy=delete")


async def test_doctor_tells_of_a_topic_that_was_left_behind(stage: Broadcasting, settings: dict[str, Any]) -> None:
    await stage.shop()
    async with stage.relaying():
        await stage.started()
    async with running(stage.relay_without_kafka()):
        await stage.write(1, 10)
        await stage.drained()
    (finding,) = await findings({"database_url": stage.url})
    assert finding.state == "warn"
    assert stage.topic in finding.detail


async def test_a_relay_reports_its_fault_to_the_hub(stage: Broadcasting) -> None:
    async with stage.relaying():
        await stage.started()
    stage.bootstrap = NOBODY
    async with stage.relaying():
        await until(lambda: _tells_a_fault(stage), "the fault is told")
        assert await stage.fault() == f"no broker answers at {NOBODY}"


async def _tells_a_fault(stage: Broadcasting) -> bool:
    return await stage.fault() is not None
