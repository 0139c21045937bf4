"""Slots of running replays: they are for replays that make progress.

A replay has a slot while it reads pages and its client takes them. One whose client takes nothing, or little, gives its
slot back while its socket's buffer empties, and then waits for one again, behind the others. It stays a running job and
keeps its place in history; what it holds meanwhile is its socket's buffer, and for that there is a bound over all.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from streamhub.core.replays import AT_ONCE

# Seconds that a client may take for a page, and its replay keep the slot: where one is free, and where none is.
PATIENCE: Final = 1.0
PATIENCE_WHERE_SCARCE: Final = 0.1
MOST_UNSENT: Final = 128 * 1024 * 1024  # bytes in the buffers of all that have given their slot back


class Slots(asyncio.Semaphore):
    """`async with slots:` while a replay makes progress; `giving_back` while it waits for its client."""

    def __init__(self, at_once: int = AT_ONCE, most_unsent: int = MOST_UNSENT) -> None:
        super().__init__(at_once)
        self._most_unsent = most_unsent
        self.unsent = 0

    @property
    def patience(self) -> float:
        return PATIENCE_WHERE_SCARCE if self.locked() else PATIENCE

    def may_give_back(self, unsent: int) -> bool:
        """There is room for one whose socket's buffer holds so much; where there is not, it keeps its slot."""
        return self.unsent + unsent <= self._most_unsent

    @contextmanager
    def giving_back(self, unsent: int) -> Iterator[None]:
        self.unsent += unsent
        try:
            yield
        finally:
            self.unsent -= unsent
