"""A client of a hub: `StreamHub` and what it delivers and raises. It needs aiohttp and orjson alone."""

from streamhub.client.blocking import BlockingRealtime, BlockingStream
from streamhub.client.errors import IncompleteReplay, Refused, StreamHubError, Unreachable
from streamhub.client.event import Event, Gap
from streamhub.client.events import Events
from streamhub.client.hub import BlockingStreamHub, StreamHub
from streamhub.client.live import Live
from streamhub.client.positions import FilePosition, Position, PostgresPosition
from streamhub.client.realtime import Realtime
from streamhub.client.replay import Replay
from streamhub.client.webhooks import verify_webhook
from streamhub.core.signing import InvalidSignature

__all__ = [
    "BlockingRealtime",
    "BlockingStream",
    "BlockingStreamHub",
    "Event",
    "Events",
    "FilePosition",
    "Gap",
    "IncompleteReplay",
    "InvalidSignature",
    "Live",
    "Position",
    "PostgresPosition",
    "Realtime",
    "Refused",
    "Replay",
    "StreamHub",
    "StreamHubError",
    "Unreachable",
    "verify_webhook",
]
