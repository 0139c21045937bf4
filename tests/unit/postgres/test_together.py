"""One statement for many requests: who is asked for with whom, and who hears what."""

import asyncio
from collections.abc import Sequence

import pytest

from streamhub.postgres.together import Together


class Asked:
    """Doubles numbers, one statement at a time, each when it is let."""

    def __init__(self) -> None:
        self.statements: list[list[int]] = []
        self.let = asyncio.Semaphore(0)
        self.begun = asyncio.Event()
        self.together: Together[int, int] = Together(self.ask, "test")

    async def ask(self, numbers: Sequence[int]) -> list[int]:
        self.statements.append(list(numbers))
        self.begun.set()
        await self.let.acquire()
        if 13 in numbers:
            raise OSError("13")
        return [2 * number for number in numbers]

    async def one_under_way(self) -> asyncio.Task[int]:
        task = asyncio.create_task(self.together.answer(0))
        await self.begun.wait()
        return task

    async def one_that_leaves(self) -> tuple[asyncio.Task[int], asyncio.Task[int]]:
        """Behind the one under way; what is under way and what follows it is let. The other of the two stays."""
        leaving, staying = (asyncio.create_task(self.together.answer(number)) for number in (1, 2))
        await asyncio.sleep(0)
        leaving.cancel()
        self.let.release()
        self.let.release()
        return leaving, staying


@pytest.fixture
def asked() -> Asked:
    return Asked()


async def test_what_comes_while_a_statement_is_under_way_is_asked_for_with_the_next_one(asked: Asked) -> None:
    first = await asked.one_under_way()
    others = asyncio.gather(*(asked.together.answer(number) for number in (1, 2, 3)))
    asked.let.release()
    asked.let.release()
    assert (await first, await others, asked.statements) == (0, [2, 4, 6], [[0], [1, 2, 3]])


async def test_a_failure_is_heard_by_all_that_it_was_asked_for_and_by_no_other(asked: Asked) -> None:
    first = await asked.one_under_way()
    others = asyncio.gather(*(asked.together.answer(number) for number in (1, 13)), return_exceptions=True)
    asked.let.release()
    asked.let.release()
    assert [type(each) for each in await others] == [OSError, OSError]
    assert await first == 0


async def test_after_a_failure_the_next_one_is_asked_for(asked: Asked) -> None:
    for _ in range(2):
        asked.let.release()
    with pytest.raises(OSError, match="13"):
        await asked.together.answer(13)
    assert await asked.together.answer(4) == 8


async def test_one_that_no_longer_waits_harms_no_other(asked: Asked) -> None:
    first = await asked.one_under_way()
    _, staying = await asked.one_that_leaves()
    assert (await first, await staying) == (0, 4)


async def test_one_that_no_longer_waits_is_not_asked_for(asked: Asked) -> None:
    first = await asked.one_under_way()
    _, staying = await asked.one_that_leaves()
    await asyncio.gather(first, staying)
    assert asked.statements == [[0], [2]]


async def test_at_the_end_nobody_is_left_waiting(asked: Asked) -> None:
    first = await asked.one_under_way()
    other = asyncio.create_task(asked.together.answer(1))
    await asyncio.sleep(0)
    await asked.together.stop()
    async with asyncio.timeout(1):
        ended = await asyncio.gather(first, other, return_exceptions=True)
    assert [type(each) for each in ended] == [asyncio.CancelledError] * 2
