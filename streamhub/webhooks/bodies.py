"""The bodies of events that many endpoints get: made once, kept while they are likely to be sent."""

from collections.abc import Sequence
from typing import Final

from streamhub.core import frames
from streamhub.history.lookup import frames_of
from streamhub.postgres.connections import Pool

MOST_KEPT: Final = 32 * 1024 * 1024  # bytes


class Bodies:
    """By the event's id; the oldest are dropped first."""

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most = most
        self._size = 0
        self._kept: dict[str, bytes] = {}

    def keep(self, event: str, frame: bytes) -> bytes | None:
        """None where the frame is not as the hub builds them."""
        try:
            body = frames.webhook_body(frames.parts_of(frame))
        except ValueError:
            return None
        if event not in self._kept:
            self._kept[event] = body
            self._size += len(body)
            while self._size > self._most and len(self._kept) > 1:
                oldest = next(iter(self._kept))
                self._size -= len(self._kept.pop(oldest))
        return body

    async def of(self, pool: Pool, events: Sequence[tuple[int, str]]) -> dict[str, bytes]:
        """Of events (organization, id). Those that are not in history any more are left out. Raises what asyncpg
        raises."""
        found = {event: self._kept[event] for _, event in events if event in self._kept}
        missing = [each for each in dict.fromkeys(events) if each[1] not in found]
        if missing:
            for event, frame in (await frames_of(pool, missing)).items():
                body = self.keep(event, frame)
                if body is not None:
                    found[event] = body
        return found
