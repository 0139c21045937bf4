"""One outbox row into its events, without a database."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhub.core.changes import Capture, Change
from streamhub.core.rendering import Outcome, Renderer, UnknownCaptureError, UnknownShapeError
from streamhub.core.shapes import Column, Shape

TABLE = 16_400
COLUMNS = ["id", "organization_id", "test", "n", "note"]
CAPTURE = Capture(
    id=1, relation=TABLE, resource_type="skus", key_columns=(1,), organization_column=2, organization_id=None,
    test_column=3, test=False, excluded_columns=frozenset(), redacted_columns=frozenset(), anonymization_column=None,
    type_names={}, natts=5, column_names={1: "id", 2: "organization_id", 3: "test"},
)  # fmt: skip
ROW = {"id": 1, "organization_id": "org_1", "test": False, "n": 5, "note": "a"}


def renderer(max_event_bytes: int = 1 << 20, **options: Any) -> Renderer:
    made = Renderer(max_event_bytes)
    made.captures[1] = CAPTURE._replace(**options)
    kinds = {"n": "number", "test": "boolean"}
    columns = tuple(Column(name, n, n, kinds.get(name)) for n, name in enumerate(COLUMNS, 1))
    made.book.add(Shape(1, TABLE, 0, 1, 5, "json", False, columns))
    return made


def change(old: Any, new: Any, **more: Any) -> Change:
    texts = [None if row is None else row if isinstance(row, str) else json.dumps(row) for row in (old, new)]
    fields: dict[str, Any] = {
        "seq": 1, "xid": 7412, "created_at": 1_795_341_600_123_456, "origin": origin(), "chained": None, "who": None,
        "old_row": texts[0], "new_row": texts[1],
    }  # fmt: skip
    return Change(**{**fields, **more})


def origin(
    capture: int = 1, relation: int = TABLE, filenode: int = 1, natts: int = 5, flags: str = "", described: str = ""
) -> str:
    return f"{capture}:{relation}:{filenode}:{natts}:{flags}::{described}"


def objects(outcome: Outcome) -> list[dict[str, Any]]:
    return [
        json.loads(b"{%b%b%b" % (event.kind.head.removeprefix(b'",'), event.resource, event.tail))
        for event in outcome.events
    ]


VALUES = st.none() | st.text(max_size=5) | st.integers() | st.booleans()
ROWS = st.tuples(
    st.integers(1, 3), st.sampled_from([None, "org_1", "org_2"]), st.sampled_from([None, True, False]),
    st.none() | st.integers(), VALUES,
).map(lambda values: dict(zip(COLUMNS, values, strict=True)))  # fmt: skip


@given(st.none() | ROWS, st.none() | ROWS, st.sets(st.sampled_from([4, 5])), st.sets(st.sampled_from([4, 5])))
def test_an_event_tells_exactly_what_differs_of_what_may_be_shown(
    old: Any, new: Any, excluded: set[int], redacted: set[int]
) -> None:
    if old is None and new is None:
        return
    made = renderer(excluded_columns=frozenset(excluded), redacted_columns=frozenset(redacted))
    events = objects(made.render(change(old, new)))

    def shown(row: Any) -> Any:
        spelled = {**row, "n": None if row["n"] is None else str(row["n"])}
        for at in redacted:
            if spelled[COLUMNS[at - 1]] is not None:
                spelled[COLUMNS[at - 1]] = "[REDACTED]"
        return {name: value for n, (name, value) in enumerate(spelled.items(), 1) if n not in excluded}

    def place(row: Any) -> Any:
        return row and (row["organization_id"], row["test"] is True, str(row["id"]))

    expected: list[tuple[str, Any, Any]] = []
    if old is not None and new is not None and place(old) == place(new):
        differ = [name for name in COLUMNS if old[name] != new[name] or type(old[name]) is not type(new[name])]
        if any(name in shown(new) for name in differ):
            expected = [
                (
                    "update",
                    new,
                    {name: {"from": shown(old)[name], "to": shown(new)[name]} for name in differ if name in shown(new)},
                )
            ]
    else:
        if old is not None:
            expected.append(
                ("destroy", old, {k: {"from": v, "to": None} for k, v in shown(old).items() if v is not None})
            )
        if new is not None:
            expected.append(
                ("create", new, {k: {"from": None, "to": v} for k, v in shown(new).items() if v is not None})
            )
    expected = [each for each in expected if each[1]["organization_id"] is not None]
    assert [(event["event"], event["resource"], event["delta"]) for event in events] == [
        (name, shown(row), delta) for name, row, delta in expected
    ]


@given(
    st.dictionaries(st.text(max_size=5), st.text(max_size=300), max_size=3),
    st.text(max_size=300),
    st.integers(1100, 3000),
)
def test_no_event_is_longer_than_the_limit(note: Any, who: str, limit: int) -> None:
    made = renderer(limit)
    for event in made.render(change(None, {**ROW, "note": note}, who=who)).events:
        assert len(event.kind.head) + len(event.resource) + len(event.tail) <= limit


@given(st.text())
def test_the_tail_is_one_line_for_every_row(text: str) -> None:
    outcome = renderer().render(change(None, {**ROW, "note": text}, who=text))
    assert not {b"\n", b"\r"} & {bytes([byte]) for event in outcome.events for byte in event.tail}


@pytest.mark.parametrize("row", ['{"id":1,"organization_id":"org_1","test":false,"n":5,"note":%s}'])
@pytest.mark.parametrize("note", ['"\\ud800"', "[" * 100_000 + "]" * 100_000, "Infinity", "tru"])
def test_a_value_that_no_decoder_takes_is_told_and_whose_row_it_is_as_well(row: str, note: str) -> None:
    (event,) = objects(renderer().render(change(None, row % note)))
    if event["resource"] is None:
        assert (event["resource_id"], event["delta"], bool(event["error"])) == ("1", None, True)


def test_a_capture_that_was_not_given_is_asked_for() -> None:
    with pytest.raises(UnknownCaptureError):
        renderer().render(change(None, ROW, origin=origin(capture=9)))


@pytest.mark.parametrize("state", [{"natts": 6}, {"relation": 1}, {"capture": 1, "natts": 4}, {"filenode": 2}])
def test_a_state_that_was_not_seen_is_asked_for(state: dict[str, Any]) -> None:
    with pytest.raises(UnknownShapeError):
        renderer().render(change(None, ROW, origin=origin(**state)))


def test_a_state_that_cannot_be_learnt_shows_nothing_that_may_be_excluded() -> None:
    made = renderer(excluded_columns=frozenset({5}))
    row = {"id": 1, "organization_id": "org_1", "test": False, "n": 5, "note": "SECRET", "extra": "SECRET"}
    (event,) = made.render(change(None, row, origin=origin(natts=8)), settle=True).events
    assert b"SECRET" not in event.tail


def test_a_table_whose_columns_are_forgotten_still_tells_whose_row_changed() -> None:
    (event,) = objects(renderer().render(change(None, ROW, origin=origin(relation=999)), settle=True))
    assert (event["resource_id"], event["resource"], "error" in event) == ("1", None, True)


def test_a_change_that_only_columns_show_that_cannot_be_tied_is_still_an_event() -> None:
    made = renderer()
    made.book.add(
        Shape(
            1,
            TABLE,
            0,
            1,
            8,
            "json",
            False,
            (Column("id", 1, 1, None), Column("organization_id", 2, 2, None), Column("test", 3, 3, "boolean")),
        )
    )
    old, new = ({**ROW, "new": value} for value in ("a", "b"))
    (event,) = objects(made.render(change(old, new, origin=origin(natts=7)), settle=True))
    assert (event["event"], event["resource_id"], event["delta"]) == ("update", "1", {})


@pytest.mark.parametrize("test", [True, False])
def test_the_environment_of_a_capture_without_a_column_is_its_own(test: bool) -> None:
    (event,) = renderer(test_column=None, test=test).render(change(None, ROW)).events
    assert event.test is test


def test_a_row_that_is_too_large_tells_whose_it_was_and_is() -> None:
    described = '{"columns":[[1,"id",23],[2,"organization_id",25],[3,"test",16]],"types":{}}'
    texts = [f"({id_},org_1,f)" for id_ in (1, 2)]
    made = renderer()
    made.types.update({23: "plain", 25: None, 16: "boolean"})
    events = objects(made.render(change(*texts, origin=origin(flags="dl", described=described))))
    assert [(event["event"], event["resource_id"], event["too_large"]) for event in events] == [
        ("destroy", "1", True), ("create", "2", True),
    ]  # fmt: skip


@pytest.mark.parametrize("old", [None, {**ROW, "note": ""}])
def test_an_event_that_would_pass_the_limit_is_counted(old: Any) -> None:
    outcome = renderer(20_000).render(change(old, {**ROW, "note": "x" * 30_000}))
    assert list(outcome.counted) == ["too_large"]


def test_types_may_be_named_one_by_one() -> None:
    made = renderer(type_names={"update": "product.updated"})
    outcomes = [made.render(change(None, ROW)), made.render(change(ROW, {**ROW, "n": 6}))]
    assert [event.kind.type for outcome in outcomes for event in outcome.events] == ["skus.create", "product.updated"]
