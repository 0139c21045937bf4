"""How much an organization may use of what all share: attempts, bytes of memory."""

from typing import Final

OF_FIRST: Final = 3


def share_of(free: int, *, is_first: bool) -> int:
    """What an organization may use in all, where so much is free: as much again.

    So some stays free for each other organization: one alone has half of all at most, two have a third each.
    `is_first`: for an endpoint that uses nothing yet. It may go further, to three quarters where the organization is
    alone, so that no other endpoint of the same organization holds it up.
    """
    return free * (OF_FIRST if is_first else 1)
