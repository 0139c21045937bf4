"""Broadcast beside the floor of this stack (floor.py), in one run: fan-out, a stalled reader, filters, idle streams.

A latency is the time from an event's id (a millisecond) to its arrival at a subscriber. The floor makes ids when it
hands a frame over, the relay when an append begins; so the hub's latencies hold the commit of the append.
"""

import asyncio
import multiprocessing
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple

import asyncpg

from benchmarks.stage import Result, Stage, percentiles, processor_seconds, resident
from servers.ports import free_port
from streamhub import capture
from streamhub.capture import CaptureSpec

SUBSCRIBERS = 1_000
RATE, SECONDS, SIZE = 100, 15, 600
FILTERED_RATE, FILTERED_SECONDS = 1_000, 15
FEW, STALL, STALLED_SECONDS = 20, 8, 10
IDLE = 4_000
IDLE_ORGANIZATIONS = 4
FILES = 10_000
TABLE = """
CREATE TABLE ticks (id text PRIMARY KEY, organization_id text, note text) WITH (fillfactor = 50);
INSERT INTO ticks SELECT 'tick_' || n, 'org_0', '' FROM generate_series(0, 9999) AS n;
"""
UPDATE_MANY = """
UPDATE ticks SET note = $2::text || repeat('x', 60)
 WHERE id IN (SELECT 'tick_' || n FROM generate_series($1::int, $1 + 29) AS n)
"""
UPDATE = "UPDATE ticks SET note = $2 WHERE id = $1"


class Seen(NamedTuple):
    """`latencies` in ms; `events` of each stream, `inversions` of all: events that did not come in the order of ids."""

    latencies: list[float]
    events: list[int]
    inversions: int


class Floor(NamedTuple):
    process: "subprocess.Popen[bytes]"
    port: int

    def cpu_seconds(self) -> float:
        return processor_seconds(self.process.pid)

    def rss(self) -> int:
        return resident(self.process.pid)


@asynccontextmanager
async def floor() -> AsyncIterator[Floor]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.floor", str(port)])
    try:
        for _ in range(100):
            await asyncio.sleep(0.1)
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                continue
            writer.close()
            break
        yield Floor(process, port)
    finally:
        process.kill()
        process.wait()


def subscribe(port: int, requests: Sequence[bytes], stall: float, to: Connection) -> None:
    """Opens a stream a request, and says so; reads until a message on `to`, then sends what was Seen. The first stream
    is not read before `stall` seconds have passed."""
    allow_files()
    poll, streams, latencies = select.epoll(), {}, []
    for asked in requests:
        stream = socket.create_connection(("127.0.0.1", port))
        stream.sendall(asked)
        answer = stream.recv(1 << 16)
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise SystemExit(f"a stream was refused: {answer!r}")
        streams[stream.fileno()] = stream
        poll.register(stream, select.EPOLLIN)
    to.send(None)
    now, resume_at = time.time, time.monotonic() + stall
    last, events, inversions = dict.fromkeys(streams, 0), dict.fromkeys(streams, 0), 0
    rest = dict.fromkeys(streams, b"")
    first = next(iter(streams))
    if stall:
        poll.unregister(first)
    while not to.poll():
        if stall and time.monotonic() > resume_at:
            poll.register(first, select.EPOLLIN)
            stall = 0
        for fileno, _ in poll.poll(0.1, len(streams)):
            data, at = rest[fileno] + streams[fileno].recv(1 << 16), 0
            while (at := data.find(b"id: ", at)) >= 0 and len(data) >= at + 17:
                sent = int(data[at + 4 : at + 12] + data[at + 13 : at + 17], 16)
                at += 17
                latencies.append(now() * 1_000 - sent)
                inversions += sent < last[fileno]
                last[fileno] = sent
                events[fileno] += 1
            rest[fileno] = data[-3:] if at < 0 else data[at:]
    to.send(Seen(latencies, list(events.values()), inversions))
    to.recv()


def allow_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, hard), hard))


