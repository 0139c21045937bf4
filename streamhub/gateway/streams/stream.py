"""What all kinds of streams have in common: one task that feeds one channel until something ends it."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, ClassVar, Final, Literal

from aiohttp import web

from streamhub.core.formats import SSE, Format
from streamhub.gateway.streams.channel import Channel, PeerLeft
from streamhub.metrics import Sent
from streamhub.web.connection import Connection

log = logging.getLogger(__name__)


Kind = Literal["live", "broadcast", "replay"]
# The kinds there are, in the order in which they are drained, with the states in which metrics count their streams.
STATES: Final[Mapping[Kind, Sequence[str]]] = {
    "live": ("opening", "catching_up", "live", "ending"),
    "broadcast": ("opening", "catching_up", "live", "ending"),
    "replay": ("queued", "running"),
}


class Cause(Enum):
    """Why a stream ended. The values but for the first two are the codes of stream_error."""

    COMPLETED = "completed"
    LEFT = "left"
    EXPIRED_TOKEN = "EXPIRED_TOKEN"  # noqa: S105
    DELETED = "DELETED"
    REPLAY_CANCELLED = "REPLAY_CANCELLED"
    LEASE_LOST = "LEASE_LOST"
    DRAINING = "DRAINING"
    INTERNAL = "INTERNAL"


DETAILS: Final[Mapping[Cause, str]] = {
    Cause.EXPIRED_TOKEN: "The token has expired, or its API key was revoked: go on with a new one.",
    Cause.DELETED: "The stream was ended by a request to delete it.",
    Cause.REPLAY_CANCELLED: "The replay was cancelled.",
    Cause.LEASE_LOST: "This gateway was cut off for so long that another one may have taken the stream: connect again.",
    Cause.DRAINING: "This gateway is shutting down: connect again.",
    Cause.INTERNAL: "Something went wrong on our side: connect again, and go on from the last event.",
}
NOT_RESUMABLE: Final = (Cause.DELETED, Cause.REPLAY_CANCELLED)


def stream_error(cause: Cause) -> dict[str, Any] | None:
    """What the client is told; None where it left, or has everything."""
    if cause not in DETAILS:
        return None
    return {"code": cause.value, "detail": DETAILS[cause], "resumable": cause not in NOT_RESUMABLE}


class Stream:
    """Subclasses feed the channel in `feed`; `finish` ends it from anywhere, whatever it is waiting for. `api_key`: the
    id of the API key that opened it, if any."""

    __slots__ = ("_sent", "_task", "api_key", "cause", "channel")

    kind: ClassVar[Kind]

    def __init__(self, request: web.Request, sent: Sent, written: Format = SSE) -> None:
        self.channel = Channel(request, self._channel_ended, written)
        self.api_key = request.protocol.api_key if isinstance(request.protocol, Connection) else None
        self.cause: Cause | None = None
        self._sent = sent
        self._task: asyncio.Task[object] | None = None

    @property
    def state(self) -> str:
        """One of STATES of its kind."""
        raise NotImplementedError

    async def feed(self) -> None:
        """Write until all is written (return), or until `finish` interrupts."""
        raise NotImplementedError

    def send(self, frames: bytes, last_id: str | None, events: int) -> None:
        """Hand the frames of so many events to the channel."""
        self.channel.write(frames, last_id)
        self._sent.count(events, len(frames))

    async def send_page(self, frames: bytes, last_id: str, events: int) -> None:
        """As `send`, for frames that may be many. Where it is interrupted, they are sent all the same."""
        self._sent.count(events, len(frames))
        await self.channel.write_page(frames, last_id)

    def finish(self, cause: Cause) -> None:
        """The first cause counts."""
        if self.cause is None:
            self.cause = cause
            if self._task is not None:
                self._task.cancel()

    def _channel_ended(self) -> None:
        self.finish(Cause.EXPIRED_TOKEN if self.channel.expired else Cause.LEFT)

    async def fed(self) -> Cause:
        """Feed to the end, and say why it ended. A cancellation that is not ours goes on as one."""
        task = asyncio.current_task()
        assert task is not None
        ended = Cause.COMPLETED
        try:
            if self.cause is None:
                self._task = task
                await self.feed()
        except asyncio.CancelledError:
            if self.cause is None:
                self.cause = Cause.DRAINING
                raise
        except PeerLeft:
            ended = Cause.LEFT
        except Exception:
            log.exception("a stream failed")
            ended = Cause.INTERNAL
        self._task = None
        if self.cause is None:
            self.cause = ended
        elif task.cancelling():
            task.uncancel()
            try:
                await asyncio.sleep(0)  # where the interruption came too late to interrupt anything
            except asyncio.CancelledError:
                log.debug("a stream was interrupted after its end")
        return self.cause
