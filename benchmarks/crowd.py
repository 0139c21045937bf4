"""Many clients at once: 4,000 streams opened together, and 1,000 connections that read the metrics without pause."""

import multiprocessing
import re
import selectors
import socket
import time
from asyncio import sleep, to_thread
from collections.abc import Sequence
from multiprocessing.connection import Connection

import asyncpg

from benchmarks.idle_streams import REGISTER, allow_files
from benchmarks.latency import commit_to_frame
from benchmarks.stage import HubProcess, Result, Stage, percentiles

STREAMS = 4_000
OPEN_BEFORE = 50
HEARTBEAT = 10.0  # seconds
GIVE_UP = 120.0  # seconds
ASKING = 1_000
RATE = 100  # commits a second
SECONDS = 20
WRITERS_WITHIN = 12.0  # seconds; writers may be late on a busy machine
LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


def request(path: str, token: str = "") -> bytes:
    authorization = f"Authorization: Bearer {token}\r\n" if token else ""
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n{authorization}\r\n".encode()


def hold(port: int, tokens: Sequence[str], to: Connection) -> None:
    """Open the streams one by one, report it, and read until a message on `to`. Then send the longest time between two
    heartbeats of one stream."""
    streams, beats, longest = selectors.DefaultSelector(), {}, 0.0
    for n, token in enumerate(tokens):
        stream = socket.create_connection(("127.0.0.1", port))
        stream.sendall(request(f"/org-{n}", token))
        if not stream.recv(1 << 16).startswith(b"HTTP/1.1 200 "):
            raise SystemExit(f"stream {n} was refused")
        beats[n] = time.monotonic()
        streams.register(stream, selectors.EVENT_READ, n)
    to.send(None)
    while not to.poll():
        for key, _ in streams.select(0.1):
            if b"event: heartbeat" in key.fileobj.recv(1 << 16):  # type: ignore[union-attr]
                now = time.monotonic()
                longest, beats[key.data] = max(longest, now - beats[key.data]), now
    to.send(max(longest, *(time.monotonic() - beat for beat in beats.values())))


def open_at_once(port: int, tokens: Sequence[str], first: int, to: Connection) -> None:
    """Sends (status, seconds until it) of each stream, and this process's processor time."""
    allow_files()
    streams, answers = selectors.DefaultSelector(), {}
    began, used = time.monotonic(), time.process_time()
    for n, token in enumerate(tokens, start=first):
        stream = socket.socket()
        stream.setblocking(False)
        stream.connect_ex(("127.0.0.1", port))
        streams.register(stream, selectors.EVENT_WRITE, (n, token))
    while len(answers) < len(tokens) and time.monotonic() - began < GIVE_UP:
        for key, ready in streams.select(1):
            n, token = key.data
            if ready & selectors.EVENT_WRITE:
                key.fileobj.sendall(request(f"/org-{n}", token))  # type: ignore[union-attr]
                streams.modify(key.fileobj, selectors.EVENT_READ, key.data)
            else:
                try:
                    answer = key.fileobj.recv(1 << 16)[9:12].decode() or "closed"  # type: ignore[union-attr]
                except OSError as error:
                    answer = type(error).__name__
                answers.setdefault(n, (answer, time.monotonic() - began))
                if answer == "closed":
                    streams.unregister(key.fileobj)
    to.send((list(answers.values()), time.process_time() - used))
    to.recv()


def ask_without_pause(port: int, path: str, connections: int, to: Connection) -> None:
    """Run until a message on `to`. Then send the number of answers of each status."""
    allow_files()
    asking, seen = selectors.DefaultSelector(), {}
    for _ in range(connections):
        peer = socket.create_connection(("127.0.0.1", port))
        peer.sendall(request(path))
        asking.register(peer, selectors.EVENT_READ, bytearray())
    to.send(None)
    while not to.poll():
        for key, _ in asking.select(0.1):
            got: bytearray = key.data
            try:
                more = key.fileobj.recv(1 << 18)  # type: ignore[union-attr]
            except OSError:
                more = b""
            if not more:
                asking.unregister(key.fileobj)
                continue
            got += more
            head, _, body = bytes(got).partition(b"\r\n\r\n")
            length = LENGTH.search(head)
            if length is not None and len(body) >= int(length[1]):
                status = head[9:12].decode()
                seen[status] = seen.get(status, 0) + 1
                got.clear()
                key.fileobj.sendall(request(path))  # type: ignore[union-attr]
    to.send(seen)


