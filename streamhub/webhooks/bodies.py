"""The bodies of events that many endpoints get: made once, kept while they are likely to be sent.

All of them together are bounded in bytes, those that are being sent included: what is not kept yet is read from history
once there is room for it, a few events at a time. One event more than the bound may be held, so that a large one is
ever read.
"""

import asyncio
from typing import Final

from streamhub.core import frames
from streamhub.history.lookup import frames_within
from streamhub.postgres.connections import Pool

MOST_KEPT: Final = 64 * 1024 * 1024  # bytes
MOST_READ: Final = 100  # events at once

_Wanted = tuple[int, str]  # organization, event


class Bodies:
    """By the event's id; what is not in use is dropped, the oldest first."""

    def __init__(self, pool: Pool, most: int = MOST_KEPT) -> None:
        self._pool = pool
        self._most = most
        self.size = 0
        self._idle: dict[str, bytes] = {}
        self._used: dict[str, tuple[bytes, int]] = {}  # and by how many attempts
        self._waiting: dict[_Wanted, list[asyncio.Future[bytes | None]]] = {}
        self._room = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    def keep(self, event: str, frame: bytes) -> None:
        """Where there is room for it, and where the frame is as the hub builds them."""
        if event in self._idle or event in self._used:
            return
        body = _made(frame)
        if body is not None:
            self._idle[event] = body
            self.size += len(body)
            self._shrink(self._most)

    async def take(self, organization: int, event: str) -> bytes | None:
        """The body, kept until it is released as often as it was taken; None, which is not released, where the event is
        in history no more. Raises what asyncpg raises."""
        body = self._take(event)
        if body is None:
            body = await self._read((organization, event))
            if body is not None and self._take(event) is None:
                self._used[event] = body, 1
                self.size += len(body)
        return body

    def _shrink(self, most: int) -> None:
        while self.size > most and self._idle:
            self.size -= len(self._idle.pop(next(iter(self._idle))))

    def _take(self, event: str) -> bytes | None:
        body = self._idle.pop(event, None)
        if body is not None:
            self._used[event] = body, 1
        elif event in self._used:
            body, count = self._used[event]
            self._used[event] = body, count + 1
        return body

    def release(self, event: str) -> None:
        body, count = self._used.pop(event)
        if count > 1:
            self._used[event] = body, count - 1
            return
        self._idle[event] = body
        self._shrink(self._most)
        self._room.set()

    # -- from history

    async def _read(self, wanted: _Wanted) -> bytes | None:
        future: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(wanted, []).append(future)
        if self._reading is None:
            self._reading = asyncio.create_task(self._keep_reading(), name="webhooks: bodies")
        return await future

    async def _keep_reading(self) -> None:
        try:
            while self._waiting:
                used = sum(len(body) for body, _ in self._used.values())
                if used >= self._most:
                    self._room.clear()
                    await self._room.wait()
                    continue
                room = min(self._most - used, self._most // 4)
                self._shrink(self._most - room)
                await self._read_some(room)
        except Exception as error:  # noqa: BLE001 - those that wait are told
            for futures in self._waiting.values():
                for future in futures:
                    if not future.done():
                        future.set_exception(error)
            self._waiting.clear()
        finally:
            self._reading = None

    async def _read_some(self, room: int) -> None:
        """At least one of those that wait."""
        wanted = list(self._waiting)[:MOST_READ]
        found = await frames_within(self._pool, wanted, room)
        for each in wanted:
            if each not in found:  # no room for it
                continue
            frame = found[each]
            body = None if frame is None else _made(frame)
            for future in self._waiting.pop(each):
                if not future.done():
                    future.set_result(body)
        await asyncio.sleep(0)  # those that wait take theirs, so that the room that is left is known


def _made(frame: bytes) -> bytes | None:
    """None where the frame is not as the hub builds them."""
    try:
        return frames.webhook_body(frames.parts_of(frame))
    except ValueError:
        return None
