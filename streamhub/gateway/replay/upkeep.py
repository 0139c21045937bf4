"""What is done for all replays of the process: the job that another request cancelled ends its response."""

from streamhub.gateway.gateway import Gateway
from streamhub.gateway.replay import jobs
from streamhub.gateway.replay.stream import Replay
from streamhub.gateway.streams.stream import Cause


class ReplayUpkeep:
    """It looks whenever the gateway's `endings` look."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        gateway.endings.add(self._end_cancelled)

    async def _end_cancelled(self) -> None:
        replays = [stream for stream in self._gateway.streams if isinstance(stream, Replay)]
        if not replays:
            return
        cancelled = set(await jobs.cancelled(self._gateway.hub, [replay.job for replay in replays]))
        for replay in replays if cancelled else ():
            if replay.job in cancelled:
                replay.finish(Cause.REPLAY_CANCELLED)
