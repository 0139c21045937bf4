"""Of each resource only the newest event, at most once in an interval, in id order."""

from collections.abc import Sequence
from typing import NamedTuple


class Enveloped(NamedTuple):
    """An event as some subscribers get it. `resource` is the same for all events of one resource, None where an event
    names none."""

    id: str
    frame: bytes
    resource: bytes | None


class Latest:
    """What waits for the end of an interval. `size` is in bytes."""

    __slots__ = ("_waiting", "size")

    def __init__(self) -> None:
        self.size = 0
        self._waiting: dict[bytes | str, Enveloped] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, events: Sequence[Enveloped]) -> None:
        """In id order, and after all that were added before."""
        for event in events:
            # An event without a resource takes no other one's place.
            resource = event.resource or event.id
            # Taken out and put in again: the newest stands last, so the order of ids is kept.
            before = self._waiting.pop(resource, None)
            self._waiting[resource] = event
            self.size += len(event.frame) - (0 if before is None else len(before.frame))

    def take(self) -> list[Enveloped]:
        """All that waits, in id order."""
        found = list(self._waiting.values())
        self._waiting = {}
        self.size = 0
        return found
