"""The time from the kill -9 of a gateway until another gateway answers 200 for the stream that it held."""

import asyncio
import random
import time

import asyncpg

from benchmarks.idle_streams import REGISTER
from benchmarks.stage import Result, Stage, spread

RUNS = 5


async def measure(stage: Stage) -> list[Result]:
    url = await stage.database(sample=False)
    connection = await asyncpg.connect(url)
    await connection.execute(REGISTER, RUNS)
    await connection.close()
    seconds = []
    async with stage.hub(url, roles="gateway") as other:
        for run in range(RUNS):
            token = stage.token(f"org_{run}", f"org-{run}")
            async with stage.hub(url, roles="gateway") as killed:
                status, held = await _ask(killed.port, run, token)
                if status != 200:
                    raise SystemExit(f"the stream was refused with {status}")
                await asyncio.sleep(random.uniform(1, 3))  # a random moment between two renewals of its lease
                killed.process.kill()
                began = time.perf_counter()
                held.close()
                while (asked := await _ask(other.port, run, token))[0] != 200:
                    asked[1].close()
                    await asyncio.sleep(0.02)
                seconds.append(time.perf_counter() - began)
                asked[1].close()
    return [Result("a gateway is killed outright: its stream is free after, s", spread(seconds, 2), "6")]


async def _ask(port: int, run: int, token: str) -> tuple[int, asyncio.StreamWriter]:
    """The status of a request for the stream, and its connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /org-{run} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    return int((await reader.readline()).split()[1]), writer
