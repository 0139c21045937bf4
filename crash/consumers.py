"""Consumers of live streams. They connect again after every error and end."""

import asyncio
import hashlib
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import aiohttp

from crash.audit import Delivered
from crash.wire import DROPPED, Frame, Response, get, parsed

REFUSALS = frozenset({"ACTIVE_CONSUMER_EXISTS", "UNAVAILABLE", "DRAINING"})
ENDS = frozenset({"LEASE_LOST", "DRAINING"})


def digest(frame: bytes) -> bytes:
    return hashlib.blake2b(frame, digest_size=16).digest()


class Consumer:
    """Consumes an organization's stream from each port in turn. `resuming`: with Last-Event-ID. `file` gets all frames.

    `log`: the events received, in order. `starts`: where in it each connection begins.
    """

    def __init__(
        self,
        organization: str,
        token: str,
        ports: Sequence[int],
        file: Path,
        report: Callable[[str], None],
        *,
        resuming: bool,
    ) -> None:
        self.organization = organization
        self.resuming = resuming
        self.log: list[Delivered] = []
        self.starts: list[int] = []
        self.refusals: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.longest_pause = 0.0
        self._token = token
        self._ports = ports
        self._file = file.open("wb")
        self._report = report
        self._response: Response | None = None
        self._last_at = time.monotonic()

    @property
    def name(self) -> str:
        return f"the consumer of {self.organization}" + ("" if self.resuming else " (without Last-Event-ID)")

    def has(self, id_: str) -> bool:
        return bool(self.log) and self.log[-1].id >= id_

    async def run(self, session: aiohttp.ClientSession, first: int = 0) -> None:
        """Run until cancelled. `first`: the index of the first port."""
        n = first
        self._last_at = time.monotonic()
        while True:
            pause = random.uniform(0.1, 0.3)
            try:
                pause = await self._connect(session, self._ports[n % len(self._ports)]) or pause
            except DROPPED as error:
                self.ends[type(error).__name__] += 1
            finally:
                self.reset()
                self._response = None
            n += 1
            await asyncio.sleep(pause)

    def reset(self) -> None:
        """End the connection with a RST."""
        if self._response is not None:
            self._response.reset()

    def close(self) -> None:
        self.reset()
        self._file.close()

    async def _connect(self, session: aiohttp.ClientSession, port: int) -> float | None:
        """One connection. Returns the seconds to wait where it was refused."""
        last_event_id = self.log[-1].id if self.resuming and self.log else None
        self._response = await get(session, port, f"/{self.organization}", self._token, last_event_id)
        refused = await self._response.refusal()
        if refused is not None:
            self.refusals[refused.code] += 1
            if refused.code not in REFUSALS:
                self._report(f"{self.name} was refused with {refused.status} {refused.code}")
            return refused.retry_after
        self.starts.append(len(self.log))
        async for frame in self._response.frames():
            self._take(frame)
        self.ends["end of the response"] += 1
        return None

    def _take(self, frame: Frame) -> None:
        if frame.id is not None:
            self.log.append(Delivered(frame.id, digest(frame.raw)))
            self._file.write(frame.raw)
            now = time.monotonic()
            self.longest_pause = max(self.longest_pause, now - self._last_at)
            self._last_at = now
        elif frame.event == "stream_error":
            code = parsed(frame)["code"]
            self.ends[code] += 1
            if code not in ENDS:
                self._report(f"{self.name} got a stream_error: {frame.data.decode()}")
        elif frame.event != "heartbeat":
            self._report(f"{self.name} got an unexpected frame: {frame.raw!r}")
