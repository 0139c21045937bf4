"""Free ports of the loopback interface. Each process reserves a block of them.

They are below the range for outgoing connections. So a port that was free stays free until its server binds it, and
while that server is down.
"""

import itertools
import socket
from collections.abc import Iterator
from functools import cache
from typing import Final

FIRST: Final = 20_000
LAST: Final = 31_999
BLOCK: Final = 100  # ports; the process binds the first one for as long as it lives, to reserve the block


def free_port() -> int:
    """A port that is free and was not among the last dozens returned. Raises RuntimeError where none is free."""
    for port in itertools.islice(_block()[1], BLOCK - 1):
        with socket.socket() as probe:
            if _bound(probe, port):
                return port
    raise RuntimeError(f"each port of this process's block is taken; {FIRST} to {LAST} are in use here")


@cache
def _block() -> tuple[socket.socket, Iterator[int]]:
    """(the socket that reserves the block, an endless cycle of its other ports)"""
    for first in range(FIRST, LAST + 1 - BLOCK, BLOCK):
        guard = socket.socket()
        if _bound(guard, first):
            return guard, itertools.cycle(range(first + 1, first + BLOCK))
        guard.close()
    raise RuntimeError(f"no block of ports is free: {FIRST} to {LAST} are in use here")


def _bound(probe: socket.socket, port: int) -> bool:
    try:
        probe.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True
