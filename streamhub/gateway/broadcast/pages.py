"""Pages of history, read, filtered and enveloped once for all subscribers that ask for the same at one time.

Where many fall behind at one moment, they ask for the same page. Only what is under way is shared; nothing is kept.
"""

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Sequence
from functools import partial
from typing import Any, Final, Generic, NamedTuple, TypeVar

from streamhub.core import frames
from streamhub.gateway.broadcast.latest import Enveloped
from streamhub.gateway.broadcast.request import Interest
from streamhub.history.reader import Page, Reader, Selection

T = TypeVar("T")
PAGE_BYTES: Final = 256 * 1024


class Chosen(NamedTuple):
    """The events of a page that match, in their envelope. `frames` is all of them, one copy for all that share it."""

    kept: Sequence[Enveloped]
    frames: bytes
    read_to: str

    @property
    def last_id(self) -> str | None:
        return self.kept[-1].id if self.kept else None

    @property
    def events(self) -> int:
        return len(self.kept)


class _Shared(Generic[T]):
    """Answers under way, by what was asked for. One that all askers have left goes on to its end."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, asyncio.Task[T]] = {}

    async def answer(self, key: Hashable, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(ask(), name="pages of broadcast")
            task.add_done_callback(partial(self._done, key))
        return await asyncio.shield(task)

    def _done(self, key: Hashable, ended: asyncio.Task[T]) -> None:
        del self._under_way[key]
        if not ended.cancelled():
            ended.exception()  # its askers may all have left

    def stop(self) -> None:
        for task in list(self._under_way.values()):
            task.cancel()


class Pages:
    """`page` raises what Reader.page raises."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._stored: _Shared[Page] = _Shared()
        self._chosen: _Shared[Chosen] = _Shared()

    def stop(self) -> None:
        self._chosen.stop()
        self._stored.stop()

    async def page(self, organization: int, interest: Interest, after: str, until: str) -> Chosen:
        """The next that matches with `after` < id <= `until`; `read_to` says how far it goes."""
        if after >= until:
            return Chosen((), b"", until)

        async def chosen() -> Chosen:
            selection = Selection(organization, test=interest.test)
            stored = await self._stored.answer(
                (selection, after, until), lambda: self._reader.page(selection, after, until, PAGE_BYTES)
            )
            return await asyncio.to_thread(choose, stored, interest)

        return await self._chosen.answer((organization, interest, after, until), chosen)


def choose(page: Page, interest: Interest) -> Chosen:
    """What matches of a page of one environment."""
    kept = []
    for frame in frames.each_of(page.frames):
        data = frames.data_of(frame)
        if interest.matches(data):
            enveloped = frames.enveloped(frame, interest.envelope)
            kept.append(Enveloped(frames.first_id(frame), enveloped, frames.resource_in(data)))
    return Chosen(kept, b"".join(event.frame for event in kept), page.read_to)
