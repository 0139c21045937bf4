"""A client of one organization on a hub."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, ParamSpec, Self, TypeAlias, TypeVar
from weakref import WeakSet

import aiohttp

from streamhub.client.blocking import BlockingRealtime, BlockingStream, LoopThread
from streamhub.client.endpoint import Endpoint, Query, Token
from streamhub.client.event import Gap
from streamhub.client.live import Live
from streamhub.client.positions import Position
from streamhub.client.realtime import Realtime
from streamhub.client.replay import Replay
from streamhub.client.stream import Retries, Stream

Scalar: TypeAlias = str | int | float | Decimal | bool
FilterValue: TypeAlias = Scalar | Iterable[Scalar]
"""What a filter is compared with; several are sent separated by commas."""

P = ParamSpec("P")
S = TypeVar("S", bound=Stream)


class StreamHub:
    """Streams of one organization.

        async with StreamHub("http://127.0.0.1:8080", org="my-org", token=token) as hub:
            async for event in hub.live():
                print(event.type, event.resource)

    Nothing connects before a stream is iterated or a handler is added. Close it, or use it in an `async with`.
    """

    def __init__(
        self,
        url: str,
        *,
        org: str,
        token: Token,
        session: aiohttp.ClientSession | None = None,
        first_pause: float = 1.0,
        longest_pause: float = 30.0,
    ) -> None:
        """`org` is the organization's slug. `token` is a JWT or an API key, or a function or coroutine function that
        returns one, called at each connection. A `session` of your own brings proxies and certificates; it is not
        closed. Pauses between tries are in seconds; they double, and have jitter. Raises ValueError."""
        self._endpoint = Endpoint(url, org, token, session)
        self._retries = Retries(first_pause, longest_pause)
        self._realtimes: WeakSet[Realtime] = WeakSet()
        self._streams: WeakSet[Stream] = WeakSet()

    def live(
        self,
        *,
        position: Position | None = None,
        on_gap: Callable[[Gap], Any] | None = None,
        fills_gaps: bool = True,
    ) -> Live:
        """The live stream: one consumer an organization, each event in order. Without a position it goes on where the
        hub saw the last consumer stop.

        What is too old for the stream to send again comes by replay, before what the stream goes on with, so nothing is
        left out. `on_gap` is told of it; with `fills_gaps=False`, that is all. A replay has the events of the token's
        environment alone.
        """
        return self._kept(
            Live(self._endpoint, retries=self._retries, position=position, on_gap=on_gap, fills_gaps=fills_gaps)
        )

    def replay(
        self,
        *,
        date_from: datetime | str | None = None,
        date_to: datetime | str | None = None,
        resource_type_eq: str | None = None,
        resource_id_in: Iterable[str] | None = None,
        types: str | Iterable[str] | None = None,
        filters: Mapping[str, FilterValue] | None = None,
        position: Position | None = None,
    ) -> Replay:
        """A piece of history: a window, or all that happened to some resources, as `GET /{org}/replay` takes it.
        `filters` are field filters: `{"resource.status_eq": "paid", "resource.price_gt": 10}`. Iterating raises
        IncompleteReplay where it does not come whole; with a position, the next one goes on behind what was handled.
        Raises ValueError for a datetime without a time zone."""
        query = [
            *_given("date_from", _time(date_from)),
            *_given("date_to", _time(date_to)),
            *_choice(resource_type_eq, resource_id_in, types, filters),
        ]
        return self._kept(Replay(self._endpoint, query, retries=self._retries, position=position))

    def replays_of(self, gap: Gap) -> list[Replay]:
        """The replays that return what a gap leaves out, in order."""
        return [self._kept(replay) for replay in Replay.of_gap(self._endpoint, gap, self._retries)]

    def realtime(
        self,
        *,
        types: str | Iterable[str] | None = None,
        filters: Mapping[str, FilterValue] | None = None,
        resource_type_eq: str | None = None,
        resource_id_in: Iterable[str] | None = None,
        path_prefix: str | None = None,
        latest: str | None = None,
        position: Position | None = None,
    ) -> Realtime:
        """Handlers for the events that the hub chooses: all, or by `types` such as `ticket.*`, field filters,
        resources, and with `latest` (`500ms`) only the newest of each resource. Each subscription has a connection of
        its own. The token needs the scope `events:read` or `analytics:read`."""
        query = [
            *_choice(resource_type_eq, resource_id_in, types, filters),
            *_given("path_prefix", path_prefix),
            *_given("latest", latest),
        ]
        realtime = Realtime(self._endpoint, query, retries=self._retries, position=position)
        self._realtimes.add(realtime)
        return realtime

    def blocking(self) -> "BlockingStreamHub":
        """The same for synchronous code. Raises ValueError where a session was given: it belongs to another loop."""
        return BlockingStreamHub(self._again())

    def _kept(self, stream: S) -> S:
        """To be closed with the client."""
        self._streams.add(stream)
        return stream

    def _again(self) -> "StreamHub":
        if self._endpoint.has_session:
            raise ValueError(
                "a session of your own belongs to your loop; leave it out to use the hub in synchronous code"
            )
        return StreamHub(
            self._endpoint.url,
            org=self._endpoint.org,
            token=self._endpoint.token,
            first_pause=self._retries.first,
            longest_pause=self._retries.longest,
        )

    async def close(self) -> None:
        """Destroy all subscriptions, close all streams, then the session."""
        for realtime in list(self._realtimes):
            await realtime.destroy()
        for stream in list(self._streams):
            await stream.close()
        await self._endpoint.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class BlockingStreamHub:
    """What `StreamHub.blocking()` returns.

        with StreamHub("http://127.0.0.1:8080", org="my-org", token=token).blocking() as hub:
            for event in hub.live():
                print(event.type, event.resource)

    `live`, `replay`, `replays_of` and `realtime` take what those of StreamHub take, and give a
    BlockingStream or a BlockingRealtime. Close it, or use it in a `with`.
    """

    def __init__(self, hub: StreamHub) -> None:
        self._hub = hub
        self._thread = LoopThread("streamhub.client")
        self.live = self._iterated(hub.live)
        self.replay = self._iterated(hub.replay)
        self.realtime = self._subscribed(hub.realtime)

    def replays_of(self, gap: Gap) -> list[BlockingStream[Replay]]:
        return [BlockingStream(self._thread, replay) for replay in self._hub.replays_of(gap)]

    def close(self) -> None:
        """End all of its streams, the session and the thread."""
        self._thread.close(self._hub.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _iterated(self, make: Callable[P, S]) -> Callable[P, BlockingStream[S]]:
        def iterated(*args: P.args, **kwargs: P.kwargs) -> BlockingStream[S]:
            return BlockingStream(self._thread, make(*args, **kwargs))

        return iterated

    def _subscribed(self, make: Callable[P, Realtime]) -> Callable[P, BlockingRealtime]:
        def subscribed(*args: P.args, **kwargs: P.kwargs) -> BlockingRealtime:
            return BlockingRealtime(self._thread, make(*args, **kwargs))

        return subscribed


# -- parameters


def _choice(
    resource_type_eq: str | None,
    resource_id_in: Iterable[str] | None,
    types: str | Iterable[str] | None,
    filters: Mapping[str, FilterValue] | None,
) -> Query:
    return [
        *_given("resource_type_eq", resource_type_eq),
        *_given("resource_id_in", None if resource_id_in is None else _list(resource_id_in)),
        *_given("types", None if types is None else _list(types)),
        *((name, _spelled(value)) for name, value in (filters or {}).items()),
    ]


def _given(name: str, value: str | None) -> Query:
    return [] if value is None else [(name, value)]


def _list(values: str | Iterable[str]) -> str:
    return values if isinstance(values, str) else ",".join(values)


def _spelled(value: FilterValue) -> str:
    """As events spell it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ",".join(map(_spelled, value))
    return str(value)


def _time(when: datetime | str | None) -> str | None:
    if not isinstance(when, datetime):
        return when
    if when.tzinfo is None:
        raise ValueError(f"{when} has no time zone; give it one, such as datetime.now(UTC)")
    return when.isoformat()
