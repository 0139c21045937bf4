"""Ending tasks, where one cancellation may not be enough: before Python 3.12 `asyncio.wait_for` loses one that comes in
the same moment as its result, and so does other code that awaits."""

import asyncio
from typing import Any, Final

CANCELLED_AGAIN: Final = 10.0  # seconds; longer than any of our tasks takes to end


async def ended(*tasks: "asyncio.Task[Any] | None", again_every: float = CANCELLED_AGAIN) -> None:
    """Cancel these tasks until all have ended, again each `again_every` seconds. None is a task that was never begun.
    Their errors are neither raised nor logged: ask a task for its result where that matters.

    A cancellation of the caller is passed on to them at once, and raised when they have ended.
    """
    begun = [task for task in tasks if task is not None]
    cancelled: asyncio.CancelledError | None = None
    while left := [task for task in begun if not task.done()]:
        for task in left:
            task.cancel()
        try:
            await asyncio.wait(left, timeout=again_every)
        except asyncio.CancelledError as error:
            cancelled = error
    for task in begun:
        if not task.cancelled():
            task.exception()  # else asyncio logs that nobody asked
    if cancelled is not None:
        raise cancelled
