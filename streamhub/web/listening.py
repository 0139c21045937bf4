"""Listening sockets, from which connections are taken a few at a time.

An event loop takes all that wait at once: of a herd of thousands that is seconds in which no stream gets an event or a
heartbeat, and no lease is renewed. Here each turn of the loop takes a few, and everything else has its turn in between.
"""

import asyncio
import contextlib
import errno
import logging
import socket
import time
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

AT_A_TIME: Final = 4
BACKLOG: Final = 4096  # what may wait; the kernel has a bound of its own
SHORT_OF: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
TAKEN_WITHIN: Final = 1.0  # seconds, at the end
PAUSE: Final = 0.2  # seconds, where there is no file or memory for a further connection
TOLD_EVERY: Final = 60.0  # seconds


class Listening:
    """`await start(…)`; `stop()` at the end."""

    def __init__(self, protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        self._protocol = protocol
        self._sockets: list[socket.socket] = []
        self._taking: set[asyncio.Task[object]] = set()
        self._pauses: set[asyncio.TimerHandle] = set()
        self._told_at = float("-inf")

    async def start(self, host: str, port: int, *, reuse_port: bool) -> int:
        """Listen on all addresses of `host`; the port. Raises OSError."""
        loop = asyncio.get_running_loop()
        # Python keeps an IPv6 socket from hearing IPv4. No host at all is both, one socket each.
        where = None if host in ("::", "") else host
        # It knows how to bind; what it accepts it accepts without a bound, so it does not get that far.
        server = await loop.create_server(
            asyncio.Protocol, where, port, reuse_port=reuse_port or None, start_serving=False
        )
        self._sockets = [socket.socket(fileno=socket.dup(each.fileno())) for each in server.sockets]
        server.close()
        for each in self._sockets:
            each.setblocking(False)
            each.listen(BACKLOG)
            loop.add_reader(each, self._take, each)
        bound: int = min(self._sockets, key=lambda each: each.family != socket.AF_INET).getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Take what waits, so that it is answered, and nothing more."""
        loop = asyncio.get_running_loop()
        for pause in self._pauses:
            pause.cancel()
        for each in self._sockets:
            loop.remove_reader(each)
            while self._take_some(each):
                pass
            each.close()
        self._sockets.clear()
        if self._taking:
            await asyncio.wait(self._taking, timeout=TAKEN_WITHIN)

    def _take(self, listening: socket.socket) -> None:
        self._take_some(listening)

    def _take_some(self, listening: socket.socket) -> bool:
        """Whether more may wait."""
        loop = asyncio.get_running_loop()
        for _ in range(AT_A_TIME):
            try:
                taken, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return False
            except OSError as error:
                if error.errno not in SHORT_OF:
                    raise
                self._pause(listening, error)
                return False
            taken.setblocking(False)
            with contextlib.suppress(OSError):
                taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task: asyncio.Task[object] = loop.create_task(self._serve(taken))
            self._taking.add(task)
            task.add_done_callback(self._taking.discard)
        return True

    async def _serve(self, taken: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, taken)
        except OSError as error:
            log.debug("a connection was gone before it was served: %r", error)
            taken.close()

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        """The socket stays readable: without a pause it would be tried over and over again."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)
        if time.monotonic() - self._told_at > TOLD_EVERY:
            self._told_at = time.monotonic()
            log.warning("no connection can be accepted, retrying in %g s: %s; open ones go on", PAUSE, error.strerror)

        def go_on() -> None:
            self._pauses.discard(pause)
            loop.add_reader(listening, self._take, listening)

        pause = loop.call_later(PAUSE, go_on)
        self._pauses.add(pause)
