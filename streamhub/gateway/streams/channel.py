"""One event stream's way to its client: headers, chunks, heartbeats, what was acknowledged, and how it ended.

Frames go to the transport directly, joined as they are, in HTTP/1.1 chunks framed here in the way aiohttp frames
them; aiohttp writes the headers and the last chunk. The transport's own buffer is the only queue there is, and
a writer looks at `unsent` or waits for `drained` first.
"""

import asyncio
import fcntl
import logging
import math
import socket
import struct
import termios
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, Final, NamedTuple, Self

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

from streamhub.core import control
from streamhub.core.formats import SSE, Format
from streamhub.gateway.streams.coding import Coding
from streamhub.web import access
from streamhub.web.connection import Connection

log = logging.getLogger(__name__)

HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}
# What the transport may hold before `drained` waits, and down to what it waits.
BUFFER_HIGH: Final = 256 * 1024
BUFFER_LOW: Final = 64 * 1024
NO_PROGRESS: Final = 120.0  # seconds in which a reader takes nothing at all
# A peer that has vanished: what was sent to it stays unacknowledged, and no acknowledgement of anything has come for
# SILENT_FOR seconds. Something must have been under way for a while, too: after a pause of ours the first heartbeat
# meets an old acknowledgement, and has its round trip yet to make.
SILENT_FOR: Final = 20.0
UNDER_WAY_FOR: Final = 5.0
LOOK_EVERY: Final = 2.5  # seconds: how often `look` is to be called
ENDED_WITHIN: Final = 30.0  # seconds for the last bytes to leave
ENDED_IN_HASTE_WITHIN: Final = 5.0
MOST_MARKS: Final = 512
ENCODED_IN_A_THREAD: Final = 32 * 1024  # bytes, from which on encoding takes longer than a thread costs
# Of struct tcp_info in linux/tcp.h: tcpi_unacked, in segments, and tcpi_last_ack_recv, in milliseconds.
_TCP_INFO: Final = struct.Struct("=24xI28xI")


class PeerLeft(Exception):  # noqa: N818 - no error: this is how most streams end
    """The client is gone."""


class Run(NamedTuple):
    """Frames of events for many channels: as they are, and as one HTTP/1.1 chunk. `size` is that of the frames."""

    frames: bytes
    chunk: bytes
    size: int
    first_id: str
    last_id: str

    @classmethod
    def of(cls, frames: bytes, first_id: str, last_id: str) -> Self:
        size = len(frames)
        return cls(frames, b"%x\r\n%b\r\n" % (size, frames), size, first_id, last_id)


