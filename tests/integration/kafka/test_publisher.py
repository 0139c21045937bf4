"""What the publisher sends: every event of history once beyond repeats, in order, to the byte."""

import asyncio
import json
from functools import partial

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streamhub.core import ids
from streamhub.core.frames import data_of
from streamhub.history.closing import close_window
from streamhub.kafka import publisher
from tests.integration.conftest import History
from tests.support.stage import running, until
from tests.support.topics import Broadcasting, create, delete, partitions_of, raise_partitions, settings_of


async def test_every_event_is_in_the_topic_in_order_and_to_the_byte(stage: Broadcasting) -> None:
    await stage.shop()
    async with stage.relaying():
        await stage.started()
        for piece in range(20):
            await stage.write(piece * 100, 100)
        await stage.published()
    assert len(await stage.audited()) == 2_000


async def test_a_record_is_a_cloudevent_in_binary_mode(stage: Broadcasting) -> None:
    await stage.shop(test=True)
    async with stage.relaying():
        await stage.started()
        await stage.write(1, 1)
        await stage.published()
    (record,) = await stage.audited()
    (frame,) = await stage.frames()
    event = json.loads(data_of(frame))
    assert record.key == b"org_1"
    assert dict(record.headers) == {
        "content-type": b"application/json",
        "ce_specversion": b"1.0",
        "ce_id": event["id"].encode(),
        "ce_source": b"/org-1",
        "ce_type": b"skus.create",
        "ce_organization": b"org_1",
        "ce_test": b"true",
        "streamhub_after": ids.MIN_ID.encode(),
    }
    assert record.timestamp == ids.milliseconds(event["id"])


async def test_a_new_topic_has_settings_that_any_event_fits(stage: Broadcasting) -> None:
    async with stage.relaying():
        await stage.started()
    found = await settings_of(stage.bootstrap, stage.topic)
    assert len(await partitions_of(stage.bootstrap, stage.topic)) == 12
    assert int(found["max.message.bytes"]) > stage.max_event_bytes
    assert (found["cleanup.policy"], found["retention.ms"]) == ("delete", "604800000")


async def test_a_topic_begins_with_what_is_published_after_its_first_start(stage: Broadcasting) -> None:
    await stage.shop()
    await stage.write(1, 5)
    async with running(stage.relay_without_kafka()):
        await stage.drained()
    head = await stage.value("SELECT max(id::text) FROM streamhub_hub.history")
    async with stage.relaying():
        await stage.started()
        await stage.write(10, 5)
        await stage.published()
    assert len(await stage.audited(start=head)) == 5


async def test_what_was_appended_without_kafka_is_found_in_history(stage: Broadcasting) -> None:
    await stage.shop()
    async with stage.relaying():
        await stage.started()
        await stage.write(1, 10)
        await stage.published()
    async with running(stage.relay_without_kafka()):
        for piece in range(3):
            await stage.write(100 + piece * 1_000, 1_000)
            await stage.drained()
    async with stage.relaying():
        await stage.write(10_000, 10)
        await stage.published()
        await until(lambda: _any_incident(stage), "an incident is noted")
    assert len(await stage.audited()) == 3_020
    assert "were not noted for Kafka" in (await stage.incidents("kafka"))[0]


async def test_a_closed_window_is_no_hole(
    stage: Broadcasting, pool: "asyncpg.Pool[asyncpg.Record]", history: History
) -> None:
    await stage.shop()
    async with stage.relaying():
        await stage.started()
        for piece in range(3):
            await stage.write(1 + piece, 1)
            await stage.published()
            await close_window(pool, await history.now_ms())
        head = ids.event_id(*(await stage.rows("SELECT last_ms, last_counter FROM streamhub_hub.log_head"))[0])
        await until(lambda: _is_published(stage, head), "what is published follows a closed window")
    await stage.audited()
    assert await stage.incidents("kafka") == []


async def _is_published(stage: Broadcasting, id_: str) -> bool:
    return bool(await stage.value("SELECT published_id = $1 FROM streamhub_hub.publications", id_))


