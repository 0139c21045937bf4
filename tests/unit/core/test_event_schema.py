"""The event's JSON Schema, and the topic's document that holds it. `Stage.new_events` checks real events by it."""

import json
from typing import Any, Final

import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from docs import asyncapi
from streamhub.core import ids
from streamhub.core.event_schema import CHANGE, EVENT, PUBLISHED
from streamhub.core.events import StoredEvent
from streamhub.core.records import record_of

GOOD: Final[dict[str, dict[str, Any]]] = {
    "a change": {},
    "too large": {"resource": None, "delta": None, "too_large": True},
    "without values": {"resource": None, "delta": None, "error": "the row cannot be read"},
    "of a backfill": {"event": "create", "type": "skus.create", "backfill": True},
    "with a member of a later version": {"later": 1},
}
BAD: Final[dict[str, dict[str, Any]]] = {
    "another UUID": {"id": "3f0c7e0e-2f8d-4c3b-9d0a-0d6f1c1f5a10"},
    "a number as the resource's id": {"resource_id": 7},
    "a change without a resource type": {"resource_type": None},
    "a delta without from": {"delta": {"price": {"to": "1"}}},
    "a time zone": {"created_at": "2026-11-22T10:00:00.123456+01:00"},
    "data of a change": {"data": 1},
}


@pytest.mark.parametrize("validator", [Draft202012Validator, Draft7Validator])
def test_the_schema_is_one_and_its_examples_are_events(validator: Any) -> None:
    validator.check_schema(EVENT)
    for example in (CHANGE, PUBLISHED):
        validator(EVENT).validate(example)


@pytest.mark.parametrize("name", GOOD)
def test_an_event_is_as_the_schema_says(name: str) -> None:
    Draft202012Validator(EVENT).validate({**CHANGE, **GOOD[name]})


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_event_is_not_as_the_schema_says(name: str) -> None:
    assert not Draft202012Validator(EVENT).is_valid({**CHANGE, **BAD[name]})


def test_a_published_event_has_no_resource() -> None:
    assert not Draft202012Validator(EVENT).is_valid({**PUBLISHED, "resource": {}})


def test_a_record_has_the_headers_that_the_topics_document_has() -> None:
    data = json.dumps(CHANGE, separators=(",", ":"))
    frame = f"event: update\nid: {CHANGE['id']}\ndata: {data}\n\n".encode()
    event = StoredEvent(1, CHANGE["id"], False, CHANGE["type"], "skus", CHANGE["resource_id"], frame)
    headers = {name: value.decode() for name, value in record_of(event, ids.MIN_ID).headers}
    message = asyncapi.document()["components"]["messages"]["event"]
    assert set(headers) == set(message["headers"]["required"])
    Draft202012Validator(message["headers"]).validate(headers)
    assert headers == message["examples"][0]["headers"]
