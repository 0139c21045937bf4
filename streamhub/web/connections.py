"""How many connections a process holds, how many of them without a valid token, and what happens at the bounds.

Each connection is an open file. At the limit of open files a process can neither accept nor reach its database, so
streams are refused before that, some connections are kept for the operators' pages, and some files for everything else.
"""

import asyncio
import logging
import resource
import time
from typing import Final, Protocol

from streamhub.web.problems import ApiError, unavailable

log = logging.getLogger(__name__)

MOST_FILES: Final = 1_048_576  # Linux's own bound for a process (fs.nr_open), where nothing else is set
OTHER_FILES: Final = 100  # databases, brokers, listening sockets, logs
FOR_OPERATORS: Final = 32  # connections for `/-/…` when no further stream is taken
MOST_ANONYMOUS: Final = 10_000
SETTLED_AFTER: Final = 1.0  # seconds; what was just accepted has its request yet to be read
TOLD_EVERY: Final = 60.0  # seconds
RETRY_AFTER: Final = 5  # seconds


class Peer(Protocol):
    """A connection, as seen from here."""

    made_at: float
    refused: bool

    @property
    def idle(self) -> bool:
        """It waits for a request."""

    def force_close(self) -> None: ...


def allow_open_files() -> int:
    """Raise this process's soft limit of open files to the hard one; how many it may have open now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft == resource.RLIM_INFINITY or soft >= allowed:
        return allowed if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed


class Connections:
    """Of one process, on all its ports."""

    def __init__(self, files: int) -> None:
        """`files` may be open in this process."""
        self.most = max(2 * FOR_OPERATORS, files - OTHER_FILES)
        self.most_anonymous = min(MOST_ANONYMOUS, self.most // 2)
        self.open = 0
        self._anonymous: dict[Peer, None] = {}  # in the order in which they came
        self._told_at = float("-inf")

    @property
    def most_streams(self) -> int:
        return self.most - FOR_OPERATORS

    @property
    def full(self) -> bool:
        """No further stream is taken."""
        return self.open > self.most_streams

    def refusal(self) -> ApiError:
        """For a request of a connection that is too many."""
        if self.full:
            detail = f"This gateway has the {self.most_streams} connections that its limit of open files allows"
        else:
            detail = f"This gateway has {self.most_anonymous} connections without a valid token already"
        return unavailable(f"{detail}; try again in {RETRY_AFTER} s.", retry_after=RETRY_AFTER)

    def made(self, peer: Peer) -> None:
        """Where there are too many, one that was idle for the longest time goes; where none is, the new one."""
        self.open += 1
        self._anonymous[peer] = None
        if self.open > self.most:
            self._tell("as many connections as the limit of open files allows", self.most)
            if not self._close_an_idle_one():
                peer.force_close()
        elif len(self._anonymous) > self.most_anonymous:
            self._tell("as many connections without a valid token as may be", self.most_anonymous)
            peer.refused = not self._close_an_idle_one()

    def authenticated(self, peer: Peer) -> None:
        """It has shown a valid token."""
        self._anonymous.pop(peer, None)

    def lost(self, peer: Peer) -> None:
        self.open -= 1
        self._anonymous.pop(peer, None)

    def _close_an_idle_one(self) -> bool:
        settled = asyncio.get_running_loop().time() - SETTLED_AFTER
        for peer in self._anonymous:
            if peer.made_at > settled:
                return False
            if peer.idle:
                del self._anonymous[peer]  # it is lost only with a later turn of the loop
                peer.force_close()
                return True
        return False

    def _tell(self, what: str, number: int) -> None:
        if time.monotonic() - self._told_at > TOLD_EVERY:
            self._told_at = time.monotonic()
            log.warning("there are %s: %d; idle ones are closed, further ones refused", what, number)
