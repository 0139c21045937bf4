"""One request that is made again until its stream is finished or refused for good.

What a stream delivers is handled before more is read: nothing is queued but what one read brought, and a slow handler
holds back the hub through TCP.
"""

import asyncio
import inspect
import logging
import math
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final, NamedTuple, Self

import aiohttp
import orjson

from streamhub.backoff import JITTER, Backoff
from streamhub.client.endpoint import LONGEST_WAIT, Endpoint, Query
from streamhub.client.errors import Refused, StreamHubError, Unreachable, reason_of
from streamhub.client.event import Event, Gap
from streamhub.client.positions import Position
from streamhub.client.sse import Message, Parser, TooLongError
from streamhub.core import control

log = logging.getLogger("streamhub.client")

STEADY: Final = 10.0
"""Seconds: after a connection that lasted for longer, or brought an event, pauses begin again with the first."""

STORE_EVERY: Final = 1.0
"""Seconds between two positions that are stored while one batch is handled."""

_CONTROL: Final = {name.encode(): name for name in control.RESERVED}
_HEARTBEAT: Final = control.HEARTBEAT.encode()
_CUT: Final = (aiohttp.ClientError, OSError, TimeoutError, TooLongError)


class EndedError(StreamHubError):
    """The hub ended a response that can be resumed."""


class Retries(NamedTuple):
    """`first` and `longest` pause in seconds, before jitter; `tries` is how many requests in a row may bring nothing
    new, None for any number. `fails_fast`: a first connection that cannot be made is the end."""

    first: float = 1.0
    longest: float = 30.0
    tries: int | None = None
    fails_fast: bool = False


