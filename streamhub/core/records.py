"""An event as a Kafka record: CloudEvents 1.0 in binary mode (Kafka protocol binding, section 3.2).

The key is the organization's id, so that an organization's events are in one partition; the value is the event's JSON
object as every reader gets it, byte for byte. The attributes are headers, `ce_…`. One header more is ours:

    streamhub_after   the id of an event after which this one is the partition's next: none of the partition's events
                      lies between the two

The reader of a partition that remembers the greatest id it has seen can so tell a repeat (id not above it), the next
event (`streamhub_after` not above it) and a gap (above it) apart, whatever became of the partition.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from streamhub.core import frames
from streamhub.core.events import StoredEvent

AFTER: Final = "streamhub_after"
ID: Final = "ce_id"

Headers = Sequence[tuple[str, bytes]]


class Record(NamedTuple):
    """What is sent: `headers` are (name, value)."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


class Shared:
    """What the records of all events of an organization, a type and an environment have: key and headers."""

    __slots__ = ("headers", "key")

    def __init__(self, key: bytes, headers: tuple[tuple[str, bytes], ...]) -> None:
        self.key = key
        self.headers = headers


class _Organization(msgspec.Struct):
    id: str
    slug: str


class _Sent(msgspec.Struct):
    organization: msgspec.Raw


class _Received(msgspec.Struct):
    type: str
    event: str
    resource_type: str | None
    resource_id: str | None
    test: bool


_organization: Final = msgspec.json.Decoder(_Organization)
_sent: Final = msgspec.json.Decoder(_Sent)
_received: Final = msgspec.json.Decoder(_Received)


def record_of(event: StoredEvent, after: str) -> Record:
    """The record of an event whose predecessor in its partition is `after`."""
    value = frames.data_of(event.frame)
    shared = shared_of(event, value)
    return Record(shared.key, value, [*shared.headers, (ID, event.id.encode()), (AFTER, after.encode())])


def shared_of(event: StoredEvent, value: bytes) -> Shared:
    """`value` is the event's JSON object."""
    return shared(organization_in(value), event.type, event.test)


def organization_in(value: bytes) -> bytes:
    """The organization's JSON object in an event's. Found in a twentieth of the time that decoding the event takes."""
    return frames.organization_in(value) or bytes(_sent.decode(value).organization)


@lru_cache(maxsize=10_000)
def shared(organization: bytes, type_: str, test: bool) -> Shared:
    """The same one for the same organization (its JSON object), type and environment."""
    its = _organization.decode(organization)
    key = its.id.encode()
    headers = (
        ("content-type", b"application/json"),
        ("ce_specversion", b"1.0"),
        ("ce_source", b"/" + its.slug.encode()),
        ("ce_type", type_.encode()),
        ("ce_organization", key),
        ("ce_test", b"true" if test else b"false"),
    )
    return Shared(key, headers)


def header(headers: Headers, name: str) -> str | None:
    """The value of a header; None where the record has none of that name."""
    return next((value.decode("utf-8", "replace") for given, value in headers if given == name), None)


def event_of(organization: int, id_: str, value: bytes) -> StoredEvent:
    """The event in a record's value, as history has it. `organization` is the registry's key.

    Raises msgspec.DecodeError where the value is no event.
    """
    read = _received.decode(value)
    frame = frames.of_data(read.event, id_, value)
    return StoredEvent(organization, id_, read.test, read.type, read.resource_type, read.resource_id, frame)
