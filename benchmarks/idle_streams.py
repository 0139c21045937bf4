"""The cost of an idle live stream: 4,000 of them, of as many organizations, on one gateway."""

import asyncio
import multiprocessing
import resource
import selectors
import socket
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection

import asyncpg

from benchmarks.stage import Result, Stage

STREAMS = 4_000
SECONDS = 30
SETTLE = 12  # seconds; longer than the interval of heartbeats
FILES = STREAMS + 1_000
REGISTER = """
INSERT INTO streamhub_hub.organizations (id, slug, slug_is_made, enterprise)
SELECT 'org_' || n, 'org-' || n, false, true FROM generate_series(0, $1 - 1) AS n
"""
WRITTEN = "SELECT n_tup_upd FROM pg_stat_all_tables WHERE relid = 'streamhub_hub.streams'::regclass"


def hold_streams(port: int, tokens: Sequence[str], to: Connection) -> None:
    """Open the streams one by one, report it, and read until a message on `to`. Then send the number of heartbeats
    since the opening."""
    allow_files()
    streams = selectors.DefaultSelector()
    for n, token in enumerate(tokens):
        stream = socket.create_connection(("127.0.0.1", port))
        stream.sendall(f"GET /org-{n} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        answer = stream.recv(1 << 16)
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise SystemExit(f"stream {n} was refused: {answer!r}")
        streams.register(stream, selectors.EVENT_READ)
    to.send(None)
    beats = 0
    while not to.poll():
        for key, _ in streams.select(0.1):
            beats += key.fileobj.recv(1 << 16).count(b"event: heartbeat")
    to.send(beats)
    to.recv()


def allow_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, max(hard, FILES)))


async def measure(stage: Stage) -> list[Result]:
    url = await stage.database(sample=False)
    connection = await asyncpg.connect(url)
    await connection.execute(REGISTER, STREAMS)
    tokens = [stage.token(f"org_{n}", f"org-{n}") for n in range(STREAMS)]
    allow_files()  # the hub inherits it
    async with stage.hub(url, roles="gateway") as hub:
        await asyncio.sleep(3)
        before = hub.rss()
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=hold_streams, args=(hub.port, tokens, theirs))
        began = time.perf_counter()
        process.start()
        await asyncio.to_thread(ours.recv)
        opened = time.perf_counter() - began
        await asyncio.sleep(SETTLE)
        held, cpu, written = hub.rss() - before, hub.cpu_seconds(), await connection.fetchval(WRITTEN)
        await asyncio.sleep(SECONDS)
        cpu = (hub.cpu_seconds() - cpu) / SECONDS * 100
        await connection.execute("SELECT pg_stat_force_next_flush()")
        written = await connection.fetchval(WRITTEN) - written
        ours.send(None)
        beats = await asyncio.to_thread(ours.recv)
        ours.send(None)
        process.join(20)
    await connection.close()
    if beats < STREAMS * SECONDS / 10:
        raise SystemExit(f"{beats} heartbeats of {STREAMS} streams in over {SECONDS} s")
    return [
        Result(
            f"an idle live stream, {STREAMS:,} of them on one gateway: KB of RSS", f"{held / STREAMS / 1024:.1f}", "16"
        ),
        Result("  the gateway with their heartbeats, % of a core", f"{cpu:.1f}", "under 10"),
        Result(f"  rows of leases and cursors written in {SECONDS} s", f"{written}", ""),
        Result("  opened one after the other, streams/s", f"{STREAMS / opened:,.0f}", ""),
    ]
