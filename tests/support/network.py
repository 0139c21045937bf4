"""Several hosts on one machine: network namespaces, joined by a router between which links can be cut.

What is cut vanishes: no RST and no ICMP, as where a cable was pulled or a firewall drops in silence. Each host has a
thread that lives in its namespace, so that sockets made and processes started there are the host's own.
"""

import asyncio
import ctypes
import itertools
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

Result = TypeVar("Result")

CLONE_NEWNET: Final = 0x40000000
_networks = itertools.count(1)


def why_there_are_none() -> str | None:
    """What is missing where no namespace can be made, as a sentence; None where nothing is."""
    if shutil.which("ip") is None:
        return "network namespaces need the program ip: apt-get install iproute2"
    if os.geteuid() != 0:
        return "network namespaces need root"
    probe = f"sh{os.getpid()}probe"
    made = subprocess.run(["ip", "netns", "add", probe], check=False, capture_output=True, text=True, timeout=10)
    if made.returncode != 0:
        return f"network namespaces cannot be made here: {made.stderr.strip()}"
    try:
        _ip("-n", probe, "rule", "add", "from", "10.0.0.1", "to", "10.0.0.2", "blackhole")
    except subprocess.CalledProcessError as error:
        return f"the kernel has no rules that drop packets: {error.stderr.strip()}"
    finally:
        _ip("netns", "del", probe)
    return None


class Host:
    """One namespace with one address. `await host.do(function, …)` runs a function there."""

    def __init__(self, name: str, namespace: str, address: str) -> None:
        self.name = name
        self.address = address
        self.prefix = ("ip", "netns", "exec", namespace)
        """Before a command it makes it run on this host."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name, initializer=_enter, initargs=(namespace,))

    async def do(self, function: Callable[..., Result], *arguments: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: function(*arguments))

    def socket(self) -> socket.socket:
        """A new TCP socket of this host."""
        return self._thread.submit(socket.socket).result(5)

    def close(self) -> None:
        self._thread.shutdown()


class Network:
    """Hosts, each on a net of its own, and the router between them."""

    def __init__(self) -> None:
        self._prefix = f"sh{os.getpid()}n{next(_networks)}"
        self._router = f"{self._prefix}-router"
        self._hosts: list[Host] = []
        self._namespaces: list[str] = []

    def start(self) -> None:
        self._add(self._router)
        subprocess.run(
            ["ip", "netns", "exec", self._router, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"],
            check=True, timeout=10,
        )  # fmt: skip

    def _add(self, namespace: str) -> None:
        _ip("netns", "add", namespace)
        self._namespaces.append(namespace)
        _ip("-n", namespace, "link", "set", "lo", "up")

    def host(self, name: str) -> Host:
        number = len(self._hosts) + 1
        namespace, gateway, address = f"{self._prefix}-{name}", f"10.77.{number}.1", f"10.77.{number}.2"
        self._add(namespace)
        _ip(
            "-n", self._router, "link", "add", f"to{number}", "type", "veth", "peer", "name", "eth0", "netns", namespace
        )
        for where, device, its in ((self._router, f"to{number}", gateway), (namespace, "eth0", address)):
            _ip("-n", where, "address", "add", f"{its}/24", "dev", device)
            _ip("-n", where, "link", "set", device, "up")
        _ip("-n", namespace, "route", "add", "default", "via", gateway)
        host = Host(name, namespace, address)
        self._hosts.append(host)
        return host

    def cut(self, one: Host, other: Host) -> None:
        """From now on nothing passes between these two, in either direction."""
        self._rules("add", one, other)

    def restore(self, one: Host, other: Host) -> None:
        self._rules("del", one, other)

    def _rules(self, verb: str, one: Host, other: Host) -> None:
        for sender, receiver in ((one, other), (other, one)):
            _ip("-n", self._router, "rule", verb, "from", sender.address, "to", receiver.address, "blackhole")

    def stop(self) -> None:
        for host in self._hosts:
            host.close()
        for namespace in self._namespaces:
            _ip("netns", "del", namespace)


@asynccontextmanager
async def network() -> AsyncIterator[Network]:
    """Processes on its hosts have to end before the block does."""
    made = Network()
    try:
        made.start()
        yield made
    finally:
        made.stop()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=10)


def _enter(namespace: str) -> None:
    with Path("/run/netns", namespace).open() as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter the namespace {namespace}")
