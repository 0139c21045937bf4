"""Requests before the database: in order, within bounds, and refused with a true word."""

import asyncio

import pytest

from streamhub.gateway import budget
from streamhub.runtime.process import HUB_CONNECTIONS
from streamhub.web.problems import ApiError
from streamhub.web.turns import Turns


async def test_turns_come_in_the_order_in_which_they_were_asked_for() -> None:
    turns, order = Turns(2), []

    async def ask(number: int) -> None:
        async with turns.turn():
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(ask(number) for number in range(200)))
    assert order == list(range(200))


async def test_no_more_have_a_turn_at_once_than_there_are() -> None:
    turns, now, most = Turns(3), 0, 0

    async def ask() -> None:
        nonlocal now, most
        async with turns.turn():
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1

    await asyncio.gather(*(ask() for _ in range(50)))
    assert (most, now, turns.waiting) == (3, 0, 0)


async def test_a_turn_that_does_not_come_in_time_is_a_503_that_says_busy_and_when_to_come_back() -> None:
    turns = Turns(1, waits=0.01)
    async with turns.turn():
        with pytest.raises(ApiError) as refused:
            async with turns.turn():
                pass
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (503, "5")
    assert "busy" in str(refused.value)
    assert "reached" not in str(refused.value)


async def test_over_its_bound_nobody_joins_the_line() -> None:
    turns = Turns(1, most_waiting=1)
    async with turns.turn():
        waiting = asyncio.create_task(turns.turn().__aenter__())
        await asyncio.sleep(0)
        with pytest.raises(ApiError):
            async with turns.turn():
                pass
        waiting.cancel()


async def test_one_that_left_the_line_holds_up_nobody() -> None:
    turns = Turns(1)
    async with turns.turn():
        leaving = asyncio.create_task(turns.turn().__aenter__())
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
    async with asyncio.timeout(1), turns.turn():
        assert turns.waiting == 0


def test_all_who_use_the_pool_together_have_no_more_connections_than_it_has() -> None:
    used = (
        budget.REQUESTS
        + budget.TOGETHER
        + budget.LIVE_PAGES
        + budget.REPLAY_PAGES
        + budget.PUBLISHING
        + budget.BROADCAST_PAGES
        + budget.JOBS
        + budget.OTHERS
    )
    assert used <= HUB_CONNECTIONS
