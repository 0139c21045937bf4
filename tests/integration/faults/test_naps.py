"""Gateways stopped (SIGSTOP) and woken (SIGCONT) in mid-stream: for 3, 6 and 60 s of real time, against a lease of 5 s.

The naps (and one of 7 s, during which no other consumer connects) are taken at once, by a gateway and an
organization each, with one more gateway that stays awake; the tests look at what came of them.
"""

import asyncio
import signal
from typing import NamedTuple

import pytest

from tests.integration.conftest import Frame
from tests.support.consumer import Consumer, consuming
from tests.support.hub import Hub, Process, hub_over, new_database, traffic, until


class Nap(NamedTuple):
    """A consumer that reads the sleeper first. `late`: what its first connection brought after it had given it up."""

    published: list[str]
    consumer: Consumer
    sleeper: Process
    awake: Process
    late: list[Frame]


async def nap(hub: Hub, seconds: float, organization: str, sleeper: Process, awake: Process, patience: float) -> Nap:
    consumer = Consumer(hub, [sleeper, awake], organization, patience=patience)
    late: list[Frame] = []
    async with consuming(consumer):
        async with traffic(hub.url, [organization], 20):
            await until(lambda: len(consumer.log) > 20, "the stream is under way")
            sleeper.send(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            before = len(consumer.log)
            sleeper.send(signal.SIGCONT)
            if len(consumer.connections) > 1:
                late = await consumer.connections[0].client.rest()
            await until(lambda: len(consumer.log) > before + 20, f"the stream of {organization} goes on")
        await until(hub.is_all_published, "everything is published")
        published = await hub.published(organization)
        await until(lambda: consumer.has(published[-1]), "the last event is there")
    return Nap(published, consumer, sleeper, awake, late)


@pytest.fixture(scope="module")
async def naps(postgres_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Nap]:
    async with new_database(postgres_url, template) as url, hub_over(url, tmp_path_factory.mktemp("naps")) as hub:
        await hub.prepare()
        awake = await hub.start()
        sleepers = [await hub.start() for _ in range(4)]
        # Two wait for the sleeper for as long as it sleeps; the others' patience ends before the naps do.
        found = await asyncio.gather(
            nap(hub, 3, "org-3", sleepers[0], awake, 25),
            nap(hub, 6, "org-6", sleepers[1], awake, 2),
            nap(hub, 7, "org-7", sleepers[3], awake, 25),
            nap(hub, 60, "org-60", sleepers[2], awake, 25),
        )
    return dict(zip((3, 6, 7, 60), found, strict=True))


@pytest.mark.parametrize("seconds", [3, 6, 7, 60])
async def test_after_a_nap_the_log_of_a_consumer_that_never_gives_up_is_complete_and_in_order(
    naps: dict[int, Nap], seconds: int
) -> None:
    assert naps[seconds].consumer.log == naps[seconds].published


async def test_a_stream_goes_on_after_a_nap_shorter_than_the_lease(naps: dict[int, Nap]) -> None:
    assert len(naps[3].consumer.connections) == 1


async def test_a_stream_that_no_gateway_took_goes_on_after_a_nap_longer_than_the_lease(naps: dict[int, Nap]) -> None:
    assert len(naps[7].consumer.connections) == 1


@pytest.mark.parametrize("seconds", [6, 60])
async def test_after_a_nap_longer_than_the_lease_another_gateway_has_the_stream(
    naps: dict[int, Nap], seconds: int
) -> None:
    assert [each.process for each in naps[seconds].consumer.connections] == [naps[seconds].sleeper, naps[seconds].awake]


@pytest.mark.parametrize("seconds", [6, 60])
async def test_a_gateway_that_wakes_without_its_lease_writes_lease_lost_and_no_event(
    naps: dict[int, Nap], seconds: int
) -> None:
    assert [(frame.event, frame.data["code"]) for frame in naps[seconds].late] == [("stream_error", "LEASE_LOST")]


@pytest.mark.parametrize("seconds", [6, 60])
async def test_lease_lost_names_the_last_event_that_was_sent_and_is_resumable(
    naps: dict[int, Nap], seconds: int
) -> None:
    (end,) = naps[seconds].late
    assert (end.data["last_id"], end.data["resumable"]) == (naps[seconds].consumer.connections[0].ids[-1], True)
