"""The same for synchronous code: a loop in a thread of its own runs the one implementation."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, Final, Generic, Self, TypeVar

from streamhub.client.event import Event, Gap
from streamhub.client.realtime import Handler, Off, Realtime
from streamhub.client.stream import Stream

PATIENCE: Final = 5.0
"""Seconds that handlers have to end once the client is closed."""

T = TypeVar("T")
S = TypeVar("S", bound=Stream)


class LoopThread:
    """Until `close`."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    @property
    def is_current(self) -> bool:
        """Whether the caller is a handler."""
        return threading.current_thread() is self._thread

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for its result. Ctrl-C cancels it."""
        assert not self.is_current, "a handler would wait for itself"
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def call(self, function: Callable[[], T]) -> T:
        """Its result, from the loop's thread; a handler is there already."""
        if self.is_current:
            return function()

        async def work() -> T:
            return function()

        return self.run(work())

    def soon(self, function: Callable[[], object]) -> None:
        """Call it there, and wait for nothing."""
        self._loop.call_soon_threadsafe(function)

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """End all that runs there, and do `last`."""
        if self._loop.is_closed():
            return
        self.run(self._end(last))
        self.soon(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    async def _end(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=PATIENCE)
        await last()
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()


class BlockingStream(Generic[S]):
    """Iterate over it; `with` closes it at a known moment. `stream` is the Live or Replay that runs in the thread."""

    def __init__(self, thread: LoopThread, stream: S) -> None:
        self.stream = stream
        self._thread = thread

    def __iter__(self) -> Iterator[Event]:
        stream, run = self.stream, self._thread.run
        try:
            while messages := run(stream.messages()):
                for message in messages:
                    yield Event(message)
                    if stream.position is not None and stream.is_due(message):
                        run(stream.store())
        finally:
            self.close()

    def close(self) -> None:
        self._thread.run(self.stream.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class BlockingRealtime:
    """As Realtime. Handlers are called in the loop's thread, one after the other."""

    def __init__(self, thread: LoopThread, realtime: Realtime) -> None:
        self._realtime = realtime
        self._thread = thread

    @property
    def connected(self) -> bool:
        return self._realtime.connected

    def on(self, types: str | Iterable[str], handler: Handler) -> Off:
        return self._added(lambda: self._realtime.on(types, handler))

    def on_any(self, handler: Handler) -> Off:
        return self._added(lambda: self._realtime.on_any(handler))

    def on_connection_change(self, handler: Callable[[bool], Any]) -> Off:
        return self._added(lambda: self._realtime.on_connection_change(handler))

    def on_error(self, handler: Callable[[Exception], Any]) -> Off:
        return self._added(lambda: self._realtime.on_error(handler))

    def on_gap(self, handler: Callable[[Gap], Any]) -> Off:
        return self._added(lambda: self._realtime.on_gap(handler))

    def wait(self) -> None:
        """Until another thread or a handler destroys it. Raises Refused where the hub refused for good."""
        self._thread.run(self._realtime.wait())

    def destroy(self) -> None:
        if self._thread.is_current:
            self._realtime.stop()
        else:
            self._thread.run(self._realtime.destroy())

    def _added(self, add: Callable[[], Off]) -> Off:
        off = self._thread.call(add)
        return lambda: self._thread.call(off)
