"""Answers to requests without a valid token come at a pace, however many ask: health, metrics, and refusals.

What such an answer costs is the event loop's time, which the streams of all tenants share. A client that asks again as
soon as it is answered can be slowed down by its answer alone: a quick refusal would only make it ask more often.
"""

import asyncio
from collections import OrderedDict, deque
from typing import Final

RATE: Final = 250  # answers a second, about a tenth of a processor's time
BURST: Final = 50
TICK: Final = 0.02  # seconds


class Pace:
    """Lets `rate` callers a second through, up to `burst` of them at once. The addresses that wait are served in turn,
    each in its order: one that asks a lot delays itself before it delays another."""

    def __init__(self, rate: float = RATE, burst: int = BURST) -> None:
        self._rate = rate
        self._burst = burst
        self._credit = float(burst)
        self._counted_at: float | None = None
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    async def turn(self, address: str) -> None:
        """Return when the next answer may go to this address. There is no bound to the wait but the connections'."""
        self._refill()
        if not self._waiting and self._credit >= 1:
            self._credit -= 1
            return
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.setdefault(address, deque()).append(turn)
        if self._timer is None:
            self._timer = loop.call_later(TICK, self._let_through)
        await turn

    def _refill(self) -> None:
        now = asyncio.get_running_loop().time()
        since = 0.0 if self._counted_at is None else now - self._counted_at
        self._credit = min(float(self._burst), self._credit + since * self._rate)
        self._counted_at = now

    def _let_through(self) -> None:
        self._refill()
        while self._waiting and self._credit >= 1:
            address, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[address] = turns  # behind the others
            if not turn.done():
                turn.set_result(None)
                self._credit -= 1
        self._timer = asyncio.get_running_loop().call_later(TICK, self._let_through) if self._waiting else None
