"""The floor of this stack: the smallest broadcaster on aiohttp and uvloop, with no database, no filter and no history.

    python -m benchmarks.floor PORT

GET /sse is a stream. POST /bench?rate=&seconds=&size= publishes from inside: a frame is made once and handed to every
transport.
"""

import asyncio
import sys
import time
from typing import cast

import uvloop
from aiohttp import web

from streamhub.core import ids

HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
subscribers: set[asyncio.WriteTransport] = set()


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers=HEADERS)
    await response.prepare(request)
    await response.write(b":\n\n")
    transport = cast("asyncio.WriteTransport", request.transport)
    subscribers.add(transport)
    try:
        await asyncio.Event().wait()
    finally:
        subscribers.discard(transport)
    return response


async def publish(request: web.Request) -> web.Response:
    rate, seconds, size = (int(request.query[name]) for name in ("rate", "seconds", "size"))
    began, filler = time.monotonic(), "x" * size
    for number in range(rate * seconds):
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        id_ = ids.event_id(time.time_ns() // 1_000_000, number)
        start = f'id: {id_}\ndata: {{"ts":"{time.time_ns()}","filler":"'
        frame = f'{start}{filler[: max(0, size - len(start) - 4)]}"}}\n\n'.encode()
        chunk = b"%x\r\n%b\r\n" % (len(frame), frame)
        for transport in subscribers:
            transport.write(chunk)
    return web.Response()


async def main(port: int) -> None:
    app = web.Application()
    app.add_routes([web.get("/sse", stream), web.post("/bench", publish)])
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
