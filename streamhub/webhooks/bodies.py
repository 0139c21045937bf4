"""The bodies of events that many endpoints get: made once, kept while they are likely to be sent.

All of them together are bounded in bytes, those that are being sent included, and an organization may use a share of
what is free: what it may not send yet is read from history once there is room for it, a few events at a time. One event
more than the bound may be held, so that a large one is ever read.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from streamhub.core import frames
from streamhub.history.lookup import frames_within
from streamhub.postgres.connections import Pool
from streamhub.webhooks.shares import share_of

MOST_KEPT: Final = 64 * 1024 * 1024  # bytes
MOST_READ: Final = 100  # events at once

_Wanted = tuple[int, str]  # organization, event
_Waiting = dict[asyncio.Future[bytes | None], str]  # and for which endpoint


class _Used(NamedTuple):
    body: bytes
    organization: int
    times: int  # attempts that use it


class Bodies:
    """By the event's id; what is not in use is dropped, the oldest first."""

    def __init__(self, pool: Pool, most: int = MOST_KEPT) -> None:
        self._pool = pool
        self._most = most
        self.size = 0
        self._idle: dict[str, bytes] = {}
        self._used: dict[str, _Used] = {}
        self._used_size = 0
        self._sizes: Counter[int] = Counter()  # of what is used, by organization
        self._users: Counter[str] = Counter()  # endpoints, by how many bodies they use
        self._waiting: dict[_Wanted, _Waiting] = {}
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

    async def take(self, organization: int, endpoint: str, event: str) -> bytes | None:
        """The body, kept until it is released as often as it was taken; None, which is not released, where the event is
        in history no more. Raises what asyncpg raises."""
        body: bytes | None = None
        if event in self._used or self._left(organization, [endpoint]) > 0:
            body = self._idle.get(event)
        if body is None and event not in self._used:
            body = await self._read((organization, event), endpoint)
        return self._use(organization, endpoint, event, body)

    def _left(self, organization: int, endpoints: Iterable[str]) -> int:
        """Bytes that the organization may use yet, for one of these."""
        is_first = any(each not in self._users for each in endpoints)
        return share_of(self._most - self._used_size, is_first=is_first) - self._sizes[organization]

    def _use(self, organization: int, endpoint: str, event: str, body: bytes | None) -> bytes | None:
        used = self._used.get(event)
        if used is None:
            if body is None:
                return None
            if self._idle.pop(event, None) is None:
                self.size += len(body)
            self._used_size += len(body)
            self._count(organization, len(body))
            used = _Used(body, organization, 0)
        self._used[event] = used._replace(times=used.times + 1)
        self._users[endpoint] += 1
        return used.body

    def release(self, endpoint: str, event: str) -> None:
        self._users[endpoint] -= 1
        if not self._users[endpoint]:
            del self._users[endpoint]
        used = self._used.pop(event)
        if used.times > 1:
            self._used[event] = used._replace(times=used.times - 1)
        else:
            self._used_size -= len(used.body)
            self._count(used.organization, -len(used.body))
            self._idle[event] = used.body
            self._shrink(self._most)
        self._room.set()

    def _count(self, organization: int, size: int) -> None:
        self._sizes[organization] += size
        if not self._sizes[organization]:
            del self._sizes[organization]

    def _shrink(self, most: int) -> None:
        while self.size > most and self._idle:
            self.size -= len(self._idle.pop(next(iter(self._idle))))

    # -- from history

    async def _read(self, wanted: _Wanted, endpoint: str) -> bytes | None:
        future: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(wanted, {})[future] = endpoint
        self._room.set()  # there may be some for it
        if self._reading is None:
            self._reading = asyncio.create_task(self._keep_reading(), name="webhooks: bodies")
        return await future

    async def _keep_reading(self) -> None:
        try:
            while self._waiting:
                wanted, room = self._next()
                if not wanted:
                    self._room.clear()
                    await self._room.wait()
                    continue
                self._shrink(self._most - room)
                await self._read_some(wanted, room)
        except Exception as error:  # noqa: BLE001 - those that wait are told
            for futures in self._waiting.values():
                for future in futures:
                    if not future.done():
                        future.set_exception(error)
            self._waiting.clear()
        finally:
            self._reading = None

    def _next(self) -> tuple[list[_Wanted], int]:
        """Which may be read, in turn over organizations, and how many bytes of them."""
        turns: Counter[int] = Counter()
        found: list[tuple[int, _Wanted]] = []
        room = min(self._most - self._used_size, self._most // 4)
        for wanted, futures in self._waiting.items():
            organization, _ = wanted
            left = self._left(organization, futures.values())
            if left > 0:
                found.append((turns[organization], wanted))
                turns[organization] += 1
                room = min(room, left // 4)  # it lessens what is free as well
        found.sort(key=lambda each: each[0])
        return [wanted for _, wanted in found[:MOST_READ]], room

    async def _read_some(self, wanted: list[_Wanted], room: int) -> None:
        """At least one of them."""
        organizations = {organization for organization, _ in wanted}
        self._reserve(organizations, room)
        try:
            found = await frames_within(self._pool, wanted, room)
            self._tell(wanted, found)
            await asyncio.sleep(0)  # those that wait take theirs, so that the room that is left is known
        finally:
            self._reserve(organizations, -room)

    def _reserve(self, organizations: Iterable[int], room: int) -> None:
        """What is being read counts as used."""
        self._used_size += room
        for each in organizations:
            self._count(each, room)

    def _tell(self, wanted: list[_Wanted], found: Mapping[_Wanted, bytes | None]) -> None:
        for each in wanted:
            if each not in found:  # no room for it
                continue
            frame = found[each]
            body = None if frame is None else _made(frame)
            for future in self._waiting.pop(each):
                if not future.done():
                    future.set_result(body)


def _made(frame: bytes) -> bytes | None:
    """None where the frame is not as the hub builds them."""
    try:
        return frames.webhook_body(frames.parts_of(frame))
    except ValueError:
        return None
