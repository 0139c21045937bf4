"""The live stream of an organization: one consumer, every event, in order."""

from collections.abc import Callable
from typing import Any, Final

from streamhub.client.endpoint import Endpoint
from streamhub.client.event import Gap
from streamhub.client.positions import Position
from streamhub.client.replay import Replay
from streamhub.client.stream import Retries, Stream

WATCHDOG: Final = 30.0
"""Seconds: three heartbeats."""


class Live(Stream):
    """Without end: it comes back after every cut and after every 409, and raises only what is refused for good."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        retries: Retries,
        position: Position | None,
        on_gap: Callable[[Gap], Any] | None,
        on_connection_change: Callable[[bool], Any] | None,
        fills_gaps: bool,
    ) -> None:
        super().__init__(
            endpoint,
            endpoint.path(),
            watchdog=WATCHDOG,
            retries=retries,
            position=position,
            on_gap=on_gap,
            on_connection_change=on_connection_change,
        )
        self._retries = retries
        self._fills_gaps = fills_gaps

    async def _missed(self, gap: Gap) -> None:
        if self._on_gap is not None or not self._fills_gaps:
            await super()._missed(gap)
        if self._fills_gaps:
            self._filling.extend(Replay.of_gap(self._endpoint, gap, self._retries._replace(fails_fast=False)))
