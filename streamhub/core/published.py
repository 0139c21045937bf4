"""Events that an application publishes itself: what their types may be, and what an outbox row tells of them."""

import re
from functools import lru_cache
from typing import Final

import msgspec

from streamhub.core.control import is_reserved
from streamhub.core.names import LONGEST
from streamhub.core.plans import EventKind

_TYPE: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


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


def wrong_type(type_: str) -> str | None:
    """What is wrong with a type, and what would be right; as streamhub.publish judges it."""
    if len(type_) > LONGEST or not _TYPE.fullmatch(type_):
        return (
            "letters, digits, _ and - in segments joined by dots are needed, at most 255 characters, such as "
            "query.received"
        )
    if is_reserved(type_):
        return "its last segment is the name of a control frame, choose another"
    return None
