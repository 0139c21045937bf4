"""What is done for all live streams of the process: cursors are kept, lost leases and asked ends end their streams."""

from collections.abc import Mapping

from streamhub.gateway.live.shared import LiveShared
from streamhub.gateway.live.stream import LiveStream
from streamhub.gateway.streams.stream import Cause
from streamhub.leases import endings
from streamhub.leases.held import Lease


class LiveUpkeep:
    """`start()` after the gateway's own start; `await stop()` before its stop."""

    def __init__(self, shared: LiveShared) -> None:
        self._shared = shared
        shared.gateway.endings.add(self._end_marked)

    def start(self) -> None:
        self._shared.leases.start(self._moved_cursors, self._leases_lost)

    async def stop(self) -> None:
        await self._shared.leases.stop()

    def _streams(self) -> list[LiveStream]:
        return [stream for stream in self._shared.gateway.streams if isinstance(stream, LiveStream)]

    def _moved_cursors(self) -> Mapping[Lease, str]:
        moved = ((stream.lease, stream.moved_cursor()) for stream in self._streams())
        return {lease: cursor for lease, cursor in moved if cursor is not None}

    def _leases_lost(self, kept: set[Lease]) -> None:
        for stream in self._streams():
            if stream.lease not in kept:
                stream.finish(Cause.LEASE_LOST)

    async def _end_marked(self) -> None:
        if not self._streams():
            return
        marked = set(await endings.asked(self._shared.gateway.hub, self._shared.gateway.node.id))
        for stream in self._streams() if marked else ():
            if stream.lease in marked:
                stream.finish(Cause.DELETED)
