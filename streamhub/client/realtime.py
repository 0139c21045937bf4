"""Handlers by type of event, over the broadcast stream of an organization: any number of subscribers."""

import asyncio
import inspect
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias, TypeVar

from streamhub.backoff import Backoff
from streamhub.client.endpoint import Endpoint, Query
from streamhub.client.errors import StreamHubError
from streamhub.client.event import Event, Gap
from streamhub.client.events import Events
from streamhub.client.positions import Position
from streamhub.client.sse import Message
from streamhub.client.stream import Retries, called, log
from streamhub.core.type_patterns import TypePatterns

_MOST_REMEMBERED: Final = 1_000

Handler: TypeAlias = Callable[[Event], Any]
Off: TypeAlias = Callable[[], None]


class Realtime:
    """Handlers are functions or coroutine functions. The events come in order, one after the other: a handler that
    awaits holds back those behind it, and the hub. What a handler raises goes to `on_error`, and stops no other.

    It connects once the first handler is there, on the loop that runs then.
    """

    def __init__(self, endpoint: Endpoint, query: Query, *, retries: Retries, position: Position | None = None) -> None:
        self._stream = Events(
            endpoint,
            query,
            retries=retries,
            position=position,
            on_gap=self._missed,
            on_connection_change=self._changed,
        )
        self._backoff = Backoff(retries.first, retries.longest)
        self._handlers: dict[object, tuple[TypePatterns, Handler]] = {}
        self._of_type: dict[str, list[object]] = {}  # keys of the handlers of a type that came
        self._on_connection_change: dict[object, Callable[[bool], Any]] = {}
        self._on_error: dict[object, Callable[[Exception], Any]] = {}
        self._on_gap: dict[object, Callable[[Gap], Any]] = {}
        self._task: asyncio.Task[None] | None = None
        self._is_destroyed = False

    @property
    def connected(self) -> bool:
        return self._stream.connected

    def on(self, types: str | Iterable[str], handler: Handler) -> Off:
        """Call `handler` with every event of these types: `ticket.created`, `ticket.*`, `*`, several in a list or
        separated by commas. The function that is returned takes it off again. Raises ValueError for what is no type,
        RuntimeError once the subscription has ended."""
        patterns = TypePatterns.parse(types) if isinstance(types, str) else TypePatterns.parse(*types)
        self._start()
        self._of_type.clear()
        return _added(self._handlers, (patterns, handler))

    def on_any(self, handler: Handler) -> Off:
        """`on("*", handler)`."""
        return self.on("*", handler)

    def on_connection_change(self, handler: Callable[[bool], Any]) -> Off:
        """Call it with True once connected, with False once the connection is lost."""
        return _added(self._on_connection_change, handler)

    def on_error(self, handler: Callable[[Exception], Any]) -> Off:
        """Call it with what another handler raised, and with what ended the stream for good. Without any, errors are
        logged."""
        return _added(self._on_error, handler)

    def on_gap(self, handler: Callable[[Gap], Any]) -> Off:
        """Call it where the hub leaves out events because they are too old. Without any, gaps are logged."""
        return _added(self._on_gap, handler)

    async def wait(self) -> None:
        """Return once destroyed. Raises Refused where the hub refused for good."""
        if self._task is None and self._is_destroyed:
            return
        task = self._task or self._start()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    async def destroy(self) -> None:
        """Disconnect and call no handler again. A handler may call it, and is the last one then."""
        self.stop()
        if self._task is not None and self._task is not asyncio.current_task():
            await asyncio.wait([self._task])

    def stop(self) -> None:
        """`destroy` without waiting until it has ended. To be called on the loop's thread."""
        self._is_destroyed = True
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    # -- the task

    def _start(self) -> "asyncio.Task[None]":
        if self._is_destroyed or (self._task is not None and self._task.done()):
            raise RuntimeError("this subscription has ended; make another one")
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="streamhub.client.realtime")
            self._task.add_done_callback(_retrieved)
        return self._task

    async def _run(self) -> None:
        stream = self._stream
        try:
            while not self._is_destroyed:
                try:
                    messages = await stream.messages()
                except StreamHubError:
                    raise
                except Exception as error:  # noqa: BLE001 - the position's, which is not ours
                    await self._not_stored(error)
                    continue
                if not messages:
                    return
                await self._handle(messages)
        except StreamHubError as error:
            await self._report(error)
            raise
        except asyncio.CancelledError:
            if not self._is_destroyed:
                raise
        finally:
            await stream.close()

    async def _handle(self, messages: list[Message]) -> None:
        stream, handlers = self._stream, self._handlers
        for message in messages:
            event = Event(message)
            for key in self._handlers_of(event.type):
                if self._is_destroyed:
                    return
                if key not in handlers:
                    continue
                handler = handlers[key][1]
                try:
                    found = handler(event)
                    if found is not None and inspect.isawaitable(found):
                        await found
                except Exception as error:  # noqa: BLE001 - the handler's
                    await self._failed(error, handler, event)
            if stream.position is not None and stream.is_due(message):
                try:
                    await stream.store()
                except Exception as error:  # noqa: BLE001 - the position's
                    await self._not_stored(error)

    async def _not_stored(self, error: Exception) -> None:
        """The position is tried again, with the event that is the last one then."""
        await self._report(error)
        await self._backoff.sleep()

    def _handlers_of(self, type_: str) -> list[object]:
        found = self._of_type.get(type_)
        if found is None:
            if len(self._of_type) >= _MOST_REMEMBERED:
                self._of_type.clear()
            found = [key for key, (patterns, _) in self._handlers.items() if patterns.matches(type_)]
            self._of_type[type_] = found
        return found

    async def _call(self, handler: Callable[..., Any], argument: object) -> None:
        try:
            await called(handler, argument)
        except Exception as error:  # noqa: BLE001 - a handler's
            await self._failed(error, handler, argument)

    async def _failed(self, error: Exception, handler: Callable[..., Any], argument: object) -> None:
        error.add_note(f"raised by {handler!r} for {argument!r}")
        await self._report(error)

    async def _report(self, error: Exception) -> None:
        if not self._on_error:
            trace = None if isinstance(error, StreamHubError) else error
            log.error("%s: %s", self._stream.path, error, exc_info=trace)
        for handler in list(self._on_error.values()):
            try:
                await called(handler, error)
            except Exception:  # noqa: BLE001 - the handler's
                log.exception("%s: an error handler failed", self._stream.path)

    async def _changed(self, is_connected: bool) -> None:
        for handler in list(self._on_connection_change.values()):
            await self._call(handler, is_connected)

    async def _missed(self, gap: Gap) -> None:
        if not self._on_gap:
            log.warning("%s: events from %s to %s are left out", self._stream.path, gap.start, gap.end)
        for handler in list(self._on_gap.values()):
            await self._call(handler, gap)


_Handler = TypeVar("_Handler")


def _added(handlers: dict[object, _Handler], handler: _Handler) -> Off:
    """The same function may be there several times."""
    key = object()
    handlers[key] = handler

    def off() -> None:
        handlers.pop(key, None)

    return off


def _retrieved(task: asyncio.Task[None]) -> None:
    """Its error was reported: asyncio need not log it."""
    if not task.cancelled():
        task.exception()
