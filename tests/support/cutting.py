"""A proxy that cuts connections after as many bytes as a test says."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Cutting:
    """`after` has, for each connection to come, how many bytes of the server's pass before it is cut; where it is empty
    all of them do."""

    def __init__(self, target: int) -> None:
        self.after: deque[int] = deque()
        self.port = 0
        self.connections = 0
        self.passed = 0
        self._target = target
        self._serving: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        left = self.after.popleft() if self.after else 2**62
        from_hub, to_hub = await asyncio.open_connection("127.0.0.1", self._target)
        task = asyncio.current_task()
        assert task is not None
        self._serving[task] = [writer, to_hub]
        asking = asyncio.create_task(self._pass_on(reader, to_hub))
        with suppress(ConnectionError):
            while left and (data := await from_hub.read(min(left, 65536))):
                writer.write(data)
                await writer.drain()
                left -= len(data)
                self.passed += len(data)
        to_hub.close()
        writer.close()
        await asking
        del self._serving[task]

    @staticmethod
    async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the client has left: then the hub is told."""
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def stuck(self) -> None:
        """Return once nothing passes for a while, because clients do not read."""
        passed = -1
        while passed != self.passed:
            passed = self.passed
            await asyncio.sleep(0.2)

    def cut(self) -> None:
        """Every connection that there is."""
        for writers in self._serving.values():
            for writer in writers:
                writer.close()

    async def end(self) -> None:
        """Close every connection."""
        self.cut()
        while self._serving:
            await asyncio.wait(self._serving, timeout=5)


@asynccontextmanager
async def cutting(target: int) -> AsyncIterator[Cutting]:
    proxy = Cutting(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.end()
