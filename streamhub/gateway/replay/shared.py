"""What the replays of one process share."""

import asyncio
from typing import Final

from aiohttp import web

from streamhub.gateway import budget
from streamhub.gateway.gateway import Gateway
from streamhub.gateway.replay.slots import Slots
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


REPLAY: Final = web.AppKey("REPLAY", ReplayShared)
