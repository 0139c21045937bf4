"""The lease of a live stream: who may take it, what a refused request is told, and how long a holder may trust it.

    state   meaning                                              a request to take it
    FREE    never held, or its last end is over 5 s ago,         takes it: epoch + 1
            or the node that held it has expired
    HELD    by a node whose row has not expired                  409, come again in 6 s
    STALE   ended less than STALE_AFTER ago                      409, come again when that is over
    (an end by draining goes straight to FREE)

A gateway process is a node: a row that expires NODE_TTL after its last renewal, on the database's clock. It counts
its own trust from the moment it *started* the renewal, on a clock that goes on while the process or the machine is
suspended, so it stops before another gateway may begin. Taking is one statement (leases/streams.py) that locks the
owner's node row, so that a renewal and a taking cannot both win.
"""

from typing import Any, Final, NamedTuple

from streamhub.core.window import timestamp

NODE_TTL: Final = 5.0  # seconds
RENEW_EVERY: Final = 1.0  # seconds
RETRY_WHILE_HELD: Final = 6  # seconds
ENDED_WITHIN: Final = 8.0  # seconds: a holder that is asked to end has ended by then


class Trust:
    """How long this process may act on its node row; times are seconds of one monotonic clock."""

    __slots__ = ("_until", "ttl")

    def __init__(self, ttl: float = NODE_TTL) -> None:
        self.ttl = ttl
        self._until = float("-inf")

    def renewed(self, started: float) -> None:
        """A renewal that started then has succeeded. Answers may overtake one another: trust never shrinks."""
        self._until = max(self._until, started + self.ttl)

    def lost(self) -> None:
        """The database has said that the node row expired."""
        self._until = float("-inf")

    def holds(self, now: float) -> bool:
        return now < self._until

    def renewed_since(self, moment: float) -> bool:
        """Whether a renewal that started after that moment has succeeded."""
        return self._until > moment + self.ttl


class Refusal(NamedTuple):
    """What a second consumer is told: `retry_after` in whole seconds and the `meta` of the 409."""

    retry_after: int
    detail: str
    meta: dict[str, Any]


def refusal(*, connected_ms: int | None, released_ms: int | None, now_ms: int, stale_after_ms: int) -> Refusal | None:
    """Why the stream could not be taken; None where by now it can. Times are the database's, in milliseconds.

    `released_ms` is None while the stream is held.
    """
    if released_ms is None:
        return Refusal(
            RETRY_WHILE_HELD,
            "This organization's live stream has a consumer, and it can have only one: "
            f"end that one, or try again in {RETRY_WHILE_HELD} s.",
            {
                "retry_after_ms": RETRY_WHILE_HELD * 1_000,
                "connected_at": None if connected_ms is None else timestamp(connected_ms),
            },
        )
    stale_until = released_ms + stale_after_ms
    # A clock that was stepped back must not lengthen the wait.
    left = min(stale_until - now_ms, stale_after_ms)
    if left <= 0:
        return None
    return Refusal(
        -(-left // 1_000),
        f"The last consumer's connection has just ended, and its stream is kept for it: try again in {left} ms.",
        {"retry_after_ms": left, "stale_until": timestamp(now_ms + left)},
    )