class Stream:
    """Iterate over it, or call `batch` by hand. `async with` closes it at a known moment; a loop that is left by
    `break` closes it soon after."""

    def __init__(
        self,
        endpoint: Endpoint,
        path: str,
        query: Query = (),
        *,
        watchdog: float,
        retries: Retries,
        position: Position | None = None,
        on_gap: Callable[[Gap], Any] | None = None,
        on_connection_change: Callable[[bool], Any] | None = None,
    ) -> None:
        """`watchdog`: seconds without a byte after which the connection counts as lost. The functions may be coroutine
        functions."""
        self.last_event_id = ""
        self.position = position
        self.connected = False
        self._endpoint = endpoint
        self.path = path
        self._query = query
        self._watchdog = watchdog
        self._tries = retries.tries
        self._fails_fast = retries.fails_fast
        self._backoff = Backoff(retries.first, retries.longest)
        self._on_gap = on_gap
        self._on_connection_change = on_connection_change
        self._told = False  # what `on_connection_change` was last called with
        self._response: aiohttp.ClientResponse | None = None
        self._parser = Parser()
        self._retry = 0.0  # seconds: the least pause that the hub asked for
        self._not_before = 0.0  # of the loop's clock
        self._connected_at = math.inf
        self._in_vain = 0  # requests in a row that brought nothing
        self._has_brought = False  # whether this one did
        self._waiting: deque[list[Message] | Gap] = deque()
        self._filling: deque[Stream] = deque()  # replays of what a gap left out, which come before what waits
        self._is_loaded = position is None
        self._handed_out = ""  # the last id of the batch that the caller has
        self._handled = self._stored = ""
        self._store_at = 0.0
        self._is_finished = False
        self._closed = asyncio.Event()
        self._failure: StreamHubError | None = None

    # -- for those who handle events

    async def batch(self) -> list[Event]:
        """The next events, in order; empty once the stream is finished or closed. That this is called again says that
        the batch before is handled. Raises Refused where the hub refuses for good, and what the position raises."""
        return [Event(message) for message in await self.messages()]

    async def messages(self) -> list[Message]:
        """As `batch`, and quicker where each is made an Event when its turn comes: what was decoded is freed early."""
        if self._handed_out:
            self._handled = self._handed_out
            await self.store()
            self._handed_out = ""
        while not self._closed.is_set():
            if self._filling:
                messages = await self._filling[0].messages()
                if not messages:
                    self._filling.popleft()
                    continue
            elif self._waiting:
                found = self._waiting.popleft()
                if isinstance(found, Gap):
                    await self._missed(found)
                    continue
                messages = found
            elif self._failure is None and not self._is_finished:
                await self._advance()
                continue
            else:
                await self.close()
                break
            self._handed_out = messages[-1][1].decode()
            self.last_event_id = max(self.last_event_id, self._handed_out)
            return messages
        if self._failure is not None:
            raise self._failure
        return []

    async def done(self, event: Event) -> None:
        """All up to this event of the batch is handled."""
        if self.is_due(event.message):
            await self.store()

    def is_due(self, message: Message) -> bool:
        """As `done`, for who calls `store` where this is true. May be called in any thread."""
        self._handled = message[1].decode()
        return self.position is not None and time.monotonic() >= self._store_at

    async def store(self) -> None:
        """The position, where something is handled since."""
        if self.position is None or self._handled == self._stored or not self._handled:
            return
        await self.position.store(self._handled)
        self._stored = self._handled
        self._store_at = time.monotonic() + STORE_EVERY

    async def close(self) -> None:
        """End the connection, and store what is handled. Events that were not handled come again with the position. A
        loop over the stream ends."""
        self._closed.set()
        self._waiting.clear()
        while self._filling:
            await self._filling.popleft().close()
        self._disconnect()
        await self.store()
        await self._tell()

    async def __aiter__(self) -> AsyncIterator[Event]:
        try:
            while messages := await self.messages():
                if self.position is None:
                    for message in messages:
                        yield Event(message)
                else:
                    for message in messages:
                        yield Event(message)
                        if self.is_due(message):
                            await self.store()
        finally:
            await self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # -- what kinds of streams add

    def _asked(self) -> Query:
        """The parameters of the next request."""
        return self._query

    def _begins(self) -> None:
        """A response begins."""

    def _received(self, events: list[Message], run: bytes | None) -> None:
        """They came on this response; `run` is their bytes, None where those are not at hand."""

    def _finished(self, data: Mapping[str, Any] | None) -> None:  # noqa: ARG002 - a replay looks at it
        """Nothing is left: what `stream_complete` says, None for the answer 204."""
        self._is_finished = True
        self._disconnect()

    def _started(self, data: Mapping[str, Any]) -> None:
        """What `replay_started` says has come."""

    async def _missed(self, gap: Gap) -> None:
        """The stream leaves out events."""
        if self._on_gap is not None:
            await called(self._on_gap, gap)
        else:
            log.warning("%s: events from %s to %s are left out: %s", self.path, gap.start, gap.end, gap.replays)

    def _stopped(self, refused: Refused) -> StreamHubError:
        """What to raise for a `stream_error` that cannot be resumed."""
        return refused

    def _given_up(self, reason: str) -> StreamHubError:
        """What to raise after too many tries."""
        return EndedError(reason)

    # -- one request after the other

    async def _advance(self) -> None:
        """Connect, or read once."""
        if not self._is_loaded:
            assert self.position is not None
            self.last_event_id = self._stored = await self.position.load() or ""
            self._is_loaded = True
        try:
            if self._response is None:
                await self._connect()
            else:
                await self._read(self._response)
        except Refused as refused:
            if refused.is_final:
                self._fail(refused)
            else:
                self._lost(refused)
        except (*_CUT, EndedError) as error:
            self._lost(error)
        await self._tell()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._not_before):
                await self._closed.wait()
            return
        self._connected_at = math.inf
        async with asyncio.timeout(self._watchdog):
            response = await self._endpoint.open(self.path, self._asked(), self.last_event_id)
        self._fails_fast = False
        if response is None:
            self._finished(None)
            return
        if self._closed.is_set():
            response.close()
            return
        self._connected_at = loop.time()
        self._response = response
        self._parser = Parser(self.last_event_id.encode())
        self.connected = True
        self._begins()

    async def _read(self, response: aiohttp.ClientResponse) -> None:
        try:
            async with asyncio.timeout(self._watchdog):
                chunk = await response.content.readany()
        except RuntimeError as error:  # aiohttp's, where the connection is gone already
            raise EndedError(str(error)) from error
        if not chunk:
            raise EndedError("the connection ended")
        messages = self._parser.feed(chunk)
        if self._parser.retry is not None:
            self._retry = min(self._parser.retry / 1000, LONGEST_WAIT)
        self._take(messages)

    def _take(self, messages: list[Message]) -> None:
        if self._parser.run is not None:  # nearly always: all have an id, which control frames never have
            self._keep(messages, self._parser.run)
            return
        events: list[Message] = []
        for message in messages:
            if message[0] not in _CONTROL:
                events.append(message)
            elif message[0] != _HEARTBEAT:
                self._keep(events)
                events = []
                self._control(_CONTROL[message[0]], orjson.loads(message[2]))
        self._keep(events)

    def _keep(self, events: list[Message], run: bytes | None = None) -> None:
        if events:
            self._received(events, run)
            self._waiting.append(events)
            self.last_event_id = events[-1][1].decode()
            self._has_brought = True
            self._backoff.reset()

    def _control(self, name: str, data: Mapping[str, Any]) -> None:
        if name == control.GAP:
            self._waiting.append(Gap.of(data))
        elif name == control.REPLAY_STARTED:
            self._started(data)
        elif name == control.STREAM_COMPLETE:
            self._finished(data)
        elif name == control.STREAM_ERROR:
            refused = Refused(200, data["code"], data["detail"])
            needs_another_token = refused.code == "EXPIRED_TOKEN" and not callable(self._endpoint.token)
            if data["resumable"] and not needs_another_token:
                raise EndedError(str(refused))
            self._fail(self._stopped(refused))

    # -- how a request ends

    def _lost(self, error: Exception) -> None:
        """Another request follows, after a pause that many clients that were cut together do not share."""
        self._disconnect()
        if self._closed.is_set():
            return
        if self._fails_fast and isinstance(error, aiohttp.ClientConnectorError):
            self._fail(Unreachable(reason_of(error)), error)
            return
        self._fails_fast = False
        self._in_vain = 0 if self._has_brought else self._in_vain + 1
        self._has_brought = False
        if self._tries is not None and self._in_vain >= self._tries:
            self._fail(self._given_up(f"{self._tries} tries in a row brought nothing new: {reason_of(error)}"), error)
            return
        now = asyncio.get_running_loop().time()
        if now - self._connected_at > STEADY:
            self._backoff.reset()
        named = error.retry_after if isinstance(error, Refused) else None
        pause = (self._retry if named is None else named) * random.uniform(1, 1 + JITTER)
        if isinstance(error, Refused) and error.status == HTTPStatus.CONFLICT and named is not None:
            self._backoff.reset()  # another consumer is no failure
        pause = max(pause, self._backoff.next())
        self._not_before = now + pause
        log.warning("%s: %s; the next try is in %.1f s", self.path, reason_of(error), pause)

    def _fail(self, failure: StreamHubError, cause: Exception | None = None) -> None:
        """What came before is delivered first."""
        self._disconnect()
        failure.__cause__ = cause
        self._failure = failure

    def _disconnect(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None
        self.connected = False

    async def _tell(self) -> None:
        if self._told != self.connected:
            self._told = self.connected
            if self._on_connection_change is not None:
                await called(self._on_connection_change, self._told)


async def called(function: Callable[..., Any], *arguments: object) -> None:
    """A handler, which may be a coroutine function."""
    found = function(*arguments)
    if found is not None and inspect.isawaitable(found):
        await found
