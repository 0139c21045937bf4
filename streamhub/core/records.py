"""An event as a Kafka record: CloudEvents 1.0 in binary mode (Kafka protocol binding, section 3.2).

The key is the organization's id, so that an organization's events are in one partition; the value is the event's JSON
object as every reader gets it, byte for byte. The attributes are headers, `ce_…`. One header more is ours:

    streamhub_after   the id of an event after which this one is the partition's next: none of the partition's events
                      lies between the two

The reader of a partition that remembers the greatest id it has seen can so tell a repeat (id not above it), the next
event (`streamhub_after` not above it) and a gap (above it) apart, whatever became of the partition.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from streamhub.core.events import StoredEvent, data_of, resource_key

AFTER: Final = "streamhub_after"
ID: Final = "ce_id"

Headers = Sequence[tuple[str, bytes]]


class Record(NamedTuple):
    """What is sent: `headers` are (name, value)."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


class _Organization(msgspec.Struct):
    id: str
    slug: str


class _Sent(msgspec.Struct):
    organization: _Organization


class _Received(msgspec.Struct):
    type: str
    event: str
    resource_type: str | None
    resource_id: str | None
    test: bool


_sent: Final = msgspec.json.Decoder(_Sent)
_received: Final = msgspec.json.Decoder(_Received)


def record_of(event: StoredEvent, after: str) -> Record:
    """The record of an event whose predecessor in its partition is `after`."""
    value = data_of(event.frame)
    organization = _sent.decode(value).organization
    id_ = organization.id.encode()
    return Record(
        id_,
        value,
        [
            ("content-type", b"application/json"),
            ("ce_specversion", b"1.0"),
            (ID, event.id.encode()),
            ("ce_source", b"/" + organization.slug.encode()),
            ("ce_type", event.type.encode()),
            ("ce_organization", id_),
            ("ce_test", b"true" if event.test else b"false"),
            (AFTER, after.encode()),
        ],
    )


def header(headers: Headers, name: str) -> str | None:
    """The value of a header; None where the record has none of that name."""
    return next((value.decode("utf-8", "replace") for given, value in headers if given == name), None)


def event_of(organization: int, id_: str, value: bytes) -> StoredEvent:
    """The event in a record's value, as history has it. `organization` is the registry's key.

    Raises msgspec.DecodeError where the value is no event.
    """
    read = _received.decode(value)
    frame = b"".join((b"event: ", read.event.encode(), b"\nid: ", id_.encode(), b"\ndata: ", value, b"\n\n"))
    key = resource_key(organization, read.resource_type or "", read.resource_id or "")
    return StoredEvent(organization, id_, read.test, key, read.type, read.resource_type, read.resource_id, frame)
