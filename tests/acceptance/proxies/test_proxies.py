"""Streams through nginx, HAProxy and Envoy, with the settings of deploy/."""

import asyncio
import itertools
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import asyncpg
import pytest

from tests.acceptance.proxies.conftest import HEARTBEATS_EVERY, STALE_AFTER
from tests.acceptance.proxies.proxy import Proxy
from tests.integration.conftest import Answer, Client
from tests.support.hub import Hub, Process, until

AT_ONCE = 0.5  # seconds, on a busy machine; what is buffered takes until the next heartbeat, or for ever
CHECKED_EVERY = 1.0  # second: HAProxy and Envoy ask no gateway that they have not seen ready since it was not

_numbers = itertools.count()


@pytest.fixture
def organization() -> Iterator[str]:
    """This test's own, so that it does not wait for the stream of the test before."""
    yield f"org-{next(_numbers)}"
    for client in list(Client.alive):
        client.close()


async def opened(
    hub: Hub, proxy: Proxy, organization: str, path: str = "", after: str | None = None, coding: str = "gzip, br",
    **options: Any,
) -> Client:  # fmt: skip
    headers = [("Authorization", f"Bearer {hub.token(organization)}"), ("Accept-Encoding", coding)]
    if after is not None:
        headers.append(("Last-Event-ID", after))
    return await Client.open(proxy.port, f"/{organization}{path}", headers, **options)


async def get(hub: Hub, proxy: Proxy, organization: str, path: str = "") -> Answer:
    return await (await opened(hub, proxy, organization, path)).answer()


async def opened_patiently(hub: Hub, proxy: Proxy, organization: str, **options: Any) -> tuple[Client, list[str]]:
    """Asks until it is given the stream; and what it was refused with."""
    codes: list[str] = []
    async with asyncio.timeout(60):
        while True:
            client = await opened(hub, proxy, organization, **options)
            if client.status == 200:
                return client, codes
            codes += (await client.answer()).codes
            await asyncio.sleep(0.1)


async def commit(hub: Hub, organization: str, rows: int = 1) -> None:
    connection = await asyncpg.connect(hub.url)
    try:
        await connection.execute(
            "INSERT INTO skus (org, note) SELECT $1, repeat('x', 100) FROM generate_series(1, $2::int)",
            organization, rows,
        )  # fmt: skip
    finally:
        await connection.close()


async def cursor(hub: Hub, organization: str) -> str | None:
    connection = await asyncpg.connect(hub.url)
    try:
        found: str | None = await connection.fetchval(
            "SELECT cursor::text FROM streamhub_hub.streams WHERE organization_id = $1", organization
        )
        return found
    finally:
        await connection.close()


async def test_a_stream_begins_at_once_and_neither_compressed_nor_cut_to_length(
    hub: Hub, proxy: Proxy, organization: str
) -> None:
    began = time.monotonic()
    client = await opened(hub, proxy, organization)
    first = await client.block()
    assert (client.status, first) == (200, b"retry: 6000\n\n")
    assert time.monotonic() - began < AT_ONCE
    assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert client.headers["cache-control"] == "no-cache, no-transform"
    assert not {"content-encoding", "content-length"} & client.headers.keys()


async def test_each_event_passes_at_once(hub: Hub, proxy: Proxy, organization: str) -> None:
    client = await opened(hub, proxy, organization)
    # By its first event an organization is registered; the gateway looks for that now and then.
    await commit(hub, organization)
    await client.frame()
    for _ in range(5):
        committed = time.monotonic()
        await commit(hub, organization)
        frame = await client.frame()
        assert frame is not None
        assert frame.event == "create"
        assert time.monotonic() - committed < AT_ONCE


async def test_heartbeats_pass_one_by_one(hub: Hub, proxy: Proxy, organization: str) -> None:
    client = await opened(hub, proxy, organization)
    came: list[float] = []
    for _ in range(4):
        assert await client.frame(heartbeats=True) is not None
        came.append(time.monotonic())
    for earlier, later in itertools.pairwise(came[1:]):
        assert HEARTBEATS_EVERY / 2 < later - earlier < HEARTBEATS_EVERY * 2


async def test_a_second_consumer_is_refused_whichever_gateway_it_meets(
    hub: Hub, proxy: Proxy, organization: str
) -> None:
    await opened(hub, proxy, organization)
    for _ in range(4):
        assert (await get(hub, proxy, organization)).codes == ["ACTIVE_CONSUMER_EXISTS"]


