"""An event as history keeps it and every reader receives it: a frame of bytes with the columns it is found by."""

from hashlib import blake2b

import msgspec


class StoredEvent(msgspec.Struct, frozen=True, gc=False):
    """An event in history.

    `frame` is the event as the live stream and a replay send it (core/frames.py). `organization` is the registry's key,
    not the public id.
    """

    organization: int
    id: str
    test: bool
    type: str
    resource_type: str | None
    resource_id: str | None
    frame: bytes


def resource_key(organization: int, resource_type: str, resource_id: str) -> int:
    """A signed 64-bit hash of a resource: the narrow index key of a resource's whole history.

    Readers compare type and id as well, so a collision costs a row read and shows nothing.
    """
    digest = resource_hash(organization, resource_type)
    digest.update(resource_id.encode("utf-8", "surrogatepass"))
    return int.from_bytes(digest.digest(), "big", signed=True)


def resource_hash(organization: int, resource_type: str) -> blake2b:
    """What the hashes of all resources of one type begin with; their ids in UTF-8 are still to come. The digest is the
    `resource_key`, highest byte first."""
    return blake2b(f"{organization}\0{resource_type}\0".encode("utf-8", "surrogatepass"), digest_size=8)
