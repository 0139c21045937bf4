"""Pages of history, read, filtered and enveloped once for all subscribers who wait for the same.

Where many fall behind at one moment, they ask for the same page; only what is under way is shared, nothing is kept.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

from streamhub.core import frames
from streamhub.gateway.broadcast.request import Wanted
from streamhub.history.reader import Page, Reader, Selection

T = TypeVar("T")
PAGE_BYTES: Final = 256 * 1024


class _Shared(Generic[T]):
    """Answers under way, by what was asked for. One that all askers have left goes on to its end."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, asyncio.Task[T]] = {}

    async def answer(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        task = self._under_way.get(key)
        if task is None:

            async def asked() -> T:
                return await ask()

            def done(ended: asyncio.Task[T]) -> None:
                self._under_way.pop(key, None)
                if not ended.cancelled():
                    ended.exception()  # its askers may all have left

            task = self._under_way[key] = asyncio.create_task(asked(), name="pages of broadcast")
            task.add_done_callback(done)
        return await asyncio.shield(task)

    def stop(self) -> None:
        for task in list(self._under_way.values()):
            task.cancel()


class Pages:
    """`page` raises what Reader.page raises."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._stored: _Shared[Page] = _Shared()
        self._chosen: _Shared[Page] = _Shared()

    def stop(self) -> None:
        self._chosen.stop()
        self._stored.stop()

    async def page(self, organization: int, wanted: Wanted, after: str, until: str) -> Page:
        """The next of what is wanted with `after` < id <= `until`, in its envelope; `read_to` says how far it goes."""

        async def chosen() -> Page:
            selection = Selection(organization, test=wanted.test)
            stored = await self._stored.answer(
                (selection, after, until), lambda: self._reader.page(selection, after, until, PAGE_BYTES)
            )
            return await asyncio.to_thread(choose, stored, wanted, organization)

        return await self._chosen.answer((organization, wanted, after, until), chosen)


def choose(page: Page, wanted: Wanted, organization: int) -> Page:
    """The page with what is wanted of it alone, in its envelope."""
    chosen, first, last = [], None, None
    for frame in frames.each_of(page.frames):
        found = wanted.chosen_of(frame, organization)
        if found is not None:
            chosen.append(found)
            last = frames.first_id(frame)
            first = first or last
    return page._replace(frames=b"".join(chosen), events=len(chosen), first_id=first, last_id=last)
