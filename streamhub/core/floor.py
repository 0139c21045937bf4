"""The floor of an outbox: a sequence number below which nothing can appear any more, so that polls may start there.

Consumed rows stay in the index until they are vacuumed, and an old snapshot can hold that up for hours; a poll that
starts at the floor does not walk over them. A writer to the outbox holds a transaction id before it takes a
sequence number. So once the sequence's last value L was read, every taker of a number up to L holds an id below any
that is assigned later, Y; and once a snapshot's xmin is above Y, all of them have ended, and a full poll after that has
seen whatever they left.

Y has to be an id of our own. A snapshot's xmax will not do: it is the highest id that has ended, plus one, so that the
newest writers may hold it and higher ones.
"""

from typing import NamedTuple


class Marks(NamedTuple):
    """Read in one statement: the snapshot is taken before `last_value` is read. `own` is the id of the statement's
    transaction, which has to be there where `Floor.wants_id`."""

    last_value: int
    xmin: int
    own: int | None


class Floor:
    """What one reader knows; kept in memory alone, a new reader starts from nothing."""

    def __init__(self) -> None:
        self.value = 0
        self._candidate: int | None = None
        self._assigned_later: int | None = None
        self._ended = False

    @property
    def wants_id(self) -> bool:
        """An id costs little, and is not wanted each time."""
        return self._candidate is not None and self._assigned_later is None

    def observe(self, marks: Marks) -> None:
        """Take note of new marks. They must be read after those of the call before."""
        if self._candidate is None:
            if marks.last_value > self.value:
                self._candidate = marks.last_value
        elif self._assigned_later is None:
            self._assigned_later = marks.own
        elif marks.xmin > self._assigned_later:
            self._ended = True

    def drained(self) -> None:
        """A poll that was sent after the last `observe` gave every visible row, and all of them are consumed."""
        if self._candidate is not None:
            self.read_to(self._candidate)

    def read_to(self, number: int) -> None:
        """A poll that was sent after the last `observe` gave every visible row up to this number but for those that its
        reader has in hand. A reader that gives up what it has in hand takes another floor."""
        if not self._ended or self._candidate is None:
            return
        self.value = max(self.value, min(number, self._candidate))
        if self.value == self._candidate:
            self._candidate = self._assigned_later = None
            self._ended = False
