"""The Kafka broker of a run: killed, stopped, ended, and each time started again with what it has on disk."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from crash.faults import BROKER, END, KILL, STOP
from servers.kafka import Broker


class KafkaBroker:
    """`bootstrap` is host:port."""

    def __init__(self) -> None:
        self._broker = Broker()
        self.bootstrap = self._broker.bootstrap
        self._in_hand = asyncio.Lock()

    @property
    def name(self) -> str:
        return BROKER

    @property
    def actions(self) -> Mapping[str, Callable[[float], Awaitable[None]]]:
        return {KILL: self.kill, STOP: self.stop, END: self.end}

    async def start(self) -> None:
        """It lives as long as the thread that this is called in, so that is not a worker."""
        self._broker.spawn()
        await asyncio.to_thread(self._broker.wait_until_ready)

    async def kill(self, away: float) -> None:
        async with self._in_hand:
            await asyncio.to_thread(self._broker.kill)
            await asyncio.sleep(away)
            await self.start()

    async def stop(self, seconds: float) -> None:
        """SIGSTOP: connections stay, nothing answers."""
        async with self._in_hand:
            self._broker.suspend()
            await asyncio.sleep(seconds)
            self._broker.resume()

    async def end(self, away: float) -> None:
        """SIGTERM: everything is on disk, clients are told."""
        async with self._in_hand:
            await asyncio.to_thread(self._broker.stop)
            await asyncio.sleep(away)
            await self.start()

    def close(self) -> None:
        self._broker.close()
