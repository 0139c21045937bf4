"""Two gateways over one organization, and consumers that hop between them."""

import asyncio
import itertools

from tests.support.consumer import Consumer, consuming
from tests.support.hub import Hub, traffic, until


async def test_of_consumers_that_hop_between_two_gateways_one_has_the_stream_and_together_they_get_all_in_order(
    hub: Hub,
) -> None:
    processes = [await hub.start(stale_after="1s") for _ in range(2)]
    log: list[str] = []
    consumers = [Consumer(hub, processes, stays=0.7, log=log) for _ in range(3)]
    async with consuming(*consumers):
        async with traffic(hub.url, ["org-0"]):
            await asyncio.sleep(8)  # some hops, each with the STALE_AFTER that follows it
        await until(hub.is_all_published, "everything is published")
        published = await hub.published()
        await until(lambda: log[-1] == published[-1], "the last event is there")
    connections = sorted((each for consumer in consumers for each in consumer.connections), key=lambda each: each.since)
    assert {each.process for each in connections} == set(processes)
    assert all(
        earlier.until is not None and earlier.until <= later.since for earlier, later in itertools.pairwise(connections)
    )
    assert {refused.code for consumer in consumers for refused in consumer.refusals} == {"ACTIVE_CONSUMER_EXISTS"}
    assert log == published
