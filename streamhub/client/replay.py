"""A replay: a bounded piece of history, which is complete or raises."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from streamhub.client.endpoint import Endpoint, Query
from streamhub.client.errors import IncompleteReplay, Refused, StreamHubError
from streamhub.client.event import FRAME, Gap
from streamhub.client.positions import Position
from streamhub.client.sse import Message
from streamhub.client.stream import Retries, Stream

WATCHDOG: Final = 30.0
"""Seconds: three heartbeats."""

TRIES: Final = 8
"""Requests in a row that may bring nothing new: with their pauses, two minutes."""


class Replay(Stream):
    """After a cut it resumes by itself behind the last event that came. The number of events and the sha256 of each
    response are compared with what the hub says it sent."""

    def __init__(
        self, endpoint: Endpoint, query: Query, *, retries: Retries, position: Position | None = None, after: str = ""
    ) -> None:
        super().__init__(
            endpoint,
            endpoint.path("replay"),
            query,
            watchdog=WATCHDOG,
            retries=retries._replace(tries=retries.tries or TRIES),
            position=position,
        )
        self.last_event_id = after
        self.started: Mapping[str, Any] | None = None
        """The data of the last `replay_started`: the job's id, and the window in effect."""
        self.is_complete = False
        self.events = 0
        """How many came, over all responses."""
        self._of_response = 0
        self._digest = hashlib.sha256()

    async def messages(self) -> list[Message]:
        found = await super().messages()
        if not found and not self.is_complete:
            raise self._incomplete("it was closed")
        return found

    @classmethod
    def of_gap(cls, endpoint: Endpoint, gap: Gap, retries: Retries) -> "list[Replay]":
        """In order; together they return what the gap left out, of the token's environment."""
        return [cls(endpoint, query, retries=retries, after=gap.after_id or "") for query in gap.queries]

    def _asked(self) -> Query:
        """A `date_to` in the future became the time of the first request: the next one may not reach further."""
        end = None if self.started is None else self.started.get("date_to")
        return [(name, end if name == "date_to" and end else value) for name, value in self._query]

    def _begins(self) -> None:
        self._of_response = 0
        self._digest = hashlib.sha256()

    def _received(self, events: list[Message], run: bytes | None) -> None:
        self.events += len(events)
        self._of_response += len(events)
        self._digest.update(run or b"".join([FRAME % event for event in events]))

    def _started(self, data: Mapping[str, Any]) -> None:
        self.started = data

    def _finished(self, data: Mapping[str, Any] | None) -> None:
        if data is not None and data["events"] != self._of_response:
            self._fail(self._wrong(f"{self._of_response} events came on the last response, {data['events']} were sent"))
        elif data is not None and data["sha256"] != self._digest.hexdigest():
            self._fail(self._wrong(f"their sha256 is {self._digest.hexdigest()}, not {data['sha256']}"))
        else:
            self.is_complete = True
            super()._finished(data)

    def _stopped(self, refused: Refused) -> StreamHubError:
        return self._incomplete(str(refused))

    def _given_up(self, reason: str) -> StreamHubError:
        return self._incomplete(reason)

    def _wrong(self, reason: str) -> IncompleteReplay:
        return IncompleteReplay(reason, self.events, self.last_event_id or None, is_wrong=True)

    def _incomplete(self, reason: str) -> IncompleteReplay:
        return IncompleteReplay(reason, self.events, self.last_event_id or None)
