"""Ports of the loopback interface for servers of ours."""

import socket
from contextlib import ExitStack


def free_ports(count: int) -> list[int]:
    """So many different ones, on which nobody listens at this moment."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def free_port() -> int:
    return free_ports(1)[0]
