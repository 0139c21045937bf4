"""The one pause before a retry: it doubles up to a bound, and has jitter, so that many who failed together do not come
back together."""

import asyncio
import math
import random
from typing import Final

JITTER: Final = 0.25


def jittered(seconds: float) -> float:
    """Up to a quarter less or more."""
    return seconds * random.uniform(1 - JITTER, 1 + JITTER)


async def rest(seconds: float) -> None:
    """Sleep between two rounds of a loop that catches errors. Raises CancelledError at once where the task was
    cancelled during the round: the end of a transaction whose connection is gone puts an error in the cancellation's
    place, and a loop that catches that would go on. Before Python 3.13 a task also counts as cancelled once a TaskGroup
    in it has failed: such a loop has its group in another task."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
    await asyncio.sleep(seconds)


class Backoff:
    """Of one loop that retries. `first` and `longest` are seconds, before jitter. After a try that lasted for longer
    than `steady_after` seconds it begins again with the first pause."""

    def __init__(self, first: float, longest: float, steady_after: float = math.inf) -> None:
        self._first = self._next = first
        self._longest = longest
        self._steady_after = steady_after

    def reset(self) -> None:
        """A try has succeeded."""
        self._next = self._first

    def next(self, lasted: float = 0.0) -> float:
        """How many seconds to wait now, after a try of `lasted` seconds failed."""
        if lasted > self._steady_after:
            self.reset()
        pause, self._next = self._next, min(self._next * 2, self._longest)
        return jittered(pause)

    async def sleep(self, lasted: float = 0.0) -> None:
        await rest(self.next(lasted))