class Channel:
    """The response of one stream.

    `on_end` is called on the loop when there is nothing more to write: the peer left, or the token expired.
    `last_id` is that of the last event written; until then its owner's to set, to where the stream begins.
    `acknowledged` is told of a channel that `follows_acknowledgements`.
    """

    __slots__ = (
        "_beat_due",
        "_chunked",
        "_coding",
        "_encoding",
        "_expires_at",
        "_expiry",
        "_format",
        "_handed",
        "_marks",
        "_on_end",
        "_protocol",
        "_response",
        "_transport",
        "_under_way_since",
        "_writer",
        "acknowledged",
        "closed",
        "expired",
        "follows_acknowledgements",
        "last_id",
    )

    def __init__(self, request: web.Request, on_end: Callable[[], None], written: Format = SSE) -> None:
        self._response = web.StreamResponse(headers={"Content-Type": written.media_type, **HEADERS})
        self._format = written
        self._protocol = request.protocol
        self._transport = request.transport
        self._chunked = request.version >= HttpVersion11
        self._coding: Coding | None = None
        self._encoding = False
        self._on_end = on_end
        self._handed = 0
        self._marks: list[tuple[int, str]] = []
        self._beat_due = False
        self._under_way_since: float | None = None
        self._writer: AbstractStreamWriter | None = None
        self._expires_at = math.inf
        self._expiry: asyncio.TimerHandle | None = None
        self.acknowledged: str | None = None
        self.closed = self._transport is None or self._transport.is_closing()
        self.expired = False
        self.follows_acknowledgements = False
        self.last_id: str | None = None

    @property
    def response(self) -> web.StreamResponse:
        return self._response

    @property
    def unsent(self) -> int:
        """Bytes that the transport holds."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    @property
    def got_fin(self) -> bool:
        return isinstance(self._protocol, Connection) and self._protocol.got_fin

    def use(self, coding: Coding) -> None:
        """Encode the whole response; to be called before `open`."""
        self._coding = coding
        self._response.headers["Content-Encoding"] = coding.name

    async def open(self, request: web.Request, first: bytes, expires_at: float) -> None:
        """Send the headers and the first bytes. `expires_at` is the token's end, in seconds of the Unix epoch."""
        if isinstance(self._protocol, Connection):
            self._protocol.listener = self
        self._protocol.keep_alive(True)  # drops the timer for an idle connection; the next request sets one again
        if self._transport is not None:
            self._transport.set_write_buffer_limits(BUFFER_HIGH, BUFFER_LOW)
            sock = self._transport.get_extra_info("socket")
            if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(NO_PROGRESS * 1000))
        self._writer = await self._response.prepare(request)
        access.stream_begins(request, self._response.status)
        await self._response.write(first if self._coding is None else self._coding.encode(first))
        self._handed += len(first)
        self._expires_at = expires_at
        self._watch_expiry()

    def write(self, frames: bytes, last_id: str | None = None) -> None:
        """Hand frames to the transport; `last_id` is the id of the last event in them, if any."""
        if not self.closed and frames:
            self._hand(frames if self._coding is None else self._coding.encode(frames), last_id)

    async def write_page(self, frames: bytes, last_id: str) -> None:
        """As `write`, for frames that may be many: a thread encodes them, while a heartbeat that is due waits."""
        if self._coding is None or len(frames) < ENCODED_IN_A_THREAD:
            self.write(frames, last_id)
            return
        self._encoding = True
        encoded = asyncio.ensure_future(asyncio.to_thread(self._coding.encode, frames))
        interrupted = None
        while not encoded.done():
            try:
                await asyncio.wait({encoded})
            except asyncio.CancelledError as error:
                interrupted = error  # once it is written: the decoder needs every byte that the coding has made
        self._encoding = False
        self._hand(encoded.result(), last_id)
        if interrupted is not None:
            raise interrupted

    def _hand(self, frames: bytes, last_id: str | None = None) -> None:
        if self.closed or self._transport is None or not frames:
            return
        if self._chunked:
            self._transport.writelines((b"%x\r\n" % len(frames), frames, b"\r\n"))
        else:
            self._transport.write(frames)
        # Framing is left out of the count: what is unacknowledged is then taken for more, never for less.
        self._handed += len(frames)
        if last_id is None:
            return
        self.last_id = last_id
        if self.follows_acknowledgements:
            if len(self._marks) >= MOST_MARKS:
                self._marks.pop()  # the later mark stands for both: a cursor may stay behind, never run ahead
            self._marks.append((self._handed, last_id))

    def write_shared(self, run: Run) -> None:
        """Hand a run to the transport as it is: all channels that it is handed to share its bytes. Not for a channel
        that has a coding or follows acknowledgements: it is neither encoded nor counted."""
        if not self.closed and self._transport is not None:
            self._transport.write(run.chunk if self._chunked else run.frames)
            self.last_id = run.last_id

    def beat(self) -> None:
        """A heartbeat is due. While the reader's buffer is full it waits, as one, for the next page or is left out."""
        if self._encoding or self.unsent > BUFFER_LOW:
            self._beat_due = True
        else:
            self._beat_due = False
            self.write(self._format.heartbeat(time.time_ns() // 1_000_000))

    async def drained(self) -> None:
        """Wait until the transport takes more. Raises PeerLeft, also where it takes nothing any more."""
        while not self.closed and self._protocol.writing_paused and self._writer is not None:
            try:
                outstanding = self._outstanding()
                try:
                    async with asyncio.timeout(NO_PROGRESS):
                        await self._writer.drain()
                except TimeoutError:
                    if self._outstanding() >= outstanding:
                        self.abort()
            except OSError:
                break
        if self.closed or self._transport is None or self._transport.is_closing():
            raise PeerLeft
        if self._beat_due:
            self.beat()

    async def drained_within(self, seconds: float) -> bool:
        """Wait as `drained`, but no longer than so; False where the transport does not take more by then."""
        try:
            async with asyncio.timeout(seconds):
                await self.drained()
        except TimeoutError:
            return False
        return True

    def _outstanding(self) -> int:
        """Bytes written and not yet acknowledged by the peer's TCP. Raises OSError where the socket is gone."""
        if self._transport is None or (sock := self._transport.get_extra_info("socket")) is None or sock.fileno() < 0:
            raise OSError("the socket is gone")
        queued: int = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
        return queued + self.unsent

    def sample(self) -> None:
        """Bring `acknowledged` up to date: the last event whose every byte the peer's TCP has acknowledged."""
        if not self._marks:
            return
        try:
            arrived = self._handed - self._outstanding()
        except OSError:
            return  # what was known stays
        passed = bisect_right(self._marks, arrived, key=itemgetter(0))
        if passed:
            self.acknowledged = self._marks[passed - 1][1]
            del self._marks[:passed]

    def look(self) -> None:
        """What is looked at now and then: has the token's end come near, is the peer still there?"""
        self._watch_expiry()
        self._look_after_peer()

    def _look_after_peer(self) -> None:
        """End the connection where the peer's machine is gone: no FIN and no RST will ever come."""
        sock = None if self.closed or self._transport is None else self._transport.get_extra_info("socket")
        if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
            return
        try:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        except OSError:
            return  # on its way out
        unacknowledged, silent_ms = _TCP_INFO.unpack(info)
        now, silent = time.monotonic(), silent_ms / 1_000
        if not unacknowledged:
            self._under_way_since = None
        elif self._under_way_since is None or now - silent > self._under_way_since:
            self._under_way_since = now
        elif silent > SILENT_FOR and now - self._under_way_since >= UNDER_WAY_FOR:
            log.info("a client has not answered for %.0f s: its connection is closed", silent)
            self.sample()
            self.abort()

    async def end(self, error: Mapping[str, Any] | None = None, *, in_haste: bool = False) -> None:
        """End the response, with a `stream_error` where `error` is given. Raises nothing, and gives up in the end."""
        self.forget_expiry()
        if self.closed:
            return
        if error is not None:
            self.write(self._format.control(control.STREAM_ERROR, {**error, "last_id": self.last_id}))
        if self._coding is not None:
            self._hand(self._coding.end())
        try:
            async with asyncio.timeout(ENDED_IN_HASTE_WITHIN if in_haste else ENDED_WITHIN):
                await self._response.write_eof()
                if self._writer is not None:
                    await self._writer.drain()
            self.sample()
        except (ConnectionError, TimeoutError):
            self.abort()
        self.closed = True
        if isinstance(self._protocol, Connection):
            self._protocol.listener = None  # the connection goes on with its next request, if any

    def peer_finished(self) -> None:
        self.sample()

    def peer_left(self) -> None:
        self.closed = True
        self.forget_expiry()
        self._on_end()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self.closed = True

    def forget_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def _watch_expiry(self) -> None:
        """Judged by the wall clock, which the loop's clock does not follow. The timer is there in the last seconds
        alone: thousands of streams would hold as many."""
        left = self._expires_at - time.time()
        if self.closed or self.expired or left > 2 * LOOK_EVERY:
            return
        self.forget_expiry()
        if left <= 0:
            self.expired = True
            self._on_end()
        else:
            self._expiry = asyncio.get_running_loop().call_later(left, self._watch_expiry)
