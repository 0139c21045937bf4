"""A client of one organization on a hub."""

from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, ParamSpec, Self, TypeAlias, TypeVar
from weakref import WeakSet

import aiohttp

from streamhub.client import publishing
from streamhub.client.blocking import BlockingRealtime, BlockingStream, LoopThread
from streamhub.client.endpoint import Endpoint, Query, Token
from streamhub.client.event import Gap
from streamhub.client.events import Events
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
T = TypeVar("T")


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
        fails_fast: bool = False,
    ) -> None:
        """`org` is the organization's slug. `token` is a JWT or an API key, or a function or coroutine function that
        returns one, called at each connection. A `session` of your own brings proxies and certificates; it is not
        closed. Pauses between tries are in seconds; they double, and have jitter. With `fails_fast` a stream raises
        Unreachable where its first connection cannot be made; a connection that is lost later is tried again as ever.
        Raises ValueError."""
        self._endpoint = Endpoint(url, org, token, session)
        self._retries = Retries(first_pause, longest_pause, fails_fast=fails_fast)
        self._realtimes: WeakSet[Realtime] = WeakSet()
        self._streams: WeakSet[Stream] = WeakSet()

    def live(
        self,
        *,
        position: Position | None = None,
        on_gap: Callable[[Gap], Any] | None = None,
        on_connection_change: Callable[[bool], Any] | None = None,
        fills_gaps: bool = True,
    ) -> Live:
        """The live stream: one consumer an organization, each event in order. Without a position it goes on where the
        hub saw the last consumer stop.

        What is too old for the stream to send again comes by replay, before what the stream goes on with, so nothing is
        left out. `on_gap` is told of it; with `fills_gaps=False`, that is all. A replay has the events of the token's
        environment alone. `on_connection_change` gets True once connected, False once the connection is lost.
        """
        return self._kept(
            Live(
                self._endpoint,
                retries=self._retries,
                position=position,
                on_gap=on_gap,
                on_connection_change=on_connection_change,
                fills_gaps=fills_gaps,
            )
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

    def events(
        self,
        *,
        types: str | Iterable[str] | None = None,
        filters: Mapping[str, FilterValue] | None = None,
        resource_type_eq: str | None = None,
        resource_id_in: Iterable[str] | None = None,
        path_prefix: str | None = None,
        latest: str | None = None,
        position: Position | None = None,
        on_gap: Callable[[Gap], Any] | None = None,
        on_connection_change: Callable[[bool], Any] | None = None,
    ) -> Events:
        """What `realtime` gives to handlers, to iterate over: `async for event in hub.events(types="ticket.*")`. It
        chooses by the same parameters, and needs the same scope. A gap is told to `on_gap`, else logged;
        `on_connection_change` gets True once connected, False once the connection is lost."""
        return self._kept(
            Events(
                self._endpoint,
                _broadcast(resource_type_eq, resource_id_in, types, filters, path_prefix, latest),
                retries=self._retries,
                position=position,
                on_gap=on_gap,
                on_connection_change=on_connection_change,
            )
        )

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
        query = _broadcast(resource_type_eq, resource_id_in, types, filters, path_prefix, latest)
        realtime = Realtime(self._endpoint, query, retries=self._retries, position=position)
        self._realtimes.add(realtime)
        return realtime

    async def types(self) -> list[str]:
        """The types of events that the token's environment had in the last 30 days, in order, at most 1,000. Raises
        Refused, and what aiohttp raises where there is no answer."""
        return [str(name) for name in await self._endpoint.ask("GET", self._endpoint.path("types"))]

    async def publish(
        self,
        type: str,  # noqa: A002 - the field's word
        data: Any,
        *,
        resource_type: str | None = None,
        resource_id: str | None = None,
        publish_id: str | None = None,
    ) -> str:
        """Publish an event of your own, such as `query.received`; the publish id, once it is stored durably. The hub
        keeps a publish id for 24 hours and publishes it once, so what was not answered is tried again without harm:
        give one where you may publish the same again after a restart. The token needs the scope `events:write`.

        Raises Refused where the hub refuses for good, StreamHubError after 5 tries, TypeError for `data` that cannot
        be JSON."""
        body = publishing.body_of(type, data, resource_type, resource_id, publish_id)
        return await publishing.publish(self._endpoint, body)

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
            fails_fast=self._retries.fails_fast,
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

    `live`, `replay`, `replays_of`, `events` and `realtime` take what those of StreamHub take, and give a
    BlockingStream or a BlockingRealtime; `types` and `publish` give what those give. Close it, or use it in a `with`.
    """

    def __init__(self, hub: StreamHub) -> None:
        self._hub = hub
        self._thread = LoopThread("streamhub.client")
        self.live = self._iterated(hub.live)
        self.replay = self._iterated(hub.replay)
        self.events = self._iterated(hub.events)
        self.realtime = self._subscribed(hub.realtime)
        self.types = self._awaited(hub.types)
        self.publish = self._awaited(hub.publish)

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

    def _awaited(self, ask: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
        def awaited(*args: P.args, **kwargs: P.kwargs) -> T:
            return self._thread.run(ask(*args, **kwargs))

        return awaited

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


def _broadcast(
    resource_type_eq: str | None,
    resource_id_in: Iterable[str] | None,
    types: str | Iterable[str] | None,
    filters: Mapping[str, FilterValue] | None,
    path_prefix: str | None,
    latest: str | None,
) -> Query:
    return [
        *_choice(resource_type_eq, resource_id_in, types, filters),
        *_given("path_prefix", path_prefix),
        *_given("latest", latest),
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
