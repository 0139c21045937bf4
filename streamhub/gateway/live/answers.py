"""What the routes of a live stream answer, for the reference."""

from typing import Final

from streamhub.core.event_schema import ID
from streamhub.web.route import COUNT, TIME, UUID, Answer, data_of, nullable, object_of

STATUS: Final = Answer(
    200,
    "The stream, seen from outside.",
    [
        data_of(
            object_of(
                {
                    "connected_since": nullable(TIME),
                    "gateway": {"type": ["string", "null"]},
                    "cursor": nullable(UUID),
                    "head": nullable(UUID),
                    "lag_events": nullable(COUNT),
                    "lag_seconds": {"type": ["number", "null"], "minimum": 0},
                    "last_gap": {"type": ["object", "null"]},
                    "stale_until": nullable(TIME),
                }
            ),
            {
                "connected_since": "2026-11-22T10:00:00.000Z",
                "gateway": "hub-1/4711",
                "cursor": ID,
                "head": ID,
                "lag_events": 0,
                "lag_seconds": 0,
                "last_gap": None,
                "stale_until": None,
            },
        )
    ],
)
ENDED: Final = Answer(204, "The stream has ended; its consumer was told DELETED.")
