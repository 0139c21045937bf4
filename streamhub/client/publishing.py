"""Events that an application publishes, over HTTP."""

import asyncio
import uuid
from typing import Any, Final

import aiohttp
import orjson

from streamhub.backoff import Backoff
from streamhub.client.endpoint import Endpoint
from streamhub.client.errors import Refused, StreamHubError, reason_of
from streamhub.client.stream import log

TRIES: Final = 5
LONGEST_PAUSE: Final = 30.0  # seconds, whatever an answer asks for


def body_of(type_: str, data: Any, resource_type: str | None, resource_id: str | None, publish_id: str | None) -> bytes:
    """One event in JSON, with a publish id. Raises TypeError where `data` cannot be JSON."""
    named = {
        "type": type_,
        "resource_type": resource_type,
        "resource_id": resource_id,
        "publish_id": publish_id or str(uuid.uuid4()),
    }
    return orjson.dumps({**{name: value for name, value in named.items() if value is not None}, "data": data})


async def publish(endpoint: Endpoint, body: bytes) -> str:
    """The publish id, once the event is stored durably. As it has one, a try that was stored and not answered is
    repeated without harm. Raises Refused for a refusal for good, StreamHubError after TRIES."""
    path, backoff = endpoint.path("events"), Backoff(0.5, 8.0)
    for left in reversed(range(TRIES)):
        asked = 0.0
        try:
            (stored,) = await endpoint.ask("POST", path, body)
            return str(stored["publish_id"])
        except Refused as refused:
            if refused.is_final or not left:
                raise
            reason, asked = reason_of(refused), min(refused.retry_after or 0.0, LONGEST_PAUSE)
        except (aiohttp.ClientError, OSError) as error:
            reason = reason_of(error)
            if not left:
                raise StreamHubError(f"not published after {TRIES} tries: {reason}") from error
        pause = max(asked, backoff.next())
        log.warning("%s: %s; the next try is in %.1f s", path, reason, pause)
        await asyncio.sleep(pause)
    raise AssertionError("the last try returned or raised")
