"""What is done for all replays of the process: the job that another request cancelled ends its response."""

from streamhub.gateway.gateway import Gateway
from streamhub.gateway.replay import jobs
from streamhub.gateway.replay.stream import Replay
from streamhub.gateway.streams.stream import Cause


async def end_cancelled(gateway: Gateway) -> None:
    """A look for `gateway.endings`. Raises what asyncpg raises."""
    replays = [stream for stream in gateway.streams if isinstance(stream, Replay)]
    if not replays:
        return
    cancelled = set(await jobs.cancelled(gateway.hub, [replay.job for replay in replays]))
    for replay in replays if cancelled else ():
        if replay.job in cancelled:
            replay.finish(Cause.REPLAY_CANCELLED)
