"""Ending tasks."""

import asyncio
import gc
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from streamhub.cancellation import ended

SOON = 0.01  # seconds; of a task that was asked already


async def waits() -> None:
    await asyncio.Event().wait()


async def loses_its_first_cancellation() -> None:
    with suppress(asyncio.CancelledError):
        await waits()
    await waits()


async def fails() -> None:
    raise ValueError


async def fails_as_it_is_cancelled() -> None:
    try:
        await waits()
    finally:
        raise ValueError


async def begun(work: Callable[[], Any]) -> "asyncio.Task[None]":
    """Its task, at its first wait or ended."""
    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    return task


async def test_a_task_that_loses_its_first_cancellation_ends() -> None:
    task = await begun(loses_its_first_cancellation)
    await asyncio.wait_for(ended(task, again_every=SOON), 5)
    assert task.cancelled()


async def test_a_task_is_not_asked_again_before_its_time() -> None:
    task = await begun(loses_its_first_cancellation)
    ending = asyncio.create_task(ended(task, again_every=60))
    await asyncio.wait({ending}, timeout=0.1)
    assert not task.done()
    await ended(task, ending)


async def test_one_task_that_loses_its_cancellation_keeps_no_other_from_ending() -> None:
    deaf, other = await begun(loses_its_first_cancellation), await begun(waits)
    ending = asyncio.create_task(ended(deaf, other, again_every=60))
    await asyncio.wait({other}, timeout=5)
    assert other.cancelled()
    await ended(deaf, ending)


@pytest.mark.parametrize("work", [fails, fails_as_it_is_cancelled])
async def test_the_error_of_a_task_is_not_raised(work: Callable[[], Any]) -> None:
    task = await begun(work)
    await ended(task)
    assert isinstance(task.exception(), ValueError)


@pytest.mark.parametrize("work", [fails, fails_as_it_is_cancelled])
async def test_the_error_of_a_task_is_not_logged(caplog: pytest.LogCaptureFixture, work: Callable[[], Any]) -> None:
    await ended(await begun(work))
    gc.collect()
    assert caplog.records == []


async def test_nothing_to_end_returns_at_once() -> None:
    task = await begun(fails)
    for ending in (ended(), ended(None), ended(task)):
        with pytest.raises(StopIteration):  # it returned, and had the loop make no turn
            ending.send(None)


async def test_a_caller_that_is_cancelled_passes_it_on_at_once() -> None:
    task = await begun(loses_its_first_cancellation)
    ending = await begun(lambda: ended(task, again_every=60))
    await asyncio.sleep(0)  # the task has lost it
    ending.cancel()
    await asyncio.wait({task}, timeout=5)
    assert task.cancelled()


async def test_a_caller_that_is_cancelled_waits_for_its_tasks_all_the_same() -> None:
    may_end = asyncio.Event()

    async def cleans_up() -> None:
        try:
            await waits()
        finally:
            while not may_end.is_set():
                with suppress(asyncio.CancelledError):
                    await may_end.wait()

    task = await begun(cleans_up)
    ending = await begun(lambda: ended(task, again_every=60))
    ending.cancel()
    await asyncio.wait({ending}, timeout=0.1)
    assert not ending.done()
    may_end.set()
    await asyncio.wait({ending}, timeout=5)


async def test_a_caller_that_is_cancelled_counts_as_cancelled_once_its_tasks_have_ended() -> None:
    task = await begun(loses_its_first_cancellation)
    ending = await begun(lambda: ended(task, again_every=60))
    ending.cancel()
    await asyncio.wait({ending}, timeout=5)
    assert ending.cancelled()
