"""The floor of an outbox: a sequence number below which nothing can appear any more, so that polls may start there.

Consumed rows stay in the index until they are vacuumed, and an old snapshot can hold that up for hours; a poll that
starts at the floor does not walk over them. Whoever writes to the outbox holds a transaction id before it takes a
sequence number. So once the sequence's last value L was read, every taker of a number up to L holds an id below the
xmax of any snapshot taken later; and once a snapshot's xmin has reached that xmax, all of them have ended, and a full
poll after that has seen whatever they left.
"""

from typing import NamedTuple


class Marks(NamedTuple):
    """Read in one statement: the snapshot is taken before `last_value` is read."""

    last_value: int
    xmin: int
    xmax: int


class Floor:
    """What one reader knows; kept in memory alone, a new reader starts from nothing."""

    def __init__(self) -> None:
        self.value = 0
        self._candidate: int | None = None
        self._ends_before: int | None = None
        self._ended = False

    def observe(self, marks: Marks) -> None:
        """Take note of new marks. They must be read after those of the call before."""
        if self._candidate is None:
            if marks.last_value > self.value:
                self._candidate = marks.last_value
        elif self._ends_before is None:
            self._ends_before = marks.xmax
        elif marks.xmin >= self._ends_before:
            self._ended = True

    def drained(self) -> None:
        """A poll that was sent after the last `observe` gave every visible row, and all of them are consumed."""
        if self._ended and self._candidate is not None:
            self.value = self._candidate
            self._candidate = self._ends_before = None
            self._ended = False