@asynccontextmanager
async def subscribed(
    port: int, requests: Sequence[bytes], stall: float = 0
) -> AsyncIterator[Callable[[], Awaitable[Seen]]]:
    """What is called within the block ends the reading."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=subscribe, args=(port, requests, stall, theirs))
    process.start()
    await asyncio.to_thread(ours.recv)

    async def seen() -> Seen:
        ours.send(None)
        found: Seen = await asyncio.to_thread(ours.recv)
        return found

    try:
        yield seen
    finally:
        ours.send(None)
        process.join(20)


def asked(path: str, token: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


async def prepare(stage: Stage) -> str:
    """A database whose table `ticks` is captured."""
    url = await stage.database(sample=False)
    connection = await asyncpg.connect(url)
    await connection.execute(TABLE)
    await capture.add(connection, CaptureSpec("ticks", resource_type="ticks", organization_column="organization_id"))
    await connection.close()
    return url


async def commit(url: str, rate: int, seconds: int, size: int) -> None:
    """So many commits a second of a row whose event has about `size` bytes, by one connection."""
    connection = await asyncpg.connect(url)
    update = await connection.prepare(UPDATE)
    began = time.monotonic()
    for number in range(rate * seconds):
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        await update.fetch(f"tick_{number % 10_000}", str(time.time_ns()).ljust((size - 420) // 3, "x"))
    await connection.close()


async def fan_out(stage: Stage) -> list[Result]:
    async with floor() as bare, subscribed(bare.port, [asked("/sse")] * SUBSCRIBERS) as seen:
        before = bare.cpu_seconds()
        query = f"rate={RATE}&seconds={SECONDS}&size={SIZE}"
        reader, writer = await asyncio.open_connection("127.0.0.1", bare.port)
        writer.write(f"POST /bench?{query} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await asyncio.sleep(1)
        floor_cpu = bare.cpu_seconds() - before
        floor_seen = await seen()
    url = await prepare(stage)
    async with stage.hub(url) as hub:
        await commit(url, 10, 1, SIZE)  # registers the organization
        token = stage.token("org_0", "org-0", scope="events:read")
        async with subscribed(hub.port, [asked("/org-0/events/stream", token)] * SUBSCRIBERS) as seen:
            before = hub.cpu_seconds()
            await commit(url, RATE, SECONDS, SIZE)
            await asyncio.sleep(1)
            hub_cpu, hub_seen = hub.cpu_seconds() - before, await seen()
    what = f"{SUBSCRIBERS:,} subscribers of one organization, {RATE} events/s of {SIZE} bytes"
    p50, p99 = (ratio(hub_seen.latencies, floor_seen.latencies, share) for share in (0.5, 0.99))
    return [
        Result(f"{what}: the bare floor, ms", percentiles(floor_seen.latencies), ""),
        Result("  broadcast, from the id, ms", percentiles(hub_seen.latencies), ""),
        Result("  times the floor at p50 and p99", f"{p50:.2f}, {p99:.2f}", "1.5 and 2"),
        Result(
            "  delivered, of the floor and of broadcast",
            f"{len(floor_seen.latencies):,}, {len(hub_seen.latencies):,}",
            f"{RATE * SECONDS * SUBSCRIBERS:,}",
        ),
        Result(
            "  CPU s for a million, of the floor and of the hub with its relay",
            f"{floor_cpu / len(floor_seen.latencies) * 1e6:.1f}, {hub_cpu / len(hub_seen.latencies) * 1e6:.1f}",
            "",
        ),
    ]


def ratio(ours: Sequence[float], floors: Sequence[float], share: float) -> float:
    return sorted(ours)[int(len(ours) * share)] / sorted(floors)[int(len(floors) * share)]


async def stalled(stage: Stage) -> list[Result]:
    url = await prepare(stage)
    async with stage.hub(url) as hub:
        await commit(url, 10, 1, SIZE)
        requests = [asked("/org-0/events/stream", stage.token("org_0", "org-0", scope="events:read"))] * FEW
        async with subscribed(hub.port, requests, STALL) as seen:
            connection = await asyncpg.connect(url)
            began = time.monotonic()
            for number in range(STALLED_SECONDS * 100):
                await asyncio.sleep(max(0.0, began + number / 100 - time.monotonic()))
                await connection.execute(UPDATE_MANY, number * 30 % 9_000, str(number))
            await connection.close()
            await asyncio.sleep(5)
            found = await seen()
    events = STALLED_SECONDS * 3_000
    return [
        Result(
            f"{FEW} subscribers at 3,000 events/s, one of them stalled for {STALL} s: events lost",
            f"{sum(events - each for each in found.events)}",
            "0",
        ),
        Result("  out of order", f"{found.inversions}", "0"),
    ]


async def filtered(stage: Stage) -> list[Result]:
    """The gateway's processor time, in a process without the relay."""
    seconds = {}
    for what, query in (
        ("nothing by type", "types=other.*"),
        ("by different equality filters", "resource.id_eq=tick_{}"),
    ):
        url = await prepare(stage)
        token = stage.token("org_0", "org-0", scope="events:read")
        async with stage.hub(url, roles="relay"), stage.hub(url, roles="gateway") as hub:
            await commit(url, 10, 1, SIZE)
            requests = [asked(f"/org-0/events/stream?{query.format(n)}", token) for n in range(SUBSCRIBERS)]
            async with subscribed(hub.port, requests) as seen:
                before = hub.cpu_seconds()
                await asyncio.gather(*(commit(url, FILTERED_RATE // 4, FILTERED_SECONDS, SIZE) for _ in range(4)))
                await asyncio.sleep(1)
                seconds[what] = (hub.cpu_seconds() - before) / FILTERED_SECONDS
                await seen()
    cores = ", ".join(f"{used:.2f} ({what})" for what, used in seconds.items())
    first, second = seconds.values()
    return [
        Result(f"{SUBSCRIBERS:,} subscribers at {FILTERED_RATE:,} events/s in, cores of the gateway", cores, ""),
        Result("  the filters cost, of a core", f"{second - first:.2f}", "under 0.5"),
    ]


async def idle(stage: Stage) -> list[Result]:
    allow_files()  # servers inherit it
    async with floor() as bare:
        before = bare.rss()
        async with subscribed(bare.port, [asked("/sse")] * IDLE) as seen:
            await asyncio.sleep(2)
            floor_each = (bare.rss() - before) / IDLE / 1_024
            await seen()
    url = await stage.database(sample=False)
    connection = await asyncpg.connect(url)
    await connection.execute(
        "INSERT INTO streamhub_hub.organizations (id, slug, slug_is_made, enterprise) "
        "SELECT 'org_' || n, 'org-' || n, false, true FROM generate_series(0, $1 - 1) AS n",
        IDLE_ORGANIZATIONS,
    )
    await connection.close()
    tokens = [stage.token(f"org_{n}", f"org-{n}", scope="events:read") for n in range(IDLE_ORGANIZATIONS)]
    requests = [asked(f"/org-{n % 4}/events/stream", tokens[n % 4]) for n in range(IDLE)]
    async with stage.hub(url, roles="gateway") as hub:
        await asyncio.sleep(3)
        before = hub.rss()
        async with subscribed(hub.port, requests) as seen:
            await asyncio.sleep(5)
            hub_each = (hub.rss() - before) / IDLE / 1_024
            await seen()
    return [
        Result(
            f"{IDLE:,} idle broadcast streams of {IDLE_ORGANIZATIONS} organizations: KB of RSS each",
            f"{hub_each:.1f}",
            f"{floor_each + 3:.1f}",
        ),
        Result("  the bare floor, KB of RSS each", f"{floor_each:.1f}", ""),
    ]


async def measure(stage: Stage) -> list[Result]:
    return [*await fan_out(stage), *await stalled(stage), *await filtered(stage), *await idle(stage)]
