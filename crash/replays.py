"""Replays of a window, cut and resumed with Last-Event-ID until complete. Checks the sha256 of each response."""

import asyncio
import hashlib
import random
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final

import aiohttp

from crash.audit import Delivered
from crash.consumers import digest
from crash.wire import DROPPED, Response, get, parsed, query

# REPLAY_QUEUE_FAILED: the database went away while the job was written.
REFUSALS: Final = frozenset({"TOO_MANY_REPLAYS", "UNAVAILABLE", "DRAINING", "REPLAY_QUEUE_FAILED"})
ENDS: Final = frozenset({"DRAINING", "REPLAY_CANCELLED"})
COMPLETE_WITHIN: Final = 120.0  # seconds


class Replay:
    """One half-open window of one environment, in milliseconds since 1970. `cuts`: how often to cut the connection."""

    def __init__(
        self,
        organization: str,
        test: bool,
        window: tuple[int, int],
        token: str,
        chance: random.Random,
        report: Callable[[str], None],
        cuts: int = 0,
    ) -> None:
        self.organization = organization
        self.test = test
        self.from_ms, self.to_ms = window
        self.log: list[Delivered] = []
        self.responses = 0
        self.complete = False
        self._token = token
        self._chance = chance
        self._report = report
        self._cuts = cuts
        self._path = query(
            f"/{organization}/replay", {"date_from": _timestamp(self.from_ms), "date_to": _timestamp(self.to_ms)}
        )

    @property
    def name(self) -> str:
        return f"the replay of {self.organization} ({'test' if self.test else 'live'}), {self._path}"

    async def run(self, session: aiohttp.ClientSession, ports: Sequence[int]) -> None:
        """Run until the window is complete. Reports a finding after COMPLETE_WITHIN."""
        give_up = time.monotonic() + COMPLETE_WITHIN
        while not self.complete:
            if time.monotonic() > give_up:
                self._report(f"{self.name} was not complete within {COMPLETE_WITHIN:.0f} s")
                return
            pause = None
            response = None
            try:
                last_event_id = self.log[-1].id if self.log else None
                response = await get(session, self._chance.choice(ports), self._path, self._token, last_event_id)
                pause = await self._read(response)
            except DROPPED:
                pass
            finally:
                if response is not None:
                    response.reset()
            await asyncio.sleep(pause or 0.2)

    async def _read(self, response: Response) -> float | None:
        if response.nothing_left and self.log:  # the cut was between the last event and stream_complete
            self.complete = True
            return None
        refused = await response.refusal()
        if refused is not None:
            if refused.code not in REFUSALS:
                self._report(f"{self.name} was refused with {refused.status} {refused.code}")
            return refused.retry_after
        self.responses += 1
        first = len(self.log)
        sha256 = hashlib.sha256()
        left = self._chance.randint(1, 400) if self._cuts else None
        async with aclosing(response.frames()) as frames:
            async for frame in frames:
                if frame.id is not None:
                    self.log.append(Delivered(frame.id, digest(frame.raw)))
                    sha256.update(frame.raw)
                    if left is not None and len(self.log) - first >= left:
                        self._cuts -= 1
                        return None
                elif frame.event == "stream_complete":
                    self._completed(parsed(frame), self.log[first:], sha256.hexdigest())
                    return None
                elif frame.event == "stream_error":
                    self._ended(parsed(frame)["code"], frame.data)
                elif frame.event not in ("heartbeat", "replay_started"):
                    self._report(f"{self.name} got an unexpected frame: {frame.raw!r}")
        return None

    def _completed(self, summary: dict[str, object], log: list[Delivered], sha256: str) -> None:
        self.complete = True
        ids = [each.id for each in log]
        seen = (len(ids), ids[0] if ids else None, ids[-1] if ids else None, sha256)
        expected = (summary["events"], summary["first_id"], summary["last_id"], summary["sha256"])
        if seen != expected:
            self._report(f"{self.name}: stream_complete has {expected}, received were {seen}")

    def _ended(self, code: str, data: bytes) -> None:
        if code not in ENDS:
            self._report(f"{self.name} got a stream_error: {data.decode()}")


def _timestamp(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
