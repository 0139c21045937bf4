"""The compiled core gives what its source gives, byte for byte, and is used for no other source."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamhub import core
from streamhub.core import frames, ids
from streamhub.core.changes import Capture, Change
from streamhub.core.drafts import Drafts
from streamhub.core.record_batch import Recorder, Records
from streamhub.core.rendering import Outcome, Rendered, Renderer
from streamhub.core.rows import EventKind
from streamhub.core.shapes import Column, Shape
from tests.support.interpreted import interpreted as interpreted_modules
from tests.support.interpreted import interpreted_renderer

COLUMNS = {
    "id": None, "organization_id": None, "test": "boolean", "n": "number", "tags": ["array", "number"], "data": "json",
    "note": None, "gone_at": "timestamptz",
}  # fmt: skip
ORIGIN = "1:16400:1:8:::"
PLAIN = {
    "id": "a", "organization_id": "org_1", "test": False, "n": 1, "tags": [1], "data": {}, "note": "", "gone_at": None,
}  # fmt: skip

# What JSON of a row may hold, and each character at which a scanner could go wrong.
CHARACTERS = st.text(st.sampled_from('"\\/bfnrtu0123aZ{}[]:,-+.eE \n\r\t\0é\u2028\U0001f600\ud800\udc80'), max_size=8)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | CHARACTERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(CHARACTERS, inner, max_size=3),
    max_leaves=6,
)
ROWS = st.fixed_dictionaries(
    {
        "id": CHARACTERS | st.integers(0, 3) | st.none(),
        "organization_id": st.sampled_from(["org_1", "org_2", None]),
        "test": st.sampled_from([True, False, None]),
        "n": st.integers() | st.none() | st.just("NaN"),
        "tags": st.lists(st.integers() | st.none(), max_size=3) | st.none(),
        "data": VALUES,
        "note": CHARACTERS | st.none(),
        "gone_at": st.sampled_from([None, "2026-11-30T10:00:00+00:00"]),
    }
)
SPELLED = st.builds(
    lambda row, ascii_, separators: json.dumps(
        {name: row[name] for name in COLUMNS}, ensure_ascii=ascii_, separators=separators
    ),
    ROWS, st.booleans(), st.sampled_from([(",", ":"), (",", ":"), (", ", ": ")]),
)  # fmt: skip
# A text in which one place was overwritten is mostly no JSON, or not quite the row that it was.
DAMAGED = st.builds(lambda text, at, put: text[:at] + put + text[at + 1 :], SPELLED, st.integers(0, 200), CHARACTERS)
TEXTS = st.none() | SPELLED | SPELLED | DAMAGED


@pytest.fixture(scope="module")
def interpreted() -> Callable[[int], Renderer]:
    return interpreted_renderer()


def prepared(made: Renderer, capture: Capture) -> Renderer:
    """Having seen the table, and a row of it."""
    made.captures[1] = capture
    columns = tuple(Column(name, n, n, kind) for n, (name, kind) in enumerate(COLUMNS.items(), 1))
    made.book.add(Shape(1, 16400, 0, 1, 8, "json", False, columns))
    text = json.dumps(PLAIN, separators=(",", ":"))
    made.render(change(text, text.replace('"n":1', '"n":2'), None))
    return made


def change(old: str | None, new: str | None, who: str | None) -> Change:
    return Change(1, 7412, 1_795_341_600_123_456, ORIGIN, None, who, old, new)


def told(made: Renderer, of: Change) -> Any:
    """All that a renderer says of a change."""
    try:
        outcome: Outcome = made.render(of)
    except Exception as error:  # noqa: BLE001 - whatever it is, it has to be the same
        return type(error).__name__  # compiled code has other words for an index that is out of range
    events = [
        (each.organization_id, each.test, each.kind.type, each.kind.head, each.resource_id, each.resource, each.tail)
        for each in outcome.events
    ]
    return events, list(outcome.counted), outcome.fault


@settings(deadline=None)
@given(
    TEXTS, TEXTS, st.none() | CHARACTERS, st.sets(st.integers(4, 8)), st.sets(st.integers(4, 8)),
    st.sampled_from([(1,), (1, 4)]), st.sampled_from([1 << 20, 1100]),
)  # fmt: skip
def test_compiled_and_interpreted_rendering_are_the_same(
    interpreted: Callable[[int], Renderer], old: str | None, new: str | None, who: str | None, excluded: set[int],
    redacted: set[int], key: tuple[int, ...], limit: int,
) -> None:  # fmt: skip
    capture = Capture(
        id=1, relation=16400, resource_type="skus", key_columns=key, organization_column=2, organization_id=None,
        test_column=3, test=False, excluded_columns=frozenset(excluded), redacted_columns=frozenset(redacted),
        anonymization_column=8, type_names={}, natts=8, column_names=dict(enumerate(COLUMNS, 1)),
    )  # fmt: skip
    of = change(old, new, who)
    assert told(prepared(Renderer(limit), capture), of) == told(prepared(interpreted(limit), capture), of)


IDS = st.text(st.sampled_from('aé\u2028\U0001f600:"'), max_size=5)
RENDERED = st.builds(
    Rendered,
    st.sampled_from(["org_1", "ö", "unknown"]),
    st.booleans(),
    st.sampled_from([EventKind("create", "a.create", "a"), EventKind("x", "x", None)]),
    st.none() | IDS,
    st.binary(max_size=3),
    st.binary(max_size=9_000),
)


@settings(deadline=None)
@given(st.lists(RENDERED, max_size=5), st.sampled_from([0, 1, 0xFFE, ids.MAX_COUNTER - 5]))
def test_compiled_and_interpreted_drafts_are_the_same(
    interpreted_drafts: Callable[[], Drafts], events: list[Rendered], counter: int
) -> None:
    served = {"org_1": (1, b',"organization":{"id":"org_1"}'), "ö": (2, b',"organization":{"id":"\xc3\xb6"}')}

    def all_of(made: Drafts) -> Any:
        left = made.add(events, served)
        return left, made.size, made.types, [*made.copied(ids.MAX_MS, counter)], [*made.numbered(ids.MAX_MS, counter)]

    assert all_of(Drafts()) == all_of(interpreted_drafts())


@pytest.fixture(scope="module")
def interpreted_drafts() -> Callable[[], Drafts]:
    (module,) = interpreted_modules("drafts")
    made: Callable[[], Drafts] = module.Drafts
    return made


@settings(deadline=None)
@given(st.lists(RENDERED, max_size=5), st.sampled_from([200, 9_500, 1 << 20]))
def test_compiled_and_interpreted_records_are_the_same(
    interpreted_records: tuple[Any, Any, Any], events: list[Rendered], most_bytes: int
) -> None:
    served = {name: (key, frames.organization_of(name, "o")) for key, name in enumerate(["org_1", "ö", "unknown"], 1)}

    def all_of(drafts: Any, recorder: Any, records: Any) -> Any:
        made = drafts()
        made.add(events, served)
        batches: dict[int, list[Any]] = {}
        recording = recorder(ids.MIN_ID, len, lambda: records(most_bytes, 61))
        recording.add(made.numbered(1_795_000_000_000, 0), 1_795_000_000_001, batches)
        return {key: [(each.parts, each.length, each.count) for each in its] for key, its in batches.items()}

    assert all_of(Drafts, Recorder, Records) == all_of(*interpreted_records)


@pytest.fixture(scope="module")
def interpreted_records() -> tuple[Any, Any, Any]:
    drafts, record_batch = interpreted_modules("drafts", "record_batch")
    return drafts.Drafts, record_batch.Recorder, record_batch.Records


def test_what_was_compiled_from_another_source_is_not_used(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "_COMPILED", tmp_path)
    (tmp_path / core.SOURCE).write_text(core.digest_of_source())
    before = core._has_compiled()
    (tmp_path / core.SOURCE).write_text("0" * 64)
    assert (before, core._has_compiled()) == (True, False)