async def test_a_client_that_leaves_is_noticed_at_once(hub: Hub, proxy: Proxy, organization: str) -> None:
    client = await opened(hub, proxy, organization)
    await client.block()
    client.close()
    left = time.monotonic()
    while "stale_until" not in (await get(hub, proxy, organization)).errors[0]["meta"]:
        assert time.monotonic() - left < AT_ONCE


async def test_the_stream_of_one_that_left_is_free_after_the_stale_time(
    hub: Hub, proxy: Proxy, organization: str
) -> None:
    client = await opened(hub, proxy, organization)
    await client.block()
    client.close()
    left = time.monotonic()
    _, codes = await opened_patiently(hub, proxy, organization)
    assert STALE_AFTER <= time.monotonic() - left < STALE_AFTER + 1
    assert set(codes) == {"ACTIVE_CONSUMER_EXISTS"}


async def test_what_a_reader_that_stopped_has_not_taken_waits_at_the_gateway(
    hub: Hub, proxy: Proxy, much: str, organization: str
) -> None:
    published = await hub.published(much)
    client, _ = await opened_patiently(hub, proxy, much, receive_buffer=4096, after=published[0])
    await client.frames(10)
    at: list[str | None] = [None, await cursor(hub, much)]
    while at[-1] != at[-2]:
        await asyncio.sleep(1.1)  # it is written each second
        at.append(await cursor(hub, much))
    assert at[-1] is not None
    assert at[-1] < published[-1]


async def test_after_the_proxys_death_a_consumer_without_last_event_id_loses_nothing(
    hub: Hub, proxy: Proxy, organization: str
) -> None:
    client = await opened(hub, proxy, organization, receive_buffer=4096)
    await commit(hub, organization, 200)
    read = [frame.id for frame in await client.frames(20)]
    await until(hub.is_all_published, "all is published")
    published = await hub.published(organization)

    async def is_acknowledged() -> bool:
        return await cursor(hub, organization) == published[-1]

    # The proxy has taken all of it, the consumer has not.
    await until(is_acknowledged, "the cursor is at the end", within=5)
    proxy.kill()
    client.reset()
    await commit(hub, organization, 20)
    await proxy.start()
    again, codes = await opened_patiently(hub, proxy, organization)
    assert set(codes) <= {"ACTIVE_CONSUMER_EXISTS"}
    await until(hub.is_all_published, "all is published")
    published = await hub.published(organization)
    came: list[str] = []
    with suppress(TimeoutError):
        while not came or came[-1] != published[-1]:
            came += [frame.id or "" for frame in await again.frames(1, within=3)]
    assert read == published[:20]
    assert came == published[published.index(came[0]) :]
    assert published.index(came[0]) <= 20


async def test_a_replay_of_500_resources_passes_though_its_line_is_long(
    hub: Hub, proxy: Proxy, organization: str
) -> None:
    await commit(hub, organization, 5)
    ids = ",".join([*(await hub.rows(organization)), *(f"a-resource-with-a-long-name-{n:012}" for n in range(495))])
    await until(hub.is_all_published, "all is published")
    path = f"/replay?resource_type_eq=skus&resource_id_in={ids}"
    replay = await opened(hub, proxy, organization, path, coding="identity")
    frames = await replay.rest()
    assert [frame.event for frame in frames] == ["replay_started", *["create"] * 5, "stream_complete"]


async def test_while_no_gateway_is_there_the_refusal_is_the_gateways_own(
    hub: Hub, lonely_proxy: Proxy, organization: str
) -> None:
    answer = await get(hub, lonely_proxy, organization)
    assert (answer.status, answer.codes) == (503, ["UNAVAILABLE"])
    assert answer.headers["retry-after"] == "2"


async def test_while_one_gateway_after_the_other_is_restarted_no_consumer_is_refused(hub: Hub, proxy: Proxy) -> None:
    answered: list[int] = []

    async def ask_while(leaving: Process) -> None:
        while leaving.runs:
            answered.append((await opened(hub, proxy, f"org-{next(_numbers)}")).status)
            await asyncio.sleep(0.02)

    for leaving in hub.processes:
        for _ in range(8):
            await opened(hub, proxy, f"org-{next(_numbers)}")
        before = len(answered)
        leaving.send(signal.SIGTERM)
        # Each of those who ask keeps the streams it is given, as consumers do.
        await asyncio.gather(*(ask_while(leaving) for _ in range(4)))
        assert len(answered) > before + 20  # it took its time
        await leaving.start()
        await asyncio.sleep(CHECKED_EVERY * 1.5)
    assert set(answered) == {200}
