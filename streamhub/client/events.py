"""The broadcast stream of an organization: any number of subscribers, each with its choice of events."""

from collections.abc import Callable
from typing import Any, Final

from streamhub.client.endpoint import Endpoint, Query
from streamhub.client.event import Gap
from streamhub.client.positions import Position
from streamhub.client.stream import Retries, Stream

WATCHDOG: Final = 75.0
"""Seconds: two pings and a half."""


class Events(Stream):
    """Without end, from now on or behind a position. It comes back after every cut, behind the last event that came,
    and raises only what is refused for good."""

    def __init__(
        self,
        endpoint: Endpoint,
        query: Query,
        *,
        retries: Retries,
        position: Position | None,
        on_gap: Callable[[Gap], Any] | None,
        on_connection_change: Callable[[bool], Any] | None,
    ) -> None:
        super().__init__(
            endpoint,
            endpoint.path("events", "stream"),
            [*query, ("envelope", "change")],
            watchdog=WATCHDOG,
            retries=retries,
            position=position,
            on_gap=on_gap,
            on_connection_change=on_connection_change,
        )