async def herd(stage: Stage) -> list[Result]:
    url = await stage.database(sample=False)
    connection = await asyncpg.connect(url)
    await connection.execute(REGISTER, OPEN_BEFORE + STREAMS)
    await connection.close()
    tokens = [stage.token(f"org_{n}", f"org-{n}") for n in range(OPEN_BEFORE + STREAMS)]
    allow_files()  # the hub inherits it
    spawn = multiprocessing.get_context("spawn")
    async with stage.hub(url, roles="gateway") as hub:
        held, holder = spawn.Pipe()
        before = spawn.Process(target=hold, args=(hub.port, tokens[:OPEN_BEFORE], holder))
        before.start()
        await to_thread(held.recv)
        ours, theirs = spawn.Pipe()
        crowd = spawn.Process(target=open_at_once, args=(hub.port, tokens[OPEN_BEFORE:], OPEN_BEFORE, theirs))
        hub_before, postgres_before = hub.cpu_seconds(), stage.postgres_seconds()
        crowd.start()
        answers, client = await to_thread(ours.recv)
        gateway, postgres = hub.cpu_seconds() - hub_before, stage.postgres_seconds() - postgres_before
        await sleep(HEARTBEAT + 2)
        held.send(None)
        gap = await to_thread(held.recv)
        lost = lost_leases(hub)
        ours.send(None)
        crowd.join(20)
        before.join(20)
    refused = sorted({answer for answer, _ in answers} - {"200"})
    taken = sum(answer == "200" for answer, _ in answers)
    return [
        Result(f"{STREAMS:,} streams of as many organizations opened at once: answered 200", f"{taken:,}", "all"),
        Result("  others were", ", ".join(refused) or "none", "none"),
        Result("  seconds to the 200", percentiles([after for _, after in answers]), "worst 30"),
        Result("  a heartbeat of an open stream late by, s", f"{max(0.0, gap - HEARTBEAT):.2f}", "under 2"),
        Result("  processor seconds until the last one: gateway", f"{gateway:.2f}", ""),
        Result("  … PostgreSQL", f"{postgres:.2f}", ""),
        Result("  … the client", f"{client:.2f}", ""),
        Result("  leases lost", f"{lost}", "0"),
    ]


async def flood(stage: Stage) -> list[Result]:
    url = await stage.database()
    allow_files()
    spawn = multiprocessing.get_context("spawn")
    async with stage.hub(url) as hub:
        ours, theirs = spawn.Pipe()
        crowd = spawn.Process(target=ask_without_pause, args=(hub.port, "/-/metrics", ASKING, theirs))
        crowd.start()
        await to_thread(ours.recv)
        latencies = await commit_to_frame(stage, url, hub, SECONDS, patience=WRITERS_WITHIN, rate=RATE)
        ours.send(None)
        seen = await to_thread(ours.recv)
        lost = lost_leases(hub)
        crowd.join(20)
    answered = ", ".join(
        f"{count / (SECONDS + WRITERS_WITHIN):.0f} × {status}" for status, count in sorted(seen.items())
    )
    return [
        Result(
            f"{ASKING:,} connections ask for /-/metrics without pause: COMMIT sent to frame of a tenant, ms",
            percentiles(latencies),
            "p99 100",
        ),
        Result("  answers a second meanwhile", answered, ""),
        Result("  leases lost", f"{lost}", "0"),
    ]


def lost_leases(hub: HubProcess) -> int:
    return hub.log.read_text("utf-8").count("the node's row had expired")


async def measure(stage: Stage) -> list[Result]:
    return [*await herd(stage), *await flood(stage)]
