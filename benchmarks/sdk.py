"""The client into a handler, beside httpx-sse parsing the same bytes: 200,000 events of about 600 bytes, in turns.

A process of its own sends them from memory, so what is measured is the client. httpx-sse gets its bytes once over
httpx, as its users do, and once from memory, which is its parser alone. No handler looks into an event, but one line
says what it costs to. All figures are of processor time: the sender shares the machine.
"""

import asyncio
import hashlib
import json
import multiprocessing
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from multiprocessing.connection import Connection

import httpx
import uvloop
from httpx_sse import EventSource

from benchmarks.stage import Result, Stage, spread
from streamhub.client import StreamHub
from streamhub.core import ids

EVENTS = 200_000
RUNS = 5
CHUNK = 64 * 1024
BEGINNING = b"retry: 6000\n\nevent: heartbeat\ndata: 2026-11-22T10:00:00.000Z\n\n"
FILLER = "A T-shirt of combed cotton, pre-shrunk, in twelve colours; wash at 30 degrees, do not tumble dry. "
WINDOW = {"date_from": "2026-11-22T10:00:00Z", "date_to": "2026-11-22T11:00:00Z"}


def frames() -> bytes:
    found = []
    for n, id_ in enumerate(ids.event_ids(1_795_000_000_000, 0, EVENTS)):
        data = (
            f'{{"id":"{id_}","type":"skus.update","event":"update","resource_type":"skus","resource_id":"sku_{n}",'
            f'"organization":{{"id":"org_1","slug":"my-org"}},"test":false,"created_at":"2026-11-22T10:00:00.123456Z",'
            f'"transaction_id":"{n}","resource":{{"id":"sku_{n}","code":"TSHIRT-{n}","price":"12.50","currency":"EUR",'
            f'"description":"{FILLER}"}},"delta":{{"price":{{"from":"10.00","to":"12.50"}}}},'
            f'"who":{{"application":"importer"}}}}'
        )
        found.append(f"event: update\nid: {id_}\ndata: {data}\n\n")
    return "".join(found).encode()


def replay_of(events: bytes) -> bytes:
    complete = {"events": EVENTS, "sha256": hashlib.sha256(events).hexdigest()}
    return events + f"event: stream_complete\ndata: {json.dumps(complete)}\n\n".encode()


def serve(ready: Connection) -> None:
    events = frames()
    bodies = {b"replay": replay_of(events), b"live": BEGINNING + events}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = bodies[b"replay" if b"/replay" in head.split(b"\r\n")[0] else b"live"]
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            for start in range(0, len(body), CHUNK):
                chunk = body[start : start + CHUNK]
                writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                await writer.drain()
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        except ConnectionError:
            pass  # the client has all that it asked for
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await asyncio.to_thread(ready.recv)
        server.close()

    uvloop.run(run())


class Handler:
    def __init__(self) -> None:
        self.events = 0

    def __call__(self, _event: object) -> None:
        self.events += 1


async def replayed(port: int) -> int:
    handler = Handler()
    async with StreamHub(f"http://127.0.0.1:{port}", org="my-org", token="t") as hub:
        async for event in hub.replay(**WINDOW):  # type: ignore[arg-type]
            handler(event)
    return handler.events


async def live(port: int, looks: bool = False) -> int:
    handler = Handler()
    async with StreamHub(f"http://127.0.0.1:{port}", org="my-org", token="t") as hub, hub.live() as events:
        async for event in events:
            if looks:
                _ = event.resource
            handler(event)
            if handler.events == EVENTS:
                break
    return handler.events


async def looked_into(port: int) -> int:
    return await live(port, looks=True)


async def realtime(port: int) -> int:
    handler, done = Handler(), asyncio.Event()

    def counted(event: object) -> None:
        handler(event)
        if handler.events == EVENTS:
            done.set()

    async with StreamHub(f"http://127.0.0.1:{port}", org="my-org", token="t") as hub:
        hub.realtime().on("skus.*", counted)
        await done.wait()
    return handler.events


async def httpx_sse(port: int) -> int:
    """Without the last frame, which is no event."""
    handler = Handler()
    url = f"http://127.0.0.1:{port}/replay"
    async with httpx.AsyncClient(timeout=30) as client, client.stream("GET", url) as answer:
        async for event in EventSource(answer).aiter_sse():
            handler(event)
    return handler.events - 1


async def parsed(body: bytes) -> int:
    handler = Handler()

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), CHUNK):
            yield body[start : start + CHUNK]

    answer = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=chunks())
    async for event in EventSource(answer).aiter_sse():
        handler(event)
    return handler.events - 1


async def measure(_on: Stage) -> list[Result]:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=serve, args=(theirs,))
    process.start()
    port: int = await asyncio.to_thread(ours.recv)
    body = replay_of(frames())
    ways: dict[str, Callable[[], Awaitable[int]]] = {
        "replay": lambda: replayed(port),
        "live": lambda: live(port),
        "realtime": lambda: realtime(port),
        "looks": lambda: looked_into(port),
        "httpx-sse": lambda: httpx_sse(port),
        "parsed": lambda: parsed(body),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for run in range(RUNS + 1):
        for name, way in ways.items():
            began = time.process_time()
            if await way() != EVENTS:
                raise SystemExit(f"{name}: not every event came")
            if run:  # the first run warms up
                rates[name].append(EVENTS / (time.process_time() - began))
    ours.send(None)
    process.join(20)

    def times(name: str, peer: str) -> str:
        return spread([mine / its for mine, its in zip(rates[name], rates[peer], strict=True)], 1)

    return [
        Result("client, a replay into a handler, sha256 on, events a second", spread(rates["replay"]), ""),
        Result("  times httpx-sse over httpx", times("replay", "httpx-sse"), "3"),
        Result("  times httpx-sse parsing from memory", times("replay", "parsed"), "3"),
        Result("client, the live stream into a handler, events a second", spread(rates["live"]), ""),
        Result("  times httpx-sse over httpx", times("live", "httpx-sse"), "3"),
        Result("  times httpx-sse parsing from memory", times("live", "parsed"), "3"),
        Result("  with a handler that looks into each event, events a second", spread(rates["looks"]), ""),
        Result("client, realtime handlers by type, events a second", spread(rates["realtime"]), ""),
        Result("httpx-sse over httpx, events a second", spread(rates["httpx-sse"]), ""),
        Result("httpx-sse parsing from memory, events a second", spread(rates["parsed"]), ""),
    ]
