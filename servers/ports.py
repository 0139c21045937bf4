"""Ports of the loopback interface for servers of ours: each of our processes at work has a block of them to itself.

They lie below the range that outgoing connections take theirs from. So what was free when it was asked for is free
when its server binds it, and again when that server comes back.
"""

import itertools
import socket
from collections.abc import Iterator
from functools import cache
from typing import Final

FIRST: Final = 20_000
LAST: Final = 31_999
BLOCK: Final = 100  # ports; the first of a block is never handed out: it is bound for as long as its process lives


def free_port() -> int:
    """One on which nobody listens, and which this process did not hand out among the last dozens.

    Raises RuntimeError where none is left.
    """
    for port in itertools.islice(_block()[1], BLOCK - 1):
        with socket.socket() as probe:
            if _bound(probe, port):
                return port
    raise RuntimeError(f"each port of this process's block is taken; {FIRST} to {LAST} are in use here")


@cache
def _block() -> tuple[socket.socket, Iterator[int]]:
    """(what keeps the block ours, its other ports round and round)"""
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
