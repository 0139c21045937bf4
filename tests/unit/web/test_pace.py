"""Answers at a pace: how many, and in which order."""

import asyncio

from streamhub.web.pace import Pace


async def test_a_few_are_let_through_at_once() -> None:
    pace = Pace(rate=1, burst=5)
    async with asyncio.timeout(1):
        for _ in range(5):
            await pace.turn("a")


async def test_however_many_ask_no_more_than_the_rate_are_let_through() -> None:
    pace, through = Pace(rate=100, burst=10), 0

    async def ask_without_pause() -> None:
        nonlocal through
        while True:
            await pace.turn("a")
            through += 1

    loop = asyncio.get_running_loop()
    began = loop.time()
    crowd = [asyncio.create_task(ask_without_pause()) for _ in range(200)]
    await asyncio.sleep(0.5)
    elapsed = loop.time() - began
    for each in crowd:
        each.cancel()
    assert 10 <= through <= 10 + 100 * elapsed + 1


async def test_an_address_that_asks_a_lot_delays_itself_before_it_delays_another() -> None:
    pace, order = Pace(rate=200, burst=1), []

    async def ask(address: str) -> None:
        await pace.turn(address)
        order.append(address)

    crowd = [asyncio.create_task(ask("crowd")) for _ in range(100)]
    await asyncio.sleep(0)
    await ask("probe")
    assert len(order) < 20
    for each in crowd:
        each.cancel()


async def test_one_that_does_not_wait_any_more_costs_the_others_nothing() -> None:
    pace = Pace(rate=20, burst=1)
    await pace.turn("a")
    gone = [asyncio.create_task(pace.turn("a")) for _ in range(100)]
    await asyncio.sleep(0)
    for each in gone:
        each.cancel()
    async with asyncio.timeout(2):
        await pace.turn("a")
