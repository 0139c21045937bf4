"""A full-text index of the shop's goods, kept in step with it, and a page that searches it.

    python examples/search_index.py --port 8090 --file goods.sqlite3
    curl 'http://127.0.0.1:8090/search?q=coffee'

An event and the position behind it are stored in one transaction of SQLite. So each event counts once, whenever the
program is stopped or killed. It is one subscriber of many: other consumers do not disturb it.
"""

import argparse
import asyncio
import os
import sqlite3
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from aiohttp import web

from streamhub.client import Event, Gap, StreamHub

SCHEMA = """
CREATE VIRTUAL TABLE IF NOT EXISTS goods USING fts5(id UNINDEXED, code, name);
CREATE TABLE IF NOT EXISTS position (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT);
"""


class Index:
    """It is its streams' position too. Their `store` has nothing to do: `apply` has done it."""

    def __init__(self, file: str) -> None:
        self._db = sqlite3.connect(file, isolation_level=None)
        self._db.executescript(SCHEMA)

    def apply(self, event: Event) -> None:
        with self._db:
            self._db.execute("BEGIN")
            self._db.execute("DELETE FROM goods WHERE id = ?", (event.resource_id,))
            if event.event != "destroy" and event.resource is not None:
                row = (event.resource_id, event.resource["code"], event.resource["name"])
                self._db.execute("INSERT INTO goods VALUES (?, ?, ?)", row)
            self._db.execute("INSERT OR REPLACE INTO position VALUES (1, ?)", (event.id,))

    def search(self, text: str) -> list[dict[str, str]]:
        words = " ".join('"{}"*'.format(word.replace('"', '""')) for word in text.split())
        found = self._db.execute("SELECT code, name FROM goods WHERE goods MATCH ? ORDER BY rank LIMIT 20", (words,))
        return [{"code": code, "name": name} for code, name in found] if words else []

    async def load(self) -> str | None:
        row = self._db.execute("SELECT id FROM position").fetchone()
        return None if row is None else str(row[0])

    async def store(self, id: str) -> None:
        pass


async def follow(hub: StreamHub, index: Index) -> None:
    """Without end: first what happened since the position, or in the last seven days, then what happens."""
    now = datetime.now(UTC)
    async for event in hub.replay(date_from=now - timedelta(days=7), date_to=now, types="skus.*", position=index):
        index.apply(event)

    async def fill(gap: Gap) -> None:
        """The connection was away for longer than the hub sends again."""
        for replay in hub.replays_of(gap):
            async for event in replay:
                if event.type.startswith("skus."):
                    index.apply(event)

    failures: list[Exception] = []

    async def fail(error: Exception) -> None:
        """An event that was not stored must not be passed over."""
        failures.append(error)
        await goods.destroy()

    goods = hub.realtime(types="skus.*", position=index)
    goods.on_error(fail)
    goods.on_gap(fill)
    goods.on_any(index.apply)
    await goods.wait()
    raise failures[0]


async def main(index: Index, port: int) -> None:
    async def search(request: web.Request) -> web.Response:
        return web.json_response(index.search(request.query.get("q", "")))

    page = web.Application()
    page.router.add_get("/search", search)
    runner = web.AppRunner(page)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    async with StreamHub(
        os.environ["STREAMHUB_URL"], org=os.environ["STREAMHUB_ORG"], token=os.environ["STREAMHUB_TOKEN"]
    ) as hub:
        await follow(hub, index)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--file", default="goods.sqlite3")
    options = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(main(Index(options.file), options.port))
