"""What is done for every stream at an interval, from one timer: no task and no timer of its own for any stream."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Final

SPOKES: Final = 50


class TimerWheel:
    """SPOKES sets in a wheel that turns once an interval: a member is called a full turn after it joined, then on."""

    def __init__(self, interval: timedelta) -> None:
        self._tick = interval.total_seconds() / SPOKES
        self._spokes: list[dict[object, Callable[[], None]]] = [{} for _ in range(SPOKES)]
        self._now = 0
        self._places: dict[object, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def join(self, member: object, call: Callable[[], None]) -> None:
        self._places[member] = self._now
        self._spokes[self._now][member] = call
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._tick, self._turn, loop.time() + self._tick)

    def leave(self, member: object) -> None:
        place = self._places.pop(member, None)
        if place is not None:
            self._spokes[place].pop(member, None)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _turn(self, due: float) -> None:
        self._now = (self._now + 1) % SPOKES
        for call in list(self._spokes[self._now].values()):
            call()
        if not self._places:
            self._timer = None
            return
        loop = asyncio.get_running_loop()
        # After a pause the wheel goes on from now: what was missed is left out.
        due = max(due + self._tick, loop.time())
        self._timer = loop.call_at(due, self._turn, due)
