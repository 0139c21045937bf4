"""The latency of a live stream, from commit to frame, while a replay runs at full speed in the same process."""

import asyncio
import multiprocessing
from multiprocessing.connection import Connection

from benchmarks import latency, replay
from benchmarks.stage import Result, Stage, percentiles
from streamhub.core.window import timestamp

EVENTS = 1_000_000
SECONDS = 30


def replay_again_and_again(port: int, path: str, token: str, to: Connection) -> None:
    """Run one replay after another until a message on `to`. Then send (events, seconds) of the finished ones."""
    events, seconds = 0, 0.0
    to.send(True)
    while not to.poll():
        took, _, last = replay.read_replay(port, path, token)
        if f'"events":{EVENTS}'.encode() not in last:
            raise SystemExit(f"not every event came: {last!r}")
        events, seconds = events + EVENTS, seconds + took
    to.send((events, seconds))


async def measure(stage: Stage) -> list[Result]:
    url = await stage.database()
    start_ms, end_ms = await replay.fill(url, EVENTS)
    path = f"/my-org/replay?date_from={timestamp(start_ms)}&date_to={timestamp(end_ms)}"
    async with stage.hub(url) as hub:
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        arguments = (hub.port, path, stage.token("org_1", "my-org"), theirs)
        process = spawn.Process(target=replay_again_and_again, args=arguments)
        process.start()
        await asyncio.to_thread(ours.recv)
        latencies = await latency.commit_to_frame(stage, url, hub, SECONDS)
        ours.send(None)
        events, seconds = await asyncio.to_thread(ours.recv)
        process.join(20)
    return [
        Result(
            f"COMMIT sent to frame, {len(latencies) / SECONDS:.0f} commits/s, a replay in the same process, ms",
            percentiles(latencies),
            "p99 40",
        ),
        Result(f"  the replays of {EVENTS:,} events meanwhile, events/s", f"{events / seconds:,.0f}", ""),
    ]
