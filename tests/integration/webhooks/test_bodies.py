"""What bodies take of memory is bounded in bytes, however many attempts are under way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from streamhub.webhooks.bodies import Bodies
from tests.integration.conftest import History

MIB = 1024 * 1024


@asynccontextmanager
async def hold(
    bodies: Bodies, organization: int, event: str, endpoint: str = "endpoint"
) -> AsyncIterator[bytes | None]:
    body = await bodies.take(organization, endpoint, event)
    yield body
    if body is not None:
        bodies.release(endpoint, event)


async def test_bodies_that_are_sent_are_read_as_there_is_room_for_them(history: History, organization: int) -> None:
    append = await history.append(organization, 12, size=MIB)
    bodies = Bodies(history.pool, 4 * MIB)
    most = holding = 0
    done: list[str] = []

    async def send(event: str) -> None:
        nonlocal most, holding
        async with hold(bodies, organization, event) as body:
            assert body is not None
            holding += len(body)
            most = max(most, holding, bodies.size)
            await asyncio.sleep(0.02)
            holding -= len(body)
            done.append(event)

    async with asyncio.timeout(20):
        await asyncio.gather(*(send(each.id) for each in append.events))
    assert sorted(done) == [each.id for each in append.events]
    assert 3 * MIB < most < 5.1 * MIB  # one more than the bound
    assert bodies.size <= 4 * MIB


async def test_one_that_is_larger_than_the_bound_is_sent_all_the_same(history: History, organization: int) -> None:
    append = await history.append(organization, 2, size=MIB)
    bodies = Bodies(history.pool, MIB // 2)
    async with asyncio.timeout(10):
        for event in append.events:
            async with hold(bodies, organization, event.id) as body:
                assert body is not None
    assert bodies.size == 0


async def test_a_body_that_many_endpoints_get_is_held_once(history: History, organization: int) -> None:
    append = await history.append(organization, 1, size=MIB)
    bodies = Bodies(history.pool, 4 * MIB)
    event = append.events[0]
    async with hold(bodies, organization, event.id) as one, hold(bodies, organization, event.id) as other:
        assert one is other
        assert bodies.size < 1.1 * MIB


async def test_what_is_not_in_history_is_told_to_be_missing(history: History, organization: int) -> None:
    append = await history.append(organization)
    bodies = Bodies(history.pool)
    async with asyncio.timeout(10), hold(bodies, organization + 1, append.events[0].id) as body:
        assert body is None


async def test_a_read_that_fails_is_told_and_the_next_one_is_made(history: History, organization: int) -> None:
    append = await history.append(organization)

    class Away:
        """A database that is away once."""

        def __init__(self) -> None:
            self.fails = True

        async def fetch(self, *arguments: object, **more: object) -> object:
            if self.fails:
                self.fails = False
                raise ConnectionError("away")
            return await history.pool.fetch(*arguments, **more)  # type: ignore[call-overload]

    bodies = Bodies(Away())  # type: ignore[arg-type]
    event = append.events[0].id
    failed = False
    try:
        async with hold(bodies, organization, event):
            pass
    except ConnectionError:
        failed = True
    assert failed
    async with hold(bodies, organization, event) as body:
        assert body is not None


async def test_what_an_endpoint_holds_leaves_room_to_others_of_its_organization_and_to_other_ones(
    history: History, organization: int
) -> None:
    other = await history.register("org_2", "other")
    large = (await history.append(organization, 12, size=MIB)).events
    own = (await history.append(organization, 3)).events
    others = (await history.append(other, 3)).events
    bodies = Bodies(history.pool, 8 * MIB)
    for each in large:  # as fan-out does
        bodies.keep(each.id, each.frame)
    taken: list[str] = []
    answers = asyncio.Event()

    async def send(event: str) -> None:
        async with hold(bodies, organization, event, "slow"):
            taken.append(event)
            await answers.wait()

    sending = [asyncio.create_task(send(each.id)) for each in large]
    async with asyncio.timeout(5):
        for key, events, endpoint in ((organization, own, "own"), (other, others, "other")):
            for each in events:
                async with hold(bodies, key, each.id, endpoint) as body:
                    assert body is not None
        assert 4 <= len(taken) <= 5  # half, and one event more
        answers.set()
        await asyncio.gather(*sending)
