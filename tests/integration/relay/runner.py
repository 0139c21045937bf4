"""A relay in a process of its own, to be killed: `python runner.py HUB_URL NAME=URL…`. A URL may be the hub's own."""

import asyncio
import sys

from streamhub.relay import Relay, Source


async def main() -> None:
    hub, *named = sys.argv[1:]
    sources = [Source(name, url, url == hub) for name, _, url in (each.partition("=") for each in named)]
    relay = Relay(hub, sources, announce=lambda append: print(append.last_id, flush=True))
    await relay.run(asyncio.Event())


asyncio.run(main())
