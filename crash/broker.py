"""The Kafka broker of a run: killed, stopped or terminated, and then started again with its data."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from crash.faults import BROKER, END, KILL, STOP
from servers.kafka import Broker


class KafkaBroker:
    """`bootstrap` is host:port."""

    def __init__(self) -> None:
        self._broker = Broker()
        self.bootstrap = self._broker.bootstrap
        self._busy = asyncio.Lock()

    @property
    def name(self) -> str:
        return BROKER

    @property
    def actions(self) -> Mapping[str, Callable[[float], Awaitable[None]]]:
        return {KILL: self.kill, STOP: self.stop, END: self.end}

    async def start(self) -> None:
        """The broker ends with the calling thread, so do not call this in a worker thread."""
        self._broker.spawn()
        await asyncio.to_thread(self._broker.wait_until_ready)

    async def kill(self, away: float) -> None:
        async with self._busy:
            await asyncio.to_thread(self._broker.kill)
            await asyncio.sleep(away)
            await self.start()

    async def stop(self, seconds: float) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        async with self._busy:
            self._broker.suspend()
            await asyncio.sleep(seconds)
            self._broker.resume()

    async def end(self, away: float) -> None:
        """SIGTERM: it writes everything to disk and tells its clients."""
        async with self._busy:
            await asyncio.to_thread(self._broker.stop)
            await asyncio.sleep(away)
            await self.start()

    def close(self) -> None:
        self._broker.close()
