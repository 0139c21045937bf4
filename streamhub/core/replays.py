"""Replays: how many of them run at once."""

from typing import Final

AT_ONCE: Final = 64  # in a process; each may hold two pages in memory, the others wait in the queue
