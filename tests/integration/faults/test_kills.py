"""kill -9 of gateways (and of the relays in them) at seeded moments, under consumers that never give up.

One run, with a consumer that sends Last-Event-ID and another organization's that does not; the tests look at what came
of it. STREAMHUB_TEST_SEED repeats a run's moments.
"""

import asyncio
import os
import random
from typing import NamedTuple

import pytest

from streamhub.core import ids
from tests.support.consumer import Consumer, consuming
from tests.support.hub import Process, hub_over, new_database, traffic, until

KILLS = 6
OVERLAP = 2_000  # milliseconds
# A cursor is written each second, and a second more is granted to a busy machine.
STORED_WITHIN = 2.0  # seconds


class Run(NamedTuple):
    seed: int
    resuming: Consumer
    forgetful: Consumer
    published: list[list[str]]  # of either


async def kill_and_start(process: Process, chance: random.Random) -> None:
    await asyncio.sleep(chance.uniform(0, 1.5))
    process.kill()
    await asyncio.sleep(chance.uniform(0, 0.5))
    await process.start()


@pytest.fixture(scope="module")
async def run(postgres_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    seed = int(os.environ.get("STREAMHUB_TEST_SEED", random.randrange(2**32)))
    print(f"STREAMHUB_TEST_SEED={seed}")
    chance = random.Random(seed)
    settings = {"resume_overlap": f"{OVERLAP}ms", "stale_after": "500ms"}
    async with (
        new_database(postgres_url, template) as url,
        hub_over(url, tmp_path_factory.mktemp("kills"), **settings) as hub,
    ):
        await hub.prepare()
        processes = [await hub.start() for _ in range(2)]
        resuming = Consumer(hub, processes, "org-0")
        forgetful = Consumer(hub, processes, "org-1", resuming=False)
        async with consuming(resuming, forgetful):
            # What the consumers start at has to be before what comes.
            await until(lambda: resuming.connections and forgetful.connections, "both are connected")
            async with traffic(hub.url, ["org-0", "org-1"], 50):
                for _ in range(KILLS):
                    before = [len(consumer.log) for consumer in (resuming, forgetful)]
                    await kill_and_start(chance.choice(processes), chance)
                    await until(
                        lambda before=before: len(resuming.log) > before[0] and len(forgetful.log) > before[1],
                        "both streams go on",
                    )
            await until(hub.is_all_published, "everything is published")
            published = [await hub.published(organization) for organization in ("org-0", "org-1")]
            await until(
                lambda: resuming.has(published[0][-1]) and forgetful.has(published[1][-1]), "the last events are there"
            )
        assert [len(await hub.rows(organization)) for organization in ("org-0", "org-1")] == [
            len(each) for each in published
        ]
    return Run(seed, resuming, forgetful, published)


async def test_a_consumer_with_last_event_id_loses_nothing_and_gets_nothing_twice(run: Run) -> None:
    assert run.resuming.log == run.published[0], f"seed {run.seed}"


async def test_a_consumer_without_it_loses_nothing(run: Run) -> None:
    place = {id_: n for n, id_ in enumerate(run.published[1])}
    next_ = 0
    for connected in run.forgetful.connections:
        places = [place[id_] for id_ in connected.ids]
        if places:
            assert places == list(range(places[0], places[0] + len(places))), f"seed {run.seed}"
            assert places[0] <= next_, f"seed {run.seed}"
            next_ = max(next_, places[-1] + 1)
    assert next_ == len(run.published[1]), f"seed {run.seed}"


async def test_a_consumer_without_it_gets_again_only_what_lies_within_the_overlap(run: Run) -> None:
    stored = 0  # milliseconds of the last event that came so early that a cursor was stored after it
    for connected in run.forgetful.connections:
        if connected.ids:
            assert ids.milliseconds(connected.ids[0]) >= stored - OVERLAP, f"seed {run.seed}"
        if connected.until is not None:
            early = [
                ids.milliseconds(id_)
                for id_, at in zip(connected.ids, connected.times, strict=True)
                if at <= connected.until - STORED_WITHIN
            ]
            stored = max([stored, *early])
