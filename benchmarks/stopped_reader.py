"""A reader stops reading for a minute while 200,000 events come: its gateway's memory, and what the reader gets."""

import asyncio
import multiprocessing
import re
import socket
import time
from multiprocessing.connection import Connection

import asyncpg

from benchmarks.stage import Result, Stage

EVENTS = 200_000
SECONDS = 60
BATCH = 2_500  # of the sample's 5,000 rows of org_0
WRITE = """
UPDATE skus SET quantity = quantity + 1 WHERE id IN (SELECT 'sku_' || 2 * n FROM generate_series(1, $1::integer) AS n)
"""
PUBLISHED = "SELECT id::text FROM streamhub_hub.history WHERE organization = 1 AND id > $1 ORDER BY id"


def read_after_a_while(port: int, slug: str, token: str, to: Connection) -> None:
    """Open the stream and report it. Wait for the last id on `to`; then read up to it, and send all ids."""
    ids: list[str] = []
    with socket.socket() as stream:
        stream.connect(("127.0.0.1", port))
        stream.sendall(f"GET /{slug} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        rest = stream.recv(1 << 16)
        to.send(None)
        last = to.recv()
        began = time.perf_counter()
        while not ids or ids[-1] < last:
            rest += stream.recv(1 << 20)
            whole, end, rest = rest.rpartition(b"\n\n")
            ids += [id_.decode() for id_ in re.findall(rb"^id: (\S+)$", whole + end, re.MULTILINE)]
        to.send((ids, time.perf_counter() - began))


async def measure(stage: Stage) -> list[Result]:
    url = await stage.database()
    connection = await asyncpg.connect(url)
    async with stage.hub(url, roles="relay"), stage.hub(url, roles="gateway") as gateway:
        await connection.execute("UPDATE skus SET quantity = quantity + 1 WHERE id = 'sku_2'")
        await asyncio.sleep(2)
        slug = await connection.fetchval("SELECT slug FROM streamhub_hub.organizations WHERE id = 'org_0'")
        (start,) = [row["id"] for row in await connection.fetch(PUBLISHED, "00000000-0000-7000-8000-000000000000")]
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        arguments = (gateway.port, slug, stage.token("org_0", slug), theirs)
        reader = spawn.Process(target=read_after_a_while, args=arguments)
        reader.start()
        await asyncio.to_thread(ours.recv)
        await asyncio.sleep(1)
        before = most = gateway.rss()
        stopped_at = time.monotonic()

        async def wait_until(when: float) -> None:
            nonlocal most
            while (left := when - time.monotonic()) > 0:
                most = max(most, gateway.rss())
                await asyncio.sleep(min(left, 0.02))

        for n in range(EVENTS // BATCH):
            await connection.execute(WRITE, BATCH)
            await wait_until(stopped_at + (n + 1) * BATCH / EVENTS * SECONDS)
        while await connection.fetchval("SELECT EXISTS (SELECT FROM streamhub.outbox)"):
            await wait_until(time.monotonic() + 0.1)
        published = [row["id"] for row in await connection.fetch(PUBLISHED, start)]
        stopped = most - before
        ours.send(published[-1])
        while not ours.poll():
            await wait_until(time.monotonic() + 0.02)
        read, seconds = await asyncio.to_thread(ours.recv)
        reader.join(20)
    await connection.close()
    if read != published or len(read) != EVENTS:
        lost, twice = len(set(published) - set(read)), len(read) - len(set(read))
        raise SystemExit(f"of {len(published)} events {lost} were lost and {twice} came twice")
    return [
        Result(
            f"a reader stops for {SECONDS} s while {EVENTS:,} events come, all read afterwards: gateway RSS, MB more",
            f"{stopped / 1e6:.1f}",
            "under 50",
        ),
        Result("  at most, until all was read, MB more", f"{(most - before) / 1e6:.1f}", "under 50"),
        Result("  catching up, events/s", f"{EVENTS / seconds:,.0f}", ""),
    ]