async def test_the_journal_holds_nothing_that_is_published(stage: Broadcasting) -> None:
    await stage.shop()
    async with stage.relaying():
        await stage.started()
        await stage.write(1, 10)
        await stage.published()
        await until(lambda: _journal_is_empty(stage), "the journal is empty")


async def _journal_is_empty(stage: Broadcasting) -> bool:
    return not await stage.value("SELECT count(*) FROM streamhub_hub.appends")


async def test_more_than_the_queue_holds_goes_by_way_of_history(
    stage: Broadcasting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "Queue", partial(publisher.Queue, most_events=50))
    await stage.shop()
    async with stage.relaying():
        await stage.started()
        for piece in range(10):
            await stage.write(piece * 400, 400)
        await stage.published()
    assert len(await stage.audited()) == 4_000


async def test_an_event_of_ten_megabytes_goes_through(stage: Broadcasting) -> None:
    await stage.shop()
    async with stage.relaying():
        await stage.started()
        await stage.write(1, 3)
        await stage.sql(
            "INSERT INTO skus SELECT i, 'org_1', 1, repeat('x', 5000000) FROM generate_series(100, 105) AS i"
        )
        await stage.write(200, 3)
        await stage.published()
    assert max(len(record.value) for record in await stage.audited()) > 10_000_000


async def test_a_topic_that_takes_no_large_event_is_named_and_nothing_is_left_out(
    stage: Broadcasting,
) -> None:
    await create(stage.bootstrap, stage.topic, 3, max_message_bytes="100000")
    await stage.shop()
    async with stage.relaying():
        await stage.started()
        await stage.write(1, 2_000)
        await stage.sql("INSERT INTO skus VALUES (5000, 'org_1', 1, repeat('x', 200000))")
        await stage.write(6_000, 5)
        await until(lambda: _has_fault(stage, "max.message.bytes is 100000"), "the fault is told")
        await until(lambda: _any_incident(stage), "an incident is noted")
        (incident,) = await stage.incidents("kafka")
        assert f"--alter --topic {stage.topic} --add-config max.message.bytes=16793600" in incident
        await _alter(stage, "max.message.bytes", "16793600")
        await stage.published()
        assert await stage.fault() is None
    await stage.audited()


async def _has_fault(stage: Broadcasting, text: str) -> bool:
    return text in (await stage.fault() or "")


async def _alter(stage: Broadcasting, name: str, value: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=stage.bootstrap)
    await admin.start()
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, stage.topic, {name: value})])
    await admin.close()


async def test_a_compacted_topic_is_named(stage: Broadcasting) -> None:
    await create(stage.bootstrap, stage.topic, 1, cleanup_policy="compact", max_message_bytes="20000000")
    async with stage.relaying():
        await stage.started()
        await until(lambda: _any_incident(stage), "an incident is noted")
    assert "cleanup.policy" in (await stage.incidents("kafka"))[0]


async def _any_incident(stage: Broadcasting) -> bool:
    return bool(await stage.incidents("kafka"))


async def test_more_partitions_lose_nothing(stage: Broadcasting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamhub.kafka.run.METADATA_EVERY", 200)
    await create(stage.bootstrap, stage.topic, 3, max_message_bytes="20000000")
    await stage.shop()
    async with stage.relaying():
        await stage.started()
        await stage.write(1, 500, organizations=50)
        await raise_partitions(stage.bootstrap, stage.topic, 24)
        for piece in range(30):
            await stage.write(1_000 + piece * 100, 100, organizations=50)
            await asyncio.sleep(0.05)
        await stage.published()
        assert await stage.value("SELECT partitions FROM streamhub_hub.publications") == 24
        await until(lambda: _any_incident(stage), "an incident is noted")
    await stage.audited(redivided=True)


async def test_a_topic_that_is_made_anew_goes_on(stage: Broadcasting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamhub.kafka.run.SENT_WITHIN", 1.0)
    await stage.shop()
    async with stage.relaying():
        await stage.started()
        await stage.write(1, 500)
        await stage.published()
        published = await stage.value("SELECT published_id::text FROM streamhub_hub.publications")
        await delete(stage.bootstrap, stage.topic)
        await stage.write(1_000, 500)
        await stage.published()
    await stage.audited(start=published)
