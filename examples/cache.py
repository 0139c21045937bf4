"""A cache of prices that is kept in step with the shop's table.

    python examples/cache.py --database postgresql://…

It runs until Ctrl-C. It begins with what happened in the last seven days, by replay, and goes on with the live stream,
whose one consumer it is. However long the connection was away, nothing is missing: what the stream does not send again
comes by replay. With --database (it needs asyncpg) the cache is compared with the table at the end.
"""

import argparse
import asyncio
import os
import signal
import sys
from datetime import UTC, datetime, timedelta

from streamhub.client import Event, StreamHub

IN_STEP_WITHIN = 5.0  # seconds
TABLE = "SELECT id, amount::text FROM shop.prices WHERE organization_id = $1 AND NOT test"


class Prices:
    """Resource id → amount. It is its streams' position too: it says after which event they go on. A cache that
    outlives its process keeps the position beside the amounts, as FilePosition and PostgresPosition do."""

    def __init__(self) -> None:
        self.amounts: dict[str, str] = {}
        self.organization_id = ""
        self._last_id: str | None = None

    def apply(self, event: Event) -> None:
        """The same event may come twice, which changes nothing."""
        if event.test or event.resource_type != "prices" or event.resource_id is None or event.resource is None:
            return
        self.organization_id = event.organization["id"]
        if event.event == "destroy":
            self.amounts.pop(event.resource_id, None)
        else:
            self.amounts[event.resource_id] = event.resource["amount"]

    async def load(self) -> str | None:
        return self._last_id

    async def store(self, id: str) -> None:
        self._last_id = id


async def follow(hub: StreamHub, prices: Prices) -> None:
    """Without end."""
    now = datetime.now(UTC)
    week = hub.replay(date_from=now - timedelta(days=7), date_to=now, types="prices.*", position=prices)
    async for event in week:
        prices.apply(event)
    print(f"{len(prices.amounts)} prices after a replay of {week.events} events", flush=True)
    async for event in hub.live(position=prices):
        prices.apply(event)


async def differences(prices: Prices, database: str) -> list[str]:
    """Ids whose amount is not the table's; none once the two were seen equal."""
    import asyncpg  # noqa: PLC0415 - not needed without --database

    connection = await asyncpg.connect(database)
    try:
        for _ in range(int(IN_STEP_WITHIN / 0.1)):
            table = {row["id"]: row["amount"] for row in await connection.fetch(TABLE, prices.organization_id)}
            if table == prices.amounts:
                return []
            await asyncio.sleep(0.1)  # a change is on its way
    finally:
        await connection.close()
    return [id for id in table.keys() | prices.amounts.keys() if table.get(id) != prices.amounts.get(id)]


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", help="the shop's")
    options = parser.parse_args()
    prices, stopped = Prices(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stopped.set)
    async with StreamHub(
        os.environ["STREAMHUB_URL"], org=os.environ["STREAMHUB_ORG"], token=os.environ["STREAMHUB_TOKEN"]
    ) as hub:
        following = asyncio.create_task(follow(hub, prices))
        stopping = asyncio.create_task(stopped.wait())
        await asyncio.wait([following, stopping], return_when=asyncio.FIRST_COMPLETED)
        if following.done():
            await following  # it never ends by itself: this raises why
        wrong = await differences(prices, options.database) if options.database else None
        following.cancel()
        await asyncio.wait([following])
    if wrong is None:
        print(f"{len(prices.amounts)} prices")
    elif wrong:
        print("not as in the table:", ", ".join(wrong))
    else:
        print(f"{len(prices.amounts)} prices, as in the table")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
