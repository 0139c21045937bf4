"""How readers hear of new events: one protocol, `Tail`, whatever the engine behind it.

A tail is a copy of history's end. It may repeat a run and it may tell a reader that it fell behind, but it never
leaves out an event in silence and never changes the order: a reader that registers at the position `subscribe`
returns, and reads history up to it, misses nothing.
"""

from collections.abc import Sequence
from typing import Protocol

from streamhub.core.events import StoredEvent
from streamhub.history.append import Append

__all__ = ["Receiver", "Tail"]


class Receiver(Protocol):
    """Both are called on the event loop's thread, must return at once and must not raise."""

    def receive(self, events: Sequence[StoredEvent]) -> None:
        """The next events of the organization subscribed to, in id order."""

    def fell_behind(self, to: str) -> None:
        """Events up to `to` may not have been handed over: read history up to it."""


class Tail(Protocol):
    @property
    def degraded(self) -> bool:
        """Whether readers are fed from history for now, at a slower pace, since the engine fails."""

    @property
    def fault(self) -> str | None:
        """What keeps the engine from being read, in a sentence; None while nothing does."""

    def subscribe(self, organization: int, organization_id: str, receiver: Receiver) -> str:
        """From now on `receiver` hears of every event of the organization (the registry's key, and its id) that is
        beyond the position returned; up to that position history has them all. A tail that cannot promise that yet
        calls `fell_behind` as soon as it can."""

    def unsubscribe(self, organization: int, receiver: Receiver) -> None:
        """Nothing more for `receiver`; unknown ones are ignored."""

    def announce(self, append: Append) -> None:
        """An append that this process has just committed. Called on the event loop's thread; returns at once."""

    async def start(self) -> None:
        """Returns once the tail knows the head. Raises what keeps it from that."""

    async def stop(self) -> None:
        """Ends everything that `start` began; receivers hear nothing more."""
