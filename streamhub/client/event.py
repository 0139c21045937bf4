"""What a stream delivers: events, whose JSON is read when a member of it is asked for, and gaps."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import orjson

from streamhub.client.sse import Message

FRAME: Final = b"event: %b\nid: %b\ndata: %b\n\n"

_TYPE: Final = b'","type":"'
_TYPE_AT: Final = len('{"id":"') + 36


class Event:
    """One event, as [the contract](contract.md#the-event) has it. Its JSON is read when a member of it is asked for."""

    __slots__ = ("_json", "message")

    _json: dict[str, Any]

    def __init__(self, message: Message) -> None:
        self.message = message

    @property
    def id(self) -> str:
        """A UUIDv7 of 36 characters: the event's position in the order of the whole hub."""
        return self.message[1].decode()

    @property
    def event(self) -> str:
        """`create`, `update`, `destroy`, …: the last segment of the type unless the capture named it otherwise."""
        return self.message[0].decode()

    @property
    def raw(self) -> bytes:
        """Its JSON object, the bytes that came."""
        return self.message[2]

    @property
    def frame(self) -> bytes:
        """The server-sent event as a hub sends it: what the `sha256` of a replay is over."""
        return FRAME % self.message

    @property
    def json(self) -> dict[str, Any]:
        """The whole object, with what has no member here: `publish_id`, `too_large`, `error`, `backfill`. `bigint` and
        `numeric` columns are strings. Raises orjson.JSONDecodeError (a
        ValueError) where `raw` is no JSON."""
        try:
            return self._json
        except AttributeError:
            self._json = orjson.loads(self.message[2])
            return self._json

    @property
    def type(self) -> str:
        """Such as `skus.update`."""
        raw = self.message[2]
        if raw.startswith(_TYPE, _TYPE_AT):  # what a hub writes: no need to read the rest
            start = _TYPE_AT + len(_TYPE)
            found = raw[start : raw.index(b'"', start)]
            if b"\\" not in found:
                return found.decode()
        return str(self.json["type"])

    @property
    def resource_type(self) -> str | None:
        """None of a published event whose type has one segment."""
        found: str | None = self.json["resource_type"]
        return found

    @property
    def resource_id(self) -> str | None:
        """The key of the row; the parts of a composite one are joined with `:`."""
        found: str | None = self.json["resource_id"]
        return found

    @property
    def organization(self) -> Mapping[str, str]:
        """`id` and `slug`."""
        found: Mapping[str, str] = self.json["organization"]
        return found

    @property
    def test(self) -> bool:
        """Whether it is of the test environment."""
        return bool(self.json["test"])

    @property
    def created_at(self) -> datetime:
        """When the row was written, in UTC; the id's own time is when the event was published."""
        return datetime.fromisoformat(self.json["created_at"])

    @property
    def transaction_id(self) -> str:
        """Of the database that the row is in."""
        return str(self.json["transaction_id"])

    @property
    def resource(self) -> Mapping[str, Any] | None:
        """The row after the change, before it for `destroy`; None of a published event, and where the event was too
        large."""
        found: Mapping[str, Any] | None = self.json["resource"]
        return found

    @property
    def delta(self) -> Mapping[str, Mapping[str, Any]] | None:
        """Column → `from` and `to`; None where `resource` is."""
        found: Mapping[str, Mapping[str, Any]] | None = self.json["delta"]
        return found

    @property
    def who(self) -> Any:
        """What the application put in `streamhub.who`, else None."""
        return self.json["who"]

    @property
    def data(self) -> Any:
        """What a publisher gave; None of a change."""
        return self.json.get("data")

    def __repr__(self) -> str:
        return f"<Event {self.id} {self.type}>"


@dataclass(frozen=True, slots=True)
class Gap:
    """Events that a stream leaves out because they are older than what it sends again.

    They came after the event `after_id` and were published from `start` to before `end`, in UTC. `replays` are the
    replays that return them, as paths with queries; `StreamHub.replays_of` makes them.
    """

    after_id: str | None
    start: datetime
    end: datetime
    replays: tuple[str, ...]

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Gap":
        """Of the frame's object."""
        start, end = (datetime.fromisoformat(data[name]) for name in ("from", "to"))
        return cls(data.get("after_id"), start, end, tuple(data["replay"]))

    @property
    def queries(self) -> list[list[tuple[str, str]]]:
        """The parameters of each replay."""
        return [parse_qsl(urlsplit(replay).query, keep_blank_values=True) for replay in self.replays]
