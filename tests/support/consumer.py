"""A consumer that connects again, to the next gateway, after every error and end."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

from tests.integration.conftest import Client, Frame
from tests.support.error_schema import checked_errors
from tests.support.hub import Hub, Process
from tests.support.network import Host
from tests.support.tasks import ended

# A refused connection, a reset, an end in the middle of a chunk, and silence.
DROPPED = (OSError, EOFError, TimeoutError)


class Refused(NamedTuple):
    at: float
    process: Process
    status: int
    code: str
    headers: dict[str, str]


class Connected:
    """One connection that got the stream: what came on it, and when. Times of time.monotonic()."""

    def __init__(self, process: Process, client: Client) -> None:
        self.process = process
        self.client = client
        self.since = time.monotonic()
        self.until: float | None = None
        self.ids: list[str] = []
        self.times: list[float] = []
        self.heartbeats: list[float] = []
        self.error: dict[str, Any] | None = None


class Consumer:
    """Reads `organization` from these processes, in turn.

    `stays`: seconds after which it goes on to the next of itself. `patience`: seconds of silence after which it takes
    a connection for dead, and leaves it as it is. `at`: the host that it runs on.

    `log` is what it was given, in the order in which it came. With `resuming` it sends Last-Event-ID. Several
    consumers may share one log.
    """

    def __init__(
        self,
        hub: Hub,
        processes: Sequence[Process],
        organization: str = "org-0",
        *,
        resuming: bool = True,
        stays: float | None = None,
        patience: float = 25.0,
        log: list[str] | None = None,
        at: Host | None = None,
    ) -> None:
        self._token = hub.token(organization)
        self._processes = processes
        self.organization = organization
        self._resuming = resuming
        self._stays = stays
        self._patience = patience
        self._at = at
        self.log: list[str] = [] if log is None else log
        self.connections: list[Connected] = []
        self.refusals: list[Refused] = []

    @property
    def connected(self) -> bool:
        return bool(self.connections) and self.connections[-1].until is None

    def has(self, id_: str) -> bool:
        return bool(self.log) and self.log[-1] >= id_

    async def run(self, first: int = 0) -> None:
        """After a refusal it asks the same gateway again, after anything else the next one."""
        n = first
        while True:
            pause: float | None = None
            with suppress(*DROPPED):
                pause = await self._try(self._processes[n % len(self._processes)])
            if pause is None:
                n += 1
            await asyncio.sleep(0.1 if pause is None else pause)

    async def _try(self, process: Process) -> float | None:
        """Seconds to wait before it is asked again; None where a stream was there and ended."""
        headers = [("Authorization", f"Bearer {self._token}")]
        if self._resuming and self.log:
            headers.append(("Last-Event-ID", self.log[-1]))
        sock = None if self._at is None else self._at.socket()
        path = f"/{self.organization}"
        client = await Client.open(process.port, path, headers, address=process.address, sock=sock)
        if client.status != 200:
            answer = await client.answer()
            error = checked_errors(answer.status, answer.headers, answer.body)[0]
            self.refusals.append(Refused(time.monotonic(), process, answer.status, error["code"], dict(answer.headers)))
            return min(float(answer.headers["retry-after"]), 0.25)
        connected = Connected(process, client)
        self.connections.append(connected)
        try:
            # A consumer with a time limit leaves between two frames.
            async with asyncio.timeout(self._stays):
                await self._read(connected)
        finally:
            connected.until = time.monotonic()
            if time.monotonic() - max([connected.since, *connected.times[-1:], *connected.heartbeats[-1:]]) < (
                self._patience
            ):
                client.close()
        return None

    async def _read(self, connected: Connected) -> None:
        while (frame := await connected.client.frame_or_end(self._patience, heartbeats=True)) is not None:
            self._take(connected, frame)

    def _take(self, connected: Connected, frame: Frame) -> None:
        now = time.monotonic()
        if frame.event == "heartbeat":
            connected.heartbeats.append(now)
        elif frame.event == "stream_error":
            connected.error = frame.data
        else:
            assert frame.id is not None, frame
            connected.ids.append(frame.id)
            connected.times.append(now)
            self.log.append(frame.id)


@asynccontextmanager
async def consuming(*consumers: Consumer, wait: bool = True) -> AsyncIterator[None]:
    """The consumers run within. A first connection is there when the block begins, unless it is not to `wait`."""
    tasks = [asyncio.create_task(consumer.run(n)) for n, consumer in enumerate(consumers)]
    try:
        async with asyncio.timeout(20):
            while wait and not any(consumer.connections for consumer in consumers):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        yield
        for task in tasks:
            assert not task.done(), task
    finally:
        await ended(*tasks)
        for consumer in consumers:
            for connected in consumer.connections:
                connected.client.close()
