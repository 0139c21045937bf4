"""What the replays of one process share."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import web

from streamhub.gateway import budget
from streamhub.gateway.gateway import Gateway
from streamhub.gateway.replay.codings import MOST_CODED
from streamhub.gateway.replay.slots import Slots
from streamhub.gateway.streams.coding import Coding
from streamhub.history.reader import Reader


class ReplayShared:
    """`slots` of those that run, pages of history, `rows` of jobs that are written at once, and one closing of a
    window at a time."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.reader = Reader(gateway.hub, budget.REPLAY_PAGES)
        self.slots = Slots()
        self.rows = asyncio.Semaphore(budget.JOBS)
        self.closing_windows = asyncio.Lock()
        self._coded = 0

    @contextmanager
    def coded(self, make: Callable[[], Coding] | None) -> Iterator[Coding | None]:
        """The coding of one replay, for as long as the block lasts; None where there are MOST_CODED of them."""
        if make is None or self._coded >= MOST_CODED:
            yield None
            return
        self._coded += 1
        try:
            yield make()
        finally:
            self._coded -= 1


REPLAY: Final = web.AppKey("REPLAY", ReplayShared)
