"""A publishing relay in a process of its own, to be killed: `python runner.py HUB_URL BOOTSTRAP TOPIC`."""

import asyncio
import sys

from streamhub.kafka.brokers import Brokers
from streamhub.kafka.publisher import KafkaPublisher
from streamhub.relay import Relay, Source


async def main() -> None:
    hub, bootstrap, topic = sys.argv[1:]
    publisher = KafkaPublisher(Brokers([bootstrap]), topic)
    relay = Relay(hub, [Source("shop", hub, in_hub=True)], announce=lambda _: None, publisher=publisher)
    await relay.run(asyncio.Event())


asyncio.run(main())
