"""A subscription: how one reader sees every event once, in order, from two sources, history's pages and the tail.

    state        input             condition                      next         what happens
    CATCHING_UP  announce          fits the buffer                CATCHING_UP  kept
    CATCHING_UP  announce          does not fit                   CATCHING_UP  buffer emptied, handover_id = its last id
    CATCHING_UP  page              read up to handover_id         LIVE         position moves, buffer is due
    CATCHING_UP  page              not yet                        CATCHING_UP  position moves
    LIVE         announce          fits, with what the socket     LIVE         kept, due with this turn of the loop
                                   still holds
    LIVE         announce          does not fit                   CATCHING_UP  buffer emptied, handover_id = its last id
    LIVE         take              -                              LIVE         buffer joined and handed over
    LIVE         hand_over         nothing is kept, fits          LIVE         position moves, nothing is kept
    LIVE         passed(to)        nothing is kept                LIVE         position moves
    both         fell_behind(to)   -                              CATCHING_UP  buffer emptied, handover_id moves to `to`
    both         end               -                              ENDING       buffer emptied
    ENDING       anything          -                              ENDING       nothing

`position` is the id up to which everything has been handed over. `handover_id` is the id up to which history must be
read before the buffer follows without a gap: at first the tail's head at the moment of registering. An announced event
that is not beyond both is dropped, so a repeat on the tail is no repeat to the reader. The buffer has a bound in
bytes, and what is over it is left to history: no queue grows.
"""

import enum
from collections.abc import Sequence
from typing import NamedTuple, Protocol


class State(enum.Enum):
    CATCHING_UP = "catching_up"
    LIVE = "live"
    ENDING = "ending"


class Framed(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def frame(self) -> bytes: ...


class Due(NamedTuple):
    """Events handed over at once, in id order."""

    kept: Sequence[Framed]

    @property
    def frames(self) -> bytes:
        return b"".join(event.frame for event in self.kept)

    @property
    def last_id(self) -> str:
        return self.kept[-1].id

    @property
    def events(self) -> int:
        return len(self.kept)


class Subscription:
    """See the table above. `bound` is the most bytes that wait here and in the socket's buffer together."""

    __slots__ = ("_bound", "_buffer", "_size", "handover_id", "position", "state")

    def __init__(self, position: str, handover_id: str, bound: int) -> None:
        self.position = position
        self.handover_id = handover_id
        self.state = State.CATCHING_UP
        self._bound = bound
        self._buffer: list[Framed] = []
        self._size = 0

    @property
    def _last(self) -> str:
        """The last id in the buffer."""
        return self._buffer[-1].id if self._buffer else ""

    def announce(self, events: Sequence[Framed], unsent: int = 0) -> bool:
        """Events of this reader in id order, with the bytes that its socket still holds.

        True where the buffer has become due: `take` it within this turn of the loop.
        """
        if self.state is State.ENDING or not events:
            return False
        after = max(self.position, self.handover_id, self._last)
        if events[0].id <= after:
            events = [event for event in events if event.id > after]
            if not events:
                return False
        if self.state is State.CATCHING_UP:
            unsent = 0  # the socket's buffer belongs to the pages
        size = sum(len(event.frame) for event in events)
        if unsent + self._size + size > self._bound:
            self.fell_behind(events[-1].id)
            return False
        was_empty = not self._buffer
        self._buffer.extend(events)
        self._size += size
        return was_empty and self.state is State.LIVE

    def page(self, read_to: str) -> None:
        """History has been handed over up to `read_to`: a page's last id, or its upper end where there was no more."""
        if self.state is not State.CATCHING_UP:
            return
        self.position = max(self.position, read_to)
        if self.position >= self.handover_id:
            self.state = State.LIVE

    def hand_over(self, first: str, last: str, size: int, unsent: int) -> bool:
        """Whether events of `size` bytes, from the id `first` to the id `last`, may go to the socket at once, past the
        buffer. Where true they count as handed over; else `announce` them."""
        if self.state is not State.LIVE or self._buffer or first <= self.position or unsent + size > self._bound:
            return False
        self.position = last
        return True

    def passed(self, to: str) -> None:
        """Of what came up to `to` nothing else is this reader's: history need not be read again for it."""
        if self.state is State.LIVE and not self._buffer:
            self.position = max(self.position, to)

    def take(self) -> Due | None:
        """What is due; None where nothing is."""
        if self.state is not State.LIVE or not self._buffer:
            return None
        due = Due(self._buffer)
        self.position = due.last_id
        self._empty()
        return due

    def fell_behind(self, to: str) -> None:
        """What is kept here and whatever follows up to `to` must come from history."""
        if self.state is State.ENDING:
            return
        self.handover_id = max(self.handover_id, to, self._last)
        self._empty()
        self.state = State.CATCHING_UP

    def end(self) -> None:
        self._empty()
        self.state = State.ENDING

    def _empty(self) -> None:
        self._buffer = []  # not cleared: what was due still has it
        self._size = 0
