"""Events that an application publishes itself: what an outbox row tells of them."""

from functools import lru_cache

import msgspec

from streamhub.core.rows import EventKind


class Published(msgspec.Struct, frozen=True):
    """What streamhub.publish wrote beside the data."""

    organization: str
    type: str
    resource_type: str | None
    resource_id: str | None
    publish_id: str
    test: bool


published = msgspec.json.Decoder(Published).decode
"""Raises msgspec.DecodeError."""


@lru_cache(maxsize=10_000)
def kind_of(type_: str, resource_type: str | None) -> EventKind:
    """The event is the type's last segment, the resource type what precedes it unless given."""
    before, _, event = type_.rpartition(".")
    return EventKind(event, type_, resource_type or before or None)
