"""Of each resource only the newest event, at most once in an interval, in id order."""

from streamhub.core import frames


class Latest:
    """What waits for the end of an interval. `size` is in bytes."""

    __slots__ = ("_waiting", "interval", "size")

    def __init__(self, interval: float) -> None:
        """`interval` in seconds."""
        self.interval = interval
        self.size = 0
        self._waiting: dict[bytes, bytes] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, run: bytes) -> None:
        """Stored frames, in id order and after all that were added before."""
        for frame in frames.each_of(run):
            # An event without a resource takes no other one's place.
            resource = frames.resource_in(frames.data_of(frame)) or frames.first_id(frame).encode()
            # Taken out and put in again: the newest stands last, so the order of ids is kept.
            before = self._waiting.pop(resource, b"")
            self._waiting[resource] = frame
            self.size += len(frame) - len(before)

    def take(self) -> list[bytes]:
        """All that waits, in id order."""
        found = list(self._waiting.values())
        self._waiting.clear()
        self.size = 0
        return found
